#include "devices/virtio/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/bits.h"

namespace vg::devices {

using namespace virtio::block;

namespace {

constexpr u64 kFeatures = kSizeMax | kSegMax | kBlockSize | kFlush | kTopology | kDiscard | kWriteZeroes;

}  // namespace

VirtioBlock::VirtioBlock(const PciSlot& slot, EventQueue& events, u32 index)
    : VirtioDevice(slot, events, {fmt::format("virtio_block{}", index), virtio::kBlock, 0x010000, kFeatures, 1}),
      serial_(fmt::format("VGB{:08}", index + 1)) {
    config_.size_max = kSegmentBytes;
    config_.seg_max = kSegments;
    config_.block_size = kSector;
    config_.queues = 1;
    config_.max_discard_sectors = config_.max_zero_sectors = kMaxZeroSectors;
    config_.max_discard_segments = config_.max_zero_segments = kMaxRanges;
    config_.discard_alignment = 1;
    config_.zeroes_may_unmap = 1;
    config_.writeback = 1;
}

void VirtioBlock::attach(std::unique_ptr<BlockDevice> medium) {
    medium_ = std::move(medium);
    config_.capacity = sectors();
    const u32 physical = std::max<u32>(medium_->physical_sector_bytes(), kSector);
    config_.physical_exponent = static_cast<u8>(std::countr_zero(std::bit_floor(physical) / static_cast<u32>(kSector)));
    config_.min_io = static_cast<u16>(physical / kSector);
    if (!medium_->read_only()) return;
    withdraw(kDiscard | kWriteZeroes);
    offer(kReadOnly);
}

std::span<const u8> VirtioBlock::device_config() const { return {reinterpret_cast<const u8*>(&config_), kConfigBytes}; }

VTime VirtioBlock::work() {
    const auto chain = take(0);
    if (!chain) return kNever;
    // Without room for a status there is nothing that the driver could be told.
    if (chain->writable_bytes == 0) {
        broken();
        return kNever;
    }
    const Answer answer = execute(*chain);
    const u64 status_at = chain->writable_bytes - 1;
    if (!chain->write(dma(), status_at, std::span(&answer.status, 1))) {
        broken();
        return kNever;
    }
    give_back(0, *chain, static_cast<u32>(answer.written + 1));
    return events().now() + kLatency + answer.moved * 1000 / kBytesPerMicrosecond;
}

VirtioBlock::Answer VirtioBlock::execute(const VirtioChain& chain) {
    Request request{};
    std::array<u8, sizeof request> bytes{};
    if (!chain.read(dma(), 0, bytes)) return {kIoError};
    std::memcpy(&request, bytes.data(), sizeof request);
    if (medium_ == nullptr) return {kIoError};
    switch (static_cast<Type>(request.type)) {
        case Type::In:
            return read(chain, request.sector);
        case Type::Out:
            return write(chain, request.sector);
        case Type::Flush:
            return {medium_->read_only() || medium_->flush() ? kOk : kIoError};
        case Type::GetId: {
            std::array<u8, kIdBytes> id{};
            std::copy_n(serial_.begin(), std::min<std::size_t>(serial_.size(), id.size()), id.begin());
            const u64 count = std::min<u64>(id.size(), chain.writable_bytes - 1);
            return {chain.write(dma(), 0, std::span(id).first(count)) ? kOk : kIoError, count};
        }
        case Type::Discard:
            return clear(chain, false);
        case Type::WriteZeroes:
            return clear(chain, true);
    }
    return {kUnsupported};
}

VirtioBlock::Answer VirtioBlock::read(const VirtioChain& chain, u64 sector) {
    const u64 bytes = chain.writable_bytes - 1;
    if (bytes % kSector != 0 || bytes > kMaxTransfer || !fits(sector, bytes / kSector, sectors())) return {kIoError};
    std::vector<u8> data(bytes);
    if (bytes != 0 && !medium_->read(sector * kSector, data)) return {kIoError};
    if (!chain.write(dma(), 0, data)) return {kIoError};
    return {kOk, bytes, bytes};
}

VirtioBlock::Answer VirtioBlock::write(const VirtioChain& chain, u64 sector) {
    const u64 bytes = chain.readable_bytes - sizeof(Request);
    if (bytes % kSector != 0 || bytes > kMaxTransfer || !fits(sector, bytes / kSector, sectors())) return {kIoError};
    if (medium_->read_only()) return {kIoError};
    std::vector<u8> data(bytes);
    if (!chain.read(dma(), sizeof(Request), data)) return {kIoError};
    if (bytes != 0 && !medium_->write(sector * kSector, data)) return {kIoError};
    // Without a flush to come, every write has to last (§5.2.6.4).
    if (!has(kFlush) && !medium_->flush()) return {kIoError};
    return {kOk, 0, bytes};
}

VirtioBlock::Answer VirtioBlock::clear(const VirtioChain& chain, bool zeroes) {
    const u64 bytes = chain.readable_bytes - sizeof(Request);
    const u64 count = bytes / sizeof(Range);
    if (bytes % sizeof(Range) != 0 || count == 0 || count > kMaxRanges) return {kUnsupported};
    if (medium_->read_only()) return {kIoError};
    std::vector<u8> raw(bytes);
    if (!chain.read(dma(), sizeof(Request), raw)) return {kIoError};
    u64 moved = 0;
    for (u64 i = 0; i < count; ++i) {
        Range range{};
        std::memcpy(&range, raw.data() + i * sizeof range, sizeof range);
        if ((range.flags & ~(zeroes ? kUnmap : 0)) != 0) return {kUnsupported};
        if (range.sectors > kMaxZeroSectors || !fits(range.sector, range.sectors, sectors())) return {kIoError};
        const u64 at = range.sector * kSector, size = range.sectors * kSector;
        if (!zeroes) {
            if (!medium_->discard(at, size)) return {kIoError};
            continue;
        }
        const std::vector<u8> nothing(size);
        if (size != 0 && !medium_->write(at, nothing)) return {kIoError};
        moved += size;
    }
    return {kOk, 0, moved};
}

}  // namespace vg::devices
