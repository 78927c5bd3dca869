// Interrupt causes, their vectors and throttling: 82574 datasheet §7.4.
#include <algorithm>

#include "base/bits.h"
#include "devices/e1000e.h"

namespace vg::devices {

using namespace e1000e;

void E1000e::raise(u32 causes) {
    if ((causes & kOtherCauses) != 0) causes |= kOther;
    state_.icr |= causes;
    notify(causes);
}

/// Of these causes, some are new or have just been unmasked.
void E1000e::notify(u32 causes) {
    update_pin();
    causes &= state_.icr & state_.ims;
    if (causes == 0) return;
    if (!pci_.msix_enabled()) {
        if (pci_.messages_enabled()) try_message(0);
        return;
    }
    u32 vectors = 0;
    for (u32 i = 0; i < std::size(kVectorCauses); ++i) {
        const u32 entry = static_cast<u32>(bits(plain(kIvar), i * 4 + 3, i * 4));
        if ((causes & kVectorCauses[i]) != 0 && (entry & kIvarValid) != 0) vectors |= 1u << (entry & 7);
    }
    for (u32 vector = 0; vector < kVectors; ++vector) {
        if (bit(vectors, vector)) try_message(vector);
    }
}

void E1000e::update_pin() { pci_.set_intx((state_.icr & state_.ims) != 0); }

/// Causes that are not masked and belong to a vector; without MSI-X all belong to vector 0.
u32 E1000e::pending_of(u32 vector) const {
    const u32 pending = state_.icr & state_.ims;
    if (!pci_.msix_enabled()) return vector == 0 ? pending : 0;
    u32 causes = 0;
    for (u32 i = 0; i < std::size(kVectorCauses); ++i) {
        const u32 entry = static_cast<u32>(bits(plain(kIvar), i * 4 + 3, i * 4));
        if ((entry & kIvarValid) != 0 && (entry & 7) == vector) causes |= kVectorCauses[i];
    }
    return pending & causes;
}

void E1000e::try_message(u32 vector) {
    const VTime allowed = state_.next_message[vector];
    if (events_.now() >= allowed) return send_message(vector);
    state_.waiting_vectors |= 1u << vector;
    if (allowed < events_.due(throttle_timer_)) events_.arm(throttle_timer_, allowed);
}

void E1000e::send_message(u32 vector) {
    state_.waiting_vectors &= ~(1u << vector);
    const u32 causes = pending_of(vector);
    if (causes == 0) return;
    const u32 interval = plain(pci_.msix_enabled() ? kEitr + vector * 4 : kItr);
    state_.next_message[vector] = events_.now() + VTime{interval} * kThrottleUnit_ns;
    count(Statistic::Interrupts);
    if (pci_.msix_enabled()) {
        // CTRL_EXT.EIAME: "bits set in IAM associated with this message will be cleared"; EIAC: the cause clears
        // itself.
        if ((plain(kCtrlExt) & kExtEiame) != 0) state_.ims &= ~(plain(kIam) & causes);
        state_.icr &= ~(plain(kEiac) & causes);
    }
    pci_.signal(vector);
}

void E1000e::throttle_over() {
    VTime next = kNever;
    for (u32 vector = 0; vector < kVectors; ++vector) {
        if (!bit(state_.waiting_vectors, vector)) continue;
        if (events_.now() >= state_.next_message[vector]) {
            send_message(vector);
        } else {
            next = std::min(next, state_.next_message[vector]);
        }
    }
    if (next != kNever) events_.arm(throttle_timer_, next);
}

/// CTRL_EXT.IAME: an access to ICR that takes a pending interrupt masks what IAM says.
void E1000e::mask_automatically() {
    const bool asserted = (state_.icr & state_.ims) != 0;
    if (asserted && (plain(kCtrlExt) & kExtIame) != 0) state_.ims &= ~plain(kIam);
}

/// Reading clears, but with MSI-X while something is unmasked and none of that is pending (§10.2.4.1).
u32 E1000e::read_icr() {
    const bool asserted = (state_.icr & state_.ims) != 0;
    const u32 value = state_.icr | (asserted ? kIntAsserted : 0);
    const bool clears = !pci_.msix_enabled() || state_.ims == 0 || asserted;
    mask_automatically();
    if (clears) state_.icr = 0;
    update_pin();
    return value;
}

void E1000e::write_icr(u32 value) {
    mask_automatically();
    state_.icr &= ~value;
    update_pin();
}

}  // namespace vg::devices
