#include "hv/overlay.h"

#include <array>

#include "base/assert.h"
#include "base/state.h"
#include "hv/hypervisor.h"
#include "hv/memory_pool.h"
#include "hv/partition.h"
#include "hv/spec/msr.h"

namespace vg::hv {

OverlayPage::OverlayPage(Partition& partition, mmu::SlatPermissions permissions)
    : partition_(partition), permissions_(permissions) {
    const auto page = partition.pool().allocate();
    VG_ASSERT(page.has_value());  // whoever makes partitions and VPs has looked (MemoryPool::can_allocate)
    page_ = *page;
}

OverlayPage::~OverlayPage() {
    remove();
    partition_.pool().free(page_);
}

u64 OverlayPage::preset() const { return partition_.config().root ? page_.value : 0; }

void OverlayPage::show_at_home() {
    const auto shown = partition_.map_memory(Gpa(page_.value), page_, kPageSize, {true, true, false});
    VG_ASSERT(shown.has_value());
}

bool OverlayPage::place(u64 register_value) {
    std::optional<Gpa> wanted;
    if ((register_value & kPageEnable) != 0) wanted = placed_page(register_value);
    if (wanted == gpa_) return false;
    if (gpa_) partition_.remove_overlay(*gpa_, page_);
    gpa_ = wanted;
    if (gpa_) partition_.add_overlay(*gpa_, page_, permissions_);
    return gpa_.has_value();
}

void OverlayPage::place_zeroed(u64 register_value) {
    if (place(register_value)) zero();
}

void OverlayPage::zero() {
    static constexpr std::array<u8, kPageSize> kZeroes{};
    partition_.hypervisor().memory().write(page_, kZeroes.data(), kZeroes.size());
}

void OverlayPage::fields(StateVisitor& v) {
    bool placed = gpa_.has_value();
    Gpa gpa = gpa_.value_or(Gpa());
    v("page", page_);
    v("placed", placed);
    v("gpa", gpa);
    if (v.loading()) gpa_ = placed ? std::optional(gpa) : std::nullopt;
}

}  // namespace vg::hv
