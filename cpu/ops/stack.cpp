// PUSH, POP and stack frames.
#include "base/bits.h"
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// Checks that the n-th value from here (from 1) can be pushed, so that a fault in the middle leaves nothing behind.
bool can_push(Interp& in, unsigned n, unsigned size) {
    const u64 sp = (in.s.gpr[RSP] - u64{n} * size) & in.stack_mask();
    u64 address;
    return in.linear(Seg::SS, sp, size, true, address) && in.probe(address, size, true);
}

/// A value of an outer frame, for ENTER.
bool load_frame(Interp& in, u64 frame, unsigned size, u64& value) {
    u64 address;
    value = 0;
    return in.linear(Seg::SS, frame & in.stack_mask(), size, false, address) && in.load(address, &value, size, true);
}

/// What ENTER pushes after RBP: the outer frames' pointers and its own. With `push` false only checks, in the same order.
bool enter_frames(Interp& in, unsigned level, unsigned size, u64 own_frame, bool push) {
    u64 value = 0;
    for (unsigned n = 1; n < level; ++n) {
        if (!load_frame(in, in.s.gpr[RBP] - u64{n} * size, size, value)) return false;
        if (push ? !in.push(value, size) : !can_push(in, n + 1, size)) return false;
    }
    return level == 0 || (push ? in.push(own_frame, size) : can_push(in, level + 1, size));
}

}  // namespace

Exec PUSH(Interp& in, const Insn& i) {
    u64 value;
    if (!in.read(i, i[0], value) || !in.push(value, i.op_size)) return in.vp.failed();
    return Exec::Next;
}

/// A memory destination is addressed with the RSP behind the value popped.
Exec POP(Interp& in, const Insn& i) {
    const u64 old_rsp = in.s.gpr[RSP];
    u64 value;
    if (!in.pop(value, i.op_size)) return in.vp.failed();
    if (in.write(i, i[0], value)) return Exec::Next;
    in.s.gpr[RSP] = old_rsp;
    return in.vp.failed();
}

Exec ENTER(Interp& in, const Insn& i) {
    VpState& s = in.s;
    const unsigned level = i.imm2 & 31, size = i.op_size;
    const u64 old_rsp = s.gpr[RSP], mask = in.stack_mask();
    if (!can_push(in, 1, size) || !enter_frames(in, level, size, 0, false)) return in.vp.failed();
    // The new top must be writable too: "the stack-pointer limit check and page fault are those of a push".
    u64 address;
    const u64 bottom = (old_rsp - u64{level + 1} * size - static_cast<u16>(i.imm)) & mask;
    if (!in.linear(Seg::SS, bottom, size, true, address) || !in.probe(address, size, true)) return in.vp.failed();

    // SDM 2A "ENTER": "FrameTemp := ESP" for 32-bit operands, also where the stack is addressed by SP alone.
    const u64 own_frame = (old_rsp & ~mask) | ((old_rsp - size) & mask);
    if (!in.push(s.gpr[RBP], size) || !enter_frames(in, level, size, own_frame, true)) {
        s.gpr[RSP] = old_rsp;
        return in.vp.failed();
    }
    in.set_gpr(RBP, size, own_frame);
    in.set_stack_pointer(bottom);
    return Exec::Next;
}

Exec LEAVE(Interp& in, const Insn& i) {
    u64 value;
    const u64 frame = in.s.gpr[RBP] & in.stack_mask();
    if (!load_frame(in, frame, i.op_size, value)) return in.vp.failed();
    in.set_stack_pointer(frame + i.op_size);
    in.set_gpr(RBP, i.op_size, value);
    return Exec::Next;
}

Exec PUSHA(Interp& in, const Insn& i) {
    const u64 old_rsp = in.s.gpr[RSP];
    for (unsigned n = 1; n <= 8; ++n)
        if (!can_push(in, n, i.op_size)) return in.vp.failed();
    for (unsigned reg = RAX; reg <= RDI; ++reg) {
        if (in.push(reg == RSP ? old_rsp : in.s.gpr[reg], i.op_size)) continue;
        in.s.gpr[RSP] = old_rsp;
        return in.vp.failed();
    }
    return Exec::Next;
}

Exec POPA(Interp& in, const Insn& i) {
    const unsigned size = i.op_size;
    u64 values[8];
    for (unsigned n = 0; n < 8; ++n)
        if (!in.peek_stack(values[n], size, u64{n} * size)) return in.vp.failed();
    in.set_stack_pointer(in.s.gpr[RSP] + u64{8} * size);
    for (unsigned n = 0; n < 8; ++n)
        if (const unsigned reg = RDI - n; reg != RSP) in.set_gpr(reg, size, values[n]);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
