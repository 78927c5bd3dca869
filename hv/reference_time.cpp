#include "hv/reference_time.h"

#include "base/state.h"

namespace vg::hv {
namespace {

constexpr u64 scaled(u64 tsc) { return static_cast<u64>((u128{tsc} * kReferenceScale) >> 64); }

/// A TSC beyond this would wrap within a machine's life (146 years are left).
constexpr u64 kTscLimit = u64{1} << 63;

}  // namespace

ReferenceTime::ReferenceTime(VTime created) : offset_(u64{0} - scaled(created)) {}

u64 ReferenceTime::at(VTime now) const { return scaled(now + tsc_offset_) + offset_; }

VTime ReferenceTime::reaches(u64 reference) const {
    const s128 ticks = s128{reference} - static_cast<s64>(offset_);
    if (ticks > static_cast<s128>(scaled(kTscLimit))) return kNever;
    s128 tsc = 0;
    if (ticks > 0) tsc = static_cast<s128>(((static_cast<u128>(ticks) << 64) + kReferenceScale - 1) / kReferenceScale);
    const s128 when = tsc - static_cast<s64>(tsc_offset_);
    if (when >= s128{kNever}) return kNever;
    return when > 0 ? static_cast<VTime>(when) : 0;
}

bool ReferenceTime::rebase(VTime now, u64 tsc_offset) {
    if (now + tsc_offset >= kTscLimit) return false;
    const u64 value = at(now);
    tsc_offset_ = tsc_offset;
    offset_ = value - scaled(now + tsc_offset);
    return true;
}

void ReferenceTime::set(VTime now, u64 value) { offset_ = value - scaled(now + tsc_offset_); }

ReferenceTscPage ReferenceTime::page(u32 sequence) const {
    return {sequence, 0, kReferenceScale, static_cast<s64>(offset_)};
}

void ReferenceTime::fields(StateVisitor& v) {
    v("tsc_offset", tsc_offset_);
    v("offset", offset_);
}

}  // namespace vg::hv
