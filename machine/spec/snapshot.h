// The file of a snapshot: one machine at one instant.
//
// A header, chunks, and at the end an index of them. It is written whole or not at all, and never changed afterwards.
#pragma once

#include "base/types.h"

namespace vg::machine::snapshot_format {

/// All numbers are little endian.
struct Header {
    char magic[8];
    u32 version;
    u32 chunk_count;
    u64 index_offset;    ///< of chunk_count entries, which end the file
    u64 index_checksum;  ///< XXH3 of the entries
    u64 checksum;        ///< XXH3 of the fields before
};
static_assert(sizeof(Header) == 40);
inline constexpr char kMagic[8] = {'V', 'G', 'S', 'N', 'A', 'P', '\n', '\x1a'};
inline constexpr u32 kVersion = 1;

enum class ChunkType : u32 {
    Meta = 1,    ///< JSON, see docs/snapshot-format.md; once
    Config = 2,  ///< the effective configuration, TOML; once
    State = 3,   ///< the next bytes of the field tree; `place` counts them from 0
    Memory = 4,  ///< RAM from the system-physical address `place` on; what no chunk has is zero
    Disk = 5     ///< of disk `number`, from byte `place` on: what its file on the host does not have
};

struct Entry {
    ChunkType type;
    u32 number;  ///< Disk: which one; otherwise 0
    u64 place;
    u64 offset;       ///< in the file
    u32 stored_size;  ///< bytes there: a zstd frame
    u32 raw_size;     ///< bytes that they become
    u64 checksum;     ///< XXH3 of the stored bytes
};
static_assert(sizeof(Entry) == 40);
inline constexpr u32 kMaxChunkBytes = 1u << 20;  ///< raw
inline constexpr u64 kMaxStateBytes = u64{256} << 20;

/// The field tree is a list of items: one byte what it is, the name's length (one byte) and the name (not for Leave),
/// then what the item has. Sizes and values are LEB128.
enum class Item : u8 {
    Enter = 1,
    Leave = 2,
    Number = 3,  ///< u8: size in bytes in the low four bits, how it is shown in the high ones; its value
    Bytes = 4,   ///< size, the bytes
    Text = 5,    ///< size, the bytes
    Note = 6     ///< the same, for people only: no state
};
inline constexpr u32 kMaxDepth = 64;

}  // namespace vg::machine::snapshot_format
