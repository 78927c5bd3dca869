#include "cpu/breakpoints.h"

#include <algorithm>
#include <utility>

namespace vg::cpu {

bool Breakpoints::contains(u64 linear) const {
    return std::binary_search(addresses_.begin(), addresses_.end(), linear);
}

bool Breakpoints::in_page(u64 linear) const {
    const u64 page = linear & ~kPageMask;
    const auto first = std::lower_bound(addresses_.begin(), addresses_.end(), page);
    return first != addresses_.end() && (*first & ~kPageMask) == page;
}

bool Breakpoints::has_offset(u32 offset) const { return std::binary_search(offsets_.begin(), offsets_.end(), offset); }

u32 Breakpoints::next_offset(u32 offset) const {
    const auto next = std::lower_bound(offsets_.begin(), offsets_.end(), offset);
    return next != offsets_.end() ? *next : static_cast<u32>(kPageSize);
}

void Breakpoints::set_addresses(std::vector<u64> addresses) {
    addresses_ = std::move(addresses);
    std::sort(addresses_.begin(), addresses_.end());
    offsets_.clear();
    for (const u64 address : addresses_) offsets_.push_back(static_cast<u32>(address & kPageMask));
    std::sort(offsets_.begin(), offsets_.end());
    offsets_.erase(std::unique(offsets_.begin(), offsets_.end()), offsets_.end());
}

}  // namespace vg::cpu
