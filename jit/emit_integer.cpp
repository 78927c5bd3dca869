// Integer instructions: the guest's own opcode with registers renamed and the memory operand checked.
#include "base/assert.h"
#include "jit/translator.h"

namespace vg::jit {

using cpu::Op;

namespace {

/// Prefix byte that selects the instruction (as opposed to the operand size).
u8 mandatory_prefix(Op op) {
    switch (op) {
        case Op::POPCNT:
        case Op::TZCNT:
        case Op::LZCNT:
        case Op::ADOX:
            return 0xf3;
        case Op::CRC32:
            return 0xf2;
        case Op::ADCX:
            return 0x66;
        default:
            return 0;
    }
}

constexpr bool reads(Role role) { return role == Role::Read || role == Role::Both; }
constexpr bool writes(Role role) { return role == Role::Write || role == Role::Both; }

/// A register operand on its way into ModRM.
struct Field {
    u8 host = 0;
    bool scratch = false;  ///< lives in memory: `host` is to be loaded and stored around the instruction
    bool load = false, store = false;
    bool high = false;  ///< AH..BH: no REX prefix may appear
    bool low = false;   ///< SPL..DIL: a REX prefix must appear
};

Field field(unsigned guest, unsigned size, Role role, bool rex) {
    Field f;
    if (size == 1 && !rex && guest >= 4 && guest < 8) {
        f.high = true;
        f.host = static_cast<u8>(guest);
        return f;
    }
    f.host = kHostOf[guest];
    f.scratch = f.host == kInMemory;
    f.low = size == 1 && !f.scratch && f.host >= 4 && f.host < 8;
    f.load = reads(role) || (writes(role) && size < 4);
    f.store = writes(role);
    return f;
}

}  // namespace

void Translator::copy_immediate() {
    if (cur_->imm_size != 0)
        a_.bytes(cur_->bytes + cur_->imm_offset, static_cast<std::size_t>(cur_->length - cur_->imm_offset));
}

bool Translator::emit_modrm(const Class& c) {
    const bool memory = memory_form();
    if (memory && c.bit_string) return emit_bit_string();
    if (!memory && cur_->op == Op::CMPXCHG) return false;
    // Counts above the operand size are undefined, and Zen's answer depends on the form: the interpreter has ours.
    if ((cur_->op == Op::SHLD || cur_->op == Op::SHRD) && cur_->op_size == 2) return false;
    const unsigned rm_size = c.rm_size != 0 ? c.rm_size : cur_->op_size;
    const unsigned reg_size = c.reg_size != 0 ? c.reg_size : cur_->op_size;
    const bool sized = (c.reg != Role::None && c.reg_size == 0) || c.rm_size == 0;
    Encoding e{.map = opcode_map(*row_),
               .opcode = opcode(),
               .mandatory = mandatory_prefix(cur_->op),
               .size16 = sized && cur_->op_size == 2,
               .lock = cur_->lock,
               .w = (cur_->rex & 8) != 0};
    if (cur_->op == Op::ADCX || cur_->op == Op::ADOX) e.size16 = false;
    if (cur_->op == Op::CRC32) e.size16 = rm_size == 2;
    const bool rex = cur_->rex != 0;
    Field reg{.host = static_cast<u8>((cur_->modrm >> 3) & 7)};
    if (c.reg != Role::None) reg = field(reg_field(), reg_size, c.reg, rex);
    Field rm;
    if (!memory) rm = field(rm_field(), rm_size, c.rm, rex);
    if (reg.scratch) reg.host = kT0;
    e.force_rex = reg.low || rm.low;
    const bool flags_in = needs_flags();

    HostMem m;
    bool in_place = false;
    if (memory) {
        m = check(operand_address(), rm_size, c.rm != Role::Read, rm_size == 16 ? 16 : 1);  // CMPXCHG16B: #GP(0)
        if (flags_in) restore_flags(free_scratch(m));
        if (reg.high) return emit_with_high_byte(e, reg.host - 4, m);
        if (saves_value() && c.rm == Role::Both) return emit_with_saved_result(e, reg.host, reg.scratch, m, rm_size);
        if (saves_value()) return emit_with_saved_operand(e, reg.host, reg.scratch, reg.load, reg.store, m, rm_size);
        if (reg.scratch) reg.host = free_scratch(m);
    } else {
        if (flags_in) restore_flags(kT0);
        // Writing 32 bits clears the upper half, which the memory form does not.
        in_place = rm.scratch && !c.registers_only && !(rm.store && rm_size == 4);
        const bool same = reg.scratch && rm.scratch && reg_field() == rm_field();
        if (rm.scratch) rm.host = same ? kT0 : kT1;
        if (in_place) m = {.base = kBank, .disp = gpr_disp(rm_field())};
        const bool any_rex = e.w || e.force_rex || reg.host >= 8 || (!in_place && rm.host >= 8);
        if ((reg.high || rm.high) && any_rex) return false;
        if (rm.scratch && !in_place && rm.load) load_gpr(rm.host, rm_field());
    }
    if (reg.scratch && reg.load) load_gpr(reg.host, reg_field());
    if (saves_value()) {  // a shift: its operand before
        if (in_place) load_gpr(kT0, rm_field());
        save_recipe_value(in_place ? kT0 : rm.host);
    }
    if (memory || in_place)
        a_.modrm(e, reg.host, m);
    else
        a_.modrm(e, reg.host, rm.host);
    copy_immediate();
    if (rm.scratch && !in_place && rm.store) store_gpr(rm_field(), rm.host);
    if (reg.scratch && reg.store) store_gpr(reg_field(), reg.host);
    wrote_flags();
    return true;
}

/// AH to BH beside a host address, which needs REX: the register is rotated so that the byte is its lowest.
bool Translator::emit_with_high_byte(Encoding e, unsigned reg, HostMem m) {
    constexpr u8 kByte = 8;
    const u8 host = static_cast<u8>(reg);
    if (saves_value() || cur_->op == Op::CMPXCHG) return false;  // whose AL is implied
    if (m.base == host || m.index == host) {
        const u8 address = m.base == kT0 || m.base == kT1 ? m.base : free_scratch(m);
        a_.lea(address, m);
        m = {.base = address};
    }
    e.force_rex = true;
    a_.rorx(host, host, kByte);
    a_.modrm(e, host, m);
    copy_immediate();
    a_.rorx(host, host, 64 - kByte);
    wrote_flags();
    return true;
}

/// An instruction that only reads its memory operand, which its flags depend on: the value is kept for a recipe.
bool Translator::emit_with_saved_operand(const Encoding& e, u8 reg, bool scratch, bool load, bool store, const HostMem& m,
                                         unsigned size) {
    const u8 value = free_scratch(m);
    switch (size) {
        case 1:
            a_.modrm({.map = 1, .opcode = 0xb6}, value, m);
            break;
        case 2:
            a_.modrm({.map = 1, .opcode = 0xb7}, value, m);
            break;
        default:
            a_.modrm({.opcode = 0x8b, .w = size == 8}, value, m);
            break;
    }
    save_recipe_value(value);
    const u8 host = scratch ? (value == kT0 ? kT1 : kT0) : reg;
    if (scratch && load) load_gpr(host, reg_field());
    a_.modrm(e, host, value);
    copy_immediate();
    if (scratch && store) store_gpr(reg_field(), host);
    wrote_flags();
    return true;
}

/// An operation on memory, taken apart: its result is kept for a recipe.
bool Translator::emit_with_saved_result(const Encoding& e, u8 reg, bool scratch, const HostMem& m, unsigned size) {
    const u8 value = free_scratch(m);
    Encoding load{.opcode = 0x8b, .w = size == 8}, store{.opcode = 0x89, .size16 = size == 2, .w = size == 8};
    if (size < 4) load = {.map = 1, .opcode = static_cast<u8>(size == 1 ? 0xb6 : 0xb7)};
    if (size == 1) store.opcode = 0x88;
    a_.modrm(load, value, m);
    if (scratch) {  // the register is in memory: the other direction of the same opcode
        Encoding other = e;
        other.opcode = static_cast<u8>(e.opcode | 2);
        other.force_rex = false;
        a_.modrm(other, value, HostMem{.base = kBank, .disp = gpr_disp(reg_field())});
    } else {
        a_.modrm(e, reg, value);
    }
    copy_immediate();
    a_.modrm(store, value, m);
    save_recipe_value(value);
    wrote_flags();
    return true;
}

bool Translator::emit_plain() {
    if (needs_flags()) restore_flags(kT0);
    a_.bytes(cur_->bytes, cur_->length);
    wrote_flags();
    return true;
}

bool Translator::emit_mov_imm() {
    const unsigned guest = opcode_reg();
    const bool byte_form = (opcode() & 8) == 0;
    if (byte_form && cur_->rex == 0 && guest >= 4) return emit_plain();  // AH..BH
    const u8 host = kHostOf[guest];
    const unsigned size = byte_form ? 1 : cur_->op_size;
    if (size >= 4) {
        const u64 value = size == 4 ? static_cast<u32>(cur_->imm) : cur_->imm;
        a_.mov_imm(host == kInMemory ? kT0 : host, value);
        if (host == kInMemory) store_gpr(guest, kT0);
        return true;
    }
    const Encoding e{.opcode = static_cast<u8>(byte_form ? 0xc6 : 0xc7), .size16 = !byte_form, .force_rex = byte_form};
    if (host == kInMemory)
        a_.modrm(e, 0, HostMem{.base = kBank, .disp = gpr_disp(guest)});
    else
        a_.modrm(e, 0, host);
    a_.byte(static_cast<u8>(cur_->imm));
    if (!byte_form) a_.byte(static_cast<u8>(cur_->imm >> 8));
    return true;
}

bool Translator::emit_mov_abs() {
    const bool byte_form = (opcode() & 1) == 0, store = (opcode() & 2) != 0;
    const unsigned size = byte_form ? 1 : cur_->op_size;
    const HostMem m = check(operand_address(), size, store);
    const u8 code = static_cast<u8>((store ? 0x88 : 0x8a) | (byte_form ? 0 : 1));
    a_.modrm({.opcode = code, .size16 = size == 2, .w = size == 8}, kRax, m);
    return true;
}

bool Translator::emit_xchg_acc() {
    const unsigned guest = opcode_reg();
    const u8 host = kHostOf[guest] == kInMemory ? kT0 : kHostOf[guest];
    if (host == kT0) load_gpr(kT0, guest);
    a_.modrm({.opcode = 0x87, .size16 = cur_->op_size == 2, .w = cur_->op_size == 8}, kRax, host);
    if (host == kT0) store_gpr(guest, kT0);
    return true;
}

bool Translator::emit_bswap() {
    if (cur_->op_size == 2) return false;  // undefined: the interpreter has our answer
    const unsigned guest = opcode_reg();
    const u8 host = kHostOf[guest] == kInMemory ? kT0 : kHostOf[guest];
    if (host == kT0) load_gpr(kT0, guest);
    const u8 rex = static_cast<u8>((cur_->op_size == 8 ? 0x48 : 0x40) | (host >> 3));
    a_.byte(rex);
    a_.byte(0x0f);
    a_.byte(static_cast<u8>(0xc8 | (host & 7)));
    if (host == kT0) store_gpr(guest, kT0);
    return true;
}

bool Translator::emit_lea() {
    Address a = operand_address();
    a.seg = cpu::Seg::None;
    const unsigned guest = reg_field();
    const u8 host = kHostOf[guest] == kInMemory ? kT0 : kHostOf[guest];
    const unsigned size = cur_->op_size;
    const bool direct = size >= 4 && host != kT0 && resident(a) && (a.base != cpu::kNoReg || a.index != cpu::kNoReg);
    if (direct) {
        const HostMem m{.base = a.base == cpu::kNoReg ? kNone : kHostOf[a.base],
                        .index = a.index == cpu::kNoReg ? kNone : kHostOf[a.index],
                        .scale = a.scale,
                        .disp = static_cast<s32>(a.disp)};
        if (size == 8 && a.size == 8)
            a_.lea(host, m);
        else
            a_.lea32(host, m);
        return true;
    }
    load_address(a);
    if (size == 2) {
        const Encoding store{.opcode = 0x89, .size16 = true};
        if (host == kT0)
            a_.modrm(store, kT0, HostMem{.base = kBank, .disp = gpr_disp(guest)});
        else
            a_.modrm(store, kT0, host);
        return true;
    }
    if (size == 4) a_.mov32(kT0, kT0);
    if (host == kT0)
        store_gpr(guest, kT0);
    else
        a_.mov(host, kT0);
    return true;
}

/// Only divisions that cannot fault run here; the others, found by the tests in front, go to the interpreter.
bool Translator::emit_divide() {
    const unsigned size = cur_->op_size;
    if (size < 4 || (opcode() & 1) == 0) return false;
    const bool wide = size == 8;
    const Encoding load{.opcode = 0x8b, .w = wide};
    if (memory_form()) {
        a_.modrm(load, kT0, check(operand_address(), size, false));
    } else {
        keep_flags();
        if (kHostOf[rm_field()] == kInMemory)
            a_.modrm(load, kT0, HostMem{.base = kBank, .disp = gpr_disp(rm_field())});
        else
            a_.modrm(load, kT0, kHostOf[rm_field()]);
    }
    VG_ASSERT(flags_.source == FlagState::Source::Slot);  // as the plan has it: they are read
    flags_in_slot();
    const bool is_signed = cur_->op == Op::IDIV;
    const Encoding compare{.opcode = 0x3b, .w = wide};
    const u32 site = new_site();
    if (is_signed) {
        // Neither 0 nor -1, and a dividend that is a sign-extended single: the quotient fits.
        a_.modrm({.opcode = 0x8d, .w = wide}, kT1, HostMem{.base = kT0, .disp = 1});
        a_.alu_imm(7, kT1, 1, wide);
        cold_thunk(a_.jcc_later(kBe), thunks_.execute, site);
        a_.modrm(load, kT1, kRax);
        a_.modrm({.opcode = 0xc1, .w = wide}, 7, kT1);
        a_.byte(static_cast<u8>(8 * size - 1));
        a_.modrm(compare, kT1, kRdx);
        cold_thunk(a_.jcc_later(kNe), thunks_.execute, site);
    } else {
        a_.modrm(compare, kRdx, kT0);
        cold_thunk(a_.jcc_later(kAe), thunks_.execute, site);
    }
    a_.modrm({.opcode = 0xf7, .w = wide}, is_signed ? 7 : 6, kT0);
    // The rule of cpu/ops/flags.h: AF = 1, PF = ZF = SF = 0, CF and OF stay. The slot has LAHF's format.
    const HostMem slot{.base = kBank, .disp = kFlagsSlot};
    a_.modrm({.opcode = 0x81, .size16 = true}, 4, slot);
    a_.word(0x0101);
    a_.modrm({.opcode = 0x81, .size16 = true}, 1, slot);
    a_.word(0x1200);
    return true;
}

bool Translator::emit_vex_gpr() {
    const u8* vex = cur_->bytes + cur_->opcode_offset - cur_->vex;
    const unsigned third = (~(vex[cur_->vex - 1] >> 3)) & 15u;
    Encoding e;
    vector_encoding(e);
    const bool group = cur_->op == Op::BLSI || cur_->op == Op::BLSR || cur_->op == Op::BLSMSK;
    const bool third_used = cur_->op != Op::RORX;
    const bool third_written = group || cur_->op == Op::MULX;
    const bool memory = memory_form();
    const bool reg_scratch = !group && kHostOf[reg_field()] == kInMemory;
    const bool third_scratch = third_used && kHostOf[third] == kInMemory;
    if (memory && reg_scratch && third_scratch) return false;
    HostMem m;
    if (memory) m = check(operand_address(), e.w ? 8 : 4, false);
    if (needs_flags()) restore_flags(memory ? free_scratch(m) : kT0);
    const u8 first = memory ? free_scratch(m) : kT0;
    u8 reg = static_cast<u8>((cur_->modrm >> 3) & 7);
    if (!group) reg = reg_scratch ? first : kHostOf[reg_field()];
    if (third_used) e.vvvv = third_scratch ? (memory ? first : kT1) : kHostOf[third];
    if (third_scratch && !third_written) load_gpr(e.vvvv, third);
    if (!memory && kHostOf[rm_field()] == kInMemory) m = {.base = kBank, .disp = gpr_disp(rm_field())};
    if (m.base != kNone)
        a_.modrm(e, reg, m);
    else
        a_.modrm(e, reg, kHostOf[rm_field()]);
    copy_immediate();
    if (third_scratch && third_written) store_gpr(third, e.vvvv);
    if (reg_scratch) store_gpr(reg_field(), reg);
    wrote_flags();
    return true;
}

}  // namespace vg::jit
