// GPADLs: lists of guest pages that a guest hands to a device, and GPA-direct ranges in packets. V-37..V-40, V-77.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/types.h"
#include "hv/spec/vmbus.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vmbus {

/// Page numbers above this cannot be a guest physical address (52 bits); also keeps shifts from overflowing.
inline constexpr u64 kMaxPfn = (u64{1} << 40) - 1;

/// Pages that `byte_count` bytes at `byte_offset` touch. Cannot overflow.
constexpr u64 pages_spanned(u32 byte_offset, u32 byte_count) {
    return (u64{byte_offset} + byte_count + kPageMask) / kPageSize;
}

/// One range of bytes over listed pages.
struct PageRange {
    u32 byte_offset = 0;
    u32 byte_count = 0;
    std::vector<u64> pfns;
};

/// A finished or growing page list. Grows word by word as GPADL_HEADER and GPADL_BODY messages arrive.
class Gpadl {
  public:
    enum class Feed : u8 { NeedMore, Complete, Invalid };

    /// @param page_limit  refuse more pages than this
    Gpadl(u32 id, u16 relid, u16 range_count, u64 page_limit)
        : id_(id), relid_(relid), range_count_(range_count), page_limit_(page_limit) {}

    /// Takes the words behind a message's fixed part. Words past the last range and a partial word are ignored.
    /// Invalid: no or an empty range, a page number out of range, or more pages than the limit; the list is then dead.
    Feed feed(std::span<const u8> words);

    [[nodiscard]] u32 id() const { return id_; }
    [[nodiscard]] u16 relid() const { return relid_; }
    [[nodiscard]] bool complete() const { return state_ == Feed::Complete; }
    [[nodiscard]] const std::vector<PageRange>& ranges() const { return ranges_; }
    /// Pages that all ranges known so far need, arrived or not.
    [[nodiscard]] u64 pages() const { return pages_; }
    void fields(StateVisitor& v);

  private:
    Feed take(u64 word);
    [[nodiscard]] bool consistent() const;

    u32 id_;
    u16 relid_;
    u16 range_count_;
    u64 page_limit_;
    u64 pages_ = 0;
    u64 missing_ = 0;  ///< page numbers that the last range still lacks
    Feed state_ = Feed::NeedMore;
    std::vector<PageRange> ranges_;
};

/// Data of one GPA-direct packet: ranges over guest pages, seen as one run of bytes.
class GpaRanges {
  public:
    /// Limits of one packet: a guest that exceeds them gets its request refused.
    static constexpr u32 kMaxRanges = 512;
    static constexpr u64 kMaxBytes = u64{16} << 20;

    /// Parses what lies between descriptor and data of a GPA-direct packet. False: malformed or over a limit.
    bool parse(std::span<const u8> header);
    void clear() {
        pieces_.clear();
        size_ = 0;
    }
    [[nodiscard]] u64 size() const { return size_; }

    /// Calls `piece(gpa, position, size)` for each part of [offset, offset+size) that lies within one page, in order,
    /// until one returns false. False also if the range leaves the data.
    template <class Piece>
    [[nodiscard]] bool for_each(u64 offset, u64 size, Piece&& piece) const {
        if (offset > size_ || size > size_ - offset) return false;
        u64 done = 0;
        for (std::size_t i = find(offset); done < size; ++i) {
            const u64 skip = offset + done - pieces_[i].start;
            const u64 length = std::min(size - done, pieces_[i].size - skip);
            if (!piece(pieces_[i].gpa + skip, done, length)) return false;
            done += length;
        }
        return true;
    }

  private:
    struct Fragment {
        u64 start;  ///< position in the data
        u64 gpa;
        u64 size;  ///< never crosses a page unless the next page follows in guest memory
    };
    [[nodiscard]] std::size_t find(u64 offset) const;
    void append(u64 gpa, u64 size);

    std::vector<Fragment> pieces_;
    u64 size_ = 0;
};

}  // namespace vg::hv::vmbus
