// What a kernel finds at its entry: tables in low memory, values of registers.
#include "base/bits.h"
#include "cpu/spec/bits.h"
#include "machine/loader.h"
#include "machine/loader_spec.h"

namespace vg::machine {

namespace {

constexpr u64 kCode64 = 0x00af9b000000ffff, kCode32 = 0x00cf9b000000ffff, kData = 0x00cf93000000ffff;

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

std::optional<EntryRegisters> prepare_entry(GuestMemory& memory, const EntryState& entry) {
    const bool is64 = entry.mode == EntryState::Mode::Long64;
    // Linux's boot protocol: __BOOT_CS 0x10, __BOOT_DS 0x18; the same selectors do for the others.
    const u64 gdt[4] = {0, 0, is64 ? kCode64 : kCode32, kData};
    if (!write_words(memory, boot::kGdt, gdt)) return std::nullopt;
    EntryRegisters r;
    r.gdt_base = boot::kGdt;
    r.gdt_limit = sizeof gdt - 1;
    r.code_selector = 0x10;
    r.code_attributes = is64 ? 0xa09b : 0xc09b;
    r.data_selector = 0x18;
    r.data_attributes = 0xc093;
    r.cr0 = cpu::cr0::PE | cpu::cr0::ET | cpu::cr0::NE;
    if (is64) {
        if (!write_page_tables(memory)) return std::nullopt;
        r.cr3 = boot::kPageTables;
        r.cr4 = cpu::cr4::PAE;
        r.efer = cpu::efer::LME | cpu::efer::LMA;
        r.cr0 |= cpu::cr0::PG;
    }
    r.rip = entry.rip;
    r.rflags = cpu::flag::Always1;
    r.rax = entry.rax;
    r.rbx = entry.rbx;
    r.rsi = entry.rsi;
    r.rsp = entry.rsp;
    return r;
}

}  // namespace vg::machine
