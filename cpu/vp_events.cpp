// What happens to a VP between two instructions. SDM 3A "Priority Among Concurrent Events".
#include <utility>

#include "base/bits.h"
#include "cpu/vp.h"

namespace vg::cpu {

bool Vp::breakpoint_at_rip(u64& dr6_bits) const {
    const VpState& s = *state_;
    if ((s.dr[7] & 0xff) == 0 || (s.rflags & flag::RF) != 0 || events_held_) return false;
    const u64 address = linear_rip();
    bool hit = false;
    for (unsigned i = 0; i < 4; ++i) {
        const bool enabled = bits(s.dr[7], 2 * i + 1, 2 * i) != 0;
        const bool execute = bits(s.dr[7], 19 + 4 * i, 16 + 4 * i) == 0;  // R/W and LEN both zero
        if (!execute || s.dr[i] != address) continue;
        dr6_bits |= u64{1} << i;  // DR6 shows matches of disabled breakpoints too, once one is reported
        hit |= enabled;
    }
    return hit;
}

/// Compares with the breakpoints whose R/W field `watches` accepts. SDM 3B "Debug Control Register (DR7)".
template <class Watches>
void Vp::compare_breakpoints(u64 address, u32 size, Watches watches) {
    constexpr u32 kLengths[] = {1, 2, 8, 4};
    const VpState& s = *state_;
    u64 dr6_bits = 0;
    bool hit = false;
    for (unsigned i = 0; i < 4; ++i) {
        if (!watches(bits(s.dr[7], 17 + 4 * i, 16 + 4 * i))) continue;
        const u32 length = kLengths[bits(s.dr[7], 19 + 4 * i, 18 + 4 * i)];
        const u64 first = s.dr[i] & ~u64{length - 1};
        if (address - first >= length && first - address >= size) continue;
        dr6_bits |= u64{1} << i;
        hit |= bits(s.dr[7], 2 * i + 1, 2 * i) != 0;
    }
    if (hit && !events_held_) access_dr6_ |= dr6_bits;
}

void Vp::note_access(u64 address, u32 size, bool write) {
    constexpr u64 kOnWrite = 1, kOnAccess = 3;
    compare_breakpoints(address, size, [write](u64 kind) { return kind == kOnAccess || (kind == kOnWrite && write); });
}

void Vp::note_port(u16 port, u32 size) {
    constexpr u64 kOnPort = 2;
    if ((state_->cr4 & cr4::DE) == 0) return;
    compare_breakpoints(port, size, [](u64 kind) { return kind == kOnPort; });
}

void Vp::trap_accesses(bool completed) {
    const u64 dr6_bits = std::exchange(access_dr6_, 0);
    if (!completed) return;
    state_->debug_pending = 1;
    state_->pending_dr6 |= dr6_bits;
}

bool Vp::external_interrupt_waits() const {
    return apic_->pending_vector() >= 0 || (external_line_ && apic_->lint0_accepts_extint());
}

bool Vp::external_interrupt_due() const {
    const VpState& s = *state_;
    if (events_held_) return false;
    if (s.acknowledged != 0) return true;
    const virt::Controls& c = controls();
    if (c.interrupts_blocked || ((s.rflags & flag::IF) == 0 && !c.interrupts_ignore_if)) return false;
    return external_interrupt_waits();
}

bool Vp::interrupt_waits() const {
    const VpState& s = *state_;
    return (s.acknowledged | s.nmi_pending) != 0 || external_line_ || apic_->pending_vector() >= 0 ||
           guest_mode_;  // whose exits tell of shadows
}

bool Vp::init_is_due() const {
    return state_->init_pending != 0 && (extension_ == nullptr || guest_mode_ || !extension_->blocks_init());
}

bool Vp::nmi_is_due() const {
    return state_->nmi_pending != 0 && !events_held_ && (state_->nmi_blocked == 0 || controls().virtual_nmis);
}

/// What a guest of the extension is interrupted by, besides what interrupts any program.
bool Vp::guest_event_pending() const {
    const VpState& s = *state_;
    const virt::Controls& c = controls();
    if (c.interrupt_window && (s.rflags & flag::IF) != 0) return true;
    if (c.nmi_window && s.nmi_blocked == 0) return true;
    return extension_->event_pending(*this);
}

bool Vp::event_pending() const {
    const VpState& s = *state_;
    if (s.init_pending != 0 && init_is_due()) return true;
    if (s.activity == Activity::WaitForSipi) return s.sipi_pending != 0;
    if (injected_) return true;
    if (guest_mode_ && guest_event_pending()) [[unlikely]] return true;
    if (s.activity == Activity::Shutdown) return guest_mode_ && nmi_is_due();
    if (s.interrupt_shadow != 0 || s.debug_pending != 0) return true;
    if (s.nmi_pending != 0 && nmi_is_due()) return true;
    if (external_interrupt_due()) return true;
    if (s.activity == Activity::Idle && interrupt_waits()) return true;
    u64 dr6_bits = 0;
    return (s.dr[7] & 0xff) != 0 && s.activity == Activity::Active && breakpoint_at_rip(dr6_bits);
}

Exec Vp::start_from_sipi() {
    VpState& s = *state_;
    s.sipi_pending = 0;
    SegmentReg& cs = s.segment(Seg::CS);
    cs.selector = static_cast<u16>(s.sipi_vector << 8);
    cs.base = u64{s.sipi_vector} << 12;
    s.rip = 0;
    s.activity = Activity::Active;
    update_context();
    return Exec::Resync;
}

Exec Vp::deliver_debug(u64 dr6_bits) {
    Fault fault;
    fault.vector = kDebug;
    fault.dr6_bits = dr6_bits;
    (void)deliver(fault, state_->rip);
    settle_accesses(false);  // a watched stack of the #DB handler would trap for ever (CVE-2015-8104)
    return leaving_ ? Exec::Leave : Exec::Resync;
}

Exec Vp::deliver_injected() {
    const Injection injection = *injected_;
    injected_.reset();
    const bool software = injection.fault.type == EventType::SoftInt || injection.fault.type == EventType::SoftException ||
                          injection.fault.type == EventType::PrivSoftException;
    u64 next = state_->rip + (software ? injection.insn_length : 0);
    if (code_mode() != CodeMode::Bits64) next = static_cast<u32>(next);
    const u8 blocked = state_->nmi_blocked;
    if (injection.fault.type == EventType::Nmi) state_->nmi_blocked = 1;
    if (!deliver(injection.fault, next) && leaving_) {
        injected_ = injection;
        state_->nmi_blocked = blocked;
        return Exec::Leave;
    }
    settle_accesses(true);
    return Exec::Resync;
}

/// Offers the exit of an event that waits at this boundary. @param shadow  what the guest's state says of it
bool Vp::exits_now(virt::ExitReason reason, u8 shadow) {
    if (!guest_mode_) return false;
    exit_ = virt::Exit{};
    exit_.reason = reason;
    const u8 kept = std::exchange(state_->interrupt_shadow, shadow);
    const bool taken = offer_exit() != virt::Action::Default;
    if (!taken) state_->interrupt_shadow = kept;
    return taken;
}

/// Asks the extension for what only it knows of.
Exec Vp::guest_event(virt::Boundary where, u8 shadow) {
    if (!guest_mode_) return Exec::Next;
    const u8 kept = std::exchange(state_->interrupt_shadow, shadow);
    const Exec result = extension_->take_event(*this, where, shadow);
    if (result == Exec::Next) state_->interrupt_shadow = kept;
    return result;
}

Exec Vp::take_init() {
    VpState& s = *state_;
    if (guest_mode_ && controls().init) {
        s.init_pending = 0;
        if (exits_now(virt::ExitReason::Init, s.interrupt_shadow)) return Exec::Switch;
    }
    // A SIPI that arrived behind the INIT, before this processor looked, still starts it.
    const u8 sipi_pending = s.sipi_pending, sipi_vector = s.sipi_vector;
    init();
    s.sipi_pending = sipi_pending;
    s.sipi_vector = sipi_vector;
    return Exec::Resync;
}

Exec Vp::take_sipi() {
    if (state_->sipi_pending == 0) return Exec::Next;
    if (guest_mode_ && controls().sipi) {
        state_->sipi_pending = 0;
        if (exits_now(virt::ExitReason::Sipi, 0)) return Exec::Switch;
    }
    return start_from_sipi();
}

Exec Vp::take_trap() {
    VpState& s = *state_;
    s.debug_pending = 0;
    const u64 dr6_bits = std::exchange(s.pending_dr6, 0);
    const Exec result = deliver_debug(dr6_bits);
    if (result == Exec::Leave) {
        s.debug_pending = 1;
        s.pending_dr6 = dr6_bits;
    }
    return result;
}

Exec Vp::take_nmi() {
    VpState& s = *state_;
    --s.nmi_pending;
    if (controls().nmi && exits_now(virt::ExitReason::Nmi, 0)) return Exec::Switch;
    Fault nmi;
    nmi.vector = kNmi;
    nmi.type = EventType::Nmi;
    s.nmi_blocked = 1;
    if (!deliver(nmi, s.rip) && leaving_) {
        ++s.nmi_pending;
        s.nmi_blocked = 0;
        return Exec::Leave;
    }
    settle_accesses(true);
    return Exec::Resync;
}

int Vp::acknowledge_interrupt() {
    const int vector = apic_->acknowledge();
    return vector >= 0 ? vector : env_.platform.acknowledge_external(*this);
}

Exec Vp::take_interrupt() {
    VpState& s = *state_;
    if (s.acknowledged == 0) {
        if (controls().external_interrupt && exits_now(virt::ExitReason::ExternalInterrupt, 0)) return Exec::Switch;
        const int vector = acknowledge_interrupt();
        if (vector < 0) return Exec::Next;
        s.acknowledged = 1;
        s.acknowledged_vector = static_cast<u8>(vector);
        env_.log.trace(Area::Cpu, "{} takes interrupt {:#x}", name_, vector);
    }
    Fault interrupt;
    interrupt.vector = s.acknowledged_vector;
    interrupt.type = EventType::External;
    s.acknowledged = 0;
    if (!deliver(interrupt, s.rip) && leaving_) {
        s.acknowledged = 1;
        return Exec::Leave;
    }
    settle_accesses(true);
    return Exec::Resync;
}

Exec Vp::take_event() {
    VpState& s = *state_;
    leaving_ = false;
    begin(nullptr);
    if (s.init_pending != 0 && init_is_due()) return take_init();
    if (s.activity == Activity::WaitForSipi) return take_sipi();
    if (injected_) return deliver_injected();
    if (s.activity == Activity::Shutdown && !guest_mode_) return Exec::Next;

    const u8 shadow = s.interrupt_shadow;
    if (const Exec due = guest_event(virt::Boundary::Traps, shadow); due != Exec::Next) return due;
    end_shadow();
    // Everything below INIT waits, but for what an extension has of its own.
    if (shadow == shadow::MovSs) return guest_event(virt::Boundary::Nmis, shadow);

    if (s.debug_pending != 0) return take_trap();
    if (const Exec due = guest_event(virt::Boundary::Nmis, shadow); due != Exec::Next) return due;
    if (controls().nmi_window && s.nmi_blocked == 0 && exits_now(virt::ExitReason::NmiWindow, shadow)) return Exec::Switch;
    // SDM 3A "Masking Maskable Hardware Interrupts" leaves it open whether STI holds back an NMI too; processors do.
    if (shadow == 0 && s.nmi_pending != 0 && nmi_is_due()) return take_nmi();
    if (s.activity == Activity::Shutdown) return Exec::Next;
    if (shadow == 0) {
        if (const Exec due = guest_event(virt::Boundary::Interrupts, shadow); due != Exec::Next) return due;
        if (controls().interrupt_window && (s.rflags & flag::IF) != 0 && exits_now(virt::ExitReason::InterruptWindow, 0))
            return Exec::Switch;
        if (external_interrupt_due()) return take_interrupt();
        if (const Exec due = guest_event(virt::Boundary::Virtual, shadow); due != Exec::Next) return due;
    }
    if (s.activity == Activity::Idle && interrupt_waits()) {
        s.activity = Activity::Active;
        return Exec::Resync;
    }
    u64 dr6_bits = 0;
    if (s.activity == Activity::Active && breakpoint_at_rip(dr6_bits)) return deliver_debug(dr6_bits);
    return Exec::Next;
}

void Vp::charge_delivery() {
    constexpr u32 kFree = 8;
    delivery_streak_ = delivery_time_ == now() ? delivery_streak_ + 1 : 0;
    if (delivery_streak_ > kFree) --state_->budget;
    delivery_time_ = now();
}

void Vp::single_step(bool branched) {
    bool skip = std::exchange(skip_step_, false);
    if ((state_->debugctl & debugctl::Btf) != 0 && !branched) skip = true;  // SDM 3B "Single-Stepping on Branches"
    // SDM 3B "Single-Step Exception Condition": after MOV SS and POP SS no single-step trap is generated; the next
    // instruction makes its own.
    if (!skip && state_->interrupt_shadow != shadow::MovSs) request_single_step();
}

void Vp::request_single_step() {
    state_->debug_pending = 1;
    state_->pending_dr6 |= dr6::BS;
}

void Vp::request_nmi() {
    hold_off();
    // One NMI is latched while another is being handled. A processor whose slice is over would have taken the first
    // already, so that a second one that comes meanwhile is not lost.
    const u8 limit = state_->nmi_blocked != 0 ? 1 : 2;
    if (state_->nmi_pending < limit) ++state_->nmi_pending;
    env_.platform.event_arrived(*this);
}
void Vp::request_init() {
    hold_off();
    state_->init_pending = 1;
    state_->sipi_pending = 0;  // an earlier SIPI is void
    env_.platform.event_arrived(*this);
}

void Vp::request_sipi(u8 vector) {
    hold_off();
    if (state_->activity != Activity::WaitForSipi && state_->init_pending == 0) return;
    state_->sipi_pending = 1;
    state_->sipi_vector = vector;
    env_.platform.event_arrived(*this);
}

void Vp::set_external_line(bool level) {
    hold_off();
    const bool rises = level && !external_line_;
    external_line_ = level;
    if (rises) apic_->lint0_asserted();
    if (level) shorten_slice(now() + 1);
}

}  // namespace vg::cpu
