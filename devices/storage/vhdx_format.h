// Layout of VHDX files: [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format", protocol revision 8.0. All numbers are
// little-endian, checksums are CRC-32C with their own field as zero. Sections are quoted by title.
//
//   byte 0        file type identifier
//   64, 128 KiB   header, twice: the valid one with the higher sequence number counts
//   192, 256 KiB  region table, twice
//   1 MiB ...     log, metadata region, block allocation table, blocks, in any order, each at a multiple of 1 MiB
//
// Overlays on images of other formats are our own use of the format, and only we open them: the parent linkage is
// then made from what identifies that image (`vhd::linkage_of`).
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bits.h"
#include "base/types.h"

namespace vg::devices::vhdx {

static_assert(std::endian::native == std::endian::little, "structures are copied as they are");

/// A GUID as it lies in the file.
using Guid = std::array<u8, 16>;

/// A GUID from its usual text, "2dc27766-f623-...", which groups the first fields as numbers.
[[nodiscard]] constexpr Guid guid(std::string_view text) {
    constexpr std::array<std::size_t, 16> kPlace = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    Guid out{};
    std::size_t nibbles = 0;
    for (const char c : text) {
        if (c == '-') continue;
        const unsigned value = c <= '9' ? static_cast<unsigned>(c - '0') : static_cast<unsigned>(c - 'a') + 10;
        u8& byte = out[kPlace[nibbles / 2]];
        byte = static_cast<u8>(byte << 4 | value);
        ++nibbles;
    }
    return out;
}

inline constexpr u64 kMiB = u64{1} << 20;
inline constexpr u64 kPage = 4096;  ///< unit of logged updates
inline constexpr u64 kHeaderOffsets[2] = {64 * 1024, 128 * 1024};
inline constexpr u64 kHeaderBytes = 4096;
inline constexpr u64 kRegionOffsets[2] = {192 * 1024, 256 * 1024};
inline constexpr u64 kTableBytes = 64 * 1024;  ///< of a region table and of the metadata table
inline constexpr u64 kFirstRegion = kMiB;
inline constexpr u32 kMaxTableEntries = 2047;
inline constexpr u64 kMaxDiskBytes = u64{64} << 40;
inline constexpr u32 kMinBlockBytes = 1u << 20, kMaxBlockBytes = 256u << 20;
inline constexpr u64 kChunkSectors = u64{1} << 23;  ///< sectors that one sector bitmap block describes
inline constexpr u64 kBitmapBlockBytes = kMiB;
/// Our limits for what a file may ask of this program.
inline constexpr u32 kMaxLogBytes = 64u << 20;
inline constexpr u64 kMaxFileBytes = u64{96} << 40;  ///< 64 TiB of data, its tables and space
inline constexpr u32 kMaxLocatorBytes = 64 * 1024;

inline constexpr std::array<char, 8> kFileSignature = {'v', 'h', 'd', 'x', 'f', 'i', 'l', 'e'};
inline constexpr std::array<char, 8> kMetadataSignature = {'m', 'e', 't', 'a', 'd', 'a', 't', 'a'};
inline constexpr u32 kHeaderSignature = 0x64616568;      // "head"
inline constexpr u32 kRegionSignature = 0x69676572;      // "regi"
inline constexpr u32 kLogSignature = 0x65676f6c;         // "loge"
inline constexpr u32 kDescriptorSignature = 0x63736564;  // "desc"
inline constexpr u32 kZeroSignature = 0x6f72657a;        // "zero"
inline constexpr u32 kDataSignature = 0x61746164;        // "data"

inline constexpr Guid kBatRegion = guid("2dc27766-f623-4200-9d64-115e9bfd4a08");
inline constexpr Guid kMetadataRegion = guid("8b7ca206-4790-4b9a-b8fe-575f050f886e");
inline constexpr Guid kFileParameters = guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
inline constexpr Guid kVirtualDiskSize = guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
inline constexpr Guid kVirtualDiskId = guid("beca12ab-b2e6-4523-93ef-c309e000c746");
inline constexpr Guid kLogicalSectorSize = guid("8141bf1d-a96f-4709-ba47-f233a8faab5f");
inline constexpr Guid kPhysicalSectorSize = guid("cda348c7-445d-4471-9cc9-e9885251c556");
inline constexpr Guid kParentLocator = guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");
inline constexpr Guid kVhdxParent = guid("b04aefb7-d19e-4a81-b789-25b8e9445913");

/// "Headers".
struct Header {
    u32 signature = kHeaderSignature;
    u32 checksum = 0;
    u64 sequence_number = 0;
    Guid file_write_guid{};
    Guid data_write_guid{};
    Guid log_guid{};  ///< zero: the log is empty
    u16 log_version = 0;
    u16 version = 1;
    u32 log_length = 0;
    u64 log_offset = 0;
};
static_assert(sizeof(Header) == 80);

/// "Region Table".
struct RegionTable {
    u32 signature = kRegionSignature;
    u32 checksum = 0;
    u32 entry_count = 0;
    u32 reserved = 0;
};
static_assert(sizeof(RegionTable) == 16);
struct RegionEntry {
    Guid guid{};
    u64 file_offset = 0;
    u32 length = 0;
    u32 required = 0;  ///< bit 0
};
static_assert(sizeof(RegionEntry) == 32);

/// "Metadata Table".
struct MetadataTable {
    std::array<char, 8> signature = kMetadataSignature;
    u16 reserved = 0;
    u16 entry_count = 0;
    std::array<u32, 5> reserved2{};
};
static_assert(sizeof(MetadataTable) == 32);
struct MetadataEntry {
    static constexpr u32 kUser = 1, kVirtualDisk = 2, kRequired = 4;
    Guid item{};
    u32 offset = 0;  ///< from the region's start
    u32 length = 0;
    u32 flags = 0;
    u32 reserved = 0;
};
static_assert(sizeof(MetadataEntry) == 32);

/// "File Parameters".
struct FileParameters {
    static constexpr u32 kLeaveBlocksAllocated = 1, kHasParent = 2;
    u32 block_size = 0;
    u32 flags = 0;
};
static_assert(sizeof(FileParameters) == 8);

/// "Parent Locator": keys and values are UTF-16, offsets from the item's start.
struct LocatorHeader {
    Guid type = kVhdxParent;
    u16 reserved = 0;
    u16 count = 0;
};
static_assert(sizeof(LocatorHeader) == 20);
struct LocatorEntry {
    u32 key_offset = 0, value_offset = 0;
    u16 key_length = 0, value_length = 0;
};
static_assert(sizeof(LocatorEntry) == 12);

/// "Log Entry": this, its descriptors, then its data sectors, in whole pages.
struct LogEntryHeader {
    u32 signature = kLogSignature;
    u32 checksum = 0;  ///< of the whole entry
    u32 entry_length = 0;
    u32 tail = 0;  ///< where in the log the oldest entry lies that is still needed
    u64 sequence_number = 0;
    u32 descriptor_count = 0;
    u32 reserved = 0;
    Guid log_guid{};
    u64 flushed_file_offset = 0;  ///< size of the file that is durable
    u64 last_file_offset = 0;     ///< size that holds everything allocated
};
static_assert(sizeof(LogEntryHeader) == 64);
/// "Data Descriptor" and "Zero Descriptor".
struct Descriptor {
    u32 signature = kDescriptorSignature;
    u32 trailing = 0;           ///< data: the page's last 4 bytes
    u64 leading_or_length = 0;  ///< data: the page's first 8 bytes; zero: how many bytes
    u64 file_offset = 0;
    u64 sequence_number = 0;
};
static_assert(sizeof(Descriptor) == 32);
/// "Data Sector": a page whose ends are in the descriptor.
struct DataSector {
    u32 signature = kDataSignature;
    u32 sequence_high = 0;
    std::array<u8, 4084> data{};
    u32 sequence_low = 0;
};
static_assert(sizeof(DataSector) == kPage);

/// "BAT": state and place of a block.
enum class BlockState : u8 {
    NotPresent = 0,
    Undefined = 1,
    Zero = 2,
    Unmapped = 3,
    FullyPresent = 6,
    PartiallyPresent = 7
};
struct BatEntry {
    u64 raw = 0;
    [[nodiscard]] BlockState state() const { return static_cast<BlockState>(bits(raw, 2, 0)); }
    [[nodiscard]] u64 offset() const { return bits(raw, 63, 20) * kMiB; }
    [[nodiscard]] bool holds_data() const { return bits(raw, 2, 0) >= 6; }
    [[nodiscard]] static BatEntry make(BlockState state, u64 offset) {
        return {static_cast<u64>(state) | align_down(offset, kMiB)};
    }
};

/// How a disk's blocks and sector bitmaps lie in its table.
struct BatShape {
    u64 disk_bytes = 0;
    u32 block_bytes = 0;
    u32 sector_bytes = 512;
    bool has_parent = false;

    /// "Chunk ratio": payload blocks that one sector bitmap block describes.
    [[nodiscard]] u64 chunk_ratio() const { return kChunkSectors * sector_bytes / block_bytes; }
    [[nodiscard]] u64 blocks() const { return (disk_bytes + block_bytes - 1) / block_bytes; }
    [[nodiscard]] u64 chunks() const { return (blocks() + chunk_ratio() - 1) / chunk_ratio(); }
    [[nodiscard]] u64 entries() const {
        return has_parent ? chunks() * (chunk_ratio() + 1) : blocks() + (blocks() - 1) / chunk_ratio();
    }
    [[nodiscard]] u64 entry_of_block(u64 block) const { return block + block / chunk_ratio(); }
    [[nodiscard]] u64 entry_of_bitmap(u64 chunk) const { return chunk * (chunk_ratio() + 1) + chunk_ratio(); }
    /// Whether table entry `index` belongs to a sector bitmap.
    [[nodiscard]] bool is_bitmap(u64 index) const { return index % (chunk_ratio() + 1) == chunk_ratio(); }
};

/// CRC-32C (Castagnoli) of `bytes`, continuing from `crc`, the value of what came before.
[[nodiscard]] u32 crc32c(std::span<const u8> bytes, u32 crc = 0);
/// As crc32c, with the 4 bytes at `field` taken as zero.
[[nodiscard]] u32 checksum(std::span<const u8> bytes, std::size_t field);

/// "{83ed9ffa-83f8-4f44-9ef5-2ab2d4b1e0f5}".
[[nodiscard]] std::string to_string(const Guid& guid);
/// The reverse, in any case; nothing for other text.
[[nodiscard]] std::optional<Guid> parse_guid(std::string_view text);
[[nodiscard]] Guid random_guid();

/// The structure at `offset`, which lies inside `bytes`.
template <class T>
[[nodiscard]] T load(std::span<const u8> bytes, std::size_t offset = 0) {
    T out;
    std::memcpy(&out, bytes.subspan(offset, sizeof(T)).data(), sizeof(T));
    return out;
}
template <class T>
void store(std::span<u8> bytes, std::size_t offset, const T& value) {
    std::memcpy(bytes.subspan(offset, sizeof(T)).data(), &value, sizeof(T));
}

}  // namespace vg::devices::vhdx
