#include "hv/memory_pool.h"

#include <array>

#include "base/assert.h"
#include "base/state.h"
#include "hv/hypervisor.h"

namespace vg::hv {

Result<Spa> MemoryPool::allocate() {
    if (source_ == Source::Private) return hypervisor_.allocate_page();
    if (const std::optional<Spa> page = allocate_deposited()) return *page;
    return fail(Error::Code::Host, "no deposited page is left");
}

void MemoryPool::free(Spa page) {
    if (source_ == Source::Private)
        hypervisor_.free_page(page);
    else
        free_deposited(page);
}

std::optional<Spa> MemoryPool::allocate_deposited() {
    if (available_.empty()) return std::nullopt;
    const Spa page = available_.back();
    available_.pop_back();
    ++in_use_;
    zero(page);
    return page;
}

void MemoryPool::free_deposited(Spa page) {
    VG_ASSERT(in_use_ > 0 && page.offset() == 0);
    --in_use_;
    zero(page);
    available_.push_back(page);
}

std::optional<Spa> MemoryPool::withdraw() {
    if (available_.empty()) return std::nullopt;
    const Spa page = available_.back();
    available_.pop_back();
    return page;
}

bool MemoryPool::can_allocate(u64 count) const {
    return source_ == Source::Private ? hypervisor_.free_private_pages() >= count : available_.size() >= count;
}

void MemoryPool::zero(Spa page) {
    static constexpr std::array<u8, kPageSize> kZeroes{};
    hypervisor_.memory().write(page, kZeroes.data(), kZeroes.size());
}

void MemoryPool::fields(StateVisitor& v) {
    constexpr std::size_t kLimit = std::size_t{1} << 24;
    std::vector<u64> pages;
    pages.reserve(available_.size());
    for (const Spa page : available_) pages.push_back(page.value);
    v("available", pages, kLimit);
    v("in_use", in_use_, Fmt::Dec);
    if (!v.loading()) return;
    available_.clear();
    for (const u64 page : pages) available_.push_back(Spa(page));
}

}  // namespace vg::hv
