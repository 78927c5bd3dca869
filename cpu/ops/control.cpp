// Software interrupts, IRET, SYSCALL and SYSENTER.
#include <utility>

#include "base/bits.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/ops/far.h"
#include "cpu/ops/flags_system.h"
#include "cpu/segments.h"
#include "cpu/task.h"

namespace vg::cpu::ops {

namespace {

// Descriptor contents that SYSCALL and SYSENTER load without reading a table. SDM 2B "SYSCALL".
constexpr u16 kCode64 = 0xa09b, kCode32 = 0xc09b, kData = 0xc093, kDpl3 = 0x60;

Exec software_event(Interp& in, const Insn& i, u8 vector, EventType type) {
    Fault fault;
    fault.vector = vector;
    fault.type = type;
    in.vp.cancel_single_step();
    if (in.vp.deliver(fault, in.next_rip(i))) return Exec::Resync;
    return in.vp.leaving() ? Exec::Leave : Exec::Resync;
}

/// INT n in virtual-8086 mode with CR4.VME, redirected to the 8086 program's own handler.
Exec redirected_interrupt(Interp& in, const Insn& i, u8 vector) {
    u32 target = 0;
    if (!in.vp.memory().read(u64{vector} * 4, target)) return in.vp.failed();
    u64 image = in.s.rflags;
    u64 cleared = flag::TF | flag::NT;
    if (iopl(in) < 3) {
        image = (image & ~flag::IF) | flag::IOPL | ((image & flag::VIF) != 0 ? flag::IF : 0);
        cleared |= flag::VIF;
    } else {
        cleared |= flag::IF;
    }
    StackFrame stack = current_stack(in.vp);
    if (!stack.push(image, 2) || !stack.push(in.s.segment(Seg::CS).selector, 2) || !stack.push(in.next_rip(i), 2))
        return in.vp.failed();
    stack.commit();
    in.vp.cancel_single_step();
    in.s.rflags &= ~cleared;
    in.s.segment(Seg::CS) = real_segment(in.vp, Seg::CS, static_cast<u16>(target >> 16));
    in.s.rip = target & 0xffff;
    return Exec::Resync;
}

/// Bit of the software-interrupt redirection map: true sends INT n to the protected-mode handler.
bool read_redirection(Interp& in, u8 vector, bool& to_monitor) {
    constexpr u32 kMapBaseOffset = 0x66;
    const SegmentReg& tr = in.s.segment(Seg::TR);
    to_monitor = true;
    u16 map = 0;
    if (tr.limit < kMapBaseOffset + 1) return true;
    if (!in.vp.memory().read(static_cast<u32>(tr.base + kMapBaseOffset), map, As::Supervisor)) return false;
    if (map < 32) return true;
    const u64 offset = u64{map} - 32 + vector / 8;
    if (offset > tr.limit) return true;
    u8 byte = 0;
    if (!in.vp.memory().read(static_cast<u32>(tr.base + offset), byte, As::Supervisor)) return false;
    to_monitor = bit(byte, vector & 7u);
    return true;
}

void load_flat(Interp& in, u16 cs, u16 ss, u16 code_attributes, unsigned cpl) {
    const u16 dpl = cpl == 3 ? kDpl3 : u16{0};
    in.s.segment(Seg::CS) = {0, 0xffffffff, static_cast<u16>((cs & ~3u) | cpl), static_cast<u16>(code_attributes | dpl)};
    in.s.segment(Seg::SS) = {0, 0xffffffff, static_cast<u16>((ss & ~3u) | cpl), static_cast<u16>(kData | dpl)};
    set_cpl(in.vp, cpl);
}

bool is_intel(const Interp& in) { return in.vp.model().vendor() == Vendor::Intel; }

// ---- IRET --------------------------------------------------------------------------------------------------------

struct Frame {
    u64 rip = 0, cs = 0, flags = 0;
};

bool pop_frame(StackFrame& stack, unsigned size, Frame& f) {
    return stack.pop(f.rip, size) && stack.pop(f.cs, size) && stack.pop(f.flags, size);
}

void iret_done(Interp& in, u64 flags, u64 mask) {
    in.s.rflags = (in.s.rflags & ~mask) | (flags & mask) | flag::Always1;
    in.vp.update_privilege();
}

Exec iret_real(Interp& in, const Insn& i) {
    const bool virtualized = in.vp.v8086() && iopl(in) < 3;
    if (virtualized && ((in.s.cr4 & cr4::VME) == 0 || i.op_size != 2)) return general_protection(in);
    StackFrame stack = current_stack(in.vp);
    Frame f;
    if (!pop_frame(stack, i.op_size, f)) return in.vp.failed();
    if (f.rip > in.s.segment(Seg::CS).limit) return general_protection(in);
    u64 mask = writable_flags(in, i.op_size);
    if (virtualized && !virtualize_flags(in, f.flags, mask)) return general_protection(in);
    stack.commit();
    in.s.segment(Seg::CS) = real_segment(in.vp, Seg::CS, static_cast<u16>(f.cs));
    in.s.rip = f.rip;
    iret_done(in, f.flags, mask);
    return Exec::Resync;
}

Exec iret_task(Interp& in, const Insn& i) {
    if (in.vp.long_mode()) return general_protection(in);
    u16 link = 0;
    if (!in.vp.memory().read(static_cast<u32>(in.s.segment(Seg::TR).base), link, As::Supervisor)) return in.vp.failed();
    return switch_task(in.vp, link, TaskSwitch::Return, in.next_rip(i), in.s.rflags);
}

/// From protected mode at CPL 0 back to a virtual-8086 task.
Exec iret_to_v8086(Interp& in, StackFrame& stack, const Frame& f) {
    u64 sp = 0, selectors[5] = {};  // SS ES DS FS GS
    if (!stack.pop(sp, 4)) return in.vp.failed();
    for (u64& selector : selectors)
        if (!stack.pop(selector, 4)) return in.vp.failed();
    if (f.rip > 0xffff) return general_protection(in);
    constexpr u64 kMask = flag::Status | flag::TF | flag::IF | flag::DF | flag::IOPL | flag::NT | flag::RF | flag::VM |
                          flag::AC | flag::VIF | flag::VIP | flag::ID;
    in.s.rflags |= flag::VM;
    in.s.cpl = 3;
    constexpr Seg kOrder[5] = {Seg::SS, Seg::ES, Seg::DS, Seg::FS, Seg::GS};
    for (unsigned n = 0; n < 5; ++n)
        in.s.segment(kOrder[n]) = real_segment(in.vp, kOrder[n], static_cast<u16>(selectors[n]));
    in.s.segment(Seg::CS) = real_segment(in.vp, Seg::CS, static_cast<u16>(f.cs));
    in.s.gpr[RSP] = static_cast<u32>(sp);
    in.s.rip = f.rip;
    iret_done(in, f.flags, kMask);
    return Exec::Resync;
}

Exec iret_protected(Interp& in, const Insn& i) {
    const unsigned size = i.op_size;
    StackFrame stack = current_stack(in.vp);
    Frame f;
    if (!pop_frame(stack, size, f)) return in.vp.failed();
    const bool from_64_bit = in_64_bit(in);
    if (!in.vp.long_mode() && size == 4 && (f.flags & flag::VM) != 0 && in.vp.cpl() == 0)
        return iret_to_v8086(in, stack, f);
    const u16 selector = static_cast<u16>(f.cs);
    Descriptor code;
    if (!read_return_code(in, selector, code) || !check_return_offset(in, code, f.rip)) return in.vp.failed();
    const unsigned rpl = selector & 3u;
    const bool to_64_bit = in.vp.long_mode() && code.l();
    const bool outer = rpl > in.vp.cpl();
    u64 sp = 0, ss_image = 0;
    SegmentReg ss{};
    if (outer || from_64_bit) {
        if (!stack.pop(sp, size) || !stack.pop(ss_image, size) ||
            !read_return_stack(in, static_cast<u16>(ss_image), rpl, to_64_bit, ss))
            return in.vp.failed();
    }
    if (!mark_accessed(in.vp, code)) return in.vp.failed();
    u64 mask = writable_flags(in, size);
    if (in.vp.cpl() == 0 && size > 2) mask |= flag::VIF | flag::VIP;
    if (outer || from_64_bit) set_return_stack(in, ss, sp, to_64_bit);
    else stack.commit();
    enter_return(in, selector, code, f.rip);
    iret_done(in, f.flags, mask);
    if (outer) drop_inner_segments(in.vp);
    return Exec::Resync;
}

}  // namespace

Exec INT(Interp& in, const Insn& i) {
    Exec out{};
    if (in.vp.controls().stacked_flags && taken(in, i, virt::ExitReason::StackedFlags, out)) return out;
    const auto vector = static_cast<u8>(i.imm);
    if (in.vp.v8086()) {
        if ((in.s.cr4 & cr4::VME) != 0) {
            bool to_monitor = true;
            if (!read_redirection(in, vector, to_monitor)) return in.vp.failed();
            if (!to_monitor) return redirected_interrupt(in, i, vector);
        }
        if (iopl(in) < 3) return general_protection(in);
    }
    return software_event(in, i, vector, EventType::SoftInt);
}

Exec INT1(Interp& in, const Insn& i) {
    Exec out{};
    if (in.vp.controls().stacked_flags && taken(in, i, virt::ExitReason::StackedFlags, out)) return out;
    return software_event(in, i, kDebug, EventType::PrivSoftException);
}
Exec INT3(Interp& in, const Insn& i) { return software_event(in, i, kBreakpoint, EventType::SoftException); }
Exec INTO(Interp& in, const Insn& i) {
    if ((in.s.rflags & flag::OF) == 0) return Exec::Next;
    return software_event(in, i, kOverflow, EventType::SoftException);
}

Exec IRET(Interp& in, const Insn& i) {
    Exec out{};
    if (in.vp.controls().stacked_flags && taken(in, i, virt::ExitReason::StackedFlags, out)) return out;
    // SDM 3A "Handling Multiple NMIs": NMIs are unblocked even if the instruction faults.
    // With NMI exits and without virtual NMIs it does not (SDM 3C "Changes to Instruction Behavior in VMX Non-Root Operation").
    const virt::Controls& controls = in.vp.controls();
    const u8 blocked = in.s.nmi_blocked;
    if (blocked != 0 && (!controls.nmi || controls.virtual_nmis)) {
        in.s.nmi_blocked = 0;
        in.vp.note_nmi_unblocked();
    }
    const Exec result = !protected_proper(in)               ? iret_real(in, i)
                        : (in.s.rflags & flag::NT) != 0 ? iret_task(in, i)
                                                            : iret_protected(in, i);
    if (result == Exec::Leave) in.s.nmi_blocked = blocked;
    return result;
}

Exec SYSCALL(Interp& in, const Insn& i) {
    VpState& s = in.s;
    const bool wide = in_64_bit(in);
    if ((s.efer & efer::SCE) == 0 || (is_intel(in) && !wide)) return undefined(in);
    if (!in.vp.protected_mode()) return undefined(in);
    const u16 selector = static_cast<u16>(s.star >> 32);
    const u64 next = in.next_rip(i);
    if ((s.sfmask & flag::TF) != 0) in.vp.cancel_single_step();
    if (in.vp.long_mode()) {
        s.gpr[RCX] = next;
        s.gpr[R11] = s.rflags & ~flag::RF;
        s.rip = wide ? s.lstar : s.cstar;
        s.rflags = (s.rflags & ~(s.sfmask | flag::RF)) | flag::Always1;
    } else {
        s.gpr[RCX] = static_cast<u32>(next);
        s.rip = static_cast<u32>(s.star);
        s.rflags &= ~(flag::VM | flag::IF | flag::RF);
    }
    load_flat(in, selector, static_cast<u16>(selector + 8), in.vp.long_mode() ? kCode64 : kCode32, 0);
    return Exec::Resync;
}

Exec SYSRET(Interp& in, const Insn& i) {
    VpState& s = in.s;
    const bool wide = in_64_bit(in);
    if ((s.efer & efer::SCE) == 0 || (is_intel(in) && !wide) || !in.vp.protected_mode()) return undefined(in);
    if (in.vp.cpl() != 0) return general_protection(in);
    const bool to_64_bit = wide && i.op_size == 8;
    if (to_64_bit && is_intel(in) && !canonical(s.gpr[RCX])) return general_protection(in);
    const u16 base = static_cast<u16>(s.star >> 48);
    constexpr u64 kRestored = 0x3c7fd7;
    s.rip = to_64_bit ? s.gpr[RCX] : static_cast<u32>(s.gpr[RCX]);
    s.rflags = wide ? (s.gpr[R11] & kRestored) | flag::Always1 : s.rflags | flag::IF;
    load_flat(in, static_cast<u16>(base + (to_64_bit ? 16 : 0)), static_cast<u16>(base + 8),
              to_64_bit ? kCode64 : kCode32, 3);
    // Unlike IRET and POPF, a TF that SYSRET sets traps before the first instruction of the caller.
    if ((s.rflags & flag::TF) != 0) in.vp.request_single_step();
    return Exec::Resync;
}

Exec SYSENTER(Interp& in, const Insn&) {
    VpState& s = in.s;
    if (!is_intel(in) && in.vp.long_mode()) return undefined(in);
    if (!in.vp.protected_mode() || (s.sysenter_cs & 0xfffc) == 0) return general_protection(in);
    const bool wide = in.vp.long_mode();
    s.rflags &= ~(flag::VM | flag::IF | flag::RF);
    s.gpr[RSP] = wide ? s.sysenter_esp : static_cast<u32>(s.sysenter_esp);
    s.rip = wide ? s.sysenter_eip : static_cast<u32>(s.sysenter_eip);
    const u16 selector = static_cast<u16>(s.sysenter_cs);
    load_flat(in, selector, static_cast<u16>(selector + 8), wide ? kCode64 : kCode32, 0);
    return Exec::Resync;
}

Exec SYSEXIT(Interp& in, const Insn& i) {
    VpState& s = in.s;
    if (in.vp.cpl() != 0) return general_protection(in);  // measured: AMD's, too, checks this before it refuses
    if (!is_intel(in) && in.vp.long_mode()) return undefined(in);
    if (!in.vp.protected_mode() || (s.sysenter_cs & 0xfffc) == 0) return general_protection(in);
    const bool to_64_bit = i.op_size == 8;
    if (to_64_bit && (!canonical(s.gpr[RCX]) || !canonical(s.gpr[RDX]))) return general_protection(in);
    s.gpr[RSP] = to_64_bit ? s.gpr[RCX] : static_cast<u32>(s.gpr[RCX]);
    s.rip = to_64_bit ? s.gpr[RDX] : static_cast<u32>(s.gpr[RDX]);
    const u16 base = static_cast<u16>(s.sysenter_cs);
    load_flat(in, static_cast<u16>(base + (to_64_bit ? 32 : 16)), static_cast<u16>(base + (to_64_bit ? 40 : 24)),
              to_64_bit ? kCode64 : kCode32, 3);
    return Exec::Resync;
}

}  // namespace vg::cpu::ops
