#include "hv/gpa_space.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "base/bits.h"
#include "base/log.h"
#include "base/state.h"

namespace vg::hv {
namespace {

/// Nothing is mapped beyond what four levels of EPT reach.
constexpr u64 kGpaLimit = u64{1} << 48;
/// Restored state with more elements than this is refused.
constexpr u32 kRangeLimit = 1 << 24;

bool accessible(mmu::SlatPermissions p) { return p.read || p.write || p.execute; }

}  // namespace

GpaSpace::GpaSpace(mmu::PhysicalMemory& memory, Log& log, PageLedger* ledger, mmu::SlatBuilder::AllocatePage allocate,
                   mmu::SlatBuilder::FreePage free, Flush flush)
    : log_(log), ledger_(ledger), slat_(memory, std::move(allocate), std::move(free)), flush_(std::move(flush)) {}

GpaSpace::~GpaSpace() { carve(0, kGpaLimit); }

Result<void> GpaSpace::map(Gpa gpa, Spa spa, u64 size, mmu::SlatPermissions permissions) {
    if (((gpa.value | spa.value | size) & kPageMask) != 0 || !fits(gpa.value, size, kGpaLimit))
        return fail(Error::Code::Usage, fmt::format("GPA range {:#x}+{:#x} to SPA {:#x} is not whole pages below 2^48",
                                                    gpa.value, size, spa.value));
    if (size == 0) return {};
    auto done = slat_.map(gpa, spa, size, permissions);
    bool replaced = true;
    if (done) {
        replaced = carve(gpa.value, gpa.value + size);
        insert(gpa.value, {size, accessible(permissions) ? spa : Spa(), permissions});
    }
    show_overlays(gpa.value, gpa.value + size);
    if (replaced) flush_(gpa, size);
    return done;
}

Result<void> GpaSpace::unmap(Gpa gpa, u64 size) {
    if (((gpa.value | size) & kPageMask) != 0 || !fits(gpa.value, size, kGpaLimit))
        return fail(Error::Code::Usage,
                    fmt::format("GPA range {:#x}+{:#x} is not whole pages below 2^48", gpa.value, size));
    if (size == 0) return {};
    // The table first: what it still shows must stay counted.
    auto done = slat_.unmap(gpa, size);
    if (done) carve(gpa.value, gpa.value + size);
    flush_(gpa, size);
    return done;
}

bool GpaSpace::carve(u64 start, u64 end) {
    bool any = false;
    auto it = ranges_.upper_bound(start);
    if (it != ranges_.begin()) --it;
    while (it != ranges_.end() && it->first < end) {
        const u64 first = it->first, last = first + it->second.size;
        if (last <= start) {
            ++it;
            continue;
        }
        const Range old = it->second;
        it = ranges_.erase(it);
        if (first < start) ranges_[first] = {start - first, old.spa, old.permissions};
        if (last > end) ranges_[end] = {last - end, old.at(end - first), old.permissions};
        if (!accessible(old.permissions)) continue;
        any = true;
        const u64 from = std::max(first, start), to = std::min(last, end);
        if (ledger_ != nullptr) ledger_->remove_mappings(old.spa + (from - first), to - from);
    }
    return any;
}

void GpaSpace::insert(u64 gpa, Range range) {
    if (ledger_ != nullptr && accessible(range.permissions)) ledger_->add_mappings(range.spa, range.size);
    const auto continues = [](u64 first, const Range& a, u64 second, const Range& b) {
        return first + a.size == second && a.permissions == b.permissions && a.at(a.size) == b.spa;
    };
    auto next = ranges_.lower_bound(gpa);
    if (next != ranges_.end() && continues(gpa, range, next->first, next->second)) {
        range.size += next->second.size;
        next = ranges_.erase(next);
    }
    if (next != ranges_.begin()) {
        const auto before = std::prev(next);
        if (continues(before->first, before->second, gpa, range)) {
            before->second.size += range.size;
            return;
        }
    }
    ranges_.emplace_hint(next, gpa, range);
}

const GpaSpace::Range* GpaSpace::find_range(u64 gpa, u64& start) const {
    auto it = ranges_.upper_bound(gpa);
    if (it == ranges_.begin()) return nullptr;
    --it;
    if (gpa - it->first >= it->second.size) return nullptr;
    start = it->first;
    return &it->second;
}

std::optional<GpaBacking> GpaSpace::find(Gpa gpa) const {
    u64 start = 0;
    const Range* range = find_range(gpa.value, start);
    if (range == nullptr) return std::nullopt;
    if (!overlays_.empty()) {
        const auto it = overlays_.find(gpa.page_base().value);
        if (it != overlays_.end()) {
            const Overlay& top = it->second.back();
            return GpaBacking{top.page + gpa.offset(), top.permissions, true};
        }
    }
    if (!accessible(range->permissions)) return std::nullopt;
    return GpaBacking{range->spa + (gpa.value - start), range->permissions, false};
}

bool GpaSpace::contains(Gpa gpa) const {
    u64 start = 0;
    return find_range(gpa.value, start) != nullptr;
}

void GpaSpace::show(Gpa page) {
    if (!contains(page)) return;  // a hole has no entry, with and without an overlay
    const std::optional<GpaBacking> backing = find(page);
    const auto done =
        backing ? slat_.map(page, backing->spa, kPageSize, backing->permissions) : slat_.unmap(page, kPageSize);
    // Splitting a large entry needs a table page. A guest can reach this only with less private memory than
    // Hypervisor::private_bytes asks for.
    if (!done) log_.warn(Area::Hv, "overlay at GPA {:#x} not shown: {}", page.value, done.error().text);
}

void GpaSpace::show_overlays(u64 start, u64 end) {
    for (auto it = overlays_.lower_bound(start); it != overlays_.end() && it->first < end; ++it) show(Gpa(it->first));
}

Result<void> GpaSpace::show() {
    for (const auto& [gpa, range] : ranges_) {
        if (range.permissions == mmu::SlatPermissions{false, false, false}) continue;
        if (auto ok = slat_.map(Gpa(gpa), range.spa, range.size, range.permissions); !ok) return ok;
        flush_(Gpa(gpa), range.size);
    }
    show_overlays(0, ~u64{0});
    return {};
}

void GpaSpace::add_overlay(Gpa gpa, Spa page, mmu::SlatPermissions permissions) {
    const Gpa base = gpa.page_base();
    overlays_[base.value].push_back({page, permissions});
    show(base);
    flush_(base, kPageSize);
}

void GpaSpace::remove_overlay(Gpa gpa, Spa page) {
    const Gpa base = gpa.page_base();
    const auto it = overlays_.find(base.value);
    if (it == overlays_.end()) return;
    std::erase_if(it->second, [page](const Overlay& overlay) { return overlay.page == page; });
    if (it->second.empty()) overlays_.erase(it);
    show(base);
    flush_(base, kPageSize);
}

namespace {

void permission_fields(StateVisitor& v, mmu::SlatPermissions& permissions) {
    v("read", permissions.read);
    v("write", permissions.write);
    v("execute", permissions.execute);
}

}  // namespace

void GpaSpace::fields(StateVisitor& v) {
    // The tables themselves are RAM and come back with it; here is only what they were made from.
    std::vector<std::pair<u64, Range>> ranges(ranges_.begin(), ranges_.end());
    u32 count = static_cast<u32>(ranges.size());
    v("range_count", count, Fmt::Dec);
    ranges.resize(std::min(count, kRangeLimit));
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        VisitScope scope(v, fmt::format("range{}", i));
        auto& [gpa, range] = ranges[i];
        v("gpa", gpa);
        v("size", range.size);
        v("spa", range.spa);
        permission_fields(v, range.permissions);
    }
    std::vector<std::pair<u64, Overlay>> overlays;
    for (const auto& [gpa, stack] : overlays_)
        for (const Overlay& overlay : stack) overlays.emplace_back(gpa, overlay);
    count = static_cast<u32>(overlays.size());
    v("overlay_count", count, Fmt::Dec);
    overlays.resize(std::min(count, kRangeLimit));
    for (std::size_t i = 0; i < overlays.size(); ++i) {
        VisitScope scope(v, fmt::format("overlay{}", i));
        auto& [gpa, overlay] = overlays[i];
        v("gpa", gpa);
        v("page", overlay.page);
        permission_fields(v, overlay.permissions);
    }
    if (!v.loading()) return;
    ranges_ = std::map<u64, Range>(ranges.begin(), ranges.end());
    overlays_.clear();
    for (const auto& [gpa, overlay] : overlays) overlays_[gpa].push_back(overlay);
}

}  // namespace vg::hv
