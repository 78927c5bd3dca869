#include "devices/storage/vhdx_create.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "devices/storage/image_format.h"
#include "devices/storage/vhd_path.h"

namespace vg::devices {

namespace vhdx {

namespace {

constexpr u64 kLogOffset = kFirstRegion;

/// Collects the metadata region: its table and, from the second 64 KiB on, the items.
class MetadataWriter {
  public:
    explicit MetadataWriter(std::span<u8> region) : region_(region) { store(region_, 0, table_); }
    void add(const Guid& item, u32 flags, std::span<const u8> bytes) {
        const MetadataEntry entry{item, next_, static_cast<u32>(bytes.size()), flags, 0};
        store(region_, sizeof(MetadataTable) + table_.entry_count * sizeof(MetadataEntry), entry);
        std::copy(bytes.begin(), bytes.end(), region_.begin() + next_);
        next_ += static_cast<u32>(align_up(bytes.size(), 16));
        ++table_.entry_count;
        store(region_, 0, table_);
    }
    template <class T>
    void add_value(const Guid& item, u32 flags, const T& value) {
        std::array<u8, sizeof(T)> bytes{};
        store(bytes, 0, value);
        add(item, flags, bytes);
    }

  private:
    std::span<u8> region_;
    MetadataTable table_;
    u32 next_ = kTableBytes;
};

/// "Parent Locator" with the parent's write id and its path.
Result<std::vector<u8>> encode_locator(const Plan& plan) {
    const std::string texts[] = {"parent_linkage", to_string(plan.parent_linkage), "relative_path",
                                 vhd::to_windows(plan.parent_path)};
    LocatorHeader header;
    header.count = 2;
    std::vector<u8> out(sizeof(LocatorHeader) + 2 * sizeof(LocatorEntry));
    store(out, 0, header);
    for (std::size_t pair = 0; pair < 2; ++pair) {
        LocatorEntry entry;
        for (std::size_t part = 0; part < 2; ++part) {
            const auto units = vhd::to_utf16(texts[pair * 2 + part]);
            if (!units) return Unexpected{units.error()};
            const u32 offset = static_cast<u32>(out.size());
            const u16 length = static_cast<u16>(units->size() * 2);
            (part == 0 ? entry.key_offset : entry.value_offset) = offset;
            (part == 0 ? entry.key_length : entry.value_length) = length;
            for (const u16 unit : *units) {
                out.push_back(static_cast<u8>(unit));
                out.push_back(static_cast<u8>(unit >> 8));
            }
        }
        store(out, sizeof(LocatorHeader) + pair * sizeof(LocatorEntry), entry);
    }
    return out;
}

Result<void> write_metadata(BlockFile& file, const Plan& plan, u64 offset) {
    constexpr u32 kFile = MetadataEntry::kRequired;
    constexpr u32 kDisk = MetadataEntry::kRequired | MetadataEntry::kVirtualDisk;
    std::vector<u8> region(kMiB);
    MetadataWriter writer(region);
    FileParameters parameters;
    parameters.block_size = plan.block_bytes;
    if (plan.kind == VhdKind::Fixed) parameters.flags = FileParameters::kLeaveBlocksAllocated;
    if (plan.kind == VhdKind::Differencing) parameters.flags = FileParameters::kHasParent;
    writer.add_value(kFileParameters, kFile, parameters);
    writer.add_value(kVirtualDiskSize, kDisk, plan.size_bytes);
    writer.add_value(kVirtualDiskId, kDisk, plan.disk_id);
    writer.add_value(kLogicalSectorSize, kDisk, plan.logical_sector_bytes);
    writer.add_value(kPhysicalSectorSize, kDisk, plan.physical_sector_bytes);
    if (plan.kind == VhdKind::Differencing) {
        const auto locator = encode_locator(plan);
        if (!locator) return Unexpected{locator.error()};
        writer.add(kParentLocator, kFile, *locator);
    }
    return file.write(offset, region);
}

Result<void> write_regions(BlockFile& file, const RegionEntry& bat, const RegionEntry& metadata) {
    std::vector<u8> bytes(kTableBytes);
    RegionTable table;
    table.entry_count = 2;
    store(bytes, 0, table);
    store(bytes, sizeof(RegionTable), bat);
    store(bytes, sizeof(RegionTable) + sizeof(RegionEntry), metadata);
    table.checksum = checksum(bytes, offsetof(RegionTable, checksum));
    store(bytes, 0, table);
    for (const u64 offset : kRegionOffsets) {
        if (auto done = file.write(offset, bytes); !done) return done;
    }
    return {};
}

Result<void> write_headers(BlockFile& file, const Plan& plan) {
    for (unsigned slot = 0; slot < 2; ++slot) {
        std::array<u8, kHeaderBytes> bytes{};
        Header header;
        header.sequence_number = slot + 1;
        header.file_write_guid = header.data_write_guid = plan.write_id;
        header.log_length = plan.log_bytes;
        header.log_offset = kLogOffset;
        store(bytes, 0, header);
        header.checksum = checksum(bytes, offsetof(Header, checksum));
        store(bytes, 0, header);
        if (auto done = file.write(kHeaderOffsets[slot], bytes); !done) return done;
    }
    return {};
}

/// The table of a fixed disk: its blocks one after another from `first` on.
Result<void> write_full_table(BlockFile& file, const BatShape& shape, u64 offset, u64 first) {
    constexpr u64 kPerPiece = 128 * 1024;
    std::vector<u8> bytes;
    for (u64 begin = 0; begin < shape.entries(); begin += kPerPiece) {
        const u64 count = std::min(kPerPiece, shape.entries() - begin);
        bytes.assign(static_cast<std::size_t>(count * 8), 0);
        for (u64 i = 0; i < count; ++i) {
            if (shape.is_bitmap(begin + i)) continue;
            const u64 block = begin + i - (begin + i) / (shape.chunk_ratio() + 1);
            store(bytes, static_cast<std::size_t>(i * 8),
                  BatEntry::make(BlockState::FullyPresent, first + block * shape.block_bytes).raw);
        }
        if (auto done = file.write(offset + begin * 8, bytes); !done) return done;
    }
    return {};
}

}  // namespace

Result<void> write_new(BlockFile& file, const Plan& plan) {
    const BatShape shape{plan.size_bytes, plan.block_bytes, plan.logical_sector_bytes,
                         plan.kind == VhdKind::Differencing};
    const u64 metadata = kLogOffset + plan.log_bytes, bat = metadata + kMiB;
    const u64 bat_bytes = align_up(shape.entries() * 8, kMiB), blocks = bat + bat_bytes;
    std::array<u8, 8> signature{};
    std::copy(kFileSignature.begin(), kFileSignature.end(), signature.begin());
    if (auto done = file.write(0, signature); !done) return done;
    const u64 end = blocks + (plan.kind == VhdKind::Fixed ? shape.blocks() * plan.block_bytes : 0);
    if (auto done = file.resize(end); !done) return done;
    if (auto done = write_headers(file, plan); !done) return done;
    const RegionEntry bat_entry{kBatRegion, bat, static_cast<u32>(bat_bytes), 1};
    const RegionEntry metadata_entry{kMetadataRegion, metadata, static_cast<u32>(kMiB), 1};
    if (auto done = write_regions(file, bat_entry, metadata_entry); !done) return done;
    if (plan.kind == VhdKind::Fixed) {
        if (auto done = write_full_table(file, shape, bat, blocks); !done) return done;
    }
    return write_metadata(file, plan, metadata);
}

}  // namespace vhdx

namespace {

Result<void> check_plan(const std::string& path, const vhdx::Plan& plan) {
    const u32 logical = plan.logical_sector_bytes, physical = plan.physical_sector_bytes, block = plan.block_bytes;
    if ((logical != 512 && logical != 4096) || (physical != 512 && physical != 4096) || physical < logical) {
        return fail(
            Error::Code::Usage,
            fmt::format("{}: sectors of {} bytes in physical ones of {}; use 512 in 512, 512 in 4096 or 4096 in "
                        "4096",
                        path, logical, physical));
    }
    if (plan.size_bytes == 0 || plan.size_bytes % logical != 0 || plan.size_bytes > vhdx::kMaxDiskBytes) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: a VHDX cannot have {} bytes; give a multiple of {} up to 64 TiB", path,
                                plan.size_bytes, logical));
    }
    if (block < vhdx::kMinBlockBytes || block > vhdx::kMaxBlockBytes || (block & (block - 1)) != 0) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: blocks of {} bytes; use a power of two from 1 to 256 MiB", path, block));
    }
    return {};
}

Result<void> create_finished(const std::string& path, const Result<vhdx::Plan>& plan) {
    if (!plan) return Unexpected{plan.error()};
    return create_file(path, [&plan](BlockFile& file) { return vhdx::write_new(file, *plan); });
}

Result<vhdx::Plan> checked(const std::string& path, vhdx::Plan plan) {
    if (auto ok = check_plan(path, plan); !ok) return Unexpected{ok.error()};
    plan.disk_id = vhdx::random_guid();
    plan.write_id = vhdx::random_guid();
    return plan;
}

}  // namespace

Result<vhdx::Plan> vhdx::plan_new(const VhdxOptions& options) {
    Plan plan;
    plan.kind = options.kind;
    plan.size_bytes = options.size_bytes;
    plan.block_bytes = options.block_bytes != 0 ? options.block_bytes : kDefaultBlockBytes;
    plan.logical_sector_bytes = options.logical_sector_bytes;
    plan.physical_sector_bytes = options.physical_sector_bytes;
    return checked(options.path, std::move(plan));
}

Result<void> create_vhdx_overlay(const std::string& path, const vhd::IdentifiedImage& parent, u32 block_bytes) {
    auto relative = path_to_parent(path, parent.identity.name);
    if (!relative) return Unexpected{relative.error()};
    vhdx::Plan plan;
    plan.kind = VhdKind::Differencing;
    plan.size_bytes = parent.device->size_bytes();
    plan.block_bytes = block_bytes;
    plan.logical_sector_bytes = parent.device->logical_sector_bytes();
    plan.physical_sector_bytes = parent.device->physical_sector_bytes();
    plan.parent_linkage = parent.identity.linkage;
    plan.parent_path = *std::move(relative);
    return create_finished(path, checked(path, std::move(plan)));
}

Result<void> create_vhdx(const VhdxOptions& options) {
    if (options.kind != VhdKind::Differencing) return create_finished(options.path, vhdx::plan_new(options));
    const auto parent = open_parent_image(options.parent);
    if (!parent) return Unexpected{parent.error()};
    const u32 block = options.block_bytes != 0 ? options.block_bytes : vhdx::kDefaultDifferencingBlockBytes;
    return create_vhdx_overlay(options.path, *parent, block);
}

}  // namespace vg::devices
