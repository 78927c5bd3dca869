// Pages that several regions of RAM have alike, as one page of the host.
#pragma once

#include <span>
#include <vector>

#include "base/host_memory.h"
#include "base/types.h"
#include "mmu/physical_memory.h"

namespace vg::mmu {

/// A flag of PageInfo: the page shows one of SharedPages until somebody writes it; the host copies it then.
inline constexpr u8 kSharedPage = 64;

/// The first part at or behind `from` that may hold anything but zeroes; {size, size} if there is none. What
/// vg::next_resident does for memory without shared pages.
[[nodiscard]] PageRun next_touched(const u8* host, const PageInfo* pages, u64 from, u64 size);
/// The same of a RAM region that is where it was added.
[[nodiscard]] PageRun next_touched(PhysicalMemory& memory, const Region& region, u64 from);

/// Bytes become zero, and their memory the host's again, shared or not. Offsets of whole pages.
void give_back_pages(u8* host, PageInfo* pages, u64 first, u64 end);

/// Gives several regions (the memory of guests that run the same kernel) one copy of what they have alike at the same
/// place. What anybody can see stays: content, addresses, which pages count as touched. A page that is written becomes
/// its region's own again. Linux only lets a private view of a file be mapped over memory, so the copies lie in a file
/// without a name.
class SharedPages {
  public:
    /// Fewer pages in a row are not worth a mapping of the host, of which there are 65,530 by default.
    static constexpr u64 kLeastRun = 16 * kPageSize;
    static constexpr u64 kMostRuns = 16384;

    SharedPages() = default;
    ~SharedPages();
    SharedPages(const SharedPages&) = delete;
    SharedPages& operator=(const SharedPages&) = delete;

    /// Looks at [offset, offset + size) of RAM regions, multiples of kHostHugePage; the same regions, and new ones,
    /// with every call. Nobody writes RAM meanwhile. Returns bytes that were given back to the host, without those that
    /// the copies take.
    u64 share(PhysicalMemory& memory, std::span<const Region* const> regions, u64 offset, u64 size);
    /// Bytes of the copies.
    [[nodiscard]] u64 bytes() const;

  private:
    struct View;
    [[nodiscard]] bool open(u64 size);
    u64 share_piece(PhysicalMemory& memory, std::span<const Region* const> regions, u64 offset);
    void choose(std::vector<View>& views, u64 page);
    /// @param needed  pages that some region will show; without those that could not be written afterwards
    void write_copies(u64 offset, std::vector<bool>& needed);
    u64 show(View& view, u64 offset, const std::vector<bool>& written);

    int file_ = -1;
    u64 size_ = 0;                     ///< of the file
    u64 runs_ = 0;                     ///< that were mapped so far
    std::vector<u8> copies_;           ///< of the piece that is looked at
    std::vector<bool> known_, fixed_;  ///< pages of it that have a copy; that somebody sees already
};

}  // namespace vg::mmu
