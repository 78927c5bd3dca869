// Data in guest memory as a provider's core sees it.
#pragma once

#include <array>
#include <span>

#include "base/types.h"

namespace vg::hv::vsp {

/// Pieces of a guest's own memory, in the order of a request's data.
struct GuestParts {
    static constexpr u32 kMost = 257;  ///< a transfer of 1 MiB that begins anywhere in a page
    std::array<std::span<u8>, kMost> parts;
    u32 count = 0;
    u64 bytes = 0;

    [[nodiscard]] std::span<const std::span<u8>> all() const { return {parts.data(), count}; }
    /// Adds a piece, or makes the last one longer. False: there is no room.
    bool add(std::span<u8> piece) {
        if (count != 0 && parts[count - 1].data() + parts[count - 1].size() == piece.data()) {
            parts[count - 1] = {parts[count - 1].data(), parts[count - 1].size() + piece.size()};
        } else {
            if (count == kMost) return false;
            parts[count++] = piece;
        }
        bytes += piece.size();
        return true;
    }
    /// Keeps the first `size` bytes.
    void cut(u64 size) {
        while (bytes > size) {
            std::span<u8>& last = parts[count - 1];
            const u64 less = bytes - size < last.size() ? bytes - size : last.size();
            last = last.first(last.size() - less);
            bytes -= less;
            if (last.empty()) --count;
        }
    }
};

/// The data of one request in guest memory, whatever describes it on the wire.
class GuestData {
  public:
    virtual ~GuestData() = default;
    [[nodiscard]] virtual u64 size() const = 0;
    /// False: outside the data, or not memory.
    [[nodiscard]] virtual bool read(u64 offset, std::span<u8> out) = 0;
    [[nodiscard]] virtual bool write(u64 offset, std::span<const u8> data) = 0;
    /// The memory itself at [offset, offset+size), as far from `offset` on as it may be filled (`fill`) or looked at by
    /// address, until the guest runs again. What is missing at the end is for read() and write().
    virtual void in_place(u64 offset, u64 size, bool fill, GuestParts& parts) {
        (void)offset, (void)size, (void)fill, (void)parts;
    }
};

}  // namespace vg::hv::vsp
