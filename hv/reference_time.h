// Reference time of a partition: one formula, evaluated by the MSR, the TSC page's readers and the timers alike.
#pragma once

#include "base/clock.h"
#include "hv/spec/synic.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

/// floor(10^7 * 2^64 / TSC Hz): 100 ns units per TSC tick as a 0.64 fixed-point number (S-91).
inline constexpr u64 kReferenceScale = static_cast<u64>((u128{kReferenceHz} << 64) / kVTimeHz);

/// Time in 100 ns units since the partition's creation. The counter MSR is computed with the formula of the reference
/// TSC page, so that both are equal at every instant and never go backwards against each other (S-93).
class ReferenceTime {
  public:
    explicit ReferenceTime(VTime created);

    [[nodiscard]] u64 at(VTime now) const;
    /// The first virtual time at which at() is `reference` or more; kNever if virtual time ends before.
    [[nodiscard]] VTime reaches(u64 reference) const;
    /// Continues from the value at `now`, computed from then on with a TSC of virtual time + `tsc_offset`.
    /// False (and nothing changed) if that TSC is so near its end that the formula would wrap.
    [[nodiscard]] bool rebase(VTime now, u64 tsc_offset);
    /// Goes on from `value` at `now`.
    void set(VTime now, u64 value);
    /// What the page says; `sequence` as given.
    [[nodiscard]] ReferenceTscPage page(u32 sequence) const;

    void fields(StateVisitor& v);

  private:
    u64 tsc_offset_ = 0;
    u64 offset_ = 0;  ///< two's complement, as in the page
};

}  // namespace vg::hv
