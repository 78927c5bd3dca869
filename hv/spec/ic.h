// Integration components: messages inside VMBus packets. Rows D-07..D-11, D-100..D-108.
#pragma once

#include "base/types.h"
#include "hv/spec/vmbus.h"

namespace vg::hv::ic {

/// Type of an IC message (D-101..D-108). Values from a guest are checked before use.
enum class MessageType : u16 { Negotiate = 0, Heartbeat = 1, Kvp = 2, Shutdown = 3, TimeSync = 4, Vss = 5 };

// IcHeader::flags
inline constexpr u8 kFlagTransaction = 1;
inline constexpr u8 kFlagRequest = 2;
inline constexpr u8 kFlagResponse = 4;

// IcHeader::status (D-103)
inline constexpr u32 kStatusOk = 0;
inline constexpr u32 kStatusFail = 0x8000'4005;
inline constexpr u32 kStatusNoMoreItems = 0x8007'0103;

inline constexpr u32 kKeyBytes = 512, kValueBytes = 2048;  ///< of a key and a value, UTF-16 with its end (D-107)
inline constexpr u32 kPools = 5;                           ///< external, guest, auto, auto external, auto internal

#pragma pack(push, 1)

struct Version {
    u16 major, minor;
    bool operator==(const Version&) const = default;
};

struct IcHeader {
    Version framework;
    u16 type;
    Version message;
    u16 size;  ///< of what follows
    u32 status;
    u8 transaction;
    u8 flags;
    u16 reserved;
};
static_assert(sizeof(IcHeader) == 20);

inline constexpr u32 kHeaderBytes = sizeof(vmbus::PipeHeader) + sizeof(IcHeader);

/// Versions follow: frameworks first, then messages (D-101).
struct Negotiate {
    u16 framework_count;
    u16 message_count;
    u32 reserved;
};

struct Shutdown {
    u32 reason;
    u32 timeout_s;
    u32 flags;
    u8 text[2048];
};
static_assert(sizeof(Shutdown) == 2060);
inline constexpr u32 kShutdownForce = 1, kShutdownRestart = 2, kShutdownHibernate = 4;

struct Heartbeat {
    u64 sequence;
    u32 reserved[8];
};
static_assert(sizeof(Heartbeat) == 40);

/// Up to message version 3.0.
struct TimeSync {
    u64 host_time_100ns;  ///< since 1601-01-01 UTC
    u64 guest_time_100ns;
    u64 round_trip_100ns;
    u8 flags;
};
static_assert(sizeof(TimeSync) == 25);

/// From 4.0 on.
struct TimeSync4 {
    u64 host_time_100ns;
    u64 reference_time;  ///< the guest's reference counter when the host's time was taken
    u8 flags;
    u8 leap;
    u8 stratum;
    u8 reserved[3];
};
static_assert(sizeof(TimeSync4) == 22);
inline constexpr u8 kTimeSync = 1;                                ///< set the clock
inline constexpr u8 kTimeSample = 2;                              ///< a sample to discipline it with
inline constexpr u64 kUnixEpoch_100ns = 116'444'736'000'000'000;  ///< 1970 in 100 ns since 1601

enum class KvpOperation : u8 { Get = 0, Set = 1, Delete = 2, Enumerate = 3, GetIp = 4, SetIp = 5 };
inline constexpr u32 kRegSz = 1, kRegU32 = 4, kRegU64 = 8;  ///< value types

struct KvpHeader {
    u8 operation;
    u8 pool;
    u16 reserved;
};

struct KvpValue {
    u32 type;
    u32 key_bytes;
    u32 value_bytes;
    u8 key[kKeyBytes];
    u8 value[kValueBytes];
};
static_assert(sizeof(KvpValue) == 2572);

struct KvpExchange {  ///< get and set
    KvpHeader header;
    KvpValue data;
};
struct KvpEnumerate {
    KvpHeader header;
    u32 index;
    KvpValue data;
};
struct KvpDelete {
    KvpHeader header;
    u32 key_bytes;
    u8 key[kKeyBytes];
};

/// Lists of addresses are UTF-16, separated by semicolons.
struct KvpIp {
    u8 operation;
    u8 pool;
    u8 adapter[256];  ///< get: hardware address; set: the adapter's instance GUID
    u8 family;        ///< kFamily...
    u8 dhcp;
    u8 addresses[2048];
    u8 subnets[2048];
    u8 gateways[1024];
    u8 name_servers[2048];
};
static_assert(sizeof(KvpIp) == 7428);
inline constexpr u32 kKvpBytes = 7432;  ///< every message is as long as the longest
inline constexpr u8 kFamilyIpv4 = 1, kFamilyIpv6 = 2;

enum class VssOperation : u8 {
    Create = 0,
    Delete = 1,
    HotBackup = 2,
    GetDmInfo = 3,
    Complete = 4,
    Freeze = 5,
    Thaw = 6,
    AutoRecover = 7
};
struct Vss {
    u8 operation;
    u8 reserved[7];
    u32 flags;
};
static_assert(sizeof(Vss) == 12);

#pragma pack(pop)

}  // namespace vg::hv::ic
