// Ports, connections, doorbells and their event ring. Rows K-160..K-166, S-30..S-33; TLFS 6.0b "Inter-Partition
// Communication".
#pragma once

#include "base/types.h"
#include "hv/spec/partition.h"
#include "hv/spec/synic.h"

namespace vg::hv {

enum class PortType : u32 { Message = 1, Event = 2, Monitor = 3, Doorbell = 4 };
inline constexpr u32 kPortIdMask = 0xffffff;

/// What a port delivers to, by type: message and doorbell use the first two fields only.
struct PortTarget {
    u32 sint, vp_index;
    u16 base_flag, flag_count;
    u32 pad;
};
static_assert(sizeof(PortTarget) == 16);

struct CreatePortIn {  // K-160
    u64 port_partition;
    u32 port_id;
    u8 port_vtl, min_connection_vtl;
    u16 pad0;
    u64 connection_partition;
    u32 type, pad1;
    PortTarget target;
    ProximityInfo proximity;
};
static_assert(sizeof(CreatePortIn) == 56);

struct DoorbellTrigger {
    u64 gpa, value, flags;
};
namespace doorbell_flag {
inline constexpr u64 kSizeMask = 7, kAnyValue = u64{1} << 31;
}

struct ConnectPortIn {  // K-161
    u64 connection_partition;
    u32 connection_id;
    u8 connection_vtl, pad0[3];
    u64 port_partition;
    u32 port_id, reserved;
    u32 type, pad1;
    DoorbellTrigger doorbell;
    ProximityInfo proximity;
};
static_assert(sizeof(ConnectPortIn) == 72);

struct DeletePortIn {  // K-162
    u64 port_partition;
    u32 port_id, reserved;
};
static_assert(sizeof(DeletePortIn) == 16);

struct DisconnectPortIn {  // K-163
    u64 connection_partition;
    u32 connection_id, is_doorbell;
};
static_assert(sizeof(DisconnectPortIn) == 16);

struct NotifyRingEmptyIn {  // K-164
    u32 sint;
};

struct SignalEventDirectIn {  // K-165; output: u8, non-zero if the flag was clear
    u64 partition_id;
    u32 vp_index;
    u8 vtl, sint;
    u16 flag;
};
static_assert(sizeof(SignalEventDirectIn) == 16);

#pragma pack(push, 4)
struct PostMessageDirectIn {  // K-166
    u64 partition_id;
    u32 vp_index;
    u8 vtl, pad0[3];
    u32 sint;
    u8 message[256];
    u32 pad1;
};
#pragma pack(pop)
static_assert(sizeof(PostMessageDirectIn) == 280);

/// One SINT's event ring in the SIRBP page (S-30).
struct EventRing {
    u8 signal_masked, ring_full;
    u16 reserved;
    u32 data[63];
};
static_assert(sizeof(EventRing) == 256);
inline constexpr u32 kEventRingSlots = 63;

}  // namespace vg::hv
