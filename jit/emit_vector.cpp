// SSE, AVX and MMX: the guest's vector registers are the host's, so only general registers and memory operands change.
#include "jit/translator.h"

namespace vg::jit {

using cpu::OperandKind;

namespace {

enum class GprField : u8 { None, Reg, Rm };

/// Where an instruction with a general register operand has it.
GprField gpr_field(u8 map, u8 opcode) {
    if (map == 1) {
        switch (opcode) {
            case 0x2a:
            case 0x6e:
            case 0x7e:
            case 0xc4:
                return GprField::Rm;
            case 0x2c:
            case 0x2d:
            case 0x50:
            case 0xc5:
            case 0xd7:
                return GprField::Reg;
            default:
                return GprField::None;
        }
    }
    if (map == 3) {
        switch (opcode) {
            case 0x14:
            case 0x15:
            case 0x16:
            case 0x17:
            case 0x20:
            case 0x22:
                return GprField::Rm;
            default:
                return GprField::None;
        }
    }
    return GprField::None;
}

/// PCMPxSTRx: EAX, EDX and ECX are implied, and have their own names on the host.
bool is_string_compare(u8 map, u8 opcode) { return map == 3 && opcode >= 0x60 && opcode <= 0x63; }

}  // namespace

void Translator::vector_encoding(Encoding& e) const {
    e.map = opcode_map(*row_);
    e.opcode = opcode();
    e.w = (cur_->rex & 8) != 0;
    if (cur_->vex != 0) {
        static constexpr u8 kPrefix[4] = {0, 0x66, 0xf3, 0xf2};
        const u8 last = cur_->bytes[cur_->opcode_offset - 1];
        e.vex = true;
        e.mandatory = kPrefix[last & 3];
        e.l = (last & 4) != 0;
        e.vvvv = (~(last >> 3)) & 15;
        return;
    }
    for (unsigned k = 0; k < cur_->prefix_count; ++k) {
        const u8 prefix = cur_->bytes[k];
        if (prefix == 0xf2 || prefix == 0xf3 || (prefix == 0x66 && e.mandatory == 0)) e.mandatory = prefix;
    }
}

bool Translator::emit_vector() {
    Encoding e;
    vector_encoding(e);
    bool has_gpr = false;
    for (unsigned k = 0; k < cur_->operand_count; ++k) has_gpr = has_gpr || (*cur_)[k].kind == OperandKind::Gpr;
    has_gpr = has_gpr && !is_string_compare(e.map, e.opcode);
    const GprField where = has_gpr ? gpr_field(e.map, e.opcode) : GprField::None;
    if (has_gpr && where == GprField::None) return false;
    if (!cur_->has_modrm) {  // VZEROUPPER, VZEROALL, EMMS
        a_.bytes(cur_->bytes, cur_->length);
        return true;
    }
    const bool memory = memory_form();
    HostMem m;
    if (memory) {
        const cpu::Operand* operand = cur_->memory_operand();
        if (operand == nullptr || operand->size == 0) return false;
        const bool write = operand == &cur_->operands[0] && (row_->attributes & cpu::attr::NoWriteDest) == 0;
        m = check(operand_address(), operand->size, write, vector_alignment(*cur_));
    }
    u8 reg = static_cast<u8>(reg_field()), rm = static_cast<u8>(rm_field());
    bool store = false;
    if (where == GprField::Reg) {
        store = kHostOf[reg] == kInMemory;
        reg = store ? (memory ? free_scratch(m) : kT0) : kHostOf[reg];
    } else if (where == GprField::Rm && !memory) {
        // Stores of 32 bits and less to a register clear the rest of it, which the memory form would not.
        const bool to_rm = (*cur_)[0].kind == OperandKind::Gpr;
        store = to_rm && kHostOf[rm] == kInMemory;
        if (!store && kHostOf[rm] == kInMemory) load_gpr(kT0, rm);
        rm = kHostOf[rm] == kInMemory ? kT0 : kHostOf[rm];
    }
    if (memory)
        a_.modrm(e, reg, m);
    else
        a_.modrm(e, reg, rm);
    copy_immediate();
    if (store) store_gpr(where == GprField::Reg ? reg_field() : rm_field(), where == GprField::Reg ? reg : kT0);
    wrote_flags();
    return true;
}

}  // namespace vg::jit
