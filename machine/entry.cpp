// Puts the boot processor into a kernel's entry state.
#include "base/bits.h"
#include "cpu/spec/bits.h"
#include "cpu/vp.h"
#include "machine/loader.h"
#include "machine/loader_spec.h"

namespace vg::machine {

namespace {

constexpr u64 kCode64 = 0x00af9b000000ffff, kCode32 = 0x00cf9b000000ffff, kData = 0x00cf93000000ffff;

cpu::SegmentReg flat(u16 selector, u16 attributes) { return {0, 0xffffffff, selector, attributes}; }

bool write_words(GuestMemory& memory, u64 at, std::span<const u64> words) {
    return memory.write(Gpa(at), {reinterpret_cast<const u8*>(words.data()), words.size_bytes()});
}

/// Identity map of the first 4 GiB with 2 MiB pages.
bool write_page_tables(GuestMemory& memory) {
    u64 table[512] = {};
    const auto page = [](unsigned index) { return boot::kPageTables + u64{index} * kPageSize; };
    table[0] = page(1) | 3;
    if (!write_words(memory, page(0), table)) return false;
    for (unsigned i = 0; i < 4; ++i) table[i] = page(2 + i) | 3;
    if (!write_words(memory, page(1), table)) return false;
    for (unsigned i = 0; i < 4; ++i) {
        for (u64 j = 0; j < 512; ++j) table[j] = (u64{i} << 30) | (j << 21) | 0x83;
        if (!write_words(memory, page(2 + i), table)) return false;
    }
    return true;
}

}  // namespace

bool enter(GuestMemory& memory, cpu::Vp& vp, const EntryState& entry) {
    const bool is64 = entry.mode == EntryState::Mode::Long64;
    // Linux's boot protocol: __BOOT_CS 0x10, __BOOT_DS 0x18; the same selectors do for the others.
    const u64 gdt[4] = {0, 0, is64 ? kCode64 : kCode32, kData};
    if (!write_words(memory, boot::kGdt, gdt)) return false;
    cpu::VpState& s = vp.state();
    s.gdtr = {boot::kGdt, sizeof gdt - 1, 0};
    s.idtr = {0, 0, 0};
    s.segment(cpu::Seg::CS) = flat(0x10, is64 ? 0xa09b : 0xc09b);
    for (const cpu::Seg seg : {cpu::Seg::DS, cpu::Seg::ES, cpu::Seg::SS, cpu::Seg::FS, cpu::Seg::GS}) {
        s.segment(seg) = flat(0x18, 0xc093);
    }
    s.cpl = 0;
    s.cr0 = cpu::cr0::PE | cpu::cr0::ET | cpu::cr0::NE;
    if (is64) {
        if (!write_page_tables(memory)) return false;
        s.cr3 = boot::kPageTables;
        s.cr4 = cpu::cr4::PAE;
        s.efer = cpu::efer::LME | cpu::efer::LMA;
        s.cr0 |= cpu::cr0::PG;
    }
    s.rip = entry.rip;
    s.rflags = cpu::flag::Always1;
    s.gpr[cpu::RAX] = entry.rax;
    s.gpr[cpu::RBX] = entry.rbx;
    s.gpr[cpu::RSI] = entry.rsi;
    s.gpr[cpu::RSP] = entry.rsp;
    s.activity = cpu::Activity::Active;
    vp.update_context();
    return true;
}

}  // namespace vg::machine
