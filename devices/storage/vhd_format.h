// Layout of VHD files: "Virtual Hard Disk Image Format Specification", version 1.0, October 11, 2006 (Microsoft).
// All numbers in a file are big-endian. Sections are quoted by title.
//
// A file of kind Dynamic or Differencing is, in any order after the header:
//   byte 0      copy of the footer
//   data_offset dynamic disk header (1024 bytes)
//   ...         block allocation table, parent locator data, blocks (sector bitmap, then data)
//   end - 512   footer
// A Fixed file is the disk's bytes followed by the footer.
//
// Overlays on raw images are our own use of the format, and only we open them: the parent name and locator name the
// raw file, the parent time stamp is 0, and the parent unique id is the raw image's identity (see `raw_identity`).
#pragma once

#include <array>
#include <cstring>
#include <span>

#include "base/bits.h"
#include "base/types.h"

namespace vg::devices::vhd {

inline constexpr u64 kSector = 512;
inline constexpr u64 kFooterBytes = 512;
inline constexpr u64 kHeaderBytes = 1024;
inline constexpr u64 kNoOffset = ~u64{0};        ///< data offset of a fixed disk, and of a header without a successor
inline constexpr u32 kUnallocated = 0xffffffff;  ///< table entry of a block that the file does not hold
inline constexpr u32 kVersion = 0x00010000;
inline constexpr u32 kDefaultBlockBytes = 2 * 1024 * 1024;
inline constexpr u32 kMaxBlockBytes = 256 * 1024 * 1024;  ///< our limit
inline constexpr u32 kMaxBlocks = 1u << 22;               ///< our limit: 2040 GiB in blocks of 512 KiB
inline constexpr u64 kMaxDiskBytes = u64{2040} << 30;     ///< "Hard Disk Footer Format", as enforced by Windows
inline constexpr u32 kReservedFeature = 2;                ///< "this bit must always be set to 1"
/// Creator version of files that we write. Their creator application is "win ", by which other programs know that the
/// current size counts and not the geometry.
inline constexpr u32 kCreatorVersion = 0x56470001;
inline constexpr u32 kMaxLocatorBytes = 16 * 1024;  ///< our limit for one parent path
inline constexpr unsigned kLocatorCount = 8;
inline constexpr u64 kEpochUnixSeconds = 946684800;  ///< time stamps count from 2000-01-01 00:00:00 UTC

using Id = std::array<u8, 16>;
using Text8 = std::array<char, 8>;
using Text4 = std::array<char, 4>;

inline constexpr Text8 kFooterCookie = {'c', 'o', 'n', 'e', 'c', 't', 'i', 'x'};
inline constexpr Text8 kHeaderCookie = {'c', 'x', 's', 'p', 'a', 'r', 's', 'e'};

enum class DiskType : u32 { Fixed = 2, Dynamic = 3, Differencing = 4 };

/// "Parent Locator Entries": how the parent's path is encoded.
enum class Platform : u32 {
    None = 0,
    AnsiRelative = 0x57693272,   // Wi2r, deprecated
    AnsiAbsolute = 0x5769326b,   // Wi2k, deprecated
    Utf16Relative = 0x57327275,  // W2ru, little-endian
    Utf16Absolute = 0x57326b75,  // W2ku, little-endian
};

/// "Hard Disk Footer Format".
struct Footer {
    Text8 cookie = kFooterCookie;
    u32 features = kReservedFeature;
    u32 version = kVersion;
    u64 data_offset = kNoOffset;
    u32 time_stamp = 0;
    Text4 creator_application{};
    u32 creator_version = 0;
    Text4 creator_host{};
    u64 original_size = 0;
    u64 current_size = 0;  ///< bytes of the disk; counts even where the geometry says otherwise
    u16 cylinders = 0;
    u8 heads = 0;
    u8 sectors_per_track = 0;
    DiskType disk_type = DiskType::Fixed;
    u32 checksum = 0;
    Id unique_id{};
    u8 saved_state = 0;
};

/// "Parent Locator Entries".
struct Locator {
    Platform platform = Platform::None;
    u32 data_space = 0;  ///< sectors by the specification, bytes in files by Windows: not relied on
    u32 data_length = 0;
    u64 data_offset = 0;
};

/// "Dynamic Disk Header Format".
struct Header {
    Text8 cookie = kHeaderCookie;
    u64 data_offset = kNoOffset;
    u64 table_offset = 0;
    u32 version = kVersion;
    u32 max_table_entries = 0;
    u32 block_size = 0;  ///< bytes of data per block, without the sector bitmap
    u32 checksum = 0;
    Id parent_id{};
    u32 parent_time_stamp = 0;
    std::array<u16, 256> parent_name{};  ///< UTF-16
    std::array<Locator, kLocatorCount> locators{};
};

/// Byte offsets of the checksums, which they do not cover themselves.
inline constexpr u64 kFooterChecksumOffset = 64;
inline constexpr u64 kHeaderChecksumOffset = 36;

/// Moves fields between a structure and its bytes; `Reading` says which way.
template <bool Reading>
class Codec {
  public:
    using Bytes = std::conditional_t<Reading, std::span<const u8>, std::span<u8>>;
    explicit Codec(Bytes bytes) : bytes_(bytes) {}

    template <class T>
    void number(std::size_t offset, T& field) {
        if constexpr (Reading) {
            u64 value = 0;
            for (std::size_t i = 0; i < sizeof(T); ++i) value = value << 8 | bytes_[offset + i];
            field = static_cast<T>(value);
        } else {
            const u64 value = static_cast<u64>(field);
            for (std::size_t i = 0; i < sizeof(T); ++i) {
                bytes_[offset + i] = static_cast<u8>(value >> ((sizeof(T) - 1 - i) * 8));
            }
        }
    }
    template <class T, std::size_t N>
    void text(std::size_t offset, std::array<T, N>& field) {
        static_assert(sizeof(T) == 1);
        if constexpr (Reading) {
            std::memcpy(field.data(), bytes_.data() + offset, N);
        } else {
            std::memcpy(bytes_.data() + offset, field.data(), N);
        }
    }

  private:
    Bytes bytes_;
};

template <bool Reading>
void layout(Codec<Reading>& c, Footer& f) {
    c.text(0, f.cookie);
    c.number(8, f.features);
    c.number(12, f.version);
    c.number(16, f.data_offset);
    c.number(24, f.time_stamp);
    c.text(28, f.creator_application);
    c.number(32, f.creator_version);
    c.text(36, f.creator_host);
    c.number(40, f.original_size);
    c.number(48, f.current_size);
    c.number(56, f.cylinders);
    c.number(58, f.heads);
    c.number(59, f.sectors_per_track);
    c.number(60, f.disk_type);
    c.number(kFooterChecksumOffset, f.checksum);
    c.text(68, f.unique_id);
    c.number(84, f.saved_state);
}

template <bool Reading>
void layout(Codec<Reading>& c, Header& h) {
    c.text(0, h.cookie);
    c.number(8, h.data_offset);
    c.number(16, h.table_offset);
    c.number(24, h.version);
    c.number(28, h.max_table_entries);
    c.number(32, h.block_size);
    c.number(kHeaderChecksumOffset, h.checksum);
    c.text(40, h.parent_id);
    c.number(56, h.parent_time_stamp);
    for (std::size_t i = 0; i < h.parent_name.size(); ++i) c.number(64 + i * 2, h.parent_name[i]);
    for (std::size_t i = 0; i < h.locators.size(); ++i) {
        const std::size_t at = 576 + i * 24;
        c.number(at, h.locators[i].platform);
        c.number(at + 4, h.locators[i].data_space);
        c.number(at + 8, h.locators[i].data_length);
        c.number(at + 16, h.locators[i].data_offset);
    }
}

/// "Checksum": one's complement of the sum of all bytes, the checksum field left out.
[[nodiscard]] inline u32 checksum(std::span<const u8> bytes, u64 checksum_offset) {
    u32 sum = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i < checksum_offset || i >= checksum_offset + 4) sum += bytes[i];
    }
    return ~sum;
}

template <class T>
[[nodiscard]] T decode(std::span<const u8> bytes) {
    T out;
    Codec<true> codec(bytes);
    layout(codec, out);
    return out;
}
/// Bytes of the structure, its checksum field and its checksum computed.
template <std::size_t Size, class T>
[[nodiscard]] std::array<u8, Size> encode(T value, u64 checksum_offset) {
    std::array<u8, Size> bytes{};
    Codec<false> codec(bytes);
    layout(codec, value);
    u32 sum = checksum(bytes, checksum_offset);
    codec.number(checksum_offset, sum);
    return bytes;
}
[[nodiscard]] inline std::array<u8, kFooterBytes> encode(const Footer& footer) {
    return encode<kFooterBytes>(footer, kFooterChecksumOffset);
}
[[nodiscard]] inline std::array<u8, kHeaderBytes> encode(const Header& header) {
    return encode<kHeaderBytes>(header, kHeaderChecksumOffset);
}

/// "Block Allocation Table and Data Blocks": bytes of one block's sector bitmap, "padded to a 512-byte sector
/// boundary".
[[nodiscard]] constexpr u64 bitmap_bytes(u32 block_size) { return align_up((block_size / kSector + 7) / 8, kSector); }
/// Bytes of a table of `entries` entries, "always extended to a sector boundary".
[[nodiscard]] constexpr u64 table_bytes(u64 entries) { return align_up(entries * 4, kSector); }

/// Sectors are numbered from the most significant bit of the first byte.
[[nodiscard]] inline bool test_sector(std::span<const u8> bitmap, u64 sector) {
    return (bitmap[sector / 8] >> (7 - sector % 8) & 1) != 0;
}
inline void set_sector(std::span<u8> bitmap, u64 sector) {
    bitmap[sector / 8] = static_cast<u8>(bitmap[sector / 8] | 0x80 >> (sector % 8));
}

}  // namespace vg::devices::vhd
