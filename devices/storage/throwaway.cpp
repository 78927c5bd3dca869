#include "devices/storage/throwaway.h"

#include <fmt/format.h>

#include <algorithm>
#include <bitset>
#include <unordered_map>

#include "devices/storage/raw_image.h"

namespace vg::devices {

namespace {

constexpr u64 kChunkSectors = 2048;

class Throwaway final : public BlockDevice {
  public:
    Throwaway(std::unique_ptr<BlockDevice> base, std::unique_ptr<BlockFile> store)
        : base_(std::move(base)), store_(std::move(store)) {}

    [[nodiscard]] u64 size_bytes() const override { return base_->size_bytes(); }
    [[nodiscard]] bool read_only() const override { return false; }
    [[nodiscard]] u32 logical_sector_bytes() const override { return base_->logical_sector_bytes(); }
    [[nodiscard]] u32 physical_sector_bytes() const override { return base_->physical_sector_bytes(); }

    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        if (auto checked = check_range(*this, offset, out.size()); !checked) return checked;
        while (!out.empty()) {
            const u64 sector = offset / kSectorBytes;
            const Run run = run_at(sector, sector + out.size() / kSectorBytes);
            const std::span<u8> part = out.first(static_cast<std::size_t>((run.end - sector) * kSectorBytes));
            if (auto done = run.written ? read_store(offset, part) : base_->read(offset, part); !done) return done;
            out = out.subspan(part.size());
            offset += part.size();
        }
        return {};
    }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override {
        if (auto checked = check_range(*this, offset, data.size()); !checked) return checked;
        if (auto done = store_->write(offset, data); !done) return done;
        mark(offset, data.size());
        return {};
    }
    [[nodiscard]] Result<void> read_parts(u64 offset, Parts parts) override {
        const u64 size = size_of(parts);
        if (auto checked = check_range(*this, offset, size); !checked) return checked;
        const u64 sector = offset / kSectorBytes, end = sector + size / kSectorBytes;
        if (size == 0 || !untouched(sector, end)) return BlockDevice::read_parts(offset, parts);
        return base_->read_parts(offset, parts);
    }
    [[nodiscard]] Result<void> write_parts(u64 offset, Parts parts) override {
        const u64 size = size_of(parts);
        if (auto checked = check_range(*this, offset, size); !checked) return checked;
        if (auto done = store_->write_parts(offset, parts); !done) return done;
        mark(offset, size);
        return {};
    }
    [[nodiscard]] Result<void> discard(u64 offset, u64 size) override {
        if (auto checked = check_range(*this, offset, size); !checked) return checked;
        // Past the store's end it reads as zeroes anyway.
        const u64 end = std::min(offset + size, store_->size());
        if (end > offset) {
            if (auto done = store_->zero(offset, end - offset); !done) return done;
        }
        mark(offset, size);
        return {};
    }
    [[nodiscard]] Result<void> flush() override { return {}; }
    [[nodiscard]] Result<void> for_each_unsaved(const VisitUnsaved& visit) override {
        std::vector<u64> chunks;
        for (const auto& [chunk, written] : written_) chunks.push_back(chunk);
        std::sort(chunks.begin(), chunks.end());
        const u64 sectors = size_bytes() / kSectorBytes;
        std::vector<u8> data;
        for (const u64 chunk : chunks) {
            const u64 end = std::min(sectors, (chunk + 1) * kChunkSectors);
            for (u64 sector = chunk * kChunkSectors; sector < end;) {
                const Run run = run_at(sector, end);
                if (run.written) {
                    data.resize(static_cast<std::size_t>((run.end - sector) * kSectorBytes));
                    if (auto done = read_store(sector * kSectorBytes, data); !done) return done;
                    if (auto done = visit(sector * kSectorBytes, data); !done) return done;
                }
                sector = run.end;
            }
        }
        return {};
    }
    [[nodiscard]] std::string describe() const override {
        return fmt::format("throw-away overlay of {}", base_->describe());
    }

  private:
    /// Sectors up to `end` that are all written or all not.
    struct Run {
        u64 end;
        bool written;
    };
    [[nodiscard]] Run run_at(u64 sector, u64 limit) const {
        const u64 chunk_end = std::min(limit, (sector / kChunkSectors + 1) * kChunkSectors);
        const auto chunk = written_.find(sector / kChunkSectors);
        if (chunk == written_.end()) return {chunk_end, false};
        const bool written = chunk->second[sector % kChunkSectors];
        u64 end = sector + 1;
        while (end < chunk_end && chunk->second[end % kChunkSectors] == written) ++end;
        return {end, written};
    }
    /// None of these sectors has been written.
    [[nodiscard]] bool untouched(u64 sector, u64 end) const {
        while (sector < end) {
            const Run run = run_at(sector, end);
            if (run.written) return false;
            sector = run.end;
        }
        return true;
    }
    void mark(u64 offset, u64 size) {
        const u64 end = (offset + size) / kSectorBytes;
        for (u64 sector = offset / kSectorBytes; sector < end;) {
            auto& chunk = written_[sector / kChunkSectors];
            const u64 chunk_end = std::min(end, (sector / kChunkSectors + 1) * kChunkSectors);
            for (; sector < chunk_end; ++sector) chunk.set(sector % kChunkSectors);
        }
    }
    [[nodiscard]] Result<void> read_store(u64 offset, std::span<u8> out) {
        const u64 stored = std::min<u64>(out.size(), store_->size() > offset ? store_->size() - offset : 0);
        std::fill(out.begin() + static_cast<std::ptrdiff_t>(stored), out.end(), u8{0});
        return store_->read(offset, out.first(static_cast<std::size_t>(stored)));
    }

    std::unique_ptr<BlockDevice> base_;
    std::unique_ptr<BlockFile> store_;
    std::unordered_map<u64, std::bitset<kChunkSectors>> written_;  // at most one entry per MiB of disk
};

}  // namespace

std::unique_ptr<BlockDevice> make_throwaway(std::unique_ptr<BlockDevice> base, std::unique_ptr<BlockFile> store) {
    return std::make_unique<Throwaway>(std::move(base), std::move(store));
}

}  // namespace vg::devices
