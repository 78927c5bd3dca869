// SynIC pages, SINT and STIMER registers, reference TSC page. Rows S-01..S-10, S-50, S-53, S-80..S-92, M-15..M-23;
// TLFS 6.0b "Virtual Interrupts", "Inter-Partition Communication", "Timers".
#pragma once

#include "base/bits.h"
#include "base/types.h"

namespace vg::hv {

inline constexpr unsigned kSintCount = 16, kStimerCount = 4;
inline constexpr u32 kMessageSlotSize = 256, kMessagePayloadMax = 240;
inline constexpr u32 kEventFlagsPerSint = 2048, kEventFlagBytesPerSint = 256;
inline constexpr u8 kFirstLegalVector = 16;

/// Front of a message slot (S-01); the payload follows.
struct MessageHeader {
    u32 type;
    u8 payload_size, flags;
    u16 reserved;
    u64 origin;
};
static_assert(sizeof(MessageHeader) == 16);
inline constexpr u8 kMessagePending = 1;

inline constexpr u32 kMessageTypeNone = 0, kMessageTypeTimerExpired = 0x80000010;
inline constexpr u32 kMessageTypeHypervisor = u32{1} << 31;  ///< types a guest may not post (K-100)

struct TimerMessage {  // S-53
    u32 timer_index, reserved;
    u64 expiration_time, delivery_time;
};
static_assert(sizeof(TimerMessage) == 24);

/// VP assist page, word 0: the guest need not write EOI (S-100).
inline constexpr u32 kNoEoiRequired = 1;

namespace sint {
inline constexpr u64 kMasked = 1 << 16, kAutoEoi = 1 << 17, kPolling = 1 << 18, kAsIntercept = 1 << 19, kProxy = 1 << 20;
inline constexpr u64 kReset = kMasked;
constexpr u8 vector(u64 value) { return static_cast<u8>(value); }
}  // namespace sint

inline constexpr u64 kScontrolEnable = 1;
inline constexpr u64 kSynicVersion = 1;

namespace stimer {
inline constexpr u64 kEnable = 1, kPeriodic = 2, kLazy = 4, kAutoEnable = 8, kDirect = 1 << 12;
inline constexpr u64 kReserved = ~u64{0xf1fff};  ///< [15:13] and above SINTx
constexpr u8 vector(u64 config) { return static_cast<u8>(bits(config, 11, 4)); }
constexpr u8 sintx(u64 config) { return static_cast<u8>(bits(config, 19, 16)); }
}  // namespace stimer

struct ReferenceTscPage {  // S-90
    u32 sequence, reserved;
    u64 scale;
    s64 offset;
};
static_assert(sizeof(ReferenceTscPage) == 24);
inline constexpr u64 kReferenceHz = 10'000'000;  ///< 100 ns units
/// Sequence values with a meaning of their own (S-92).
inline constexpr u32 kTscSequenceInvalid = 0, kTscSequenceLegacyInvalid = 0xffffffff;

}  // namespace vg::hv
