// A large block of memory that may not be there: whole pages, not from the heap.
#pragma once

#include <optional>
#include <span>
#include <utility>

#include "base/bits.h"
#include "roms/parent/platform.h"

namespace vg::parent {

/// Pages that nothing of a child's wishes may take: the heap needs them for what children share, queue and open (a
/// server's limits come to less than 4 MiB a child).
constexpr u64 kReservedPages = (u64{32} << 20) / kPageSize;

class PageBuffer {
  public:
    PageBuffer() = default;
    /// Nothing if less than kReservedPages would be left, or the pages are not consecutive anywhere.
    [[nodiscard]] static std::optional<PageBuffer> create(u64 bytes) {
        const u64 pages = align_up(bytes, kPageSize) / kPageSize;
        if (pages == 0) return PageBuffer();
        if (free_page_count() < pages + kReservedPages) return std::nullopt;
        const u64 address = allocate_pages(pages);
        if (address == 0) return std::nullopt;
        return PageBuffer(address, bytes);
    }
    ~PageBuffer() {
        if (address_ != 0) free_pages(address_, align_up(bytes_, kPageSize) / kPageSize);
    }
    PageBuffer(PageBuffer&& other) noexcept
        : address_(std::exchange(other.address_, 0)), bytes_(std::exchange(other.bytes_, 0)) {}
    PageBuffer& operator=(PageBuffer&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }

    [[nodiscard]] std::span<u8> bytes() const { return {at<>(address_), bytes_}; }

  private:
    PageBuffer(u64 address, u64 bytes) : address_(address), bytes_(bytes) {}
    u64 address_ = 0, bytes_ = 0;
};

}  // namespace vg::parent
