#include "paging.h"

#include <fmt/format.h>

#include <cstring>

#include "base/assert.h"
#include "cpu/spec/bits.h"

namespace vg::test {

using namespace cpu;
using namespace system_memory;

namespace {

constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80, kNoExecute = u64{1} << 63;
constexpr u32 kErrorWrite = 2;

// The pool: a table per level for the code, and for data one or, at the lowest, as many as the window has directory
// entries of 2 MiB (or one of 4 MiB).
constexpr u64 kRoot = kTables, kCodePdpt = kTables + 0x1000, kCodePd = kTables + 0x2000, kCodePt = kTables + 0x3000;
constexpr u64 kDataPdpt = kTables + 0x4000, kDataPd = kTables + 0x5000, kDataPt = kTables + 0x6000;  // and the next page

constexpr u64 kFixed = kPresent | kWritable | kUser | kAccessed | kDirty;

}  // namespace

const std::vector<PagingComparison::Access>& PagingComparison::accesses() {
    // The address is in EBX, ESP or EIP.
    static const std::vector<Access> kAccesses = {
        {.name = "mov eax, [ebx]", .code = {0x8b, 0x03}},
        {.name = "mov al, [ebx]", .code = {0x8a, 0x03}, .size = 1},
        {.name = "mov [ebx], eax", .code = {0x89, 0x03}, .writes = true},
        {.name = "mov [ebx], ax", .code = {0x66, 0x89, 0x03}, .writes = true, .size = 2},
        {.name = "add [ebx], eax", .code = {0x01, 0x03}, .writes = true, .reads_first = true},
        {.name = "inc byte [ebx]", .code = {0xfe, 0x03}, .writes = true, .reads_first = true, .size = 1},
        {.name = "xchg [ebx], eax", .code = {0x87, 0x03}, .writes = true, .reads_first = true},
        {.name = "lock add [ebx], eax", .code = {0xf0, 0x01, 0x03}, .writes = true, .reads_first = true},
        {.name = "test [ebx], eax", .code = {0x85, 0x03}},
        {.name = "push eax", .code = {0x50}, .writes = true},
        {.name = "pop eax", .code = {0x58}},
        {.name = "call", .code = {0xe8, 0, 0, 0, 0}, .writes = true},
        {.name = "nop", .code = {0x90}, .fetch = true, .size = 1},
        {.name = "lea with a long displacement", .code = {0x8d, 0x83, 0x10, 0x32, 0x54, 0x76}, .fetch = true, .size = 6},
        {.name = "mov ds, ax", .code = {0x8e, 0xd8}, .segment = true, .size = 8},
    };
    return kAccesses;
}

PagingComparison::PagingComparison() : image_(kSize) {}

/// A Unicorn that has translated and forgotten code very often crashes in its own lists of pages.
void PagingComparison::renew() {
    unicorn32_ = std::make_unique<SystemUnicorn>(Width::Bits32);
    unicorn64_ = std::make_unique<SystemUnicorn>(Width::Bits64);
}

void PagingComparison::put(u64 at, u64 value) { std::memcpy(image_.data() + at, &value, entry_size()); }
u64 PagingComparison::get(u64 at) const {
    u64 value = 0;
    std::memcpy(&value, image_.data() + at, entry_size());
    return value;
}

/// The tables of code_base(): system tables and prologue for the supervisor, the code page for the case's level.
void PagingComparison::build_code(SystemCase& c) {
    const u64 base = code_base(c.width);
    switch (plan_.tables) {
        case Tables::Level4:
            put(kRoot + (base >> 39 & 511) * 8, kCodePdpt | kFixed);
            put(kCodePdpt + (base >> 30 & 511) * 8, kCodePd | kFixed);
            put(kCodePd + (base >> 21 & 511) * 8, kCodePt | kFixed);
            break;
        case Tables::Pae:
            put(kRoot + (base >> 30) * 8, kCodePd | kPresent);
            put(kCodePd + (base >> 21 & 511) * 8, kCodePt | kFixed);
            break;
        default: put(kRoot + (base >> 22) * 4, kCodePt | kFixed); break;
    }
    for (const u64 page : {kGdt, kIdt, kTss, kTss2, kPrologue, kStack}) put(kCodePt + (page >> 12) * entry_size(), page | (kFixed & ~kUser));
    put(kCodePt + (kCode >> 12) * entry_size(), kCode | (c.user ? kFixed : kFixed & ~kUser));
    if (c.user) put(kCodePt + (kStack >> 12) * entry_size(), kStack | kFixed);
}

/// An entry that usually permits the access, sometimes not, and rarely has a reserved bit set.
u64 PagingComparison::entry(Random& random, const SystemCase& c, u64 address, bool leaf) {
    u64 e = address;
    const auto maybe = [&](unsigned percent, u64 bits) {
        if (random.chance(percent)) e |= bits;
    };
    maybe(95, kPresent);
    maybe(80, kWritable);
    maybe(c.user ? 90 : 40, kUser);
    maybe(50, kAccessed);
    maybe(leaf ? 50 : 20, kDirty);
    maybe(20, 0x18);         // PWT, PCD
    maybe(20, 0xe00);        // available
    maybe(leaf ? 20 : 0, 0x100);
    if (plan_.tables == Tables::Bits32) return e;
    maybe(12, kNoExecute);   // reserved without EFER.NXE
    if (plan_.tables == Tables::Level4) maybe(15, u64{1} << (52 + random.below(7)));
    else maybe(2, u64{1} << (52 + random.below(11)));
    maybe(2, u64{1} << (47 + random.below(5)));
    return e;
}

/// The walk of one linear address, through tables that the other page of an access may share.
void PagingComparison::build_data(Random& random, const SystemCase& c) {
    const u64 first = plan_.address, last = first + plan_.access->size - 1;
    const u64 base = first & ~u64{0x3fffffff}, frame = first & 0x3fffffff & ~kPageMask;
    const auto large = [&](unsigned percent) { return random.chance(percent); };
    if (plan_.tables == Tables::Bits32) {
        const u64 slot = kRoot + (first >> 22) * 4;
        const bool pse = (c.state.cr4 & cr4::PSE) != 0;
        if (pse && large(30)) {
            put(slot, entry(random, c, kWindow | (random.chance(4) ? 0x200000 : 0), true) | kLarge);
            return;
        }
        put(slot, entry(random, c, kDataPt, false) | (!pse && random.chance(30) ? kLarge : 0));
        for (u64 page = first >> 12; page <= last >> 12; ++page)
            put(kDataPt + (page & 1023) * 4, entry(random, c, (page << 12) & 0x3fffffff, true) | (random.chance(10) ? kLarge : 0));
        return;
    }
    u64 directory = kDataPd;
    if (plan_.tables == Tables::Level4) {
        put(kRoot + (first >> 39 & 511) * 8, entry(random, c, kDataPdpt, false) | (random.chance(1) ? kLarge : 0));
        const u64 slot = kDataPdpt + (first >> 30 & 511) * 8;
        if (large(10)) {
            put(slot, entry(random, c, random.chance(5) ? 0x2000 : 0, true) | kLarge);
            return;
        }
        put(slot, entry(random, c, kDataPd, false));
    } else {
        put(kRoot + (first >> 30) * 8, kDataPd | (random.chance(92) ? kPresent : 0) | (random.chance(20) ? 0xe18 : 0));
    }
    for (u64 block = first >> 21; block <= last >> 21; ++block) {
        const u64 slot = directory + (block & 511) * 8, table = kDataPt + (block & 1) * 0x1000;
        if (large(25)) {
            put(slot, entry(random, c, ((block << 21) & 0x3fffffff) | (random.chance(4) ? 0x4000 : 0), true) | kLarge);
            continue;
        }
        put(slot, entry(random, c, table, false));
        for (u64 page = first >> 12; page <= last >> 12; ++page)
            if (page >> 9 == block) put(table + (page & 511) * 8, entry(random, c, (page << 12) & 0x3fffffff, true) | (random.chance(10) ? kLarge : 0));
    }
    (void)base, (void)frame;
}

void PagingComparison::build(Random& random, SystemCase& c) {
    plan_.tables = static_cast<Tables>(random.below(static_cast<u64>(Tables::Count)));
    c.width = plan_.tables == Tables::Level4 ? Width::Bits64 : Width::Bits32;
    c.user = random.chance(50);
    plan_.access = &accesses()[random.below(accesses().size())];
    const Access& access = *plan_.access;
    const u64 bases = c.width == Width::Bits64 ? std::size(kDataBases) : 3;
    constexpr u64 kPages[] = {0, 0x1000, 0x5000, 0x1ff000, 0x200000, 0x2a3000, 0x3fe000};
    const u64 offset = random.chance(25) ? kPageSize - 1 - random.below(access.size + 1u) : random.below(kPageSize - 16) & ~u64{7};
    plan_.address = kDataBases[random.below(bases)] + kWindow + kPages[random.below(std::size(kPages))] + offset;

    // The accessed bit is in the upper half of a descriptor, of which Unicorn writes all and we a byte: in one page.
    if (access.segment) plan_.address &= ~u64{3};
    // Unicorn fetches the next instruction too: that must not be in a page of its own.
    if (access.fetch && ((plan_.address + access.size) & kPageMask) == 0) ++plan_.address;

    SystemState& s = c.state;
    const auto maybe = [&](unsigned percent, u64 bits) { return random.chance(percent) ? bits : 0; };
    const bool pae = plan_.tables != Tables::Bits32, smap = random.chance(30);
    s.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | maybe(50, cr0::WP);
    s.cr3 = kRoot;
    s.cr4 = (pae ? cr4::PAE : 0) | maybe(pae ? 20 : 70, cr4::PSE) | maybe(40, cr4::SMEP) | (smap ? cr4::SMAP : 0) | maybe(30, cr4::PGE);
    s.cr2 = random.next() & 0xffffffff;
    s.msr[3] = 0x0007040600070406;
    s.msr[kMsrEfer] = maybe(75, efer::NXE) | (c.width == Width::Bits64 ? efer::LME | efer::LMA : 0);
    s.rflags = 2 | maybe(40, flag::AC) | maybe(50, flag::IF);
    for (unsigned n = 0; n < (c.width == Width::Bits64 ? 16u : 8u); ++n) s.gpr[n] = random.next() & 0xffffffff;
    s.gdt_base = s.idt_base = code_base(c.width);
    s.gdt_base += kGdt;
    s.idt_base += kIdt;
    s.gpr[RBX] = plan_.address;
    s.gpr[RSP] = plan_.address + (access.writes ? (c.width == Width::Bits64 ? 8 : 4) : 0);
    s.rip = code_base(c.width) + kCode + 0x100;

    write_system_tables(image_.data(), c.width);
    build_code(c);
    build_data(random, c);
    for (u64 n = 0; n < 16; n += 8) {  // what the access finds
        const u64 value = random.next();
        std::memcpy(image_.data() + (plan_.address & 0x3fffffff) + n, &value, 8);
    }
    u64 code_at = kCode + 0x100;
    if (access.fetch) {
        s.rip = plan_.address;
        code_at = plan_.address & 0x3fffffff;
    }
    std::memcpy(image_.data() + code_at, access.code.data(), access.code.size());
    image_[code_at + access.code.size()] = 0xf4;  // HLT: no translation beyond it
    if (!access.segment) return;
    const u64 flat = 0x00cff2000000ffff | (random.chance(50) ? u64{1} << 40 : 0);  // accessed already, or not
    s.gdt_base = plan_.address - 0x20;
    s.gpr[RAX] = system_selector::UserData;
    std::memcpy(image_.data() + (plan_.address & 0x3fffffff), &flat, 8);
}

std::string PagingComparison::differences(const SystemCase& c, const SystemOutcome& ours, const SystemOutcome& theirs) {
    std::string text;
    const auto value = [&](std::string_view name, u64 start, u64 oracle, u64 mine) {
        if (oracle != mine) text += fmt::format("  {:8} was {:#x} unicorn {:#x} ours {:#x}\n", name, start, oracle, mine);
    };
    const SystemState &u = theirs.state, &v = ours.state, &s = c.state;
    value("vector", 0, static_cast<u64>(theirs.vector), static_cast<u64>(ours.vector));
    value("error", 0, theirs.error, ours.error);
    for (unsigned n = 0; n < 16; ++n) value(fmt::format("gpr {}", n), s.gpr[n], u.gpr[n], v.gpr[n]);
    value("rip", s.rip, u.rip, v.rip);
    value("cr2", s.cr2, u.cr2, v.cr2);
    value("efer", s.msr[kMsrEfer], u.msr[kMsrEfer], v.msr[kMsrEfer]);
    constexpr u64 kFlags = flag::Status | flag::AC | flag::IF;
    if (ours.vector < 0 && plan_.access->name != "test [ebx], eax") value("rflags", s.rflags, u.rflags & kFlags, v.rflags & kFlags);
    const u8 *const a = engine_.memory(), *const b = oracle_memory();
    const u64 data = plan_.address & 0x3fffffff & ~kPageMask;
    const std::pair<u64, u64> ranges[] = {{kTables, kTablesEnd}, {kGdt, kTss2}, {data, data + 2 * kPageSize}};
    for (const auto& [from, to] : ranges)
        for (u64 n = from; n < to && n < kSize; ++n)
            if (a[n] != b[n]) text += fmt::format("  +{:#x} was {:02x} unicorn {:02x} ours {:02x}\n", n, image_[n], b[n], a[n]);
    return text;
}

/// What Unicorn does otherwise than the manuals, turned into what they say.
bool PagingComparison::correct(const SystemCase& c, const SystemOutcome& ours, SystemOutcome& theirs) {
    bool any = false;
    // Where in a descriptor its accessed bit is written from is the processor's affair: Unicorn writes a doubleword, we a byte.
    if (theirs.vector == kPageFault && plan_.access->segment && (theirs.error & kErrorWrite) != 0 &&
        ours.state.cr2 >> 3 == theirs.state.cr2 >> 3) {
        theirs.state.cr2 = ours.state.cr2;
        any = true;
    }
    // Accessed bits on the way to a fault: SDM 3A "Accessed and Dirty Flags" lets the processor set them; Unicorn does
    // so while it walks, we do for accesses that are permitted. Nothing else may change.
    if (theirs.vector >= 0) {
        u8 *const a = engine_.memory(), *const b = oracle_memory();
        for (u64 at = kTables; at < kTablesEnd; at += entry_size()) {
            a[at] = static_cast<u8>((a[at] & ~kAccessed) | (image_[at] & kAccessed));
            b[at] = static_cast<u8>((b[at] & ~kAccessed) | (image_[at] & kAccessed));
        }
        any = true;
    }
    (void)c;
    return any;
}

std::string PagingComparison::describe(const SystemCase& c) const {
    constexpr std::string_view kNames[] = {"32-bit", "PAE", "4-level"};
    std::string text = fmt::format("{} at {:#x}, {} tables, CPL {}, cr0 {:#x} cr4 {:#x} efer {:#x} flags {:#x}\n", plan_.access->name,
                                   plan_.address, kNames[static_cast<unsigned>(plan_.tables)], c.user ? 3 : 0, c.state.cr0,
                                   c.state.cr4, c.state.msr[kMsrEfer], c.state.rflags);
    for (const u64 page : {kRoot, kDataPdpt, kDataPd, kDataPt, kDataPt + 0x1000})
        for (u64 at = page; at < page + kPageSize; at += entry_size())
            if (const u64 e = get(at); e != 0) text += fmt::format("  [{:#x}] {:#x}\n", at, e);
    return text;
}

/// Runs the case in Unicorn, around two of its departures.
SystemOutcome PagingComparison::run_unicorn(const SystemCase& c) {
    SystemUnicorn& unicorn = oracle(plan_.tables);
    // EFLAGS.AC does not let an implicit supervisor access reach user pages (SDM 3A "Determination of Access Rights"); in
    // Unicorn it does at CPL 0.
    SystemCase other = c;
    if (plan_.access->segment && !c.user) other.state.rflags &= ~flag::AC;
    // A read-modify-write is one access for writing; Unicorn reads first. So a plain store tells whether it faults.
    if (plan_.access->reads_first) {
        const u8 store[] = {static_cast<u8>(plan_.access->size == 1 ? 0x88 : 0x89), 0x03};
        std::memcpy(unicorn.memory() + kCode + 0x100, store, sizeof store);
        const SystemOutcome stored = unicorn.run(other);
        std::memcpy(unicorn.memory() + kCode + 0x100, plan_.access->code.data(), plan_.access->code.size());
        if (stored.vector >= 0) return stored;
        restore(unicorn.memory());
    }
    SystemOutcome out = unicorn.run(other);
    out.state.rflags |= c.state.rflags & flag::AC;
    return out;
}

void PagingComparison::restore(u8* memory) const {
    const u64 data = plan_.address & 0x3fffffff & ~kPageMask;
    std::memcpy(memory, image_.data(), kLow);
    std::memcpy(memory + data, image_.data() + data, std::min<u64>(2 * kPageSize, kSize - data));
}

std::string PagingComparison::run(u64 seed, u64 count) {
    Random random(seed);
    constexpr u64 kCasesPerUnicorn = 10'000;
    for (u64 n = 0; n < count; ++n) {
        if (n % kCasesPerUnicorn == 0) renew();
        SystemCase c;
        build(random, c);
        restore(engine_.memory());
        restore(oracle_memory());
        const SystemOutcome ours = engine_.run(c);
        SystemOutcome theirs = run_unicorn(c);
        ++statistics_.cases;
        if (theirs.unmodelled) {
            ++statistics_.unmodelled;
            continue;
        }
        ++(ours.vector < 0 ? statistics_.completed : statistics_.faulted);
        if (ours.vector == kPageFault && (ours.error & 8) != 0) ++statistics_.reserved;
        const std::string report = differences(c, ours, theirs);
        if (report.empty()) continue;
        if (correct(c, ours, theirs) && differences(c, ours, theirs).empty()) {
            ++statistics_.explained;
            continue;
        }
        return fmt::format("seed {} case {}: {}{}", seed, n, describe(c), report);
    }
    return {};
}

}  // namespace vg::test
