// Hypercall control and result words, and parameter layouts. Rows H-10..H-18 and K-100..K-110;
// TLFS 6.0b "Hypercall Interface".
#pragma once

#include <cstddef>

#include "base/bits.h"
#include "base/types.h"
#include "hv/spec/status.h"

namespace vg::hv {

/// The control word, taken apart (H-10..H-18).
struct HypercallControl {
    u64 raw = 0;
    [[nodiscard]] constexpr u16 code() const { return static_cast<u16>(raw); }
    [[nodiscard]] constexpr bool fast() const { return bit(raw, 16); }
    [[nodiscard]] constexpr u32 variable_qwords() const { return static_cast<u32>(bits(raw, 26, 17)); }
    [[nodiscard]] constexpr bool nested() const { return bit(raw, 31); }
    [[nodiscard]] constexpr u32 rep_count() const { return static_cast<u32>(bits(raw, 43, 32)); }
    [[nodiscard]] constexpr u32 rep_start() const { return static_cast<u32>(bits(raw, 59, 48)); }
    [[nodiscard]] constexpr bool reserved() const {
        return bits(raw, 30, 27) != 0 || bits(raw, 47, 44) != 0 || bits(raw, 63, 60) != 0;
    }
};

/// The result word: status and the absolute number of completed elements (H-15).
constexpr u64 hypercall_result(HvStatus status, u32 reps_completed) {
    return static_cast<u64>(status) | (u64{reps_completed} << 32);
}

/// A body's answer: the caller waits, and Vp::complete_deferred_call ends the call. Never seen by a guest.
inline constexpr HvStatus kDeferredCall{0xffff};

inline constexpr u32 kFastGprBytes = 16;   ///< RDX, R8 (H-27)
inline constexpr u32 kFastXmmBytes = 112;  ///< with XMM0..XMM5 (H-28)
inline constexpr unsigned kFastXmmCount = 6;

/// No input, or no output.
struct None {};

/// Output whose size the body decides (K-125, K-172). `kLeast` bytes of room are asked for before the call, the rest when
/// it is known: InvalidAlignment if it does not fit the caller's page.
template <u32 kLeast>
struct SizedOutput {
    u32 size = 0;
    u8 bytes[kPageSize] = {};
};

/// Input of a rep call: the fixed header, then a list of elements.
template <class H, class E>
struct RepInput {
    using Header = H;
    using Element = E;
};

struct PostMessageIn {  // K-100
    u32 connection_id, reserved, message_type, payload_size;
    u8 payload[240];
};
static_assert(sizeof(PostMessageIn) == 256);

struct SignalEventIn {  // K-101
    u32 connection_id;
    u16 flag_number, reserved;
};
static_assert(sizeof(SignalEventIn) == 8);

struct NotifyLongSpinWaitIn {  // K-005
    u32 spin_count;
};

struct FlushSpaceIn {  // K-102
    u64 address_space, flags, processor_mask;
};
static_assert(sizeof(FlushSpaceIn) == 24);
using FlushListIn = RepInput<FlushSpaceIn, u64>;  // K-103

struct HeatHintHeader {
    u64 type;
};
using HeatHintIn = RepInput<HeatHintHeader, u64>;  // K-078: the elements are GPA ranges
namespace heat_hint {
inline constexpr u64 kColdDiscard = 2;
/// Of a range.
inline constexpr u64 kAdditionalPages = 0x7ff, kLargePages = 1 << 11, kHugePages = 1 << 12, kLargeReserved = 0x1fe000;
}  // namespace heat_hint
namespace ext_capability {  // K-081
inline constexpr u64 kColdDiscardHint = 1 << 8;
}

struct FlushSpaceExIn {  // K-104: the variable header is the list of banks
    u64 address_space, flags, format, valid_bank_mask;
};
static_assert(sizeof(FlushSpaceExIn) == 32);
using FlushListExIn = RepInput<FlushSpaceExIn, u64>;

struct FlushGuestSpaceIn {  // K-056: the space is an EPT pointer of the caller's
    u64 address_space, flags;
};
static_assert(sizeof(FlushGuestSpaceIn) == 16);
using FlushGuestListIn = RepInput<FlushGuestSpaceIn, u64>;

namespace flush_flag {
inline constexpr u64 kAllProcessors = 1, kAllSpaces = 2, kNonGlobalOnly = 4, kExtendedRanges = 8;
}

struct SendIpiIn {  // K-105
    u32 vector;
    u8 target_vtl, reserved[3];
    u64 processor_mask;
};
static_assert(sizeof(SendIpiIn) == 16);

struct SendIpiExIn {  // K-106: the variable header is the list of banks
    u32 vector;
    u8 target_vtl, reserved[3];
    u64 format, valid_bank_mask;
};
static_assert(sizeof(SendIpiExIn) == 24);

/// Generic VP set formats (K-104).
inline constexpr u64 kVpSetSparse4k = 0, kVpSetAll = 1;

}  // namespace vg::hv
