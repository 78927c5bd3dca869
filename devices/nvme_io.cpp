// NVM commands. NVM Express Base 1.4c §6.
#include "base/bits.h"
#include "devices/nvme.h"

namespace vg::devices {

using namespace nvme;

namespace {

constexpr u32 kAllNamespaces = 0xffffffff;

u64 first_block(const Command& c) { return c.dw10 | u64{c.dw11} << 32; }
u64 block_count(const Command& c) { return bits(c.dw12, 15, 0) + 1; }

}  // namespace

u64 Nvme::block_bytes() const { return medium_ != nullptr ? medium_->logical_sector_bytes() : 512; }
u64 Nvme::blocks() const { return medium_ != nullptr ? medium_->size_bytes() / block_bytes() : 0; }

Nvme::Answer Nvme::io(const Command& command) {
    const auto opcode = static_cast<Io>(command.opcode);
    const bool whole = opcode == Io::Flush && command.nsid == kAllNamespaces;
    if (medium_ == nullptr || (command.nsid != 1 && !whole)) return {kInvalidNamespace};
    switch (opcode) {
        case Io::Flush:
            if (medium_->read_only()) return {};
            return {medium_->flush() ? kSuccess : kWriteFault};
        case Io::Write:
            return transfer(command, true);
        case Io::Read:
            return transfer(command, false);
        case Io::WriteZeroes:
            return write_zeroes(command);
        case Io::DatasetManagement:
            return dataset_management(command);
    }
    return {kInvalidOpcode};
}

Nvme::Answer Nvme::transfer(const Command& c, bool write) {
    const u64 first = first_block(c), count = block_count(c);
    if (count * block_bytes() > kMaxTransfer) return {kInvalidField};
    if (!fits(first, count, blocks())) return {kLbaRange};
    if (write && medium_->read_only()) return {kWriteProtected};
    std::vector<u8> data(count * block_bytes());
    state_.free_at = events_.now() + data.size() * 1000 / kBytesPerMicrosecond;
    if (!write) {
        if (!medium_->read(first * block_bytes(), data)) return {kUnrecoveredRead};
        return {to_host(c, data)};
    }
    if (const u16 status = from_host(c, data); status != kSuccess) return {status};
    if (!medium_->write(first * block_bytes(), data)) return {kWriteFault};
    const bool durable = (c.dw12 & kForceUnitAccess) != 0 || (state_.features[kFeatureWriteCache] & 1) == 0;
    if (durable && !medium_->flush()) return {kWriteFault};
    return {};
}

Nvme::Answer Nvme::write_zeroes(const Command& c) {
    const u64 first = first_block(c), count = block_count(c);
    if (!fits(first, count, blocks())) return {kLbaRange};
    if (medium_->read_only()) return {kWriteProtected};
    // Up to 32 MiB: written, because a discarded range need not read as zeroes.
    const std::vector<u8> zeroes(1 << 16);
    for (u64 done = 0, bytes = count * block_bytes(); done < bytes;) {
        const u64 part = std::min<u64>(zeroes.size(), bytes - done);
        if (!medium_->write(first * block_bytes() + done, std::span(zeroes).first(part))) return {kWriteFault};
        done += part;
    }
    if ((c.dw12 & kForceUnitAccess) != 0 && !medium_->flush()) return {kWriteFault};
    return {};
}

Nvme::Answer Nvme::dataset_management(const Command& c) {
    struct Range {
        u32 attributes, blocks;
        u64 first;
    };
    std::vector<Range> ranges(bits(c.dw10, 7, 0) + 1);
    const std::span<u8> bytes(reinterpret_cast<u8*>(ranges.data()), ranges.size() * sizeof(Range));
    if (const u16 status = from_host(c, bytes); status != kSuccess) return {status};
    if ((c.dw11 & kDeallocate) == 0) return {};  // hints
    if (medium_->read_only()) return {kWriteProtected};
    for (const Range& range : ranges) {
        if (!fits(range.first, range.blocks, blocks())) return {kLbaRange};
        if (range.blocks != 0 && !medium_->discard(range.first * block_bytes(), range.blocks * block_bytes())) return {kWriteFault};
    }
    return {};
}

}  // namespace vg::devices
