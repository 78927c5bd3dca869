// The file of an instruction trace: docs/trace-format.md says what the numbers mean, this is where they are written
// down.
//
// recording_format's headers of file and chunk; then chunks to the end. Each Code chunk can be read by itself. A tracer
// that is killed leaves a file without Symbols, Index and Tail: everything up to its last whole chunk is good.
#pragma once

#include "base/types.h"

namespace vg::machine::trace_format {

inline constexpr char kMagic[8] = {'V', 'G', 'T', 'R', 'A', '\r', '\n', '\x1a'};
inline constexpr u32 kVersion = 1;
inline constexpr u32 kMostChunkBytes = 32u << 20;

enum class ChunkType : u32 {
    Meta = 1,     ///< JSON: {"version", "detail", "events"}; the first, once
    Code = 2,     ///< what was executed, see below
    Symbols = 3,  ///< names of functions that were executed
    Index = 4     ///< where the Code chunks are; behind them, once
};

/// The file's last bytes, once it is whole.
struct Tail {
    u64 index_offset;  ///< of the Index chunk's header
    char magic[8];
};
static_assert(sizeof(Tail) == 16);
inline constexpr char kTailMagic[8] = {'V', 'G', 'T', 'R', 'A', 'E', 'N', 'D'};

/// A Code chunk: LEB128 numbers `first instruction`, `instructions`, `first time`, `last time`, then the sizes of the
/// streams in this order, then the streams.
enum class Stream : u8 { Places, Flow, Hits, Addresses, Counts, Marks, Values, Count };
inline constexpr unsigned kStreams = static_cast<unsigned>(Stream::Count);

/// Bytes of Flow. Below kRun: so many executions and one more were what came last time behind the one before them.
namespace flow {
inline constexpr u8 kRun = 0x80;
inline constexpr u8 kSecond = 0x80, kThird = 0x81;  ///< what came the time before, and the time before that
inline constexpr u8 kWhole = 0x82;                  ///< LEB128 number of the place: all of it
inline constexpr u8 kPart = 0x83;                   ///< the same, then `from` and `to`
inline constexpr u8 kNewWhole = 0x84;               ///< the next place of Places
inline constexpr u8 kNewPart = 0x85;                ///< `from`, `to`
inline constexpr u8 kMark = 0x86;                   ///< the next mark of Marks
inline constexpr u8 kEnd = 0x87;
}  // namespace flow

/// Bytes of Hits. Below kRun: so many addresses and one more were where their places' favourite predictor said.
namespace hit {
inline constexpr u8 kRun = 0x80;
inline constexpr u8 kPredictor = 0x80;                   ///< and the number of the predictor that was right
inline constexpr u8 kFromBase = 0x84, kFromLast = 0x85;  ///< zigzag distance from a prediction, in Addresses
}  // namespace hit
inline constexpr unsigned kPredictors = 3;  ///< base and distance; last and stride; what followed the last value
inline constexpr u32 kHistory = 1u << 14;   ///< entries of the third

/// A mark's first byte.
enum class Mark : u8 {
    Position = 1,   ///< partition, VP, instruction (since the chunk's first), time (since the chunk's first)
    Context = 2,    ///< of this VP: cr3, base of CS, CPL, code size, levels
    Event = 3,      ///< see docs
    Registers = 4,  ///< of this VP: what changed between two instructions
};

inline constexpr u32 kMostInsns = 64;      ///< of a place
inline constexpr u32 kMostAccesses = 160;  ///< of a place
inline constexpr u32 kMostPlaces = 1u << 20;
inline constexpr u32 kMostVps = 4096;
inline constexpr u32 kMostCalls = 256;           ///< remembered of a VP
inline constexpr u32 kMostPayload = 4096;        ///< of an event
inline constexpr u32 kMostRepeatedBytes = 4096;  ///< of values that a repeated string instruction touched

/// Bits of what a Registers mark, or an instruction with registers, says has changed.
inline constexpr unsigned kFlagsRegister = 16, kFsBase = 17, kGsBase = 18, kRegisters = 19;

/// When a chunk ends: as many bytes before compression, or instructions.
inline constexpr u32 kChunkBytes = 3u << 20, kChunkInstructions = 8u << 20;

}  // namespace vg::machine::trace_format
