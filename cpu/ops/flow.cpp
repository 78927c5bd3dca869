// Near control transfer.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// Target of a near JMP or CALL: relative, in a register or in memory.
bool read_target(Interp& in, const Insn& i, u64& target) {
    if (i[0].kind != OperandKind::Rel) return in.read(i, i[0], target);
    target = in.next_rip(i) + i.imm;
    return true;
}

Exec jump_relative(Interp& in, const Insn& i) { return in.branch(in.next_rip(i) + i.imm, i.op_size); }

/// LOOP family: counts in the register of the address size. Nothing changes if the target is bad.
template <class F>
Exec loop(Interp& in, const Insn& i, F also) {
    const u64 count = in.gpr(RCX, i.addr_size) - 1;
    const bool taken = (i.addr_size == 8   ? count
                        : i.addr_size == 4 ? static_cast<u32>(count)
                                           : static_cast<u16>(count)) != 0 &&
                       also((in.s.rflags & flag::ZF) != 0);
    if (taken) {
        const Exec result = jump_relative(in, i);
        if (result != Exec::Branch) return result;
    }
    in.set_gpr(RCX, i.addr_size, count);
    return taken ? Exec::Branch : Exec::Next;
}

}  // namespace

Exec JMP(Interp& in, const Insn& i) {
    u64 target;
    return read_target(in, i, target) ? in.branch(target, i.op_size) : in.vp.failed();
}

Exec CALL(Interp& in, const Insn& i) {
    u64 target;
    if (!read_target(in, i, target) || !in.check_target(target, i.op_size) || !in.push(in.next_rip(i), i.op_size))
        return in.vp.failed();
    in.s.rip = target;
    return Exec::Branch;
}

Exec RET(Interp& in, const Insn& i) {
    u64 target;
    if (!in.peek_stack(target, i.op_size)) return in.vp.failed();
    const Exec result = in.branch(target, i.op_size);
    if (result == Exec::Branch) in.set_stack_pointer(in.s.gpr[RSP] + i.op_size + static_cast<u16>(i.imm));
    return result;
}

Exec Jcc(Interp& in, const Insn& i) {
    return in.condition(row(i.row).opcode) ? jump_relative(in, i) : Exec::Next;
}

Exec JCXZ(Interp& in, const Insn& i) {
    return in.gpr(RCX, i.addr_size) == 0 ? jump_relative(in, i) : Exec::Next;
}

Exec LOOP(Interp& in, const Insn& i) {
    return loop(in, i, [](bool) { return true; });
}
Exec LOOPE(Interp& in, const Insn& i) {
    return loop(in, i, [](bool zf) { return zf; });
}
Exec LOOPNE(Interp& in, const Insn& i) {
    return loop(in, i, [](bool zf) { return !zf; });
}

Exec BOUND(Interp& in, const Insn& i) {
    return by_size(i.op_size, [&](auto type) {
        using S = std::make_signed_t<decltype(type)>;
        S bounds[2];
        if (!in.load_operand(i, bounds, sizeof bounds)) return in.vp.failed();
        const S index = static_cast<S>(in.gpr(i[0]));
        return index < bounds[0] || index > bounds[1] ? in.vp.raise(kBoundRange) : Exec::Next;
    });
}

}  // namespace vg::cpu::ops
