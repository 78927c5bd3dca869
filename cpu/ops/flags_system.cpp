// CLI, STI, PUSHF, POPF in every mode. SDM 3B "Virtual-8086 Mode", "Protected-Mode Virtual Interrupts".
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/ops/flags_system.h"
#include "cpu/segments.h"

namespace vg::cpu::ops {

namespace {

enum class IfControl : u8 { Real, Virtual, Refused };

/// Which interrupt flag CLI and STI act on.
IfControl interrupt_flag_control(const Interp& in) {
    if (!in.vp.protected_mode()) return IfControl::Real;
    if (in.vp.cpl() <= iopl(in)) return IfControl::Real;  // in virtual-8086 mode CPL is 3
    const u64 enable = in.vp.v8086() ? cr4::VME : cr4::PVI;
    const bool virtual_allowed = (in.s.cr4 & enable) != 0 && in.vp.cpl() == 3;
    return virtual_allowed ? IfControl::Virtual : IfControl::Refused;
}

}  // namespace

u64 writable_flags(const Interp& in, unsigned size) {
    u64 mask = flag::Status | flag::TF | flag::DF | flag::NT;
    if (size > 2) mask |= flag::RF | flag::AC | flag::ID;
    if (!in.vp.protected_mode() || in.vp.cpl() == 0) return mask | flag::IF | flag::IOPL;
    return in.vp.cpl() <= iopl(in) ? mask | flag::IF : mask;
}

bool virtualize_flags(const Interp& in, u64& value, u64& mask) {
    const bool enables = (value & flag::IF) != 0;
    if ((enables && (in.s.rflags & flag::VIP) != 0) || (value & flag::TF) != 0) return false;
    mask = (mask & ~(flag::IF | flag::IOPL)) | flag::VIF;
    value = enables ? value | flag::VIF : value & ~flag::VIF;
    return true;
}

Exec load_flags(Interp& in, const Insn& i, u64 value, u64 mask) {
    const u64 before = in.s.rflags;
    in.s.rflags = (before & ~mask) | (value & mask) | flag::Always1;
    const u64 changed = before ^ in.s.rflags;
    if ((changed & flag::AC) != 0) in.vp.update_privilege();
    return (changed & ~(flag::Status | flag::DF)) != 0 ? resync(in, i) : Exec::Next;
}

Exec CLI(Interp& in, const Insn&) {
    switch (interrupt_flag_control(in)) {
        case IfControl::Real: in.s.rflags &= ~flag::IF; return Exec::Next;
        case IfControl::Virtual: in.s.rflags &= ~flag::VIF; return Exec::Next;
        default: return general_protection(in);
    }
}

Exec STI(Interp& in, const Insn& i) {
    switch (interrupt_flag_control(in)) {
        case IfControl::Real:
            if ((in.s.rflags & flag::IF) != 0) return Exec::Next;
            in.s.rflags |= flag::IF;
            in.s.interrupt_shadow = shadow::Sti;
            return resync(in, i);
        case IfControl::Virtual:
            if ((in.s.rflags & flag::VIP) != 0) return general_protection(in);
            in.s.rflags |= flag::VIF;
            return Exec::Next;
        default: return general_protection(in);
    }
}

Exec PUSHF(Interp& in, const Insn& i) {
    Exec out{};
    if (in.vp.controls().stacked_flags && taken(in, i, virt::ExitReason::StackedFlags, out)) return out;
    u64 image = in.s.rflags & ~(flag::VM | flag::RF);
    if (in.vp.v8086() && iopl(in) < 3) {
        if ((in.s.cr4 & cr4::VME) == 0 || i.op_size != 2) return general_protection(in);
        image = (image & ~flag::IF) | flag::IOPL | ((image & flag::VIF) != 0 ? flag::IF : 0);
    }
    return in.push(image, i.op_size) ? Exec::Next : in.vp.failed();
}

Exec POPF(Interp& in, const Insn& i) {
    Exec out{};
    if (in.vp.controls().stacked_flags && taken(in, i, virt::ExitReason::StackedFlags, out)) return out;
    const bool virtualized = in.vp.v8086() && iopl(in) < 3;
    if (virtualized && ((in.s.cr4 & cr4::VME) == 0 || i.op_size != 2)) return general_protection(in);
    StackFrame stack = current_stack(in.vp);
    u64 value = 0;
    if (!stack.pop(value, i.op_size)) return in.vp.failed();
    u64 mask = writable_flags(in, i.op_size);
    if (virtualized && !virtualize_flags(in, value, mask)) return general_protection(in);
    stack.commit();
    return load_flags(in, i, value & ~flag::RF, mask);
}

}  // namespace vg::cpu::ops
