#include "deviations.h"

#include <array>
#include <cstring>

#include "cpu/fault.h"
#include "cpu/isa/isa.h"
#include "cpu/spec/bits.h"

namespace vg::test {

using namespace cpu;
using namespace legacy_memory;

namespace {

bool is_string(const LegacyCase& c) { return row(c.insn.row).has(attr::String); }

bool writes_memory(const LegacyCase& c) {
    return c.insn[0].kind == OperandKind::Mem && !row(c.insn.row).has(attr::NoWriteDest);
}

/// Whether the segment's type forbids the access.
bool refuses(u16 selector, bool write) {
    const u8 access = segment_access(selector);
    if ((access & 0x80) == 0) return true;
    const bool code = (access & 8) != 0, writable_or_readable = (access & 2) != 0;
    return code ? write || !writable_or_readable : write && !writable_or_readable;
}

u16 selector_of(const LegacyCase& c, Seg seg) { return c.state.selector[static_cast<unsigned>(seg)]; }
u32 gpr(const LegacyCase& c, u8 reg) { return reg == kNoReg ? 0 : c.state.gpr[reg]; }
bool has_small_stack(const LegacyCase& c) { return c.mode <= Legacy::Protected16; }

/// The segments that a string instruction reads through rSI and reaches through rDI.
bool reads_source(Op op) { return op == Op::MOVS || op == Op::CMPS || op == Op::LODS || op == Op::OUTS; }
bool reaches_destination(Op op) { return op != Op::LODS && op != Op::OUTS; }

u32 effective_address(const LegacyCase& c) {
    const Insn& i = c.insn;
    u32 address = static_cast<u32>(i.disp) + gpr(c, i.base) + gpr(c, i.index) * i.scale;
    if (i.op == Op::XLAT) address = gpr(c, RBX) + (gpr(c, RAX) & 0xff);
    const bool bit_string = i.op == Op::BT || i.op == Op::BTS || i.op == Op::BTR || i.op == Op::BTC;
    if (bit_string && i[1].kind == OperandKind::Gpr) {
        const s32 bit = i.op_size == 2 ? static_cast<s16>(gpr(c, i[1].reg)) : static_cast<s32>(gpr(c, i[1].reg));
        address += static_cast<u32>(bit >> (i.op_size == 2 ? 4 : 5)) * i.op_size;
    }
    return i.addr_size == 2 ? address & 0xffff : address;
}

// ---- what the manual says instead -----------------------------------------------------------------------------------

/// Memory as it was, with the case's instruction in it.
void take_memory_back(Difference& d) {
    std::memcpy(d.oracle_memory + kImage, d.pristine + kImage, kImageEnd - kImage);
    std::memcpy(d.oracle_memory + d.c.code_base + d.c.state.eip, d.c.insn.bytes, d.c.insn.length);
}

/// A fault before any effect. SDM 3A "Exception Classifications": the state before the instruction is restored.
void refuse(Difference& d, u8 vector, u32 error = 0) {
    take_memory_back(d);
    d.oracle = {};
    d.oracle.vector = vector;
    d.oracle.state = d.c.state;
    d.oracle.error = d.c.mode == Legacy::Real ? 0 : error;
    d.oracle.state.fs_base = segment_base(d.c.mode, selector_of(d.c, Seg::FS));
}

/// No effect but the next instruction.
void pass(Difference& d) {
    take_memory_back(d);
    d.oracle = {};
    d.oracle.state = d.c.state;
    d.oracle.state.eip += d.c.insn.length;
    d.oracle.state.fs_base = segment_base(d.c.mode, selector_of(d.c, Seg::FS));
}

/// What Unicorn does with another encoding of the same instruction.
void use_instead(Difference& d, unsigned at, u8 byte) {
    take_memory_back(d);
    LegacyCase other = d.c;
    other.insn.bytes[at] = byte;
    d.oracle = d.rerun(other, kAllIterations);
    d.oracle_memory[d.c.code_base + d.c.state.eip + at] = d.c.insn.bytes[at];
}

// ---- the rules -------------------------------------------------------------------------------------------------------

/// Unicorn checks a segment's type when its selector is loaded, and never again.
bool segment_type(Difference& d) {
    const LegacyCase& c = d.c;
    const Op op = c.insn.op;
    if (c.mode == Legacy::Real || d.ours.vector != kGeneralProtection) return false;
    const u16 named = selector_of(c, c.insn.seg);
    bool refused = false;
    if (is_string(c)) {
        const bool stored = op != Op::CMPS && op != Op::SCAS;
        refused = (reads_source(op) && refuses(named, false)) ||
                  (reaches_destination(op) && refuses(selector_of(c, Seg::ES), stored));
    } else if (op == Op::XLAT) {
        refused = refuses(named, false);
    } else {
        refused = c.insn.memory_operand() != nullptr && refuses(named, writes_memory(c));
    }
    if (refused) refuse(d, kGeneralProtection);
    return refused;
}

/// Unicorn has no limits.
bool segment_limit_of_data(Difference& d) {
    const Insn& i = d.c.insn;
    const Operand* m = i.memory_operand();
    if ((m == nullptr && i.op != Op::XLAT) || is_string(d.c)) return false;
    const u8 wanted = i.seg == Seg::SS ? kStackFault : kGeneralProtection;
    const u64 limit = segment_limit(d.c.mode, selector_of(d.c, i.seg)), size = m == nullptr ? 1 : m->size == 0 ? 4 : m->size;
    if (d.ours.vector != wanted || effective_address(d.c) + size - 1 <= limit) return false;
    refuse(d, wanted);
    return true;
}

/// The same at the iteration that a string instruction stopped at: what Unicorn did until then must be what we did.
bool segment_limit_of_string(Difference& d) {
    const LegacyCase& c = d.c;
    if (!is_string(c) || (d.ours.vector != kGeneralProtection && d.ours.vector != kStackFault)) return false;
    const u32 mask = c.insn.addr_size == 2 ? 0xffff : 0xffffffff;
    const u64 size = c.insn.op_size;
    const auto outside = [&](Seg seg, u8 reg) {
        return (d.ours.state.gpr[reg] & mask) + size - 1 > segment_limit(c.mode, selector_of(c, seg));
    };
    const bool source = reads_source(c.insn.op) && outside(c.insn.seg, RSI);
    if (!source && !(reaches_destination(c.insn.op) && outside(Seg::ES, RDI))) return false;
    const u8 vector = source && c.insn.seg == Seg::SS ? kStackFault : kGeneralProtection;
    const u32 done = c.insn.rep == Rep::None ? 0 : (gpr(c, RCX) - d.ours.state.gpr[RCX]) & mask;
    refuse(d, vector);
    if (done == 0) return true;
    d.oracle = d.rerun(c, done);
    d.oracle.vector = vector;
    d.oracle.state.eip = c.state.eip;
    return true;
}

/// The same for the frames that ENTER and LEAVE read through BP.
bool stack_limit(Difference& d) {
    const LegacyCase& c = d.c;
    if ((c.insn.op != Op::ENTER && c.insn.op != Op::LEAVE) || !has_small_stack(c) || d.ours.vector != kStackFault) return false;
    const u32 size = c.insn.op_size, frames = c.insn.op == Op::LEAVE ? 0 : static_cast<u32>(c.insn.imm2 & 31);
    const u32 bottom = gpr(c, RSP) - (frames + 1) * size - static_cast<u32>(c.insn.imm);
    bool outside = c.insn.op == Op::ENTER && (bottom & 0xffff) + size - 1 > 0xffff;
    for (u32 n = 0; n <= frames; ++n) outside |= ((gpr(c, RBP) - n * size) & 0xffff) + size - 1 > 0xffff;
    if (outside) refuse(d, kStackFault);
    return outside;
}

/// "IF OperandSize = 32 THEN EBP := FrameTemp", else BP: Unicorn goes by the size of the stack.
bool frame_pointer(Difference& d) {
    const LegacyCase& c = d.c;
    const bool wide = c.insn.op_size == 4;
    if (c.insn.op != Op::ENTER || wide != has_small_stack(c) || d.oracle.vector >= 0) return false;
    const u32 esp = gpr(c, RSP);
    d.oracle.state.gpr[RBP] = wide ? (esp & 0xffff0000) | ((esp - 4) & 0xffff)
                                   : (gpr(c, RBP) & 0xffff0000) | ((esp - 2) & 0xffff);
    return true;
}

/// "The processor sets this bit whenever it loads a segment selector for the segment into a segment register": Unicorn
/// does so in MOV, POP and the like, not where CS and SS are loaded by a transfer of control.
bool accessed_by_transfer(Difference& d) {
    if (d.oracle.vector >= 0 || d.c.mode == Legacy::Real || !row(d.c.insn.row).has(attr::Branch)) return false;
    if ((d.oracle.state.eflags & flag::VM) != 0) return false;
    for (const Seg seg : {Seg::CS, Seg::SS}) {
        const u16 sel = d.oracle.state.selector[static_cast<unsigned>(seg)];
        if ((segment_access(sel) & 0x90) == 0x90) d.oracle_memory[((sel & 4) != 0 ? kLdt : kGdt) + (sel & ~7u) + 5] |= 1;
    }
    return true;
}

/// Unicorn pushes the return address of a far call, then checks the limit of the new code segment; its error code is then
/// the selector's, where SDM 2A "CALL" has #GP(0).
bool pushed_before_fault(Difference& d) {
    if (d.c.insn.op != Op::CALL_FAR || d.oracle.vector != kGeneralProtection) return false;
    take_memory_back(d);
    const cpu::Insn& i = d.c.insn;
    const bool direct = i.operands[0].kind == cpu::OperandKind::FarPtr;
    if (direct && d.c.mode != Legacy::Real && i.imm > segment_limit(d.c.mode, static_cast<u16>(i.imm2))) d.oracle.error = 0;
    return true;
}

/// Flags of LOCK NEG are those of NEG: Unicorn derives them from the operand, not from the result.
bool locked_neg(Difference& d) {
    if (d.c.insn.op != Op::NEG || !d.c.insn.lock || d.oracle.vector >= 0) return false;
    unsigned at = 0;
    while (d.c.insn.bytes[at] != 0xf0) ++at;
    constexpr u8 kXrelease = 0xf3;  // a hint that changes nothing
    use_instead(d, at, kXrelease);
    return true;
}

/// 0F 0D and 0F 18 /0 to /3 with a register are NOPs to Intel's processors (to AMD's the first is invalid); Unicorn knows
/// them with memory only.
bool prefetch_of_register(Difference& d) {
    const u8 opcode = d.c.insn.bytes[d.c.insn.opcode_offset];
    if (d.c.insn.op != Op::NOP || (opcode != 0x0d && opcode != 0x18) || d.oracle.vector != kInvalidOpcode) return false;
    pass(d);
    return true;
}

/// Unicorn branches wherever it is told: 16-bit code segments, real mode, virtual-8086 mode.
bool code_limit(Difference& d) {
    if (!row(d.c.insn.row).has(attr::Branch) || d.ours.vector != kGeneralProtection || d.oracle.vector >= 0) return false;
    const bool paragraph = d.c.mode == Legacy::Real || (d.oracle.state.eflags & flag::VM) != 0;
    if (d.oracle.state.eip <= segment_limit(paragraph ? Legacy::Real : d.c.mode, d.oracle.state.selector[1])) return false;
    refuse(d, kGeneralProtection);
    return true;
}

/// Unicorn allows every port (gen_check_io returns at once). The bitmap is the one of write_tables.
bool port_permission(Difference& d) {
    const LegacyCase& c = d.c;
    const Op op = c.insn.op;
    if (op != Op::IN && op != Op::OUT && op != Op::INS && op != Op::OUTS) return false;
    if (c.mode != Legacy::User32 || d.ours.vector != kGeneralProtection || (c.state.eflags & flag::IOPL) == flag::IOPL)
        return false;
    const bool in = op == Op::IN || op == Op::INS;
    const Operand &data = c.insn[in ? 0 : 1], &number = c.insn[in ? 1 : 0];
    const u32 port = number.kind == OperandKind::Imm ? static_cast<u32>(c.insn.imm) & 0xff : gpr(c, RDX) & 0xffff;
    const u32 bitmap = kTss + 0x68, byte = port / 8;
    const u32 bits = d.pristine[bitmap + byte] | u32{d.pristine[bitmap + byte + 1]} << 8;
    if (0x68 + byte + 1 <= kTssLimit && (bits >> (port & 7) & ((1u << data.size) - 1)) == 0) return false;
    refuse(d, kGeneralProtection);
    return true;
}

/// "When the BSWAP instruction references a 16-bit register, the result is undefined."
bool bswap_of_word(Difference& d) {
    if (d.c.insn.op != Op::BSWAP || d.c.insn.op_size != 2) return false;
    const u8 reg = d.c.insn[0].reg;
    d.oracle.state.gpr[reg] = d.ours.state.gpr[reg];
    return true;
}

/// "If a count is greater than the operand size, the result is undefined", and the flags.
bool long_double_shift(Difference& d) {
    const Insn& i = d.c.insn;
    if ((i.op != Op::SHLD && i.op != Op::SHRD) || i.op_size != 2 || d.oracle.vector >= 0) return false;
    const u64 count = i[2].kind == OperandKind::Imm ? i.imm : gpr(d.c, RCX);
    if ((count & 31) <= 16) return false;
    d.oracle.state.eflags = (d.oracle.state.eflags & ~static_cast<u32>(flag::Status)) |
                            (d.ours.state.eflags & static_cast<u32>(flag::Status));
    if (i[0].kind == OperandKind::Gpr) {
        u32& result = d.oracle.state.gpr[i[0].reg];
        result = (result & 0xffff0000) | (d.ours.state.gpr[i[0].reg] & 0xffff);
    } else {
        const u32 at = segment_base(d.c.mode, selector_of(d.c, i.seg)) + effective_address(d.c);
        std::memcpy(d.oracle_memory + at, d.our_memory + at, 2);
    }
    return true;
}

/// The count is a number of bytes; Unicorn reads it as signed, which shows in a 32-bit stack pointer. A return to an outer
/// level reads its stack pointer behind the bytes: Unicorn's comes from elsewhere.
bool signed_release(Difference& d) {
    const LegacyCase& c = d.c;
    const bool release = (c.insn.op == Op::RET || c.insn.op == Op::RET_FAR) && c.insn.imm_size == 2;
    if (!release || (c.insn.imm & 0x8000) == 0 || has_small_stack(c)) return false;
    u32 sel = 0;
    const u32 frame = segment_base(c.mode, selector_of(c, Seg::SS)) + gpr(c, RSP), size = c.insn.op_size;
    std::memcpy(&sel, d.pristine + frame + size, 2);
    if (c.insn.op == Op::RET || c.mode == Legacy::User32 || (sel & 3) == 0) {
        if (d.oracle.vector >= 0) return false;
        d.oracle.state.gpr[RSP] += 0x10000;
    } else if (d.ours.vector >= 0) {
        refuse(d, static_cast<u8>(d.ours.vector), d.ours.error);
    } else if (d.oracle.vector < 0) {
        d.oracle.state.gpr[RSP] = d.ours.state.gpr[RSP];
        d.oracle.state.selector[2] = d.ours.state.selector[2];
    }
    return true;
}

/// F6 /1 and F7 /1 are TEST, in processors and in AMD's map; Unicorn has #UD.
bool other_test(Difference& d) {
    if (d.c.insn.op != Op::TEST || (d.c.insn.modrm >> 3 & 7) != 1 || d.oracle.vector != kInvalidOpcode) return false;
    use_instead(d, d.c.insn.modrm_offset, static_cast<u8>(d.c.insn.modrm & ~0x38));
    return true;
}

struct Deviation {
    std::string_view section;
    bool (*correct)(Difference&);
};

constexpr Deviation kDeviations[] = {
    {"SDM 3A Type Checking", segment_type},
    {"SDM 3A Limit Checking", segment_limit_of_data},
    {"SDM 3A Limit Checking", segment_limit_of_string},
    {"SDM 3A Limit Checking", stack_limit},
    {"SDM 3A Limit Checking", code_limit},
    {"SDM 1 I/O Permission Bit Map", port_permission},
    {"SDM 2A ENTER", frame_pointer},
    {"SDM 3A Code- and Data-Segment Descriptor Types", accessed_by_transfer},
    {"SDM 3A Exception Classifications", pushed_before_fault},
    {"SDM 2B NEG", locked_neg},
    {"SDM 2D Two-byte Opcode Map, 0F 0D and 0F 18", prefetch_of_register},
    {"SDM 2A BSWAP", bswap_of_word},
    {"SDM 2B SHLD, SHRD", long_double_shift},
    {"SDM 2B RET", signed_release},
    {"APM 3 ModRM Extensions to the Primary Opcode Map, group 3", other_test},
};

}  // namespace

std::span<const std::string_view> deviations() {
    static constexpr auto kNames = [] {
        std::array<std::string_view, std::size(kDeviations)> names;
        for (std::size_t n = 0; n < names.size(); ++n) names[n] = kDeviations[n].section;
        return names;
    }();
    return kNames;
}

bool correct(Difference& d, std::size_t deviation) { return kDeviations[deviation].correct(d); }

u32 compared_flags(const LegacyCase& c, int vector) {
    u64 flags = flag::Status | flag::DF | flag::IF | flag::IOPL | flag::NT | flag::TF | flag::AC | flag::ID | flag::VM;
    if (vector < 0) flags &= ~u64{row(c.insn.row).flags_undefined};
    return static_cast<u32>(flags);
}

}  // namespace vg::test
