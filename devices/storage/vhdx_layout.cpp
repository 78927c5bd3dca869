#include "devices/storage/vhdx_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "devices/storage/vhd_layout.h"
#include "devices/storage/vhd_path.h"
#include "devices/storage/vhdx_log.h"

namespace vg::devices::vhdx {

namespace {

using vhd::damaged;

constexpr u32 kMaxItemBytes = 1u << 20;
constexpr u32 kMaxLocatorPairs = 32;
constexpr const char* kConvert = "convert it with: qemu-img convert -O vhdx OLD.vhdx NEW.vhdx";

/// Which MiB of the file are taken: structures may not overlap.
class UsedSpace {
  public:
    explicit UsedSpace(u64 file_bytes) : taken_(static_cast<std::size_t>((file_bytes + kMiB - 1) / kMiB)) {}
    /// False if a part is taken already. The range lies inside the file's last MiB.
    [[nodiscard]] bool take(u64 offset, u64 size) {
        const auto first = static_cast<std::size_t>(offset / kMiB);
        const std::size_t last = std::min(static_cast<std::size_t>((offset + size + kMiB - 1) / kMiB), taken_.size());
        for (std::size_t unit = first; unit < last; ++unit) {
            if (taken_[unit]) return false;
            taken_[unit] = true;
        }
        end_ = std::max(end_, align_up(offset + size, kMiB));
        return true;
    }
    [[nodiscard]] u64 end() const { return end_; }

  private:
    std::vector<bool> taken_;
    u64 end_ = kMiB;
};

struct Region {
    u64 offset = 0;
    u32 length = 0;
};
struct Regions {
    Region bat, metadata;
};

Result<void> check_signature(BlockFile& file) {
    std::array<char, 8> found{};
    if (file.size() >= kFirstRegion) {
        if (auto done = file.read(0, {reinterpret_cast<u8*>(found.data()), found.size()}); !done) return done;
    }
    if (found == kFileSignature) return {};
    return damaged(file, 0, "no file type identifier", "\"vhdxfile\" in a file of at least 1 MiB",
                   "if the image is raw, name it without .vhdx; else restore it from a backup");
}

/// Nothing wrong with it: an empty text.
std::string header_fault(std::span<const u8> bytes, const Header& header) {
    if (header.signature != kHeaderSignature) return "no header signature";
    if (checksum(bytes, offsetof(Header, checksum)) != header.checksum) return "a wrong header checksum";
    if (header.version != 1) return fmt::format("format version {}", header.version);
    if (header.log_version != 0) return fmt::format("log version {}", header.log_version);
    if (header.log_length % kMiB != 0 || header.log_length == 0 || header.log_length > kMaxLogBytes)
        return fmt::format("a log of {} bytes", header.log_length);
    if (header.log_offset % kMiB != 0 || header.log_offset < kFirstRegion)
        return fmt::format("a log at byte {}", header.log_offset);
    return {};
}

Result<void> load_header(BlockFile& file, Layout& layout) {
    bool found = false;
    std::string fault;
    for (unsigned slot = 0; slot < 2; ++slot) {
        std::array<u8, kHeaderBytes> bytes{};
        if (auto done = file.read(kHeaderOffsets[slot], bytes); !done) return done;
        const Header header = load<Header>(bytes);
        if (std::string wrong = header_fault(bytes, header); !wrong.empty()) {
            fault = std::move(wrong);
            continue;
        }
        if (found && header.sequence_number <= layout.header.sequence_number) continue;
        layout.header = header;
        layout.header_slot = slot;
        found = true;
    }
    if (!found) {
        return damaged(file, kHeaderOffsets[1], fault,
                       fmt::format("one of two headers of version 1 with a log of 1 to {} MiB", kMaxLogBytes / kMiB));
    }
    if (!fits(layout.header.log_offset, layout.header.log_length, file.size())) {
        return damaged(file, kHeaderOffsets[layout.header_slot] + offsetof(Header, log_offset),
                       fmt::format("a log of {} bytes at byte {}", layout.header.log_length, layout.header.log_offset),
                       fmt::format("a place inside the file's {} bytes", file.size()));
    }
    return {};
}

/// The first of the two copies whose checksum is right.
Result<std::vector<u8>> load_region_table(BlockFile& file) {
    for (const u64 offset : kRegionOffsets) {
        std::vector<u8> bytes(kTableBytes);
        if (auto done = file.read(offset, bytes); !done) return Unexpected{done.error()};
        const auto table = load<RegionTable>(bytes);
        if (table.signature == kRegionSignature && table.entry_count <= kMaxTableEntries &&
            checksum(bytes, offsetof(RegionTable, checksum)) == table.checksum)
            return bytes;
    }
    return damaged(file, kRegionOffsets[0], "two damaged region tables", "one with its signature and checksum");
}

Result<Regions> load_regions(BlockFile& file, UsedSpace& used) {
    auto table = load_region_table(file);
    if (!table) return Unexpected{table.error()};
    Regions out;
    const u32 count = load<RegionTable>(*table).entry_count;
    for (u32 i = 0; i < count; ++i) {
        const std::size_t at = sizeof(RegionTable) + i * sizeof(RegionEntry);
        const auto entry = load<RegionEntry>(*table, at);
        const u64 where = kRegionOffsets[0] + at;
        Region* known = entry.guid == kBatRegion ? &out.bat : entry.guid == kMetadataRegion ? &out.metadata : nullptr;
        if (known == nullptr && (entry.required & 1) != 0) {
            return damaged(file, where, fmt::format("required region {}", to_string(entry.guid)),
                           "the block table and metadata only; a newer program made this file", kConvert);
        }
        if (entry.file_offset % kMiB != 0 || entry.file_offset < kFirstRegion || entry.length % kMiB != 0 ||
            entry.length == 0 || !fits(entry.file_offset, entry.length, file.size())) {
            return damaged(file, where, fmt::format("region of {} bytes at byte {}", entry.length, entry.file_offset),
                           fmt::format("whole MiB inside the file's {} bytes", file.size()));
        }
        if (known != nullptr && known->length != 0)
            return damaged(file, where, "a region a second time", "each kind once");
        if (!used.take(entry.file_offset, entry.length)) {
            return damaged(file, where, fmt::format("region at byte {} over another structure", entry.file_offset),
                           "structures that do not overlap");
        }
        if (known != nullptr) *known = {entry.file_offset, entry.length};
    }
    if (out.bat.length == 0 || out.metadata.length == 0) {
        return damaged(file, kRegionOffsets[0], fmt::format("{} regions", count),
                       "a block table and metadata among them");
    }
    return out;
}

/// Items of the metadata region, their places checked.
class Metadata {
  public:
    explicit Metadata(BlockFile& file) : file_(file) {}

    [[nodiscard]] Result<void> load_table(const Region& region) {
        region_ = region;
        std::vector<u8> bytes(kTableBytes);
        if (auto done = file_.read(region.offset, bytes); !done) return done;
        const auto table = load<MetadataTable>(bytes);
        if (table.signature != kMetadataSignature || table.entry_count > kMaxTableEntries) {
            return damaged(file_, region.offset, fmt::format("a metadata table of {} entries", table.entry_count),
                           fmt::format("\"metadata\" and at most {} entries", kMaxTableEntries));
        }
        for (u32 i = 0; i < table.entry_count; ++i) {
            const std::size_t at = sizeof(MetadataTable) + i * sizeof(MetadataEntry);
            const auto entry = load<MetadataEntry>(bytes, at);
            if (auto checked = check(entry, region.offset + at); !checked) return checked;
            if ((entry.flags & MetadataEntry::kUser) == 0) items_.emplace(entry.item, entry);
        }
        return {};
    }
    [[nodiscard]] bool has(const Guid& item) const { return items_.count(item) != 0; }
    [[nodiscard]] u64 where(const Guid& item) const { return region_.offset + items_.at(item).offset; }
    template <class T>
    [[nodiscard]] Result<T> get(const Guid& item, const char* name) {
        if (!has(item) || items_.at(item).length < sizeof(T))
            return damaged(file_, region_.offset, fmt::format("no {} in the metadata", name), "all required items");
        std::array<u8, sizeof(T)> bytes{};
        if (auto done = file_.read(where(item), bytes); !done) return Unexpected{done.error()};
        return load<T>(bytes);
    }
    [[nodiscard]] Result<std::vector<u8>> get_all(const Guid& item, u32 limit) {
        const u32 length = items_.at(item).length;
        if (length > limit) {
            return damaged(file_, where(item), fmt::format("a parent locator of {} bytes", length),
                           fmt::format("at most {}", limit));
        }
        std::vector<u8> bytes(length);
        if (auto done = file_.read(where(item), bytes); !done) return Unexpected{done.error()};
        return bytes;
    }

  private:
    [[nodiscard]] Result<void> check(const MetadataEntry& entry, u64 at) const {
        static constexpr std::array<Guid, 6> kKnown = {kFileParameters,    kVirtualDiskSize,    kVirtualDiskId,
                                                       kLogicalSectorSize, kPhysicalSectorSize, kParentLocator};
        const bool known = std::find(kKnown.begin(), kKnown.end(), entry.item) != kKnown.end();
        if (!known && (entry.flags & MetadataEntry::kRequired) != 0) {
            return damaged(file_, at, fmt::format("required metadata {}", to_string(entry.item)),
                           "items of version 1; a newer program made this file", kConvert);
        }
        if (entry.length == 0 && entry.offset == 0) return {};
        if (entry.length > kMaxItemBytes || entry.offset < kTableBytes ||
            !fits(entry.offset, entry.length, region_.length)) {
            return damaged(file_, at, fmt::format("a metadata item of {} bytes at {}", entry.length, entry.offset),
                           fmt::format("at most 1 MiB inside the region's {} bytes", region_.length));
        }
        return {};
    }

    BlockFile& file_;
    Region region_;
    std::map<Guid, MetadataEntry> items_;
};

Result<std::map<std::string, std::string>> load_locator(BlockFile& file, Metadata& metadata) {
    if (!metadata.has(kParentLocator))
        return damaged(file, 0, "a differencing disk without parent locator", "a parent locator in the metadata");
    const auto bytes = metadata.get_all(kParentLocator, kMaxLocatorBytes);
    if (!bytes) return Unexpected{bytes.error()};
    const u64 at = metadata.where(kParentLocator);
    const bool whole = bytes->size() >= sizeof(LocatorHeader);
    const LocatorHeader header = whole ? load<LocatorHeader>(*bytes) : LocatorHeader{.type = {}};
    if (header.type != kVhdxParent || header.count > kMaxLocatorPairs ||
        !fits(sizeof(LocatorHeader), header.count * sizeof(LocatorEntry), bytes->size())) {
        return damaged(file, at, fmt::format("a parent locator {} of {} pairs", to_string(header.type), header.count),
                       fmt::format("{} and at most {} pairs", to_string(kVhdxParent), kMaxLocatorPairs));
    }
    const auto text = [&](u32 offset, u16 length) -> std::optional<std::string> {
        if (length % 2 != 0 || !fits(offset, length, bytes->size())) return std::nullopt;
        std::vector<u16> units(length / 2);
        for (std::size_t i = 0; i < units.size(); ++i) units[i] = load<u16>(*bytes, offset + i * 2);
        return vhd::to_utf8(units);
    };
    std::map<std::string, std::string> out;
    for (u16 i = 0; i < header.count; ++i) {
        const std::size_t place = sizeof(LocatorHeader) + i * sizeof(LocatorEntry);
        const auto entry = load<LocatorEntry>(*bytes, place);
        const auto key = text(entry.key_offset, entry.key_length);
        const auto value = text(entry.value_offset, entry.value_length);
        if (!key || !value)
            return damaged(file, at + place, "a locator text outside of its item", "offsets inside, even lengths");
        out.emplace(*key, *value);
    }
    return out;
}

bool power_of_two(u64 value) { return value != 0 && (value & (value - 1)) == 0; }

Result<void> load_metadata(BlockFile& file, const Region& region, Layout& layout) {
    Metadata metadata(file);
    if (auto done = metadata.load_table(region); !done) return done;
    const auto parameters = metadata.get<FileParameters>(kFileParameters, "file parameters");
    if (!parameters) return Unexpected{parameters.error()};
    const auto size = metadata.get<u64>(kVirtualDiskSize, "disk size");
    if (!size) return Unexpected{size.error()};
    const auto logical = metadata.get<u32>(kLogicalSectorSize, "logical sector size");
    if (!logical) return Unexpected{logical.error()};
    const auto physical = metadata.get<u32>(kPhysicalSectorSize, "physical sector size");
    if (!physical) return Unexpected{physical.error()};
    const auto id = metadata.get<Guid>(kVirtualDiskId, "disk id");
    if (!id) return Unexpected{id.error()};
    if ((*logical != 512 && *logical != 4096) || (*physical != 512 && *physical != 4096)) {
        return damaged(file, metadata.where(kLogicalSectorSize),
                       fmt::format("sectors of {} and {}", *logical, *physical), "512 or 4096 bytes");
    }
    const u32 block = parameters->block_size;
    if (!power_of_two(block) || block < kMinBlockBytes || block > kMaxBlockBytes) {
        return damaged(file, metadata.where(kFileParameters), fmt::format("block size {}", block),
                       "a power of two from 1 to 256 MiB");
    }
    if (*size == 0 || *size % *logical != 0 || *size > kMaxDiskBytes) {
        return damaged(file, metadata.where(kVirtualDiskSize), fmt::format("a disk of {} bytes", *size),
                       "whole sectors, at most 64 TiB");
    }
    layout.shape = {*size, block, *logical, (parameters->flags & FileParameters::kHasParent) != 0};
    layout.physical_sector_bytes = std::max(*physical, *logical);
    layout.leave_blocks_allocated = (parameters->flags & FileParameters::kLeaveBlocksAllocated) != 0;
    layout.disk_id = *id;
    if (!layout.shape.has_parent) return {};
    auto locator = load_locator(file, metadata);
    if (!locator) return Unexpected{locator.error()};
    layout.parent = *std::move(locator);
    return {};
}

/// Reads the table in pieces: every block inside the file, none over another, a sector bitmap where one is needed.
class TableCheck {
  public:
    TableCheck(BlockFile& file, const Layout& layout, UsedSpace& used)
        : file_(file), shape_(layout.shape), at_(layout.bat_offset), used_(used) {}

    [[nodiscard]] Result<void> run() {
        std::vector<u8> bytes;
        const u64 entries = shape_.entries();
        for (u64 first = 0; first < entries; first += kPerPiece) {
            const u64 count = std::min(kPerPiece, entries - first);
            bytes.resize(static_cast<std::size_t>(count * 8));
            if (auto done = file_.read(at_ + first * 8, bytes); !done) return done;
            for (u64 i = 0; i < count; ++i) {
                const BatEntry entry{load<u64>(bytes, static_cast<std::size_t>(i * 8))};
                const u64 index = first + i;
                auto done = shape_.is_bitmap(index) ? bitmap(index, entry) : payload(index, entry);
                if (!done) return done;
            }
        }
        return {};
    }

  private:
    static constexpr u64 kPerPiece = 128 * 1024;

    [[nodiscard]] Result<void> payload(u64 index, BatEntry entry) {
        const u64 state = bits(entry.raw, 2, 0);
        if (state == 4 || state == 5 || (state == 7 && !shape_.has_parent))
            return wrong(index, fmt::format("block state {}", state), "one of this kind of disk");
        partial_ = partial_ || state == 7;
        if (!entry.holds_data()) return {};
        const u64 block = index - index / (shape_.chunk_ratio() + 1);
        const u64 begin = block * shape_.block_bytes;
        if (begin >= shape_.disk_bytes) return wrong(index, "a block behind the disk's end", "none there");
        // Some programs end a file with the disk's last sector.
        return place(index, entry, std::min<u64>(shape_.block_bytes, shape_.disk_bytes - begin));
    }
    [[nodiscard]] Result<void> bitmap(u64 index, BatEntry entry) {
        const bool needed = std::exchange(partial_, false);
        const u64 state = bits(entry.raw, 2, 0);
        if (state != 0 && state != 6) return wrong(index, fmt::format("sector bitmap state {}", state), "0 or 6");
        if (state == 0) {
            return needed ? wrong(index, "no sector bitmap", "one for its partially present blocks") : Result<void>{};
        }
        return place(index, entry, kBitmapBlockBytes);
    }
    [[nodiscard]] Result<void> place(u64 index, BatEntry entry, u64 size) {
        const u64 offset = entry.offset();
        if (offset < kFirstRegion || !fits(offset, size, file_.size())) {
            return wrong(index, fmt::format("{} bytes at byte {}", size, offset),
                         fmt::format("a place inside the file's {} bytes; the file was truncated or its table "
                                     "overwritten",
                                     file_.size()));
        }
        if (used_.take(offset, size)) return {};
        return wrong(index, fmt::format("a block at byte {} over another structure", offset),
                     "structures that do not overlap");
    }
    [[nodiscard]] Result<void> wrong(u64 index, const std::string& found, const std::string& expected) const {
        return damaged(file_, at_ + index * 8, found, expected);
    }

    BlockFile& file_;
    const BatShape& shape_;
    u64 at_;
    UsedSpace& used_;
    bool partial_ = false;  // a block since the last sector bitmap entry needs that bitmap
};

Result<void> load_rest(BlockFile& file, Layout& layout) {
    UsedSpace used(file.size());
    if (!used.take(0, kFirstRegion) || !used.take(layout.header.log_offset, layout.header.log_length)) {
        return damaged(file, kHeaderOffsets[layout.header_slot] + offsetof(Header, log_offset),
                       fmt::format("a log at byte {}", layout.header.log_offset), "a place behind the headers");
    }
    const auto regions = load_regions(file, used);
    if (!regions) return Unexpected{regions.error()};
    if (auto done = load_metadata(file, regions->metadata, layout); !done) return done;
    if (layout.shape.entries() * 8 > regions->bat.length) {
        return damaged(file, regions->bat.offset, fmt::format("a block table of {} bytes", regions->bat.length),
                       fmt::format("{} for this disk", layout.shape.entries() * 8));
    }
    layout.bat_offset = regions->bat.offset;
    if (auto done = TableCheck(file, layout, used).run(); !done) return done;
    layout.end = used.end();
    return {};
}

}  // namespace

Result<Opened> open_layout(std::unique_ptr<BlockFile> file) {
    if (file->size() > kMaxFileBytes)
        return damaged(*file, 0, fmt::format("a file of {} bytes", file->size()), "at most 96 TiB");
    if (auto done = check_signature(*file); !done) return Unexpected{done.error()};
    Opened out;
    if (auto done = load_header(*file, out.layout); !done) return Unexpected{done.error()};
    if (out.layout.header.log_guid != Guid{}) {
        auto replayed = replay_log(std::move(file), out.layout.header);
        if (!replayed) return Unexpected{replayed.error()};
        file = *std::move(replayed);
        if (file->writable()) {
            Header header = out.layout.header;
            header.log_guid = {};
            if (auto done = write_header(*file, out.layout, header); !done) return Unexpected{done.error()};
            if (auto done = file->sync(); !done) return Unexpected{done.error()};
        }
    }
    if (auto done = load_rest(*file, out.layout); !done) return Unexpected{done.error()};
    out.file = std::move(file);
    return out;
}

Result<void> write_header(BlockFile& file, Layout& layout, Header header) {
    header.sequence_number = layout.header.sequence_number + 1;
    header.checksum = 0;
    std::array<u8, kHeaderBytes> bytes{};
    store(bytes, 0, header);
    header.checksum = checksum(bytes, offsetof(Header, checksum));
    store(bytes, 0, header);
    const unsigned slot = layout.header_slot ^ 1;
    if (auto done = file.write(kHeaderOffsets[slot], bytes); !done) return done;
    layout.header = header;
    layout.header_slot = slot;
    return {};
}

}  // namespace vg::devices::vhdx
