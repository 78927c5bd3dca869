#include "devices/storage/block_device.h"

#include <algorithm>
#include <cstring>

namespace vg::devices {

namespace {

/// A part that is as large goes to the device as it is; smaller ones are gathered up to that.
constexpr std::size_t kGathered = 64 * 1024;
constexpr std::size_t kSector = 4096;  ///< the largest of a logical sector

/// Calls `move(bytes)` for pieces of whole sectors, either a part of `parts` or `buffer`; `copy(part, place in buffer)`
/// on the way. Ends at the first error.
template <class Before, class Move, class Behind>
Result<void> in_pieces(BlockDevice::Parts parts, Before before, Move move, Behind behind) {
    std::vector<u8> buffer;
    std::size_t at = 0;  // within parts.front()
    while (!parts.empty()) {
        const std::span<u8> whole = parts.front().subspan(at);
        if (whole.size() >= kGathered) {
            const auto piece = whole.first(whole.size() / kSector * kSector);
            if (auto ok = move(piece); !ok) return ok;
            at += piece.size();
        } else {
            const BlockDevice::Parts gathered = parts;
            const std::size_t first = at;
            std::size_t size = 0;
            while (!parts.empty() && size < kGathered) {
                const std::size_t take = std::min(parts.front().size() - at, kGathered - size);
                size += take;
                at += take;
                if (at == parts.front().size()) parts = parts.subspan(1), at = 0;
            }
            buffer.resize(size);
            const auto each = [&](auto&& copy) {
                std::size_t done = 0, from = first;
                for (auto part = gathered.begin(); done < size; ++part, from = 0) {
                    const std::size_t take = std::min(part->size() - from, size - done);
                    copy(part->subspan(from, take), buffer.data() + done);
                    done += take;
                }
            };
            each(before);
            if (auto ok = move(std::span<u8>(buffer)); !ok) return ok;
            each(behind);
            continue;
        }
        if (at == parts.front().size()) parts = parts.subspan(1), at = 0;
    }
    return {};
}

}  // namespace

u64 size_of(BlockDevice::Parts parts) {
    u64 size = 0;
    for (const std::span<u8> part : parts) size += part.size();
    return size;
}

Result<void> BlockDevice::read_parts(u64 offset, Parts parts) {
    return in_pieces(
        parts, [](std::span<u8>, u8*) {},
        [&](std::span<u8> piece) {
            auto done = read(offset, piece);
            offset += piece.size();
            return done;
        },
        [](std::span<u8> part, const u8* from) { std::memcpy(part.data(), from, part.size()); });
}

Result<void> BlockDevice::write_parts(u64 offset, Parts parts) {
    return in_pieces(
        parts, [](std::span<u8> part, u8* to) { std::memcpy(to, part.data(), part.size()); },
        [&](std::span<u8> piece) {
            auto done = write(offset, piece);
            offset += piece.size();
            return done;
        },
        [](std::span<u8>, const u8*) {});
}

}  // namespace vg::devices
