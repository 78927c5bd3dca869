// The file of a recording: what entered a machine from outside, with what is needed to build the machine again.
//
// A header, then chunks to the end of the file. A recorder that is killed leaves a file that ends in the middle of a
// chunk or without an End chunk: everything up to there is good.
#pragma once

#include "base/types.h"

namespace vg::machine::recording_format {

/// All numbers are little endian.
struct Header {
    char magic[8];
    u32 version;
    u32 reserved;
};
static_assert(sizeof(Header) == 16);
inline constexpr char kMagic[8] = {'V', 'G', 'R', 'E', 'C', '\r', '\n', '\x1a'};
inline constexpr u32 kVersion = 1;

enum class ChunkType : u32 {
    Meta = 1,  ///< JSON: {"version", "config", "files": [{"key", "path", "size", "modified", "embedded"}]}; the first,
               ///< once
    File = 2,  ///< u32 index into `files`, then the next bytes of its content
    Journal = 3,  ///< entries, see below
    End = 4       ///< JSON: {"time", "instructions", "in_round", "hash", "code", "text"}; the last, once
};

struct ChunkHeader {
    ChunkType type;
    u32 stored_size;  ///< bytes that follow this header: zstd
    u32 raw_size;     ///< bytes that they become
    u32 reserved;
    u64 checksum;  ///< XXH3 of type, stored_size and raw_size, then of the stored bytes
};
static_assert(sizeof(ChunkHeader) == 24);
inline constexpr u32 kMaxChunkBytes = 4u << 20;         ///< raw
inline constexpr u64 kMaxEmbeddedBytes = u64{1} << 30;  ///< of all files together

/// A journal entry begins with its kind and the virtual time since the one before (LEB128). Then
///   Console, Frame, Command, Socket   target, size (LEB128), the bytes
///   Mark             instructions (LEB128), number of parts (LEB128), u32 of each part's hash; a last one of memory if
///   `Full` Parts            the names of the parts of the marks that follow: number, then size and bytes of each
///   (LEB128)
enum class EntryKind : u8 { Console = 1, Frame = 2, Mark = 3, FullMark = 4, Parts = 5, Command = 6, Socket = 7 };
inline constexpr u32 kMaxParts = 256;
inline constexpr u32 kMaxInputBytes = 1u << 20;

}  // namespace vg::machine::recording_format
