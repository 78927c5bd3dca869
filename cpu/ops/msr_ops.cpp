// RDMSR and WRMSR.
#include "cpu/isa/bodies.h"
#include "cpu/msr.h"
#include "cpu/ops/exits.h"

namespace vg::cpu::ops {

Exec RDMSR(Interp& in, const Insn& i) {
    const u32 msr = static_cast<u32>(in.s.gpr[RCX]);
    u64 value = 0;
    virt::Action action = virt::Action::Default;
    if (!in.vp.levels().empty()) {
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Msr);
        exit.msr = msr;
        Exec out{};
        action = offer(in, i, out);
        if (action != virt::Action::Default && action != virt::Action::Complete) return out;
        value = exit.value;
    }
    if (action == virt::Action::Default && !read_msr(in.vp, msr, value)) return general_protection(in);
    in.s.gpr[RAX] = static_cast<u32>(value);
    in.s.gpr[RDX] = value >> 32;
    in.vp.tell(TapKind::Msr, msr, 0, value, in.s.rip);
    return Exec::Next;
}

Exec WRMSR(Interp& in, const Insn& i) {
    const u32 msr = static_cast<u32>(in.s.gpr[RCX]);
    const u64 value = in.s.gpr[RDX] << 32 | static_cast<u32>(in.s.gpr[RAX]);
    virt::Action action = virt::Action::Default;
    if (!in.vp.levels().empty()) {
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Msr);
        exit.msr = msr;
        exit.write = true;
        exit.value = value;
        Exec out{};
        action = offer(in, i, out);
        if (action != virt::Action::Default && action != virt::Action::Complete) return out;
    }
    if (action == virt::Action::Default && !write_msr(in.vp, msr, value)) return general_protection(in);
    in.vp.tell(TapKind::Msr, msr, 1, value, in.s.rip);
    return resync(in, i);
}

}  // namespace vg::cpu::ops
