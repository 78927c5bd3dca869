// A hypervisor with a root partition on a small machine, driven without running the root's code: its hypercalls are made
// through its registers and memory. Children's code runs on the interpreter.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "cpu/interp.h"
#include "hv/memory_pool.h"
#include "hv/spec/intercept.h"
#include "hv/vp_control.h"
#include "tests/hv/fixture.h"

namespace vg::hv::test {

struct RootFixture {
    static constexpr u64 kRamSize = 32 << 20;  ///< the machine's RAM, from 0
    static constexpr u64 kPrivateSpa = u64{1} << 30, kPrivateSize = 4 << 20;
    static constexpr u64 kInput = 0x1000, kOutput = 0x2000;  ///< the root's hypercall pages

    struct Host final : VpHost {
        void vp_created(cpu::Vp& made) override { vps.push_back(&made); }
        void vp_destroyed(cpu::Vp& gone) override { std::erase(vps, &gone); }
        std::vector<cpu::Vp*> vps;
    };
    struct Parts {
        Parts() : model(*cpu::CpuModel::create("verdigris-v2")) {
            Fixture::must(memory.add_ram("ram", Spa(0), kRamSize));
            Fixture::must(memory.add_ram("private", Spa(kPrivateSpa), kPrivateSize));
        }
        mmu::PhysicalMemory memory;
        cpu::CpuModel model;
    };

    explicit RootFixture(bool root_scheduler = false, u32 processors = 2)
        : RootFixture(std::make_unique<Parts>(), root_scheduler, processors) {}
    RootFixture(Parts& parts, bool root_scheduler, u32 processors) : memory(parts.memory), model(parts.model) {
        log.set_sink([this](Area, Level, std::string_view line) { lines.emplace_back(line); });
        hypervisor.emplace(memory, events, log, Spa(kPrivateSpa), kPrivateSize);
        hypervisor->set_vp_host(&host);
        RootConfig config{root_partition_config(), {}, root_scheduler, {[this] { ++power_offs; }}};
        for (u32 i = 0; i < processors; ++i) config.apic_ids.push_back(2 * i);
        root = &hypervisor->create_root(std::move(config), sink, model);
        vp = root->vps().front().get();
        Fixture::enter_long_mode(*vp);
        vp->processor().apic().mmio_write(0xf0, 0x1ff);
        root->set_guest_os_id(Fixture::kOsId);
    }

    // ---- hypercalls of root VP 0
    static constexpr u64 control(u16 code, u32 reps = 0, u32 start = 0, u32 variable = 0) {
        return code | u64{variable} << 17 | u64{reps} << 32 | u64{start} << 48;
    }
    /// What is at kInput (kOutput) goes in (out). Nothing for #UD or a call that is answered later.
    u64 call(u64 control_word) {
        u64* gpr = vp->processor().state().gpr;
        gpr[cpu::RCX] = control_word;
        gpr[cpu::RDX] = kInput;
        gpr[cpu::R8] = kOutput;
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Hypercall;
        what.insn_length = 3;
        last_action = vp->on_exit(vp->processor(), what);
        return gpr[cpu::RAX];
    }
    template <class T>
    HvStatus call(u16 code, const T& input) {
        memory.write(Spa(kInput), input);
        return static_cast<HvStatus>(call(control(code)) & 0xffff);
    }
    HvStatus call_plain(u16 code) { return static_cast<HvStatus>(call(control(code)) & 0xffff); }
    template <class T>
    T output(u64 offset = 0) {
        return memory.read<T>(Spa(kOutput + offset));
    }
    /// A rep call; the completed count goes to `completed`.
    template <class H, class E>
    HvStatus reps(u16 code, const H& header, const std::vector<E>& elements) {
        memory.write(Spa(kInput), header);
        for (std::size_t i = 0; i < elements.size(); ++i)
            memory.write(Spa(kInput + sizeof(H) + i * sizeof(E)), elements[i]);
        return reps_of(code, static_cast<u32>(elements.size()));
    }
    template <class H>
    HvStatus reps_without_list(u16 code, const H& header, u32 count) {
        memory.write(Spa(kInput), header);
        return reps_of(code, count);
    }
    HvStatus reps_of(u16 code, u32 count) {
        const u64 result = call(control(code, count));
        completed = static_cast<u32>(result >> 32);
        return static_cast<HvStatus>(result & 0xffff);
    }

    // ---- what a parent does
    u64 create(u64 flags = create_flag::kExo | create_flag::kLapic) {
        CreatePartitionIn in{};
        in.flags = flags;
        if (call(0x40, in) != HvStatus::Success) return 0;
        return output<u64>();
    }
    HvStatus deposit(u64 partition, u64 first_page, u32 count) {
        std::vector<u64> pages;
        for (u32 i = 0; i < count; ++i) pages.push_back(first_page + i);
        return reps(0x48, DepositHeader{partition}, pages);
    }
    std::vector<u64> withdraw_all(u64 partition) {
        std::vector<u64> pages;
        HvStatus status = HvStatus::Success;
        while (status == HvStatus::Success) {
            status = reps_without_list(0x49, WithdrawHeader{partition, {}}, 16);
            for (u32 i = 0; i < completed; ++i) pages.push_back(output<u64>(8 * i));
        }
        last_withdraw = status;
        return pages;
    }
    HvStatus initialize(u64 partition) { return call(0x41, PartitionIn{partition}); }
    HvStatus finalize(u64 partition) { return call(0x42, PartitionIn{partition}); }
    HvStatus remove(u64 partition) { return call(0x43, PartitionIn{partition}); }
    HvStatus map(u64 partition, u64 target_pfn, u32 flags, const std::vector<u64>& pages) {
        return reps(0x4b, MapGpaHeader{partition, target_pfn, flags, 0xdeadbeef}, pages);
    }
    HvStatus unmap(u64 partition, u64 target_pfn, u32 count, u32 flags = 0) {
        return reps_without_list(0x4c, MapGpaHeader{partition, target_pfn, flags, 0xdeadbeef}, count);
    }
    HvStatus create_vp(u64 partition, u32 index) {
        CreateVpIn in{};
        in.partition_id = partition;
        in.vp_index = index;
        return call(0x4e, in);
    }
    HvStatus get(u64 partition, u32 index, u32 name, RegisterValue& value) {
        const HvStatus status = reps(0x50, VpRegistersHeader{partition, index, 0, {}}, std::vector<u32>{name});
        if (status == HvStatus::Success) value = output<RegisterValue>();
        return status;
    }
    u64 get(u64 partition, u32 index, u32 name) {
        RegisterValue value{};
        Fixture::must(get(partition, index, name, value) == HvStatus::Success
                          ? Result<void>()
                          : Result<void>(fail(Error::Code::Internal, "register " + std::to_string(name))));
        return value.low;
    }
    HvStatus set(u64 partition, u32 index, u32 name, u64 low, u64 high = 0) {
        const RegisterAssignment assignment{name, {}, {low, high}};
        return reps(0x51, VpRegistersHeader{partition, index, 0, {}}, std::vector<RegisterAssignment>{assignment});
    }
    u64 map_state_page(u64 partition, u32 index, StatePage which) {
        MapStatePageIn in{};
        in.partition_id = partition;
        in.vp_index = index;
        in.type = static_cast<u16>(which);
        return call(0xe1, in) == HvStatus::Success ? output<u64>() : 0;
    }
    Partition& child(u64 partition) { return *hypervisor->find(partition); }
    Vp& child_vp(u64 partition, u32 index = 0) { return *child(partition).find_vp(index); }

    static constexpr u64 kChildRam = 8 << 20;  ///< where in the root children's memory lies

    /// A child with `pages` of memory from GPA 0, one VP in real mode at 0:0x100, both state pages mapped.
    u64 make_child(u32 pages = 16, u64 flags = create_flag::kExo | create_flag::kLapic) {
        const u64 id = create(flags);
        deposit(id, 0x400 + 32 * hypervisor->nodes().size(), 24);
        initialize(id);
        std::vector<u64> list;
        for (u32 i = 0; i < pages; ++i) list.push_back(kChildRam / kPageSize + i);
        map(id, 0, map_flag::kRead | map_flag::kWrite | map_flag::kKernelExecute | map_flag::kUserExecute, list);
        create_vp(id, 0);
        set(id, 0, reg::kRip, 0x100);
        const SegmentValue cs{0, 0xffff, 0, 0x9b};
        u64 low = 0, high = 0;
        std::memcpy(&low, &cs, 8);
        std::memcpy(&high, reinterpret_cast<const u8*>(&cs) + 8, 8);
        set(id, 0, reg::kCs, low, high);
        message_page = map_state_page(id, 0, StatePage::InterceptMessage) * kPageSize;
        register_page = map_state_page(id, 0, StatePage::Registers) * kPageSize;
        return id;
    }
    void code(const std::vector<u8>& bytes, u64 gpa = 0x100) {
        memory.write(Spa(kChildRam + gpa), bytes.data(), bytes.size());
    }
    /// Lets the child's VP go and runs it until it is held or `instructions` are over.
    cpu::Stop run(u64 partition, u32 index = 0, u64 instructions = 1000) {
        set(partition, index, reg::kInterceptSuspend, 0);
        set(partition, index, reg::kExplicitSuspend, 0);
        return run_processor(child_vp(partition, index).processor(), instructions);
    }
    cpu::Stop run_processor(cpu::Vp& processor, u64 instructions = 1000) {
        if (processor.held()) return cpu::Stop::Leave;
        processor.state().request = 0;
        const VTime from = std::max(clock.now(), processor.now());
        processor.begin_slice(from, from + instructions);
        const cpu::Stop stop = engine.run(processor);
        clock.set(std::max(clock.now(), processor.now()));
        return stop;
    }
    [[nodiscard]] bool apic_requested(u8 vector) const { return vp->processor().apic().requested(vector); }
    template <class T>
    T message() {
        return memory.read<T>(Spa(message_page + kMessagePayloadOffset));
    }
    MessageType message_type() { return static_cast<MessageType>(memory.read<u32>(Spa(message_page))); }

    /// What the root gets for a read of its own memory: by its second-level table.
    std::optional<Spa> root_address(u64 gpa, mmu::Access access = mmu::Access::Read) {
        return address(*root, gpa, access);
    }
    std::optional<Spa> address(Partition& partition, u64 gpa, mmu::Access access = mmu::Access::Read) {
        const auto found = mmu::translate_gpa(memory, partition.slat(), Gpa(gpa), access);
        return found.status == mmu::Translation::Status::Ok ? std::optional(found.spa) : std::nullopt;
    }
    std::optional<u64> rdmsr(u32 index, u32 vp_index = 0) {
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Msr;
        what.msr = index;
        Vp& who = *root->find_vp(vp_index);
        return who.on_exit(who.processor(), what) == cpu::virt::Action::Complete ? std::optional(what.value) : std::nullopt;
    }
    bool wrmsr(u32 index, u64 value, u32 vp_index = 0) {
        cpu::virt::Exit what;
        what.reason = cpu::virt::ExitReason::Msr;
        what.write = true;
        what.msr = index;
        what.value = value;
        Vp& who = *root->find_vp(vp_index);
        return who.on_exit(who.processor(), what) == cpu::virt::Action::Complete;
    }
    /// As Linux does. The SIMP's address.
    u64 enable_synic() {
        for (const u32 index : {msr::SIMP, msr::SIEFP, msr::SIRBP}) wrmsr(index, *rdmsr(index) | 1);
        wrmsr(msr::SINT0, 0xf3);
        wrmsr(msr::SINT0 + 5, 0xf3 | sint::kAsIntercept);
        wrmsr(msr::SCONTROL, 1);
        return *rdmsr(msr::SIMP) & ~kPageMask;
    }

    std::unique_ptr<Parts> own_parts;
    mmu::PhysicalMemory& memory;
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    std::vector<std::string> lines;
    RecordingSink sink;
    Host host;
    const cpu::CpuModel& model;
    cpu::StepEngine engine;
    std::optional<Hypervisor> hypervisor;
    Partition* root = nullptr;
    Vp* vp = nullptr;
    u32 completed = 0;
    HvStatus last_withdraw = HvStatus::Success;
    cpu::virt::Action last_action = cpu::virt::Action::Default;
    u64 message_page = 0, register_page = 0;
    unsigned power_offs = 0;

  private:
    RootFixture(std::unique_ptr<Parts> parts, bool root_scheduler, u32 processors)
        : RootFixture(*parts, root_scheduler, processors) {
        own_parts = std::move(parts);
    }
};

}  // namespace vg::hv::test
