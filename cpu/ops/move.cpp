// Moves without flags, conversions, address calculation, hints.
#include <atomic>

#include "base/bits.h"
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// Operand 0 = operand 1.
Exec copy(Interp& in, const Insn& i) {
    u64 value;
    if (!in.read(i, i[1], value) || !in.write(i, i[0], value)) return in.vp.failed();
    return Exec::Next;
}

Exec extend_signed(Interp& in, const Insn& i) {
    u64 value;
    if (!in.read(i, i[1], value)) return in.vp.failed();
    in.set_gpr(i[0], sign_extend(value, i[1].size * 8u));
    return Exec::Next;
}

}  // namespace

Exec MOV(Interp& in, const Insn& i) { return copy(in, i); }
Exec MOVNTI(Interp& in, const Insn& i) { return copy(in, i); }
Exec MOVZX(Interp& in, const Insn& i) { return copy(in, i); }
Exec MOVSX(Interp& in, const Insn& i) { return extend_signed(in, i); }
Exec MOVSXD(Interp& in, const Insn& i) { return extend_signed(in, i); }

Exec MOVBE(Interp& in, const Insn& i) {
    u64 value;
    if (!in.read(i, i[1], value)) return in.vp.failed();
    value = __builtin_bswap64(value) >> (64 - 8 * i[0].size);
    return in.write(i, i[0], value) ? Exec::Next : in.vp.failed();
}

Exec LEA(Interp& in, const Insn& i) {
    in.set_gpr(i[0], in.effective_address(i));
    return Exec::Next;
}

Exec XLAT(Interp& in, const Insn& i) {
    u64 address;
    u8 value;
    const u64 offset = (in.s.gpr[RBX] + static_cast<u8>(in.s.gpr[RAX])) & low_mask(i.addr_size * 8u);
    if (!in.linear(i.seg, offset, 1, false, address) || !in.load(address, &value, 1, i.seg == Seg::SS))
        return in.vp.failed();
    in.set_gpr(RAX, 1, value);
    return Exec::Next;
}

Exec CBW(Interp& in, const Insn& i) {
    in.set_gpr(RAX, i.op_size, sign_extend(in.s.gpr[RAX], i.op_size * 4u));
    return Exec::Next;
}

Exec CWD(Interp& in, const Insn& i) {
    in.set_gpr(RDX, i.op_size, bit(in.s.gpr[RAX], i.op_size * 8u - 1) ? ~u64{0} : 0);
    return Exec::Next;
}

Exec CMOVcc(Interp& in, const Insn& i) {
    u64 value;
    if (!in.read(i, i[1], value)) return in.vp.failed();  // the source is read whatever the condition
    in.set_gpr(i[0], in.condition(row(i.row).opcode) ? value : in.gpr(i[0]));  // a 32-bit one always zero-extends
    return Exec::Next;
}

Exec SETcc(Interp& in, const Insn& i) {
    return in.write(i, i[0], in.condition(row(i.row).opcode) ? 1 : 0) ? Exec::Next : in.vp.failed();
}

Exec NOP(Interp&, const Insn&) { return Exec::Next; }
Exec PREFETCH(Interp&, const Insn&) { return Exec::Next; }

Exec LFENCE(Interp&, const Insn&) { return Exec::Next; }
Exec SFENCE(Interp&, const Insn&) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return Exec::Next;
}
Exec MFENCE(Interp&, const Insn&) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return Exec::Next;
}

/// Caches are coherent here: only the address is checked, as for a read of one byte. A device is not read.
Exec CLFLUSH(Interp& in, const Insn& i) {
    u64 address;
    if (!in.memory_address(i, 1, false, address)) return in.vp.failed();
    (void)in.direct(address, 1, false, i.seg == Seg::SS);
    return in.direct_failed() ? in.vp.failed() : Exec::Next;
}

}  // namespace vg::cpu::ops
