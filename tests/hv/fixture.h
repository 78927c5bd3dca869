// A hypervisor with one small partition, driven without running guest code: exits are handed to the VP directly.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "base/log.h"
#include "cpu/spec/bits.h"
#include "hv/hypervisor.h"
#include "hv/spec/cpuid.h"
#include "hv/spec/hypercall.h"
#include "hv/spec/msr.h"
#include "hv/spec/synic.h"
#include "hv/stimer.h"
#include "hv/synic.h"
#include "hv/vp.h"
#include "mmu/walk.h"

namespace vg::hv::test {

/// Remembers what reached the parent; answers MMIO at one page.
class RecordingSink final : public InterceptSink {
  public:
    struct Access {
        bool write;
        u64 address;
        unsigned size;
        u64 value;
        bool operator==(const Access&) const = default;
    };
    static constexpr u64 kMmioPage = 0xfed00000;

    u32 port_read(Vp&, u16 port, unsigned size) override {
        ports.push_back({false, port, size, 0});
        return port_value;
    }
    void port_write(Vp&, u16 port, unsigned size, u32 value) override { ports.push_back({true, port, size, value}); }
    bool mmio_read(Vp&, Gpa gpa, unsigned size, u64& value) override {
        if (gpa.page_base().value != kMmioPage) return false;
        mmio.push_back({false, gpa.value, size, 0});
        value = 0x1122334455667788;
        return true;
    }
    bool mmio_write(Vp&, Gpa gpa, unsigned size, u64 value) override {
        if (gpa.page_base().value != kMmioPage) return false;
        mmio.push_back({true, gpa.value, size, value});
        return true;
    }
    void partition_reset(Vp&) override { ++resets; }
    void partition_shutdown(Vp&) override { ++shutdowns; }
    void partition_crashed(Vp&) override { ++crashes; }

    std::vector<Access> ports, mmio;
    u32 port_value = 0x5a;
    unsigned resets = 0, shutdowns = 0, crashes = 0;
};

struct Fixture {
    static constexpr u64 kRamSize = 16 << 20;  ///< guest GPA 0..16 MiB
    static constexpr u64 kRamSpa = 16 << 20;   ///< where it is in the machine
    static constexpr u64 kPrivateSpa = 64 << 20;
    static constexpr u64 kPrivateSize = 4 << 20;
    static constexpr u64 kOsId = 0x8100'0006'0c00'0000;

    /// What is the same for every run and takes most of its time to make: host mappings, the tables of a model.
    struct Parts {
        explicit Parts(const char* model_name) : model(*cpu::CpuModel::create(model_name)) {
            must(memory.add_ram("guest", Spa(kRamSpa), kRamSize));
            must(memory.add_ram("private", Spa(kPrivateSpa), kPrivateSize));
        }
        mmu::PhysicalMemory memory;
        cpu::CpuModel model;
    };

    explicit Fixture(PartitionConfig config = {}, u32 vp_count = 1, const char* model_name = "verdigris-v2")
        : Fixture(std::move(config), vp_count, std::make_unique<Parts>(model_name)) {}
    /// With parts that several fixtures use one after the other. The hypervisor zeroes what it takes of its private
    /// memory; the guest's is what the one before left.
    Fixture(PartitionConfig config, u32 vp_count, Parts& parts) : memory(parts.memory), model(parts.model) {
        log.set_sink([this](Area, Level, std::string_view line) { lines.emplace_back(line); });
        hypervisor.emplace(memory, events, log, Spa(kPrivateSpa), kPrivateSize);
        config.name = "child";
        config.max_vps = vp_count;
        partition = &hypervisor->create_partition(config, sink);
        must(partition->map_memory(Gpa(0), Spa(kRamSpa), kRamSize, {}));
        for (u32 i = 0; i < vp_count; ++i) {
            Vp& each = partition->create_vp(model, i);
            each.processor().apic().mmio_write(0xf0, 0x1ff);  // software enable
            enter_long_mode(each);
        }
        vp = partition->vps().front().get();
    }

    static void must(const Result<void>& result) {
        if (!result) throw std::runtime_error(result.error().text);
    }

    /// As far as the hypercall interface looks: 64-bit code at CPL 0.
    static void enter_long_mode(Vp& each) {
        cpu::VpState& state = each.processor().state();
        state.cr0 |= cpu::cr0::PE;
        state.efer |= cpu::efer::LMA;
        state.segment(cpu::Seg::CS).attributes |= 0x2000;
        state.cpl = 0;
    }

    cpu::virt::Action exit(cpu::virt::Exit& what) { return vp->on_exit(vp->processor(), what); }

    /// Value, or nothing for #GP(0).
    std::optional<u64> rdmsr(u32 index) {
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Msr;
        what.msr = index;
        const auto action = exit(what);
        if (action == cpu::virt::Action::Complete) return what.value;
        check_gp(what, action);
        return std::nullopt;
    }
    /// False for #GP(0).
    bool wrmsr(u32 index, u64 value) {
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Msr;
        what.write = true;
        what.msr = index;
        what.value = value;
        const auto action = exit(what);
        if (action == cpu::virt::Action::Complete) return true;
        check_gp(what, action);
        return false;
    }
    static void check_gp(const cpu::virt::Exit& what, cpu::virt::Action action) {
        if (action != cpu::virt::Action::Inject || what.fault.vector != cpu::kGeneralProtection ||
            !what.fault.has_error || what.fault.error_code != 0)
            throw std::runtime_error("neither completed nor #GP(0)");
    }

    std::array<u32, 4> cpuid(u32 leaf, std::array<u32, 4> native = {}) {
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Cpuid;
        what.leaf = leaf;
        std::copy(native.begin(), native.end(), what.regs);
        exit(what);
        return {what.regs[0], what.regs[1], what.regs[2], what.regs[3]};
    }

    /// 64-bit convention. Result, or nothing for #UD.
    std::optional<u64> hypercall(u64 control, u64 input = 0, u64 output = 0) {
        u64* gpr = vp->processor().state().gpr;
        gpr[cpu::RCX] = control;
        gpr[cpu::RDX] = input;
        gpr[cpu::R8] = output;
        return call() ? std::optional(gpr[cpu::RAX]) : std::nullopt;
    }
    /// Whatever the registers say. False for #UD.
    bool call() {
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Hypercall;
        const auto action = exit(what);
        if (action == cpu::virt::Action::Skip) return true;
        if (action != cpu::virt::Action::Inject || what.fault.vector != cpu::kInvalidOpcode || what.fault.has_error)
            throw std::runtime_error("neither completed nor #UD");
        return false;
    }

    /// Where a guest access really goes: by the second-level table, not by the partition's own lists.
    std::optional<Spa> guest_address(u64 gpa, mmu::Access access) {
        const auto found = mmu::translate_gpa(memory, partition->slat(), Gpa(gpa), access);
        return found.status == mmu::Translation::Status::Ok ? std::optional(found.spa) : std::nullopt;
    }
    template <class T>
    T guest_read(u64 gpa) {
        return memory.read<T>(guest_address(gpa, mmu::Access::Read).value());
    }
    template <class T>
    void guest_write(u64 gpa, T value) {
        memory.write<T>(guest_address(gpa, mmu::Access::Write).value(), value);
    }
    /// What is in the guest's own RAM below any overlay.
    template <class T>
    T ram(u64 gpa) {
        return memory.read<T>(Spa(kRamSpa + gpa));
    }

    void advance_ns(u64 ns) {
        clock.advance(ns);
        events.run_due(clock.now());
    }

    cpu::Apic& apic(u32 index = 0) { return partition->vps()[index]->processor().apic(); }

    /// SynIC on: SIMP at 0x10000, SIEFP at 0x11000, SINT2 with vector 0xf3, as Linux does (B-14).
    void enable_synic() {
        wrmsr(msr::SIMP, kSimp | 1);
        wrmsr(msr::SIEFP, kSiefp | 1);
        wrmsr(msr::SINT0 + 2, 0xf3);
        wrmsr(msr::SCONTROL, 1);
    }
    static constexpr u64 kSimp = 0x10000, kSiefp = 0x11000;
    static constexpr u64 slot(unsigned sint) { return kSimp + 256 * sint; }

    std::unique_ptr<Parts> own_parts;
    mmu::PhysicalMemory& memory;
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    std::vector<std::string> lines;
    RecordingSink sink;
    const cpu::CpuModel& model;
    std::optional<Hypervisor> hypervisor;
    Partition* partition = nullptr;
    Vp* vp = nullptr;

  private:
    Fixture(PartitionConfig config, u32 vp_count, std::unique_ptr<Parts> parts)
        : Fixture(std::move(config), vp_count, *parts) {
        own_parts = std::move(parts);
    }
};

/// A configuration with bits added to profile C-90 or taken from it.
inline PartitionConfig with_privileges(u64 add, u64 remove = 0) {
    PartitionConfig config;
    config.privileges = (config.privileges | add) & ~remove;
    return config;
}

}  // namespace vg::hv::test
