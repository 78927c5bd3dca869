#include "legacy.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "cpu/decode.h"
#include "cpu/isa/encoding.h"
#include "cpu/spec/bits.h"
#include "tests/isa/generator.h"

namespace vg::test {

using namespace cpu;
using namespace legacy_memory;

namespace {

/// SDM 3A "Segment Descriptors". access: P DPL S type; flags: G D/B L AVL.
constexpr u64 descriptor(u32 base, u32 limit, u32 access, u32 flags) {
    return u64{limit & 0xffff} | u64{base & 0xffffff} << 16 | u64{access} << 40 | u64{limit >> 16 & 15} << 48 |
           u64{flags} << 52 | u64{base >> 24} << 56;
}
constexpr u64 gate(u16 to, u32 offset, u32 access, u32 parameters) {
    return u64{offset & 0xffff} | u64{to} << 16 | u64{parameters} << 32 | u64{access} << 40 | u64{offset >> 16} << 48;
}

constexpr u64 kDescriptors[] = {
    0,
    descriptor(0, 0xfffff, 0x9b, 0xc),           // 08 code, 32 bits, DPL 0
    descriptor(0, 0xfffff, 0x93, 0xc),           // 10 data, 32 bits, DPL 0
    descriptor(0, 0xfffff, 0xfb, 0xc),           // 18 code, DPL 3
    descriptor(0, 0xfffff, 0xf3, 0xc),           // 20 data, DPL 3
    descriptor(kCode, 0xffff, 0x9b, 0),          // 28 code, 16 bits, DPL 0
    descriptor(kData, 0xffff, 0x93, 0),          // 30 data, 16 bits, DPL 0
    descriptor(0, 0xfffff, 0x9f, 0xc),           // 38 conforming code
    descriptor(0, 0xfffff, 0xf1, 0xc),           // 40 data, read-only
    descriptor(0, 0xfffff, 0x73, 0xc),           // 48 data, not present
    descriptor(0, 0xfffff, 0xf9, 0xc),           // 50 code, execute-only
    gate(selector::Code32, kCode + 0x40, 0xec, 2),  // 58 call gate, 32 bits
    gate(selector::Code16, 0x40, 0xe4, 1),       // 60 call gate, 16 bits
    descriptor(kTss, kTssLimit, 0x89, 0),        // 68 TSS
    descriptor(kLdt, kLdtLimit, 0x82, 0),        // 70 LDT
    descriptor(0, 0xff, 0xf7, 0xc),              // 78 data, expand-down
    descriptor(0x1234, 0xfffff, 0xf3, 0xc),      // 80 data with a base
    descriptor(0, 0x1ffff, 0xf2, 0x4),           // 88 data, not accessed yet, byte limit
    descriptor(0, 0xfffff, 0xfa, 0xc),           // 90 code, not accessed yet
    gate(selector::Code32, kCode + 0x80, 0x8e, 0),  // 98 interrupt gate, out of place
    descriptor(0, 0xfffff, 0x7b, 0xc),           // a0 code, not present
    gate(selector::Data32, kCode, 0xec, 0),      // a8 call gate to data
    gate(selector::Code32, kCode, 0x6c, 0),      // b0 call gate, not present
    descriptor(0, 0xfffff, 0xb3, 0xc),           // b8 data, DPL 1
    descriptor(0, 0xfffff, 0xbb, 0xc),           // c0 code, DPL 1
    descriptor(0, 0xfffff, 0xff, 0xc),           // c8 conforming code, DPL 3
    descriptor(kTss, kTssLimit, 0xeb, 0),        // d0 TSS, busy
    gate(0xd0, 0, 0xe5, 0),                      // d8 task gate
};
constexpr u64 kLocal[] = {0, descriptor(0x2000, 0xfffff, 0xf3, 0xc), descriptor(0, 0xfffff, 0xfb, 0xc),
                          descriptor(0, 0xfffff, 0x93, 0xc), descriptor(0, 0, 0xf1, 0)};

/// Features whose rows Unicorn's processor has too.
constexpr Feature kFeatures[] = {Feature::Base, Feature::Cx8, Feature::Cmov};

/// Outside this comparison: time, identification, model-specific registers, modes that end the case.
bool excluded(Op op) {
    switch (op) {
        case Op::CPUID: case Op::RDTSC: case Op::RDMSR: case Op::WRMSR: case Op::RDPMC: case Op::SYSENTER:
        case Op::SYSEXIT: case Op::SYSCALL: case Op::SYSRET: case Op::RSM: case Op::HLT: case Op::LMSW: case Op::CLTS:
        case Op::MOV_DR: case Op::LGDT: case Op::LIDT: case Op::LLDT: case Op::LTR: case Op::INT1: case Op::SMSW:
        case Op::SGDT: case Op::SIDT: case Op::UD0: case Op::UD1: case Op::UD2: case Op::INVD: case Op::WBINVD:
            return true;
        default: return false;
    }
}

bool comparable(const Encoding& e) {
    const Row& r = e.row;
    if ((e.where & where::IN64) != 0 || r.how != How::Body || r.map >= OpcodeMap::Vex0F) return false;
    if (r.has(attr::X87 | attr::Mmx | attr::Sse | attr::Avx | attr::Hypervisor | attr::Vsib)) return false;
    return std::find(std::begin(kFeatures), std::end(kFeatures), r.feature) != std::end(kFeatures) && !excluded(r.op);
}

CodeMode code_mode(Legacy mode) { return mode <= Legacy::Protected16 ? CodeMode::Bits16 : CodeMode::Bits32; }
bool small_stack(Legacy mode) { return mode <= Legacy::Protected16; }

bool uses_stack(Op op) {
    switch (op) {
        case Op::IRET: case Op::IRETD: case Op::RET: case Op::RET_FAR: case Op::POP_SREG: case Op::POPF: case Op::POPFD:
            return true;
        default: return false;
    }
}

}  // namespace

std::string_view legacy_name(Legacy mode) {
    constexpr std::string_view kNames[] = {"real", "protected 16", "kernel 32", "user 32"};
    return kNames[static_cast<unsigned>(mode)];
}

namespace {

u64 descriptor_of(u16 sel) {
    const bool local = (sel & 4) != 0;
    if (sel >> 3 >= (local ? std::size(kLocal) : std::size(kDescriptors))) return 0;
    return local ? kLocal[sel >> 3] : kDescriptors[sel >> 3];
}

}  // namespace

u8 segment_access(u16 sel) { return static_cast<u8>(descriptor_of(sel) >> 40); }

u32 segment_limit(Legacy mode, u16 sel) {
    if (mode == Legacy::Real) return 0xffff;
    const u64 d = descriptor_of(sel);
    const u32 limit = static_cast<u32>((d & 0xffff) | (d >> 32 & 0xf0000));
    return (d >> 55 & 1) != 0 ? limit << 12 | 0xfff : limit;
}

u32 segment_base(Legacy mode, u16 sel) {
    if (mode == Legacy::Real) return u32{sel} << 4;
    const u64 d = descriptor_of(sel);
    return static_cast<u32>((d >> 16 & 0xffffff) | (d >> 56) << 24);
}

void write_tables(u8* memory, bool real) {
    std::memset(memory, 0, kData);
    std::memcpy(memory + kGdt, kDescriptors, sizeof kDescriptors);
    std::memcpy(memory + kLdt, kLocal, sizeof kLocal);
    for (u32 vector = 0; vector < 256; ++vector) {
        const u64 idt = gate(selector::Code32, kHandlers + vector * 16, 0xee, 0);
        std::memcpy(memory + kIdt + vector * 8, &idt, 8);
        const u32 ivt = kHandlers << 12 | vector * 16;
        if (real) std::memcpy(memory + vector * 4, &ivt, 4);
    }
    std::memset(memory + kHandlers, 0xf4, 0x1000);  // HLT
    for (u32 ring = 0; ring < 3; ++ring) {
        const u32 esp = kStackTop - ring * 0x800, ss = selector::Data32;
        std::memcpy(memory + kTss + 4 + ring * 8, &esp, 4);
        std::memcpy(memory + kTss + 8 + ring * 8, &ss, 4);
    }
    const u16 bitmap = 0x68;  // ports 0 to 0xff, every other one allowed
    std::memcpy(memory + kTss + 102, &bitmap, 2);
    std::memset(memory + kTss + bitmap, 0xf0, kTssLimit - bitmap + 1);
}

LegacyGenerator::LegacyGenerator(u64 seed, const char* only) : random_(seed) {
    const auto all = encodings();
    for (u16 n = 1; n < all.size(); ++n)
        if (comparable(all[n]) && (*only == 0 || op_name(all[n].row.op) == only)) rows_.push_back(n);
    VG_ASSERT(!rows_.empty());
}

u32 LegacyGenerator::value() {
    const u32 raw = static_cast<u32>(random_.next());
    switch (random_.below(8)) {
        case 0: return raw & 0xf;
        case 1: return raw & 0xff;
        case 2: return 0 - (raw & 0xff);
        case 3: return raw & 0xffff;
        case 4: return 1u << (raw & 31);
        case 5: return (1u << (raw & 31)) - 1;
        case 6: return 0;
        default: return raw;
    }
}

u16 LegacyGenerator::any_selector(Legacy mode) {
    if (mode == Legacy::Real) return static_cast<u16>(0x1000 + random_.below(0x1000));
    if (random_.chance(5)) return static_cast<u16>(random_.next());
    if (random_.chance(20)) return static_cast<u16>(random_.below(std::size(kLocal) + 1) << 3 | 4 | random_.below(4));
    const u64 index = random_.below(std::size(kDescriptors) + 1);
    const u64 rpl = random_.chance(50) ? (mode == Legacy::User32 ? 3 : 0) : random_.below(4);
    return static_cast<u16>(index << 3 | rpl);
}

/// A linear address in the data area, away from its ends.
u32 LegacyGenerator::target() { return kData + 0x1000 + static_cast<u32>(random_.below(0x8000)); }

void LegacyGenerator::fill(u8* memory) {
    for (u32 at = kData; at < kDataEnd; at += 4) {
        u32 v = value();
        if (random_.chance(25)) v = any_selector(Legacy::Kernel32) | (random_.chance(50) ? static_cast<u32>(random_.next()) << 16 : 0);
        if (random_.chance(10)) v = kCode + static_cast<u32>(random_.below(0x8000));
        std::memcpy(memory + at, &v, 4);
    }
    // Unicorn aborts when it translates a far CALL or JMP with a register, even behind a branch that it stops at.
    for (u32 at = kData; at + 1 < kDataEnd; ++at) {
        const u8 modrm = memory[at + 1], reg = modrm >> 3 & 7;
        if (memory[at] == 0xff && modrm >= 0xc0 && (reg == 3 || reg == 5)) memory[at + 1] = static_cast<u8>(modrm ^ 8);
    }
    std::memset(memory + kCode, 0xf4, kHandlers - kCode);
}

void LegacyGenerator::random_state(LegacyCase& c) {
    LegacyState& s = c.state;
    for (u32& r : s.gpr) r = value();
    s.eflags = static_cast<u32>(2 | (random_.next() & (flag::Status | flag::DF)) | (random_.chance(70) ? flag::IF : 0));
    if (random_.chance(30)) s.eflags |= static_cast<u32>(random_.next() & (flag::IOPL | flag::ID));
    const auto set = [&](Seg seg, u16 sel) { s.selector[static_cast<unsigned>(seg)] = sel; };
    constexpr Seg kFree[] = {Seg::ES, Seg::DS, Seg::FS, Seg::GS};
    constexpr u16 kDataSelectors[] = {0x23, 0x20, 0x80, 0x83, 0x0c, 0x0f, 0x40, 0};
    for (const Seg seg : kFree)
        set(seg, c.mode == Legacy::Real ? any_selector(c.mode)
                                        : kDataSelectors[random_.below(seg == Seg::DS ? 6 : std::size(kDataSelectors))]);
    switch (c.mode) {
        case Legacy::Real:
            set(Seg::CS, kCode >> 4);
            set(Seg::SS, any_selector(c.mode));
            break;
        case Legacy::Protected16:
            set(Seg::CS, selector::Code16);
            set(Seg::SS, selector::Data16);
            break;
        case Legacy::User32:
            set(Seg::CS, selector::UserCode);
            set(Seg::SS, selector::UserData);
            break;
        default:
            set(Seg::CS, selector::Code32);
            set(Seg::SS, selector::Data32);
            break;
    }
    c.code_base = segment_base(c.mode, s.selector[1]);
    // Above what CS-prefixed operands reach: an instruction that changes itself says nothing.
    s.eip = kCode - c.code_base + 0x8000 + static_cast<u32>(random_.below(0x600)) * 16;
    const u32 stack = segment_base(c.mode, s.selector[2]);
    u32 esp = kData + 0x11000 + static_cast<u32>(random_.below(0x1000)) - stack;
    if (small_stack(c.mode)) esp = static_cast<u32>(random_.next() << 16) | (0x2000 + static_cast<u32>(random_.below(0x8000)));
    s.gpr[RSP] = esp;
    s.gpr[RBP] = random_.chance(60) ? s.gpr[RSP] + static_cast<u32>(random_.below(0x400)) : s.gpr[RBP];
}

bool LegacyGenerator::encode(LegacyCase& c) {
    const u16 row_index = rows_[random_.below(rows_.size())];
    cpu::Random random(random_.next());
    const CodeMode mode = code_mode(c.mode);
    Sample sample;
    do sample = generate_row(random, row_index);
    while (sample.mode != mode);
    std::vector<u8> bytes;
    const Row& r = row(row_index);
    if (random_.chance(25)) bytes.push_back(0x66);
    if (random_.chance(25)) bytes.push_back(0x67);
    if (random_.chance(20)) bytes.push_back(std::array<u8, 6>{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}[random_.below(6)]);
    if (r.has(attr::String) && random_.chance(60)) bytes.push_back(random_.chance(50) ? 0xf3 : 0xf2);
    if (r.has(attr::Lockable) && random_.chance(10)) bytes.push_back(0xf0);
    bytes.insert(bytes.end(), sample.bytes.begin(), sample.bytes.end());
    if (decode(bytes, mode, c.insn) != DecodeStatus::Ok) return false;
    return !excluded(c.insn.op) && comparable(encodings()[c.insn.row]);
}

/// Makes the memory operand lie in the data area: through a register, or else the displacement.
void LegacyGenerator::aim(LegacyCase& c) {
    Insn& i = c.insn;
    if (i.memory_operand() == nullptr || row(i.row).has(attr::String) || i.op == Op::XLAT) return;
    LegacyState& s = c.state;
    const u32 base = segment_base(c.mode, s.selector[static_cast<unsigned>(i.seg)]);
    const u32 offset = c.mode == Legacy::Real ? 0x100 + static_cast<u32>(random_.below(0x7000)) : target() - base;
    const u32 index = i.index == kNoReg ? 0 : s.gpr[i.index] * i.scale;
    const u32 rest = offset - static_cast<u32>(i.disp);
    const auto set = [&](u8 reg, u32 v) {
        if (reg == RSP) return;
        s.gpr[reg] = i.addr_size == 2 ? (s.gpr[reg] & 0xffff0000) | (v & 0xffff) : v;
    };
    if (i.base != kNoReg && i.base != RSP && i.base != i.index) set(i.base, rest - index);
    else if (i.base == RSP && i.index != kNoReg) set(i.index, (rest - s.gpr[RSP]) / i.scale);
    else if (i.base == kNoReg && i.index != kNoReg) set(i.index, rest / i.scale);
    else if (i.base == i.index && i.base != kNoReg) set(i.base, rest / (1u + i.scale));
    else if (i.disp_size != 0) std::memcpy(i.bytes + i.disp_offset, &offset, std::min<std::size_t>(i.disp_size, 4));
    if (i.disp_size == 0) return;
    const std::vector<u8> bytes(i.bytes, i.bytes + i.length);
    VG_ASSERT(decode(bytes, i.mode, i) == DecodeStatus::Ok);
}

/// Return frames: offset, code selector, flags, stack pointer and stack selector, of either size.
void LegacyGenerator::stack_frame(const LegacyCase& c, u8* memory) {
    const u32 size = c.insn.op_size == 2 ? 2 : 4;
    u32 esp = c.state.gpr[RSP];
    if (small_stack(c.mode)) esp &= 0xffff;
    u8* const at = memory + segment_base(c.mode, c.state.selector[2]) + esp;
    constexpr u32 kNoTrap = ~static_cast<u32>(flag::TF);
    u32 words[] = {0x100 + static_cast<u32>(random_.below(0x4000)), any_selector(c.mode),
                   static_cast<u32>(random_.next()) & kNoTrap, static_cast<u32>(random_.below(0x8000)), any_selector(c.mode),
                   any_selector(c.mode), any_selector(c.mode), any_selector(c.mode), any_selector(c.mode)};
    if (c.mode >= Legacy::Kernel32 && size == 4 && random_.chance(70)) words[0] += kCode;
    // To virtual-8086 mode only from CPL 0 and to an offset below 64 KiB: elsewhere Unicorn goes there too.
    if (c.mode == Legacy::User32 || words[0] > 0xffff) words[2] &= ~static_cast<u32>(flag::VM);
    if (c.insn.op == Op::POP_SREG) words[0] = any_selector(c.mode);
    if (c.insn.op == Op::POPF || c.insn.op == Op::POPFD) words[0] = static_cast<u32>(random_.next()) & kNoTrap;
    for (u32 n = 0; n < std::size(words); ++n) std::memcpy(at + n * size, &words[n], size);
}

/// Values that make the interesting path likely.
void LegacyGenerator::prepare(LegacyCase& c, u8* memory) {
    LegacyState& s = c.state;
    Insn& i = c.insn;
    const auto offset_in = [&](Seg seg) {
        return c.mode == Legacy::Real ? 0x200 + static_cast<u32>(random_.below(0x7000))
                                      : target() - segment_base(c.mode, s.selector[static_cast<unsigned>(seg)]);
    };
    if (row(i.row).has(attr::String)) {
        s.gpr[RSI] = offset_in(i.seg);
        s.gpr[RDI] = offset_in(Seg::ES);
        if (random_.chance(20)) s.gpr[RDI] = s.gpr[RSI] + static_cast<u32>(random_.below(8));
        s.gpr[RCX] = static_cast<u32>(random_.below(12)) | (i.addr_size == 2 && random_.chance(20) ? 0x50000 : 0);
    }
    if (i.op == Op::XLAT) s.gpr[RBX] = offset_in(i.seg);
    if ((i.op == Op::DIV || i.op == Op::IDIV) && random_.chance(60)) s.gpr[RDX] = random_.chance(50) ? 0 : ~0u;
    if (uses_stack(i.op)) stack_frame(c, memory);
    const bool selects = i.op == Op::LAR || i.op == Op::LSL || i.op == Op::VERR || i.op == Op::VERW ||
                         i.op == Op::MOV_SREG || i.op == Op::ARPL;
    const Operand& source = i[i.operand_count > 1 ? 1 : 0];
    if (selects && source.kind == OperandKind::Gpr && source.reg != RSP && random_.chance(80))
        s.gpr[source.reg] = (s.gpr[source.reg] & 0xffff0000) | any_selector(c.mode);
    if (i[0].kind == OperandKind::FarPtr) {
        const u16 sel = any_selector(c.mode);
        const u32 size = i.op_size == 2 ? 2 : 4, off = (c.mode >= Legacy::Kernel32 && size == 4 ? kCode : 0) + static_cast<u32>(random_.below(0x8000));
        std::memcpy(i.bytes + i.imm_offset, &off, size);
        std::memcpy(i.bytes + i.imm_offset + size, &sel, 2);
        const std::vector<u8> bytes(i.bytes, i.bytes + i.length);
        VG_ASSERT(decode(bytes, i.mode, i) == DecodeStatus::Ok);
    }
}

LegacyCase LegacyGenerator::next(const std::function<u8*(Legacy)>& memory_of) {
    while (true) {
        LegacyCase c;
        c.mode = static_cast<Legacy>(random_.below(static_cast<u64>(Legacy::Count)));
        if (!encode(c)) continue;
        // MOV to CR0 and CR4 would change what a case is.
        if (c.insn.op == Op::MOV_CR && (c.insn[0].kind == OperandKind::Cr ? c.insn[0].reg != 2 : c.insn[1].reg != 2)) continue;
        random_state(c);
        prepare(c, memory_of(c.mode));
        aim(c);
        return c;
    }
}

}  // namespace vg::test
