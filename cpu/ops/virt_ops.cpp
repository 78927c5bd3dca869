// Hypercalls, and instructions that are undefined here. VMX's and SVM's are in cpu/vmx and cpu/svm, instructions.cpp.
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::ops {

namespace {

/// Both vendors' opcodes are hypercalls for a level that asks for them; to a bare processor they are undefined.
Exec hypercall(Interp& in, const Insn& i) {
    Exec out{};
    return taken(in, i, virt::ExitReason::Hypercall, out) ? out : undefined(in);
}

}  // namespace

Exec VMCALL(Interp& in, const Insn& i) {
    vmx::Unit* unit = vmx::unit_of(in.vp);
    return unit != nullptr ? unit->vmcall(in, i) : hypercall(in, i);
}
Exec VMMCALL(Interp& in, const Insn& i) { return hypercall(in, i); }

/// Undefined outside system management mode; an SVM guest's exits before that is seen.
Exec RSM(Interp& in, const Insn& i) {
    Exec out{};
    return taken(in, i, virt::ExitReason::Svm, out) ? out : undefined(in);
}

#define VG_UNDEFINED(name) \
    Exec name(Interp& in, const Insn&) { return undefined(in); }
VG_UNDEFINED(UD0)
VG_UNDEFINED(UD1)
VG_UNDEFINED(UD2)
#undef VG_UNDEFINED

}  // namespace vg::cpu::ops
