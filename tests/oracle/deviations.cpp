#include "deviations.h"

#include "cpu/fault.h"
#include "cpu/isa/isa.h"
#include "cpu/spec/bits.h"

namespace vg::test {

using namespace cpu;

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

/// What a rule sees.
struct Difference {
    const LegacyCase& c;
    const LegacyOutcome& ours;
    const LegacyOutcome& oracle;
    const u8* memory;
    [[nodiscard]] Op op() const { return c.insn.op; }
    [[nodiscard]] u32 gpr(u8 reg) const { return reg == kNoReg ? 0 : c.state.gpr[reg]; }
};

/// Unicorn checks a segment's type when its selector is loaded, and never again.
bool segment_type(const Difference& d) {
    const LegacyCase& c = d.c;
    if (c.mode == Legacy::Real || d.ours.vector != kGeneralProtection) return false;
    const u16 named = selector_of(c, c.insn.seg);
    if (is_string(c)) {
        const Op op = d.op();
        const bool source = op == Op::MOVS || op == Op::CMPS || op == Op::LODS || op == Op::OUTS;
        const bool destination = op != Op::LODS && op != Op::OUTS, stored = op != Op::CMPS && op != Op::SCAS;
        return (source && refuses(named, false)) || (destination && refuses(selector_of(c, Seg::ES), stored));
    }
    if (d.op() == Op::XLAT) return refuses(named, false);
    return c.insn.memory_operand() != nullptr && refuses(named, writes_memory(c));
}

u64 effective_address(const Difference& d) {
    const Insn& i = d.c.insn;
    u32 address = static_cast<u32>(i.disp) + d.gpr(i.base) + d.gpr(i.index) * i.scale;
    if (i.op == Op::XLAT) address = d.gpr(RBX) + (d.gpr(RAX) & 0xff);
    const bool bit_string = i.op == Op::BT || i.op == Op::BTS || i.op == Op::BTR || i.op == Op::BTC;
    if (bit_string && i[1].kind == OperandKind::Gpr) {
        const s32 bit = i.op_size == 2 ? static_cast<s16>(d.gpr(i[1].reg)) : static_cast<s32>(d.gpr(i[1].reg));
        address += static_cast<u32>(bit >> (i.op_size == 2 ? 4 : 5)) * i.op_size;
    }
    return i.addr_size == 2 ? address & 0xffff : address;
}

/// Unicorn has no limits.
bool segment_limit_of_data(const Difference& d) {
    const Insn& i = d.c.insn;
    const Operand* m = i.memory_operand();
    if (m == nullptr && i.op != Op::XLAT) return false;
    const u8 wanted = i.seg == Seg::SS ? kStackFault : kGeneralProtection;
    if (d.ours.vector != wanted || is_string(d.c)) return false;
    const u64 limit = segment_limit(d.c.mode, selector_of(d.c, i.seg)), size = m == nullptr || m->size == 0 ? 4 : m->size;
    return effective_address(d) + size - 1 > limit;
}

/// The same at the iteration that a string instruction stopped at.
bool segment_limit_of_string(const Difference& d) {
    if (!is_string(d.c) || (d.ours.vector != kGeneralProtection && d.ours.vector != kStackFault)) return false;
    const u64 mask = d.c.insn.addr_size == 2 ? 0xffff : 0xffffffff, size = d.c.insn.op_size;
    const auto outside = [&](Seg seg, u8 reg) {
        return (d.ours.state.gpr[reg] & mask) + size - 1 > segment_limit(d.c.mode, selector_of(d.c, seg));
    };
    return outside(d.c.insn.seg, RSI) || outside(Seg::ES, RDI);
}

bool has_small_stack(const LegacyCase& c) { return c.mode == Legacy::Real || c.mode == Legacy::Protected16; }

/// The same for the frames that ENTER and LEAVE read through BP.
bool stack_limit(const Difference& d) {
    if ((d.op() != Op::ENTER && d.op() != Op::LEAVE) || !has_small_stack(d.c) || d.ours.vector != kStackFault) return false;
    const u32 size = d.c.insn.op_size, frames = d.op() == Op::LEAVE ? 0 : static_cast<u32>(d.c.insn.imm2 & 31);
    const u32 bottom = d.gpr(RSP) - (frames + 1) * size - static_cast<u32>(d.c.insn.imm);
    if (d.op() == Op::ENTER && (bottom & 0xffff) + size - 1 > 0xffff) return true;
    for (u32 n = 0; n <= frames; ++n)
        if (((d.gpr(RBP) - n * size) & 0xffff) + size - 1 > 0xffff) return true;
    return false;
}

/// "IF OperandSize = 32 THEN EBP := FrameTemp", else BP: Unicorn goes by the size of the stack.
bool frame_pointer(const Difference& d) {
    const bool wide = d.c.insn.op_size == 4;
    if (d.op() != Op::ENTER || wide != has_small_stack(d.c) || d.ours.vector >= 0 || d.oracle.vector >= 0) return false;
    const u32 esp = d.gpr(RSP), wanted = wide ? (esp & 0xffff0000) | ((esp - 4) & 0xffff)
                                              : (d.gpr(RBP) & 0xffff0000) | ((esp - 2) & 0xffff);
    return d.ours.state.gpr[RBP] == wanted && d.oracle.state.gpr[RSP] == d.ours.state.gpr[RSP];
}

/// "The accessed bit is set whenever the processor loads a segment selector": Unicorn does so for data only.
bool accessed_code(const Difference& d) {
    return d.ours.vector == d.oracle.vector && d.c.mode != Legacy::Real && row(d.c.insn.row).has(attr::Branch) &&
           (d.ours.state.selector[1] & ~3) == selector::LateCode;
}

/// "Faults: the state before the instruction is restored": Unicorn pushes the return address, then checks the limit.
bool pushed_before_fault(const Difference& d) {
    return d.op() == Op::CALL_FAR && d.ours.vector == kGeneralProtection && d.oracle.vector == d.ours.vector &&
           d.ours.state.gpr == d.oracle.state.gpr && d.ours.state.selector == d.oracle.state.selector;
}

/// Flags of LOCK NEG are those of NEG.
bool locked_neg(const Difference& d) {
    return d.op() == Op::NEG && d.c.insn.lock && d.ours.vector < 0 && d.oracle.vector < 0;
}

/// 0F 0D and 0F 18 with a register are NOPs to processors.
bool prefetch_of_register(const Difference& d) {
    const u8 opcode = d.c.insn.bytes[d.c.insn.opcode_offset];
    return d.op() == Op::NOP && (opcode == 0x0d || opcode == 0x18) && d.oracle.vector == kInvalidOpcode;
}

/// Unicorn branches wherever it is told: 16-bit code segments, real mode, virtual-8086 mode.
bool code_limit(const Difference& d) {
    if (!row(d.c.insn.row).has(attr::Branch) || d.ours.vector != kGeneralProtection || d.oracle.vector >= 0) return false;
    const bool paragraph = d.c.mode == Legacy::Real || (d.oracle.state.eflags & flag::VM) != 0;
    return d.oracle.state.eip > segment_limit(paragraph ? Legacy::Real : d.c.mode, d.oracle.state.selector[1]);
}

/// Unicorn allows every port. The bitmap is the one of write_tables.
bool port_permission(const Difference& d) {
    const Op op = d.op();
    if (op != Op::IN && op != Op::OUT && op != Op::INS && op != Op::OUTS) return false;
    if (d.c.mode != Legacy::User32 || d.ours.vector != kGeneralProtection || (d.c.state.eflags & flag::IOPL) == flag::IOPL)
        return false;
    const Insn& i = d.c.insn;
    const bool in = op == Op::IN || op == Op::INS;
    const Operand &data = i[in ? 0 : 1], &number = i[in ? 1 : 0];
    const u32 port = number.kind == OperandKind::Imm ? static_cast<u32>(i.imm) & 0xff : d.gpr(RDX) & 0xffff;
    const u32 bitmap = legacy_memory::kTss + 0x68, byte = port / 8;
    if (0x68 + byte + 1 > legacy_memory::kTssLimit) return true;
    const u32 bits = d.memory[bitmap + byte] | u32{d.memory[bitmap + byte + 1]} << 8;
    return (bits >> (port & 7) & ((1u << data.size) - 1)) != 0;
}

/// "When the BSWAP instruction references a 16-bit register, the result is undefined."
bool bswap_of_word(const Difference& d) { return d.op() == Op::BSWAP && d.c.insn.op_size == 2; }

/// "If a count is greater than the operand size, the result is undefined."
bool long_double_shift(const Difference& d) {
    if ((d.op() != Op::SHLD && d.op() != Op::SHRD) || d.c.insn.op_size != 2) return false;
    const u64 count = d.c.insn[2].kind == OperandKind::Imm ? d.c.insn.imm : d.gpr(RCX);
    return (count & 31) > 16;
}

/// The count is a number of bytes; Unicorn reads it as signed.
bool signed_release(const Difference& d) {
    return (d.op() == Op::RET || d.op() == Op::RET_FAR) && d.c.insn.imm_size == 2 && (d.c.insn.imm & 0x8000) != 0;
}

/// F6 /1 and F7 /1 are TEST, in processors and in AMD's map; Unicorn has #UD.
bool other_test(const Difference& d) {
    return d.op() == Op::TEST && (d.c.insn.modrm >> 3 & 7) == 1 && d.oracle.vector == kInvalidOpcode;
}

struct Deviation {
    std::string_view section;
    bool (*applies)(const Difference&);
};

constexpr Deviation kDeviations[] = {
    {"SDM 3A Type Checking", segment_type},
    {"SDM 3A Limit Checking", segment_limit_of_data},
    {"SDM 3A Limit Checking", segment_limit_of_string},
    {"SDM 3A Limit Checking", stack_limit},
    {"SDM 3A Limit Checking", code_limit},
    {"SDM 2A ENTER", frame_pointer},
    {"SDM 3A Code- and Data-Segment Descriptor Types", accessed_code},
    {"SDM 3A Exception Classifications", pushed_before_fault},
    {"SDM 2B NEG", locked_neg},
    {"SDM 2D Two-byte Opcode Map, 0F 0D and 0F 18", prefetch_of_register},
    {"SDM 1 I/O Permission Bit Map", port_permission},
    {"SDM 2A BSWAP", bswap_of_word},
    {"SDM 2B SHLD, SHRD", long_double_shift},
    {"SDM 2B RET", signed_release},
    {"APM 3 ModRM Extensions of the primary opcode map, group 3", other_test},
};

}  // namespace

std::string_view explain(const LegacyCase& c, const LegacyOutcome& ours, const LegacyOutcome& oracle, const u8* memory) {
    const Difference difference{c, ours, oracle, memory};
    for (const Deviation& d : kDeviations)
        if (d.applies(difference)) return d.section;
    return {};
}

u32 compared_flags(const LegacyCase& c, int vector) {
    u64 flags = flag::Status | flag::DF | flag::IF | flag::IOPL | flag::NT | flag::TF | flag::AC | flag::ID | flag::VM;
    if (vector < 0) flags &= ~u64{row(c.insn.row).flags_undefined};
    return static_cast<u32>(flags);
}

}  // namespace vg::test
