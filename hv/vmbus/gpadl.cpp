#include "hv/vmbus/gpadl.h"

#include <cstring>

#include "base/state.h"

namespace vg::hv::vmbus {

Gpadl::Feed Gpadl::feed(std::span<const u8> words) {
    if (range_count_ == 0) state_ = Feed::Invalid;
    for (std::size_t at = 0; state_ == Feed::NeedMore && words.size() - at >= sizeof(u64); at += sizeof(u64)) {
        u64 word;
        std::memcpy(&word, words.data() + at, sizeof word);
        state_ = take(word);
    }
    return state_;
}

Gpadl::Feed Gpadl::take(u64 word) {
    if (missing_ == 0) {
        GpaRange range;
        std::memcpy(&range, &word, sizeof range);
        const u64 pages = pages_spanned(range.byte_offset, range.byte_count);
        if (range.byte_count == 0 || pages > page_limit_ - pages_) return Feed::Invalid;
        pages_ += pages;
        missing_ = pages;
        ranges_.push_back({range.byte_offset, range.byte_count, {}});
        return Feed::NeedMore;
    }
    if (word > kMaxPfn) return Feed::Invalid;
    ranges_.back().pfns.push_back(word);
    --missing_;
    return missing_ == 0 && ranges_.size() == range_count_ ? Feed::Complete : Feed::NeedMore;
}

void Gpadl::fields(StateVisitor& v) {
    const u64 highest_limit = page_limit_;
    v("id", id_);
    v("relid", relid_, Fmt::Dec);
    v("range_count", range_count_, Fmt::Dec);
    v("page_limit", page_limit_, Fmt::Dec);
    if (v.loading()) page_limit_ = std::min(page_limit_, highest_limit);
    v("pages", pages_, Fmt::Dec);
    v("missing", missing_, Fmt::Dec);
    v("state", state_);
    u32 known = static_cast<u32>(ranges_.size());
    v("ranges_known", known, Fmt::Dec);
    if (v.loading()) ranges_.resize(std::min<u32>(known, range_count_));
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
        const VisitScope scope(v, std::to_string(i));
        v("byte_offset", ranges_[i].byte_offset);
        v("byte_count", ranges_[i].byte_count, Fmt::Dec);
        v("pfns", ranges_[i].pfns, page_limit_);
    }
    if (v.loading() && !consistent()) state_ = Feed::Invalid;
}

/// True if the fields can have come from feed().
bool Gpadl::consistent() const {
    u64 pages = 0, listed = 0;
    for (const PageRange& range : ranges_) {
        pages += pages_spanned(range.byte_offset, range.byte_count);
        listed += range.pfns.size();
        if (range.byte_count == 0 || range.pfns.size() > pages_spanned(range.byte_offset, range.byte_count))
            return false;
        if (std::any_of(range.pfns.begin(), range.pfns.end(), [](u64 pfn) { return pfn > kMaxPfn; })) return false;
    }
    if (pages != pages_ || listed > pages || pages - listed != missing_ || pages > page_limit_) return false;
    return state_ == Feed::NeedMore || (state_ == Feed::Complete && missing_ == 0 && ranges_.size() == range_count_);
}

bool GpaRanges::parse(std::span<const u8> header) {
    clear();
    GpaDirectHeader fixed;
    if (header.size() < sizeof fixed) return false;
    std::memcpy(&fixed, header.data(), sizeof fixed);
    if (fixed.range_count == 0 || fixed.range_count > kMaxRanges) return false;
    header = header.subspan(sizeof fixed);
    u64 total = 0;
    for (u32 i = 0; i < fixed.range_count; ++i) {
        GpaRange range;
        if (header.size() < sizeof range) return false;
        std::memcpy(&range, header.data(), sizeof range);
        header = header.subspan(sizeof range);
        const u64 pages = pages_spanned(range.byte_offset, range.byte_count);
        total += range.byte_count;
        if (header.size() / sizeof(u64) < pages || total > kMaxBytes) return false;
        u64 offset = range.byte_offset;
        u64 left = range.byte_count;
        for (u64 page = 0; page < pages; ++page) {
            u64 pfn;
            std::memcpy(&pfn, header.data() + page * sizeof(u64), sizeof pfn);
            if (pfn > kMaxPfn) return false;
            if (offset >= kPageSize) {  // a range may start behind its first pages
                offset -= kPageSize;
                continue;
            }
            const u64 size = std::min(left, kPageSize - offset);
            append((pfn << 12) + offset, size);
            left -= size;
            offset = 0;
        }
        header = header.subspan(pages * sizeof(u64));
    }
    return true;
}

void GpaRanges::append(u64 gpa, u64 size) {
    if (size == 0) return;
    if (!pieces_.empty() && pieces_.back().gpa + pieces_.back().size == gpa) {
        pieces_.back().size += size;
    } else {
        pieces_.push_back({size_, gpa, size});
    }
    size_ += size;
}

std::size_t GpaRanges::find(u64 offset) const {
    const auto behind = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                         [](u64 at, const Fragment& piece) { return at < piece.start; });
    return behind == pieces_.begin() ? 0 : static_cast<std::size_t>(behind - pieces_.begin()) - 1;
}

}  // namespace vg::hv::vmbus
