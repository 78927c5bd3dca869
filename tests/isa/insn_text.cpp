#include "insn_text.h"

#include <fmt/format.h>

#include "cpu/isa/isa.h"

namespace vg::cpu {

namespace {

std::string gpr_name(unsigned reg, unsigned size, bool high) {
    static constexpr const char* kNames[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
    static constexpr const char* kLow[] = {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"};
    static constexpr const char* kHigh[] = {"ah", "ch", "dh", "bh"};
    if (high) return kHigh[reg & 3];
    if (reg >= 8) return fmt::format("r{}{}", reg, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
    if (size == 1) return kLow[reg];
    return fmt::format("{}{}", size == 8 ? "r" : size == 4 ? "e" : "", kNames[reg]);
}

constexpr const char* kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};

/// LEA computes an offset: no segment takes part, and Zydis names none.
std::string segment(const Insn& i, Seg seg) { return i.op == Op::LEA ? "" : kSegments[static_cast<unsigned>(seg)]; }

std::string memory_operand_text(const Insn& i, const Operand& o) {
    MemoryText m;
    m.size = o.size;
    m.segment = segment(i, i.seg);
    if (i.base == kRipBase)
        m.base = i.addr_size == 8 ? "rip" : "eip";
    else if (i.base != kNoReg)
        m.base = gpr_name(i.base, i.addr_size, false);
    if (i.index != kNoReg) {
        m.index = row(i.row).has(attr::Vsib) ? fmt::format("v{}", i.index) : gpr_name(i.index, i.addr_size, false);
        m.scale = i.scale;
    }
    m.displacement = truncated(static_cast<u64>(i.disp), 8u * i.addr_size);
    return memory_text(m);
}

}  // namespace

std::string memory_text(const MemoryText& m) {
    std::string address = m.base;
    if (!m.index.empty()) address += fmt::format("{}{}*{}", address.empty() ? "" : "+", m.index, m.scale);
    if (m.displacement != 0 || address.empty())
        address += fmt::format("{}{:#x}", address.empty() ? "" : "+", m.displacement);
    return fmt::format("mem{} {}[{}]", m.size, m.segment.empty() ? "" : m.segment + ":", address);
}

std::string mnemonic_text(const Insn& i) {
    std::string s(mnemonic(i.op));
    if (row(i.row).has(attr::String)) {
        for (unsigned n = 0; n < i.operand_count; ++n) {
            if (i[n].kind != OperandKind::Mem) continue;
            s += i[n].size == 1 ? 'B' : i[n].size == 2 ? 'W' : i[n].size == 4 ? 'D' : 'Q';
            break;
        }
    }
    return s;
}

std::string operand_text(const Insn& i, const Operand& o) {
    switch (o.kind) {
        case OperandKind::None:
            return "-";
        case OperandKind::Gpr:
            return gpr_name(o.reg, o.size, o.high);
        case OperandKind::Seg:
            return kSegments[o.reg];
        case OperandKind::Cr:
            return fmt::format("cr{}", o.reg);
        case OperandKind::Dr:
            return fmt::format("dr{}", o.reg);
        case OperandKind::St:
            return fmt::format("st{}", o.reg);
        case OperandKind::Mm:
            return fmt::format("mm{}", o.reg);
        case OperandKind::Xmm:
            return fmt::format("xmm{}", o.reg);
        case OperandKind::Ymm:
            return fmt::format("ymm{}", o.reg);
        case OperandKind::Mem:
            return memory_operand_text(i, o);
        case OperandKind::Imm:
            return fmt::format("imm{} {:#x}", o.size, i.imm);
        case OperandKind::Imm2:
            return fmt::format("imm{} {:#x}", o.size, i.imm2);
        case OperandKind::Rel:
            return fmt::format("rel {:#x}", i.imm);
        case OperandKind::FarPtr:
            return fmt::format("far {:#x}:{:#x}", i.imm2, i.imm);
        case OperandKind::Implicit1:
            return "imm1 0x1";
    }
    return "?";
}

std::string insn_text(const Insn& i) {
    std::string out = i.lock ? "LOCK " : "";
    if (i.rep != Rep::None) out += i.rep == Rep::Repe ? "REPE " : "REPNE ";
    out += mnemonic_text(i);
    for (unsigned n = 0; n < i.operand_count; ++n) out += (n == 0 ? " " : ", ") + operand_text(i, i[n]);
    return out;
}

}  // namespace vg::cpu
