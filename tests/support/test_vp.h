// One virtual processor with RAM and nothing else, in the mode a test asks for.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "base/log.h"
#include "cpu/interp.h"
#include "cpu/vp.h"
#include "mmu/physical_memory.h"

namespace vg::test {

/// A board without devices: reads of ports give all-ones.
class NoPlatform final : public cpu::Platform {
  public:
    u32 port_read(cpu::Vp&, u16, unsigned size) override { return size == 4 ? ~u32{0} : (1u << (8 * size)) - 1; }
    void port_write(cpu::Vp&, u16, unsigned, u32) override {}
    int acknowledge_external(cpu::Vp&) override { return -1; }
    void shutdown(cpu::Vp&) override { ++shutdowns; }
    u32 shutdowns = 0;
};

/// RAM from 0, a VP, and tables below kFree that make every fault land on a HLT which tells its vector.
///
/// Memory: 0x0 real-mode code and data; kTables page tables, GDT, IDT, TSS; kHandlers one HLT per vector;
/// kHandlerStack the stack that faults push to. 64-bit mode maps the low 4 GiB one to one, for the supervisor only;
/// map_user() opens pages to CPL 3.
class TestVp {
  public:
    static constexpr u64 kTables = 0x100000, kGdt = kTables + 0x8000, kIdt = kTables + 0x9000, kTss = kTables + 0xa000;
    static constexpr u64 kPool = kTables + 0x10000;  ///< page tables of map_user
    static constexpr u64 kHandlers = 0x140000, kHandlerStack = 0x150000, kFree = 0x200000;
    static constexpr u16 kKernelCs = 0x08, kKernelSs = 0x10, kUserCs = 0x1b, kUserSs = 0x23, kTssSelector = 0x28,
                         kCode32 = 0x38, kData32 = 0x40, kCode16 = 0x48;

    explicit TestVp(const char* model_name = "verdigris-v3-amd", u64 ram_size = 0x12000000)
        : model(cpu::CpuModel::create(model_name).value()) {
        VG_ASSERT(memory.add_ram("ram", Spa(0), ram_size).has_value());
        vp = std::make_unique<cpu::Vp>(
            cpu::VpEnvironment{memory, events, log, model, apic_bus, platform}, "vp0", 0, 0);
        write_tables();
    }

    /// 64-bit mode at `cpl` (0 or 3), interrupts enabled, SSE and AVX usable.
    void enter_long_mode(unsigned cpl) {
        enter_protected();
        cpu::VpState& s = vp->state();
        s.cr4 = cpu::cr4::PAE | cpu::cr4::OSFXSR | cpu::cr4::OSXMMEXCPT | cpu::cr4::OSXSAVE;
        s.cr3 = kTables;
        s.efer = cpu::efer::SCE | cpu::efer::LME | cpu::efer::LMA | cpu::efer::NXE;
        s.cr0 |= cpu::cr0::PG;
        const unsigned dpl = cpl << 5;
        set_segment(cpu::Seg::CS, cpl == 0 ? kKernelCs : kUserCs, 0, static_cast<u16>(0xa09b | dpl));
        for (const cpu::Seg seg : {cpu::Seg::SS, cpu::Seg::DS, cpu::Seg::ES, cpu::Seg::FS, cpu::Seg::GS})
            set_segment(seg, cpl == 0 ? kKernelSs : kUserSs, 0, static_cast<u16>(0xc093 | dpl));
        s.cpl = static_cast<u8>(cpl);
        vp->update_context();
    }

    /// 32-bit protected mode without paging, flat segments, CPL 0.
    void enter_protected() {
        vp->reset();
        cpu::VpState& s = vp->state();
        s.cr0 = cpu::cr0::PE | cpu::cr0::NE | cpu::cr0::WP | cpu::cr0::MP | cpu::cr0::ET;
        s.cr4 = cpu::cr4::OSFXSR | cpu::cr4::OSXMMEXCPT | cpu::cr4::OSXSAVE;
        s.xcr0 = 7;
        s.x87.fcw = 0x37f;
        s.x87.ftw = 0;
        s.rflags = cpu::flag::Always1 | cpu::flag::IF;
        s.gdtr = {kGdt, 0xfff, 0};
        s.idtr = {kIdt, 0xfff, 0};
        set_segment(cpu::Seg::CS, kCode32, 0, 0xc09b);
        for (const cpu::Seg seg : {cpu::Seg::SS, cpu::Seg::DS, cpu::Seg::ES, cpu::Seg::FS, cpu::Seg::GS})
            set_segment(seg, kData32, 0, 0xc093);
        s.segment(cpu::Seg::TR) = {kTss, 0x67, kTssSelector, 0x8b};
        s.cpl = 0;
        vp->update_context();
    }

    /// Real mode, all segments at 0, IP at 0.
    void enter_real() {
        vp->reset();
        cpu::VpState& s = vp->state();
        s.x87.fcw = 0x37f;
        s.x87.ftw = 0;
        s.cr4 = cpu::cr4::OSFXSR | cpu::cr4::OSXMMEXCPT;
        for (unsigned n = 0; n < 6; ++n) s.seg[n] = {0, 0xffff, 0, static_cast<u16>(n == 1 ? 0x9b : 0x93)};
        s.rip = 0;
        vp->update_context();
    }

    /// Opens 4 KiB pages, one to one, to user mode; the rest of their 2 MiB becomes not present.
    void map_user(u64 address, u64 pages, bool writable = true, bool executable = true) {
        const u64 directory = kTables + 0x2000 + (address >> 30) * 0x1000;
        const u64 slot = directory + (address >> 21 & 511) * 8;
        u64 table = memory.read<u64>(Spa(slot));
        if ((table & 0x80) != 0) {
            table = next_table_ | 7;
            next_table_ += kPageSize;
            memory.write<u64>(Spa(slot), table);
        }
        for (u64 n = 0; n < pages; ++n) {
            const u64 page = address + n * kPageSize;
            memory.write<u64>(Spa((table & ~kPageMask) + (page >> 12 & 511) * 8), page | (writable ? 7u : 5u) | u64{!executable} << 63);
        }
        vp->tlb().flush_all();
    }

    /// After a fault from user mode in 64-bit mode: back there, with what enter_long_mode(3) gives the segments.
    void return_to_user() {
        cpu::VpState& s = vp->state();
        set_segment(cpu::Seg::CS, kUserCs, 0, 0xa0fb);
        set_segment(cpu::Seg::SS, kUserSs, 0, 0xc0f3);
        s.cpl = 3;
        s.activity = cpu::Activity::Active;
        vp->update_context();
    }

    void set_segment(cpu::Seg seg, u16 selector, u64 base, u16 attributes, u32 limit = 0xffffffff) {
        vp->state().segment(seg) = {base, limit, selector, attributes};
    }
    void write(u64 address, const std::vector<u8>& bytes) { memory.write(Spa(address), bytes.data(), bytes.size()); }

    /// The vector whose handler stopped the VP in protected or long mode, or -1.
    [[nodiscard]] int faulted() const {
        const u64 rip = vp->state().rip;
        if (vp->activity() != cpu::Activity::Halted || rip < kHandlers || rip >= kHandlers + 256 * 16) return -1;
        return static_cast<int>((rip - kHandlers) / 16);
    }
    /// What a 64-bit fault pushed: error code (0 if the vector has none), RIP, CS, RFLAGS, RSP, SS.
    struct Frame {
        u64 error, rip, cs, rflags, rsp, ss;
    };
    [[nodiscard]] Frame frame() {
        Frame f{};
        const int vector = faulted();
        const bool has_error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
        const u64 at = vp->state().gpr[cpu::RSP];
        memory.read(Spa(at), has_error ? &f.error : &f.rip, has_error ? 48 : 40);
        return f;
    }

    ManualClock clock;
    EventQueue events{clock};
    Log log;
    mmu::PhysicalMemory memory;
    cpu::CpuModel model;
    cpu::ApicBus apic_bus;
    NoPlatform platform;
    std::unique_ptr<cpu::Vp> vp;

  private:
    void write_tables() {
        memory.write<u64>(Spa(kTables), (kTables + 0x1000) | 7);
        for (u64 gib = 0; gib < 4; ++gib) {
            const u64 directory = kTables + 0x2000 + gib * 0x1000;
            memory.write<u64>(Spa(kTables + 0x1000 + gib * 8), directory | 7);
            for (u64 n = 0; n < 512; ++n)
                memory.write<u64>(Spa(directory + n * 8), (gib << 30 | n << 21) | 0x83);  // 2 MiB, supervisor
        }
        const u64 gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff,
                           0x00008b0000000067 | (kTss & 0xffffff) << 16 | (kTss >> 24) << 56, 0,
                           0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff};
        memory.write(Spa(kGdt), gdt, sizeof gdt);
        for (u64 vector = 0; vector < 256; ++vector) {
            const u64 handler = kHandlers + vector * 16;
            memory.write<u8>(Spa(handler), 0xf4);  // HLT
            memory.write<u8>(Spa(handler + 1), 0xf4);
            const u64 low = (handler & 0xffff) | u64{kKernelCs} << 16 | u64{0x8e00} << 32 | (handler >> 16 & 0xffff) << 48;
            memory.write<u64>(Spa(kIdt + vector * 16), low);
            memory.write<u64>(Spa(kIdt + vector * 16 + 8), handler >> 32);
        }
        memory.write<u64>(Spa(kTss + 4), kHandlerStack);
    }

    u64 next_table_ = kPool;
};

}  // namespace vg::test
