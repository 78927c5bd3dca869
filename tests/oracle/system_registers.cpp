#include "system_registers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "cpu/spec/bits.h"

namespace vg::test {

using namespace cpu;
using namespace system_memory;

namespace {

constexpr u64 kRoot = kTables, kPdpt = kTables + 0x1000, kPd = kTables + 0x2000, kPt = kTables + 0x3000;
constexpr u64 kDataPdpt = kTables + 0x4000, kDataPd = kTables + 0x5000, kDataPt = kTables + 0x6000;
constexpr u64 kOperand = kWindow + 0x100;  ///< linear and physical

constexpr unsigned kBoth = 3, kOnly32 = 1, kOnly64 = 2;

/// What an instruction's operands have to be, and which rule of the manual Unicorn does not know.
enum class Kind : u8 {
    Plain, WriteCr0, WriteCr3, WriteCr4, WriteDr, ReadMsr, WriteMsr, LoadTable, LoadSystemSelector, Lmsw, SysRet, SysExit, Task
};

struct Template {
    std::string_view name;
    std::vector<u8> code;
    Kind kind = Kind::Plain;
    unsigned widths = kBoth;
};

/// EAX (or RAX) is the register operand, EBX the address.
const std::vector<Template>& templates() {
    static const std::vector<Template> kTemplates = {
        {"mov eax, cr0", {0x0f, 0x20, 0xc0}},
        {"mov eax, cr2", {0x0f, 0x20, 0xd0}},
        {"mov eax, cr3", {0x0f, 0x20, 0xd8}},
        {"mov eax, cr4", {0x0f, 0x20, 0xe0}},
        {"mov eax, cr1", {0x0f, 0x20, 0xc8}},
        {"mov cr5, eax", {0x0f, 0x22, 0xe8}},
        {"mov cr0, eax", {0x0f, 0x22, 0xc0}, Kind::WriteCr0},
        {"mov cr2, eax", {0x0f, 0x22, 0xd0}},
        {"mov cr3, eax", {0x0f, 0x22, 0xd8}, Kind::WriteCr3},
        {"mov cr4, eax", {0x0f, 0x22, 0xe0}, Kind::WriteCr4},
        {"clts", {0x0f, 0x06}},
        {"lmsw ax", {0x0f, 0x01, 0xf0}, Kind::Lmsw},
        {"lmsw [ebx]", {0x0f, 0x01, 0x33}},
        {"smsw eax", {0x0f, 0x01, 0xe0}},
        {"smsw ax", {0x66, 0x0f, 0x01, 0xe0}},
        {"smsw [ebx]", {0x0f, 0x01, 0x23}},
        {"mov eax, dr0", {0x0f, 0x21, 0xc0}},
        {"mov eax, dr3", {0x0f, 0x21, 0xd8}},
        {"mov eax, dr4", {0x0f, 0x21, 0xe0}},
        {"mov eax, dr5", {0x0f, 0x21, 0xe8}},
        {"mov eax, dr6", {0x0f, 0x21, 0xf0}},
        {"mov eax, dr7", {0x0f, 0x21, 0xf8}},
        {"mov dr1, eax", {0x0f, 0x23, 0xc8}},
        {"mov dr4, eax", {0x0f, 0x23, 0xe0}, Kind::WriteDr},
        {"mov dr5, eax", {0x0f, 0x23, 0xe8}, Kind::WriteDr},
        {"mov dr6, eax", {0x0f, 0x23, 0xf0}, Kind::WriteDr},
        {"mov dr7, eax", {0x0f, 0x23, 0xf8}, Kind::WriteDr},
        {"sgdt [ebx]", {0x0f, 0x01, 0x03}},
        {"sidt [ebx]", {0x0f, 0x01, 0x0b}},
        {"lgdt [ebx]", {0x0f, 0x01, 0x13}, Kind::LoadTable},
        {"lidt [ebx]", {0x0f, 0x01, 0x1b}, Kind::LoadTable},
        {"o16 lgdt [ebx]", {0x66, 0x0f, 0x01, 0x13}, Kind::LoadTable},
        {"sldt eax", {0x0f, 0x00, 0xc0}},
        {"str eax", {0x0f, 0x00, 0xc8}},
        {"str [ebx]", {0x0f, 0x00, 0x0b}},
        {"lldt ax", {0x0f, 0x00, 0xd0}, Kind::LoadSystemSelector},
        {"ltr ax", {0x0f, 0x00, 0xd8}, Kind::LoadSystemSelector},
        {"rdmsr", {0x0f, 0x32}, Kind::ReadMsr},
        {"wrmsr", {0x0f, 0x30}, Kind::WriteMsr},
        {"invlpg [ebx]", {0x0f, 0x01, 0x3b}},
        {"invd", {0x0f, 0x08}},
        {"wbinvd", {0x0f, 0x09}},
        {"swapgs", {0x0f, 0x01, 0xf8}, Kind::Plain, kOnly64},
        {"sysret", {0x0f, 0x07}, Kind::SysRet},
        {"sysretq", {0x48, 0x0f, 0x07}, Kind::SysRet, kOnly64},
        {"sysexit", {0x0f, 0x35}, Kind::SysExit},
        {"sysexitq", {0x48, 0x0f, 0x35}, Kind::SysExit, kOnly64},
        {"cli", {0xfa}},
        {"sti", {0xfb}},
        {"ud2", {0x0f, 0x0b}},
        {"jmp far [ebx]", {0xff, 0x2b}, Kind::Task, kOnly32},
        {"call far [ebx]", {0xff, 0x1b}, Kind::Task, kOnly32},
        {"iretd", {0xcf}, Kind::Task, kOnly32},
    };
    return kTemplates;
}

const Template* find(std::string_view name) {
    for (const Template& t : templates())
        if (t.name == name) return &t;
    return nullptr;
}

bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

constexpr u64 kCr4Known = cr4::VME | cr4::PVI | cr4::TSD | cr4::DE | cr4::PSE | cr4::PAE | cr4::MCE | cr4::PGE | cr4::PCE |
                          cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::FSGSBASE | cr4::SMEP | cr4::SMAP;

/// Where the manual has #GP(0) and Unicorn carries on. SDM 2 "MOV—Move to/from Control Registers", "MOV—Move to/from
/// Debug Registers", "WRMSR", "LGDT/LIDT", "LTR", "SYSRET", "SYSEXIT"; SDM 4 for what an MSR accepts.
bool is_refused(const SystemCase& c, u64 table_base) {
    const SystemState& s = c.state;
    const bool wide = c.width == Width::Bits64;
    const u64 value = s.gpr[RAX], both = (s.gpr[RAX] & 0xffffffff) | s.gpr[RDX] << 32;
    if (c.user) return false;  // #GP(0) of the privilege: that Unicorn knows
    switch (find(c.name)->kind) {
        case Kind::WriteCr0:
            if (value >> 32 != 0 || ((value & cr0::NW) != 0 && (value & cr0::CD) == 0)) return true;
            return (value & cr0::PG) != 0 ? (value & cr0::PE) == 0 : wide;
        case Kind::WriteCr3: return value >> 52 != 0;
        case Kind::WriteCr4: return (value & ~kCr4Known) != 0 || (wide && (value & cr4::PAE) == 0);
        case Kind::WriteDr:
            if ((c.name == "mov dr4, eax" || c.name == "mov dr5, eax") && (s.cr4 & cr4::DE) != 0) return false;  // #UD
            return value >> 32 != 0;
        case Kind::WriteMsr:
            switch (static_cast<u32>(s.gpr[RCX])) {
                case 0x277:
                    for (u64 rest = both, n = 0; n < 8; ++n, rest >>= 8)
                        if ((rest & 0xff) > 7 || (rest & 0xff) == 2 || (rest & 0xff) == 3) return true;
                    return false;
                case 0xc0000080:
                    return (both & ~(efer::SCE | efer::LME | efer::LMA | efer::NXE)) != 0 || ((both ^ s.msr[kMsrEfer]) & efer::LME) != 0;
                case 0xc0000084: return both >> 32 != 0;
                case 0x174: case 0xc0000081: return false;
                default: return !canonical(both);
            }
        case Kind::LoadTable: return wide && !canonical(table_base);
        case Kind::LoadSystemSelector: return c.name == "ltr ax" && (value & 0xfffc) == 0;
        case Kind::SysRet: return c.name == "sysretq" && (s.msr[kMsrEfer] & efer::SCE) != 0 && !canonical(s.gpr[RCX]);
        case Kind::SysExit:
            return c.name == "sysexitq" && (s.msr[0] & 0xfffc) != 0 && (!canonical(s.gpr[RCX]) || !canonical(s.gpr[RDX]));
        default: return false;
    }
}

}  // namespace

void RegisterComparison::build_tables(const SystemCase& c) {
    const unsigned size = c.width == Width::Bits64 ? 8 : 4;
    const auto put = [&](u64 at, u64 value) { std::memcpy(image_.data() + at, &value, size); };
    const u64 base = code_base(c.width), flags = c.user ? 0x67 : 0x63;
    if (size == 8) {
        put(kRoot + (base >> 39 & 511) * 8, kPdpt | 0x67);
        put(kPdpt + (base >> 30 & 511) * 8, kPd | 0x67);
        put(kPd + (base >> 21 & 511) * 8, kPt | 0x67);
        put(kRoot, kDataPdpt | 0x67);
        put(kDataPdpt, kDataPd | 0x67);
        put(kDataPd + (kWindow >> 21) * 8, kDataPt | 0x67);
    } else {
        put(kRoot + (base >> 22) * 4, kPt | 0x67);
        put(kRoot + (kWindow >> 22) * 4, kDataPt | 0x67);
    }
    for (const u64 page : {kGdt, kIdt, kTss, kTss2, kPrologue}) put(kPt + (page >> 12) * size, page | 0x63);
    for (const u64 page : {kCode, kStack}) put(kPt + (page >> 12) * size, page | flags);
    put(kDataPt, kWindow | flags);
}

/// The other task: usually one that runs. SDM 3A "32-Bit Task-State Segment (TSS)".
void RegisterComparison::build_task(Random& random, const SystemCase& c) {
    using namespace system_selector;
    u8* const tss = image_.data() + kTss2;
    const auto put = [&](unsigned at, u64 value) { std::memcpy(tss + at, &value, 4); };
    constexpr u16 kSelectors[] = {Code, Data, UserCode, UserData, 0, 7, Tss, 0x60, 0x10 | 1, 0x0c, 0x104};
    const auto any = [&](u16 usual, unsigned percent) {
        return random.chance(percent) ? usual : kSelectors[random.below(std::size(kSelectors))];
    };
    const bool user = random.chance(40);
    put(0x1c, random.chance(90) ? kRoot : kRoot | 0x18);
    put(0x20, code_base(c.width) + kCode + 0x200);
    put(0x24, (random.next() & (flag::Status | flag::IF | flag::IOPL | flag::AC)) | 2);
    for (unsigned n = 0; n < 8; ++n) put(0x28 + n * 4, random.next());
    put(0x48, any(UserData, 97));
    put(0x4c, any(user ? UserCode : Code, 96));
    put(0x50, any(user ? UserData : Data, 96));
    for (unsigned at = 0x54; at <= 0x5c; at += 4) put(at, any(UserData, 97));
    put(0x60, any(random.chance(50) ? Ldt : 0, 96));
    put(0x64, 0);
    put(0, random.chance(80) ? Tss2 : any(Tss, 50));
    // Its descriptor, and the back link of the running task for IRET.
    const u64 busy = random.chance(50) ? 0x8b : 0x89;
    image_[kGdt + Tss2 + 5] = static_cast<u8>(random.chance(90) ? busy : busy & 0x7f);
    if (random.chance(5)) image_[kGdt + Tss2] = 0x66;  // one byte too short
    if (random.chance(10)) image_[kGdt + Tss2 + 5] |= 0x60;
    u64 link = any(Tss2, 90);
    if (link == Tss) link = 0;  // back to itself: whether it sees what was just saved is not defined
    std::memcpy(image_.data() + kTss, &link, 2);
    const u16 target[] = {0, 0, any(Tss2, 95)};
    std::memcpy(image_.data() + kOperand, target, sizeof target);
}

void RegisterComparison::build(Random& random, SystemCase& c) {
    const Template* t = nullptr;
    do {
        t = &templates()[random.below(templates().size())];
        c.width = random.chance(50) ? Width::Bits64 : Width::Bits32;
    } while ((t->widths & (c.width == Width::Bits64 ? kOnly64 : kOnly32)) == 0);
    const bool wide = c.width == Width::Bits64;
    c.name = t->name;
    c.user = random.chance(t->kind == Kind::Task ? 0 : 15);
    SystemState& s = c.state;
    const auto maybe = [&](unsigned percent, u64 bits) { return random.chance(percent) ? bits : 0; };
    const auto number = [&]() -> u64 {
        const u64 raw = random.next();
        switch (random.below(6)) {
            case 0: return raw & 0xffff;
            case 1: return raw & 0xffffffff;
            case 2: return static_cast<u64>(static_cast<s64>(raw << 17) >> 17);
            case 3: return u64{1} << (raw & 63);
            default: return wide ? raw : raw & 0xffffffff;
        }
    };
    const u64 mask = wide ? ~u64{0} : 0xffffffff;
    for (unsigned n = 0; n < (wide ? 16u : 8u); ++n) s.gpr[n] = number() & mask;
    s.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | maybe(50, cr0::WP) | maybe(30, cr0::TS) | maybe(30, cr0::MP) | maybe(20, cr0::EM);
    s.cr2 = number() & mask;
    s.cr3 = kRoot | maybe(20, 0x18);
    s.cr4 = (wide ? cr4::PAE : 0) | maybe(30, cr4::DE) | maybe(30, cr4::OSFXSR) | maybe(20, cr4::PGE) | maybe(20, cr4::TSD);
    for (unsigned n = 0; n < 4; ++n) s.dr[n] = number() & mask;
    s.dr[6] = 0xffff0ff0 | (random.next() & 0xe00f);
    for (const std::size_t n : {1u, 2u, 6u, 7u, 11u}) s.msr[n] = static_cast<u64>(static_cast<s64>(random.next() << 17) >> 17);
    s.msr[0] = maybe(80, 8);
    s.msr[3] = 0x0007040600070406;
    s.msr[5] = random.next() & ~(u64{0x7} << 48);
    s.msr[8] = random.next() & 0xffffffff;
    s.msr[kMsrEfer] = maybe(70, efer::SCE) | maybe(50, efer::NXE) | (wide ? efer::LME | efer::LMA : 0);
    if (wide)
        for (const std::size_t n : {9u, 10u}) s.msr[n] = static_cast<u64>(static_cast<s64>(random.next() << 17) >> 17);
    s.rflags = 2 | (random.next() & flag::Status) | maybe(50, flag::IF) | maybe(20, flag::IOPL);
    s.gdt_base = code_base(c.width) + kGdt;
    s.idt_base = code_base(c.width) + kIdt;
    s.gpr[RBX] = kOperand;
    s.gpr[RSP] = kOperand + 0x200;
    s.rip = code_base(c.width) + kCode + 0x100;

    write_system_tables(image_.data(), c.width);
    build_tables(c);
    for (u64 n = 0; n < 16; n += 8) {
        const u64 value = number();
        std::memcpy(image_.data() + kOperand + n, &value, 8);
    }
    std::memset(image_.data() + kCode, 0xf4, kPageSize);
    std::memcpy(image_.data() + kCode + 0x100, t->code.data(), t->code.size());

    const u64 toggle = u64{1} << random.below(random.chance(10) ? 64 : 32);
    switch (t->kind) {
        case Kind::WriteCr0: s.gpr[RAX] = (s.cr0 ^ maybe(80, toggle) ^ maybe(20, cr0::CD | cr0::NW)) & mask; break;
        case Kind::WriteCr3: s.gpr[RAX] = (random.below(0x100) << 12 | maybe(20, 0x18) | (wide ? maybe(20, u64{1} << (52 + random.below(12))) : 0)); break;
        case Kind::WriteCr4:
            do s.gpr[RAX] = (s.cr4 ^ maybe(90, u64{1} << random.below(wide && random.chance(10) ? 64 : 32)) ^ maybe(30, cr4::PSE)) & mask;
            // Bits of features that the two processors do not share, and PAE, which takes other tables.
            while ((s.gpr[RAX] & (cr4::UMIP | cr4::LA57 | cr4::VMXE | cr4::SMXE | cr4::PCIDE | cr4::OSXSAVE | cr4::PKE)) != 0 ||
                   (!wide && (s.gpr[RAX] & cr4::PAE) != 0));
            break;
        case Kind::WriteDr:
            if (random.chance(70)) s.gpr[RAX] &= 0xffffffff;
            if (t->name == "mov dr5, eax" || t->name == "mov dr7, eax") s.gpr[RAX] &= ~u64{0xff};  // enabled ones crash Unicorn
            break;
        case Kind::ReadMsr:
        case Kind::WriteMsr: {
            u32 msr;
            do msr = kComparedMsrs[random.below(std::size(kComparedMsrs))];
            while (!wide && msr >= 0xc0000081 && msr != 0xc0000081);
            s.gpr[RCX] = msr;
            if (msr == 0xc0000080) s.gpr[RAX] = s.msr[kMsrEfer] ^ maybe(80, u64{1} << random.below(20)), s.gpr[RDX] = maybe(10, 1);
            if (msr == 0x174) s.gpr[RAX] &= 0xffff;  // of the rest, "not used", Unicorn keeps nothing
            if (msr == 0x277 && random.chance(60)) s.gpr[RAX] = s.gpr[RDX] = 0x05060104;
            if (msr == 0x174) s.gpr[RDX] = 0;
            else if (random.chance(50)) s.gpr[RDX] = (s.gpr[RAX] & 0x80000000) != 0 ? 0xffffffff : 0;
            break;
        }
        case Kind::LoadSystemSelector: {
            constexpr u16 kAny[] = {system_selector::Tss2, system_selector::Ldt, system_selector::Tss, 0, 3, 8, 0x4c, 0x100, 0x60, 0x3b};
            s.gpr[RAX] = kAny[random.below(std::size(kAny))] | (random.next() & 0xffff0000);
            if (random.chance(10)) image_[kGdt + system_selector::Tss2 + 5] &= 0x7f;
            if (random.chance(10)) image_[kGdt + system_selector::Ldt + 5] &= 0x7f;
            break;
        }
        case Kind::LoadTable:
            if (wide && random.chance(80)) image_[kOperand + 8] = image_[kOperand + 9] = static_cast<u8>(image_[kOperand + 7] & 0x80 ? 0xff : 0);
            break;
        case Kind::Task:
            build_task(random, c);
            if (c.name == "iretd") s.rflags |= flag::NT;
            break;
        case Kind::SysRet: s.gpr[R11] &= ~u64{flag::TF}; break;  // Unicorn's trap comes with the instruction, ours after it
        default: break;
    }
}

void RegisterComparison::restore(u8* memory) const {
    std::memcpy(memory, image_.data(), kLow);
    std::memcpy(memory + kWindow, image_.data() + kWindow, kPageSize);
}

std::string RegisterComparison::differences(const SystemCase& c, const SystemOutcome& ours, const SystemOutcome& theirs) {
    std::string text;
    const auto value = [&](std::string_view name, u64 start, u64 oracle, u64 mine) {
        if (oracle != mine) text += fmt::format("  {:8} was {:#x} unicorn {:#x} ours {:#x}\n", name, start, oracle, mine);
    };
    const SystemState &u = theirs.state, &v = ours.state, &s = c.state;
    value("vector", 0, static_cast<u64>(theirs.vector), static_cast<u64>(ours.vector));
    value("error", 0, theirs.error, ours.error);
    for (unsigned n = 0; n < 16; ++n) value(fmt::format("gpr {}", n), s.gpr[n], u.gpr[n], v.gpr[n]);
    value("rip", s.rip, u.rip, v.rip);
    constexpr u64 kFlags = flag::Status | flag::IF | flag::IOPL | flag::NT | flag::AC | flag::DF;
    value("rflags", s.rflags, u.rflags & kFlags, v.rflags & kFlags);
    value("cr0", s.cr0, u.cr0, v.cr0);
    value("cr2", s.cr2, u.cr2, v.cr2);
    value("cr3", s.cr3, u.cr3, v.cr3);
    value("cr4", s.cr4, u.cr4, v.cr4);
    for (const unsigned n : {0u, 1u, 2u, 3u, 6u, 7u}) value(fmt::format("dr{}", n), s.dr[n], u.dr[n], v.dr[n]);
    for (unsigned n = 0; n < 6; ++n) value(fmt::format("seg {}", n), 0, u.selector[n], v.selector[n]);
    value("gdt base", s.gdt_base, u.gdt_base, v.gdt_base);
    value("gdt limit", s.gdt_limit, u.gdt_limit, v.gdt_limit);
    value("idt base", s.idt_base, u.idt_base, v.idt_base);
    value("idt limit", s.idt_limit, u.idt_limit, v.idt_limit);
    value("ldtr", s.ldtr, u.ldtr, v.ldtr);
    value("tr", s.tr, u.tr, v.tr);
    for (std::size_t n = 0; n < s.msr.size(); ++n)
        if (c.width == Width::Bits64 || n < 9) value(fmt::format("msr {:#x}", kComparedMsrs[n]), s.msr[n], u.msr[n], v.msr[n]);
    const u8 *const a = engine_.memory(), *const b = oracle(c.width).memory();
    const std::pair<u64, u64> ranges[] = {{kGdt, kTss2 + kPageSize}, {kTables, kTablesEnd}, {kWindow, kWindow + kPageSize}};
    for (const auto& [from, to] : ranges)
        for (u64 n = from; n < to; ++n)
            if (a[n] != b[n]) text += fmt::format("  +{:#x} was {:02x} unicorn {:02x} ours {:02x}\n", n, image_[n], b[n], a[n]);
    return text;
}

/// What Unicorn does otherwise than the manuals, turned into what they say.
bool RegisterComparison::correct(const SystemCase& c, const SystemOutcome& ours, SystemOutcome& theirs) {
    bool any = false;
    const auto refuse = [&](u8 vector) {
        theirs.vector = vector;
        theirs.error = 0;
        const std::array<u16, 6> selectors = ours.state.selector;
        theirs.state = c.state;
        theirs.state.selector = selectors;
        restore(oracle(c.width).memory());
        any = true;
    };
    const bool wide = c.width == Width::Bits64;
    const Template& t = *find(c.name);
    SystemState& u = theirs.state;
    // It fetches the next instruction, with the new registers: that is no part of the case.
    if ((theirs.vector == kPageFault && u.cr2 == u.rip && u.rip != c.state.rip) || (theirs.vector == kGeneralProtection && !canonical(u.rip))) {
        theirs.vector = -1;
        theirs.error = 0;
        u.cr2 = c.state.cr2;
        any = true;
    }
    u64 base;
    std::memcpy(&base, image_.data() + kOperand + 2, 8);
    if (is_refused(c, base)) {
        refuse(kGeneralProtection);
        return true;
    }
    // An encoding without an instruction is #UD before privilege counts: SDM 3A "Priority Among Concurrent Events".
    if (c.user && (c.name == "mov eax, cr1" || c.name == "mov cr5, eax")) refuse(kInvalidOpcode);
    // SDM 2B "SYSRET": "IF (CS.L != 1) or (IA32_EFER.LMA != 1) or (IA32_EFER.SCE != 1) THEN #UD(0)"; Unicorn has AMD's too.
    if (t.kind == Kind::SysRet && !wide) refuse(kInvalidOpcode);
    if (theirs.vector >= 0 && t.kind != Kind::Task) return any;
    switch (t.kind) {
        case Kind::WriteCr0:  // reserved bits are ignored: Unicorn keeps them
            u.cr0 &= cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
            break;
        case Kind::WriteDr:  // SDM 3B "Debug Status Register (DR6)", "Debug Control Register (DR7)": fixed bits
            u.dr[6] &= ~u64{0x1000};
            u.dr[7] &= ~u64{0xd800};
            break;
        case Kind::WriteMsr:  // EFER: Unicorn writes the bits of the few features that it says it has
            if (c.state.gpr[RCX] != kComparedMsrs[kMsrEfer]) return any;
            u.msr[kMsrEfer] = (c.state.msr[kMsrEfer] & efer::LMA) | (c.state.gpr[RAX] & (efer::SCE | efer::LME | efer::NXE));
            break;
        case Kind::LoadTable:  // SDM 2A "LGDT/LIDT": in 64-bit mode the operand size is fixed
            if (wide && c.name == "o16 lgdt [ebx]") u.gdt_base = base;
            break;
        case Kind::SysExit:  // "RSP := ECX; RIP := EDX" without REX.W
            if (c.name == "sysexit") {
                u.rip = static_cast<u32>(u.rip);
                u.gpr[RSP] = static_cast<u32>(u.gpr[RSP]);
            }
            break;
        case Kind::Task:  // SDM 3A "Task Switching": a fault after the switch is the new task's; Unicorn names the old EIP
            if (u.tr == c.state.tr) return any;
            if (theirs.vector >= 0) std::memcpy(&u.rip, image_.data() + kTss2 + 0x20, 4);
            if ((u.ldtr ^ ours.state.ldtr) == 4) u.ldtr ^= 4;  // Unicorn drops the table indicator that is the fault
            // Unicorn sets no accessed bits here; after a fault it is not defined which segments were loaded before.
            for (u64 at = kLdt + 5; at < kLdt + kLdtLimit; at += 8)
                oracle(c.width).memory()[at] = static_cast<u8>(oracle(c.width).memory()[at] | (engine_.memory()[at] & 1));
            break;
        default:
            // SDM 2B "SMSW": the upper half of a 32-bit register is undefined outside 64-bit mode.
            if (c.name != "smsw eax" || wide) return any;
            u.gpr[RAX] = (u.gpr[RAX] & 0xffff) | (ours.state.gpr[RAX] & 0xffff0000);
            break;
    }
    return true;
}

std::string RegisterComparison::check(const SystemCase& c) {
    restore(engine_.memory());
    restore(oracle(c.width).memory());
    const SystemOutcome ours = engine_.run(c);
    SystemOutcome theirs = oracle(c.width).run(c);
    ++statistics_.cases;
    if (theirs.unmodelled) {
        ++statistics_.unmodelled;
        return {};
    }
    ++(ours.vector < 0 ? statistics_.completed : statistics_.faulted);
    if (ours.vector < 0 && ours.state.tr != c.state.tr) ++statistics_.switches;
    const std::string report = differences(c, ours, theirs);
    if (report.empty()) return {};
    if (correct(c, ours, theirs)) {
        const std::string rest = differences(c, ours, theirs);
        if (rest.empty()) {
            ++statistics_.explained;
            return {};
        }
        return rest + "  (corrected)\n";
    }
    return report;
}

std::string RegisterComparison::run(u64 seed, u64 count) {
    Random random(seed);
    constexpr u64 kCasesPerUnicorn = 10'000;
    for (u64 n = 0; n < count; ++n) {
        if (n % kCasesPerUnicorn == 0) {
            unicorn32_ = std::make_unique<SystemUnicorn>(Width::Bits32);
            unicorn64_ = std::make_unique<SystemUnicorn>(Width::Bits64);
        }
        SystemCase c;
        build(random, c);
        const std::string report = check(c);
        if (!report.empty())
            return fmt::format("seed {} case {}: {} {} bits CPL {} eax {:#x} ecx {:#x} edx {:#x}\n{}", seed, n, c.name,
                               c.width == Width::Bits64 ? 64 : 32, c.user ? 3 : 0, c.state.gpr[RAX], c.state.gpr[RCX], c.state.gpr[RDX],
                               report);
    }
    return {};
}

std::string RegisterComparison::survey(u64 seed, u64 count) {
    Random random(seed);
    unicorn32_ = std::make_unique<SystemUnicorn>(Width::Bits32);
    unicorn64_ = std::make_unique<SystemUnicorn>(Width::Bits64);
    std::map<std::string, std::pair<u64, std::string>> found;
    for (u64 n = 0; n < count; ++n) {
        SystemCase c;
        build(random, c);
        const std::string report = check(c);
        if (report.empty()) continue;
        auto& entry = found[fmt::format("{} {} bits CPL {}", c.name, c.width == Width::Bits64 ? 64 : 32, c.user ? 3 : 0)];
        if (entry.first++ == 0)
            entry.second = fmt::format(" eax {:#x} ecx {:#x} edx {:#x} cr4 {:#x} cs {:#x}\n{}", c.state.gpr[RAX], c.state.gpr[RCX], c.state.gpr[RDX], c.state.cr4, image_[kTss2 + 0x4c], report);
    }
    std::string out;
    for (const auto& [name, entry] : found) out += fmt::format("{} times {}{}", entry.first, name, entry.second);
    const Statistics& s = statistics_;
    return out + fmt::format("{} cases, {} completed, {} faulted, {} explained, {} unmodelled, {} task switches\n", s.cases, s.completed,
                             s.faulted, s.explained, s.unmodelled, s.switches);
}

}  // namespace vg::test
