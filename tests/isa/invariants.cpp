#include "invariants.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa/isa.h"

namespace vg::cpu {

namespace {

bool is_operand_size_possible(const Operand& o) {
    switch (o.kind) {
        case OperandKind::None:
            return false;
        case OperandKind::Gpr:
            return (o.size == 1 || o.size == 2 || o.size == 4 || o.size == 8) &&
                   (!o.high || (o.size == 1 && o.reg < 4));
        case OperandKind::Seg:
            return o.size == 2 && o.reg < 6;
        case OperandKind::Cr:
        case OperandKind::Dr:
            return o.size == 4 || o.size == 8;
        case OperandKind::St:
            return o.size == 10 && o.reg < 8;
        case OperandKind::Mm:
            return o.size == 8 && o.reg < 8;
        case OperandKind::Xmm:
            return o.size == 16;
        case OperandKind::Ymm:
            return o.size == 32;
        case OperandKind::Mem:
            return o.size <= 32;
        case OperandKind::Imm:
        case OperandKind::Imm2:
        case OperandKind::Rel:
        case OperandKind::FarPtr:
        case OperandKind::Implicit1:
            return o.size >= 1 && o.size <= 10;
    }
    return false;
}

std::string_view check_operands(const Insn& i) {
    if (i.operand_count > 4) return "more than four operands";
    const unsigned registers = i.mode == CodeMode::Bits64 ? 16 : 8;
    for (unsigned n = 0; n < i.operand_count; ++n) {
        if (!is_operand_size_possible(i[n])) return "operand size";
        if (i[n].reg >= registers) return "register number";
    }
    if (i.base != kNoReg && i.base != kRipBase && i.base >= registers) return "base register";
    if (i.index != kNoReg && i.index >= registers) return "index register";
    if (i.scale != 1 && i.scale != 2 && i.scale != 4 && i.scale != 8) return "scale";
    return {};
}

std::string_view check_offsets(const Insn& i, std::span<const u8> bytes) {
    if (i.length == 0 || i.length > kMaxInsnLength) return "length";
    if (i.prefix_count > i.opcode_offset || i.opcode_offset >= i.length) return "opcode offset";
    if (i.has_modrm && (i.modrm_offset <= i.opcode_offset || i.modrm_offset >= i.length)) return "modrm offset";
    if (i.has_modrm && bytes[i.modrm_offset] != i.modrm) return "modrm";
    if (i.disp_size != 0 && (i.disp_offset <= i.opcode_offset || i.disp_offset + i.disp_size > i.length))
        return "displacement offset";
    if (i.imm_size != 0 && (i.imm_offset <= i.opcode_offset || i.imm_offset + i.imm_size > i.length))
        return "immediate offset";
    if (std::memcmp(i.bytes, bytes.data(), i.length) != 0) return "bytes";
    for (unsigned n = i.length; n < kMaxInsnLength; ++n)
        if (i.bytes[n] != 0) return "bytes behind the end";
    return {};
}

}  // namespace

std::string_view broken_invariant(std::span<const u8> bytes, CodeMode mode) {
    Insn i;
    const DecodeStatus status = decode(bytes, mode, i);
    if (i.length > std::min<std::size_t>(bytes.size(), kMaxInsnLength)) return "length beyond the input";
    if (status == DecodeStatus::Truncated) return bytes.size() < kMaxInsnLength ? "" : "truncated at full length";
    if (status == DecodeStatus::TooLong) return bytes.size() >= kMaxInsnLength ? "" : "too long for a short input";
    if (status != DecodeStatus::Ok) return {};
    if (i.mode != mode || i.op == Op::Invalid || i.op >= Op::Count || i.row == 0 || i.row >= row_count()) return "row";
    if (row(i.row).op != i.op) return "row of another operation";
    if (const auto what = check_offsets(i, bytes); !what.empty()) return what;
    if (const auto what = check_operands(i); !what.empty()) return what;
    // The same instruction from exactly its own bytes, and from fewer none.
    Insn again;
    if (decode(bytes.first(i.length), mode, again) != DecodeStatus::Ok) return "needs bytes behind its end";
    if (again.length != i.length || again.row != i.row || again.imm != i.imm || again.disp != i.disp)
        return "depends on bytes behind its end";
    for (unsigned n = 0; n < i.length; ++n)
        if (decode(bytes.first(n), mode, again) != DecodeStatus::Truncated) return "a part is not Truncated";
    return {};
}

}  // namespace vg::cpu
