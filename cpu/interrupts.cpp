// Delivery of exceptions and interrupts. SDM 3A "Interrupt and Exception Handling".
#include "cpu/segments.h"
#include "cpu/task.h"

namespace vg::cpu {

namespace {

constexpr u32 kErrorExternal = 1, kErrorIdt = 2;

bool is_exception(const Fault& f) {
    return f.type == EventType::HardException || f.type == EventType::PrivSoftException ||
           f.type == EventType::SoftException;
}
bool is_software(const Fault& f) { return f.type == EventType::SoftInt || f.type == EventType::SoftException; }

/// Exceptions whose return address is the instruction itself and which push RF=1. Of #DB only general detect is: traps
/// and instruction breakpoints come between instructions and push RF as it is.
bool is_fault_class(const Fault& f) {
    if (f.type != EventType::HardException || f.vector == kDoubleFault || f.vector == kMachineCheck) return false;
    return f.vector != kDebug || (f.dr6_bits & dr6::BD) != 0;
}

bool contributory(u8 vector) {
    return vector == kDivideError || vector == kInvalidTss || vector == kSegmentNotPresent || vector == kStackFault ||
           vector == kGeneralProtection || vector == kControlProtection;
}
bool page_fault_class(u8 vector) { return vector == kPageFault || vector == kVirtualization; }

/// One attempt to enter a handler. Changes nothing in the VP unless it succeeds.
class Delivery {
  public:
    Delivery(Vp& vp, const Fault& fault, u64 next_rip)
        : vp_(vp), s_(vp.state()), fault_(fault), return_rip_(is_fault_class(fault) ? s_.rip : next_rip) {}

    Exec run() {
        if (!vp_.protected_mode()) return real_mode();
        return vp_.long_mode() ? through_long_gate() : through_legacy_gate();
    }

  private:
    [[nodiscard]] u32 idt_error() const { return fault_.vector * 8u + kErrorIdt; }
    Exec refuse(u8 vector, u32 error) { return vp_.raise(vector, error); }

    [[nodiscard]] u64 pushed_flags() const {
        return is_fault_class(fault_) ? s_.rflags | flag::RF : s_.rflags;
    }

    void enter(u64 cleared_flags) {
        s_.rflags &= ~(cleared_flags | flag::TF | flag::RF);
        s_.interrupt_shadow = 0;
        vp_.forget_shadow();
        s_.activity = Activity::Active;
    }

    Exec real_mode() {
        const u32 offset = fault_.vector * 4u;
        if (offset + 3 > s_.idtr.limit) return refuse(kGeneralProtection, idt_error());
        u32 target = 0;
        if (!vp_.memory().read(static_cast<u32>(s_.idtr.base + offset), target, As::Supervisor)) return vp_.failed();
        StackFrame stack(vp_, s_.segment(Seg::SS), s_.gpr[RSP], false, As::Current, 0);
        SegmentReg& cs = s_.segment(Seg::CS);
        if (!stack.push(s_.rflags, 2) || !stack.push(cs.selector, 2) || !stack.push(return_rip_, 2))
            return vp_.failed();
        stack.commit();
        enter(flag::IF | flag::AC);
        cs = real_segment(vp_, Seg::CS, static_cast<u16>(target >> 16));
        s_.rip = target & 0xffff;
        vp_.update_context();
        return Exec::Resync;
    }

    /// Reads the gate and makes the checks common to all kinds.
    bool read_gate(u32 entry_size, Descriptor& gate) {
        const u64 offset = u64{fault_.vector} * entry_size;
        if (offset + entry_size - 1 > s_.idtr.limit) {
            refuse(kGeneralProtection, idt_error());
            return false;
        }
        const u64 address = s_.idtr.base + offset;
        return vp_.memory().read(entry_size == 16 ? address : static_cast<u32>(address), &gate.low, entry_size,
                                 As::Supervisor);
    }

    bool check_gate(const Descriptor& gate) {
        if (is_software(fault_) && gate.dpl() < vp_.cpl()) {
            refuse(kGeneralProtection, idt_error());
            return false;
        }
        if (!gate.present()) {
            refuse(kSegmentNotPresent, idt_error());
            return false;
        }
        return true;
    }

    /// The handler's code segment: read, checked, and the CPL it runs at.
    bool read_target(u16 selector, Descriptor& code, unsigned& new_cpl) {
        if (is_null(selector)) {
            refuse(kGeneralProtection, 0);
            return false;
        }
        if (!read_descriptor(vp_, selector, kGeneralProtection, code)) return false;
        const bool size_ok = !vp_.long_mode() || (code.l() && !code.db());
        if (!code.code() || code.dpl() > vp_.cpl() || !size_ok) {
            refuse(kGeneralProtection, selector_error(selector));
            return false;
        }
        if (!code.present()) {
            refuse(kSegmentNotPresent, selector_error(selector));
            return false;
        }
        new_cpl = code.conforming() ? vp_.cpl() : code.dpl();
        if (vp_.v8086() && new_cpl != 0) {
            refuse(kGeneralProtection, selector_error(selector));
            return false;
        }
        return true;
    }

    Exec through_long_gate() {
        Descriptor gate;
        if (!read_gate(16, gate)) return vp_.failed();
        if (gate.s() || gate.type() < systype::InterruptGate32) return refuse(kGeneralProtection, idt_error());
        if (!check_gate(gate)) return vp_.failed();
        const u64 target = (gate.low & 0xffff) | bits(gate.low, 63, 48) << 16 | gate.high << 32;
        const u16 selector = gate.gate_selector();
        Descriptor code;
        unsigned new_cpl = 0;
        if (!read_target(selector, code, new_cpl)) return vp_.failed();
        const unsigned ist = static_cast<unsigned>(bits(gate.low, 34, 32));
        const bool inner = new_cpl < vp_.cpl();
        u64 sp = s_.gpr[RSP];
        if (inner || ist != 0) {
            InnerStack stack;
            if (!read_inner_stack(vp_, new_cpl, ist, stack)) return vp_.failed();
            sp = stack.sp;
        }
        if (!canonical(target)) return refuse(kGeneralProtection, 0);
        StackFrame stack(vp_, s_.segment(Seg::SS), sp & ~u64{15}, true, inner ? As::Supervisor : As::Current, 0);
        if (!stack.push(s_.segment(Seg::SS).selector, 8) || !stack.push(s_.gpr[RSP], 8) ||
            !stack.push(pushed_flags(), 8) || !stack.push(s_.segment(Seg::CS).selector, 8) ||
            !stack.push(return_rip_, 8) || (fault_.has_error && !stack.push(fault_.error_code, 8)))
            return vp_.failed();
        if (!mark_accessed(vp_, code)) return vp_.failed();
        stack.commit();
        if (inner) s_.segment(Seg::SS) = null_segment(static_cast<u16>(new_cpl), new_cpl);
        finish(selector, code, target, new_cpl, (gate.type() & 1) == 0);
        return Exec::Resync;
    }

    void finish(u16 selector, const Descriptor& code, u64 target, unsigned new_cpl, bool interrupt_gate) {
        s_.segment(Seg::CS) = make_segment(static_cast<u16>((selector & ~3u) | new_cpl), code);
        s_.rip = target;
        enter(flag::NT | flag::VM | (interrupt_gate ? flag::IF : 0));
        set_cpl(vp_, new_cpl);
    }

    Exec through_task_gate(const Descriptor& gate) {
        const Exec result = switch_task(vp_, gate.gate_selector(), TaskSwitch::Interrupt, return_rip_, pushed_flags());
        if (result != Exec::Resync) return result;
        s_.interrupt_shadow = 0;
        s_.activity = Activity::Active;
        if (fault_.has_error && !push_task_error(vp_, fault_.error_code)) return vp_.failed();
        return Exec::Resync;
    }

    Exec through_legacy_gate() {
        Descriptor gate;
        if (!read_gate(8, gate)) return vp_.failed();
        const unsigned type = gate.type();
        const bool known = !gate.s() && (type == systype::TaskGate || (type & 7) >= systype::InterruptGate16);
        if (!known) return refuse(kGeneralProtection, idt_error());
        if (!check_gate(gate)) return vp_.failed();
        if (type == systype::TaskGate) return through_task_gate(gate);
        const u16 selector = gate.gate_selector();
        Descriptor code;
        unsigned new_cpl = 0;
        if (!read_target(selector, code, new_cpl)) return vp_.failed();
        const unsigned size = (type & 8) != 0 ? 4 : 2;
        const u64 target = size == 4 ? gate.gate_offset() : gate.gate_offset() & 0xffff;

        SegmentReg new_ss = s_.segment(Seg::SS);
        const bool inner = new_cpl < vp_.cpl();
        u64 sp = s_.gpr[RSP];
        if (inner) {
            InnerStack tss;
            Descriptor ss;
            if (!read_inner_stack(vp_, new_cpl, 0, tss)) return vp_.failed();
            if (is_null(tss.ss)) return refuse(kInvalidTss, 0);
            if (!check_stack_segment(vp_, tss.ss, new_cpl, kInvalidTss, ss) || !mark_accessed(vp_, ss))
                return vp_.failed();
            new_ss = make_segment(tss.ss, ss);
            sp = tss.sp;
        }
        StackFrame stack(vp_, new_ss, sp, false, inner ? As::Supervisor : As::Current,
                         inner ? selector_error(new_ss.selector) : 0);
        if (target > code.limit()) return refuse(kGeneralProtection, 0);
        if (!push_legacy_frame(stack, inner, size)) return vp_.failed();
        if (!mark_accessed(vp_, code)) return vp_.failed();
        stack.commit();
        if (vp_.v8086())
            for (const Seg seg : {Seg::ES, Seg::DS, Seg::FS, Seg::GS}) s_.segment(seg) = null_segment(0);
        s_.segment(Seg::SS) = new_ss;
        finish(selector, code, target, new_cpl, (type & 1) == 0);
        return Exec::Resync;
    }

    bool push_legacy_frame(StackFrame& stack, bool inner, unsigned size) {
        if (vp_.v8086())
            for (const Seg seg : {Seg::GS, Seg::FS, Seg::DS, Seg::ES})
                if (!stack.push(s_.segment(seg).selector, size)) return false;
        if (inner && (!stack.push(s_.segment(Seg::SS).selector, size) || !stack.push(s_.gpr[RSP], size))) return false;
        return stack.push(pushed_flags(), size) && stack.push(s_.segment(Seg::CS).selector, size) &&
               stack.push(return_rip_, size) && (!fault_.has_error || stack.push(fault_.error_code, size));
    }

    Vp& vp_;
    VpState& s_;
    const Fault& fault_;
    u64 return_rip_;
};

/// What an exception leaves behind before its handler is entered.
void note_cause(VpState& s, const Fault& fault) {
    if (fault.vector == kPageFault && fault.type == EventType::HardException) s.cr2 = fault.cr2;
    if (fault.vector != kDebug || !is_exception(fault)) return;
    // SDM 3B "IA32_DEBUGCTL MSR", "Single-Stepping on Branches": the handler neither records nor steps branches.
    s.debugctl &= ~(debugctl::Lbr | debugctl::Btf);
    if (fault.type == EventType::HardException) {
        s.dr[6] = (s.dr[6] & ~u64{15}) | fault.dr6_bits;
        s.dr[7] &= ~dr7::GD;
    }
    // One #DB reports every condition that is due: a trap held back by MOV SS comes with general detect or ICEBP.
    if (s.debug_pending == 0) return;
    s.dr[6] |= s.pending_dr6;
    s.debug_pending = 0;
    s.pending_dr6 = 0;
}

/// SDM 3A "Conditions for Generating a Double Fault". Returns false for a triple fault.
bool combine(const Fault& first, Fault& second) {
    const bool first_is_fault = first.type == EventType::HardException;
    if (first_is_fault && first.vector == kDoubleFault) return false;
    const bool second_counts = contributory(second.vector) || page_fault_class(second.vector);
    const bool doubles = first_is_fault && ((contributory(first.vector) && contributory(second.vector)) ||
                                            (page_fault_class(first.vector) && second_counts));
    if (doubles) {
        second = Fault{};
        second.vector = kDoubleFault;
        second.has_error = true;
    }
    return true;
}

/// Exceptions during delivery of something that no INT n asked for say so in their error code.
void mark_external(const Fault& first, Fault& second) {
    const bool names_selector = second.vector >= kInvalidTss && second.vector <= kGeneralProtection;
    if (names_selector && second.has_error && !is_software(first)) second.error_code |= kErrorExternal;
}

}  // namespace

void Vp::shut_down() {
    exit_ = virt::Exit{};
    exit_.reason = virt::ExitReason::TripleFault;
    if (offer_exit() != virt::Action::Default) return;
    state_->activity = Activity::Shutdown;
    env_.platform.shutdown(*this);
}

void Vp::tell_delivery(const Fault& fault, u64 rip) {
    if (is_exception(fault))
        tell(TapKind::Exception, fault.vector, fault.error_code, fault.cr2, rip);
    else
        tell(TapKind::Interrupt, fault.vector, static_cast<u64>(fault.type), 0, rip);
}

/// Offers an exception to the levels; `event` may become another. True: one of them took it, and `delivered` is deliver's
/// answer.
bool Vp::exception_exits(Fault& event, u64 next_rip, bool& delivered) {
    if (levels_.empty() || !is_exception(event) || event.by_entry) return false;
    exit_ = virt::Exit{};
    exit_.reason = virt::ExitReason::Exception;
    exit_.fault = event;
    exit_.insn = executing_;
    if (event.type != EventType::HardException) exit_.insn_length = static_cast<u8>(next_rip - state_->rip);
    switch (offer_exit()) {
        case virt::Action::Default: return false;
        case virt::Action::Inject: event = fault_; return false;
        case virt::Action::Leave: delivered = false; return true;
        default: delivered = true; return true;
    }
}

bool Vp::deliver(const Fault& fault, u64 next_rip) {
    // Every step either ends or climbs: event, exception, page fault, double fault, shutdown. Owners that inject cannot
    // make it longer than this.
    constexpr unsigned kMaxSteps = 8;
    Fault current = fault;
    bool delivered = true;
    leaving_ = false;
    delivering_.reset();
    if (exception_exits(current, next_rip, delivered)) return delivered;
    for (unsigned step = 0; step < kMaxSteps; ++step) {
        if (!current.by_entry) note_cause(*state_, current);
        if (!protected_mode()) current.has_error = false;
        const u64 rip = state_->rip;
        const bool returns_behind = current.type >= EventType::SoftInt;
        delivering_ = Injection{current, returns_behind ? next_rip - rip : 0};
        const Exec result = Delivery(*this, current, next_rip).run();
        if (result != Exec::Fault) {
            delivering_.reset();
            if (result == Exec::Resync) {
                tell_delivery(current, rip);
                if (records_branches()) [[unlikely]] record_interrupt(rip);
            }
            return result != Exec::Leave;
        }
        Fault second = fault_;
        mark_external(current, second);
        // SDM 3C "Exception Bitmap": one that would make a double fault is still looked up by its own vector first.
        const bool exits = exception_exits(second, state_->rip, delivered);
        delivering_.reset();
        if (exits) return delivered;
        if (second.vector == kPageFault) state_->cr2 = second.cr2;
        const u8 vector = second.vector;
        if (!combine(current, second)) break;
        if (second.vector != vector && exception_exits(second, state_->rip, delivered)) return delivered;
        current = second;
        next_rip = state_->rip;
    }
    shut_down();
    return false;
}

}  // namespace vg::cpu
