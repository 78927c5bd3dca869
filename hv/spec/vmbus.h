// VMBus layouts: channel messages, ring buffers, packets. Rows V-01..V-81.
#pragma once

#include "base/types.h"
#include "hv/spec/guid.h"

namespace vg::hv::vmbus {

// ---- versions (V-10..V-19)

constexpr u32 version(u16 major, u16 minor) { return u32{major} << 16 | minor; }

inline constexpr u32 kVersion0_13 = version(0, 13);
inline constexpr u32 kVersion1_1 = version(1, 1);
inline constexpr u32 kVersion2_4 = version(2, 4);
inline constexpr u32 kVersion3_0 = version(3, 0);
inline constexpr u32 kVersion4_0 = version(4, 0);
inline constexpr u32 kVersion4_1 = version(4, 1);
inline constexpr u32 kVersion5_0 = version(5, 0);
inline constexpr u32 kVersion5_1 = version(5, 1);
inline constexpr u32 kVersion5_2 = version(5, 2);
inline constexpr u32 kVersion5_3 = version(5, 3);
inline constexpr u32 kVersion6_0 = version(6, 0);

inline constexpr u32 kKnownVersions[] = {kVersion6_0, kVersion5_3, kVersion5_2, kVersion5_1, kVersion5_0, kVersion4_1,
                                         kVersion4_0, kVersion3_0, kVersion2_4, kVersion1_1, kVersion0_13};

// ---- transport (V-01, V-02, S-40)

inline constexpr u32 kMessageTypeChannel = 1;        ///< SynIC message type of every channel message
inline constexpr u32 kMaxMessageSize = 240;          ///< header and body
inline constexpr u32 kMessageConnectionLegacy = 1;   ///< below 5.0
inline constexpr u32 kMessageConnectionContact = 4;  ///< INITIATE_CONTACT from 5.0 on
inline constexpr u32 kSharedEventConnection = 2;     ///< below 2.4: one event for all channels (S-41)
inline constexpr u8 kDefaultSint = 2;
inline constexpr u16 kMaxRelid = 2047;     ///< one event flag each (S-06)
inline constexpr u32 kNoVp = 0xffff'ffff;  ///< target VP that means "no interrupts" (V-61)

/// The event connection of a channel: any id that does not collide; this is the customary form (S-40).
constexpr u32 event_connection(u16 relid) { return u32{kDefaultSint} << 12 | relid; }

// ---- offer flags (D-18)

inline constexpr u16 kOfferEnumerate = 1;  ///< enumerate the interface
inline constexpr u16 kOfferNamedPipe = 0x10;  ///< user data begins with the pipe's mode; other flags need what is not offered here
inline constexpr u32 kPipeMessageMode = 4;

/// In front of a message of integration components, mouse, video and sockets (D-83, D-90, D-100, D-115).
struct PipeHeader {
    u32 type;  ///< kPipeData
    u32 size;  ///< of what follows
};
static_assert(sizeof(PipeHeader) == 8);
inline constexpr u32 kPipeData = 1;

// ---- feature flags of 6.0 (V-21)

inline constexpr u32 kFeatureGuestSignalParameters = 1;
inline constexpr u32 kKnownFeatures = 0xff;

// ---- status values in answers

inline constexpr u32 kStatusSuccess = 0;
inline constexpr u32 kStatusUnsuccessful = 0xC000'0001;
inline constexpr u32 kStatusUnexpected = 0x8000'FFFF;         ///< GPADL_CREATED failed (V-39)
inline constexpr u32 kStatusConnectionRefused = 0xC000'0236;  ///< TL_CONNECT_RESULT (V-48)

// ---- messages (V-06, V-30..V-49): whole messages, header included

#pragma pack(push, 1)

struct MessageHeader {
    u32 type;
    u32 padding;
};

struct OfferChannel {
    MessageHeader header;
    Guid type;
    Guid instance;
    u8 reserved[16];
    u16 flags;
    u16 mmio_megabytes;
    u8 user_data[120];
    u16 sub_channel_index;
    u16 mmio_megabytes_optional;
    u32 relid;
    u8 monitor_id;
    u8 monitor_allocated;
    u16 dedicated_interrupt;
    u32 connection_id;
};
static_assert(sizeof(OfferChannel) == 196);

struct RescindOffer {
    MessageHeader header;
    u32 relid;
};
static_assert(sizeof(RescindOffer) == 12);

struct RequestOffers {
    MessageHeader header;
};
struct AllOffersDelivered {
    MessageHeader header;
};

struct OpenChannel {
    MessageHeader header;
    u32 relid;
    u32 open_id;
    u32 ring_gpadl;
    u32 target_vp;
    u32 downstream_page_offset;
    u8 user_data[120];
};
static_assert(sizeof(OpenChannel) == 148);

/// What OPENCHANNEL carries besides when guest-specified signal parameters were negotiated.
struct OpenChannel2Extra {
    u32 connection_id;
    u16 event_flag;
    u16 flags;
    u32 reserved;
};
static_assert(sizeof(OpenChannel) + sizeof(OpenChannel2Extra) == 160);

struct OpenResult {
    MessageHeader header;
    u32 relid;
    u32 open_id;
    u32 status;
};
static_assert(sizeof(OpenResult) == 20);

struct CloseChannel {
    MessageHeader header;
    u32 relid;
};

/// `range_bytes` overflows above 8190 pages, so nothing may rely on it (V-38).
struct GpadlHeader {
    MessageHeader header;
    u32 relid;
    u32 gpadl;
    u16 range_bytes;
    u16 range_count;
};
static_assert(sizeof(GpadlHeader) == 20);

struct GpadlBody {
    MessageHeader header;
    u32 message_number;
    u32 gpadl;
};
static_assert(sizeof(GpadlBody) == 16);

struct GpadlCreated {
    MessageHeader header;
    u32 relid;
    u32 gpadl;
    u32 status;
};
static_assert(sizeof(GpadlCreated) == 20);

struct GpadlTeardown {
    MessageHeader header;
    u32 relid;
    u32 gpadl;
};
static_assert(sizeof(GpadlTeardown) == 16);

struct GpadlTorndown {
    MessageHeader header;
    u32 gpadl;
};
static_assert(sizeof(GpadlTorndown) == 12);

struct RelidReleased {
    MessageHeader header;
    u32 relid;
};

/// @16 is the interrupt page below 5.0, else {sint u8, vtl u8, u16, features u32}.
struct InitiateContact {
    MessageHeader header;
    u32 version;
    u32 target_vp;
    u64 interrupt_page_or_target;
    u64 parent_to_child_monitor;
    u64 child_to_parent_monitor;
};
static_assert(sizeof(InitiateContact) == 40);

struct VersionResponse {
    MessageHeader header;
    u8 supported;
    u8 connection_state;
    u16 padding;
    u32 connection_id;
};
static_assert(sizeof(VersionResponse) == 16);

/// The form of 6.0 for guests that asked for features.
struct VersionResponse2 {
    MessageHeader header;
    u8 supported;
    u8 connection_state;
    u16 padding;
    u32 connection_id;
    u32 features;
};
static_assert(sizeof(VersionResponse2) == 20);

struct Unload {
    MessageHeader header;
};
struct UnloadResponse {
    MessageHeader header;
};

struct TlConnectRequest {
    MessageHeader header;
    Guid endpoint;
    Guid service;
};
static_assert(sizeof(TlConnectRequest) == 40);

struct TlConnectResult {
    MessageHeader header;
    Guid endpoint;
    Guid service;
    u32 status;
};
static_assert(sizeof(TlConnectResult) == 44);

struct ModifyChannel {
    MessageHeader header;
    u32 relid;
    u32 target_vp;
};
static_assert(sizeof(ModifyChannel) == 16);

struct ModifyChannelResponse {
    MessageHeader header;
    u32 relid;
    u32 status;
};
static_assert(sizeof(ModifyChannelResponse) == 16);

#pragma pack(pop)

/// Channel message numbers: one row each in messages.def.
enum class MessageType : u32 {
#define VMBUS_TO_GUEST(number, name, first_version) name = number,
#define VMBUS_TO_HOST(number, name, first_version) name = number,
#include "hv/vmbus/messages.def"
};

// ---- ring buffer (V-70..V-78)

/// Control page of a ring; the data follows in the next page.
struct RingControl {
    u32 write_index;        ///< producer
    u32 read_index;         ///< consumer
    u32 interrupt_mask;     ///< consumer: non-zero means "do not signal me"
    u32 pending_send_size;  ///< producer: signal me when more than this is free
};
static_assert(sizeof(RingControl) == 16);
inline constexpr u32 kRingFeatureOffset = 64;
inline constexpr u32 kRingFeaturePendingSize = 1;
inline constexpr u32 kRingTrailerSize = 8;

enum class PacketType : u16 { InBand = 6, TransferPages = 7, Gpadl = 8, GpaDirect = 9, Completion = 0xb };

struct PacketDescriptor {
    u16 type;
    u16 data_offset8;   ///< in 8-byte units, from the descriptor's start
    u16 total_length8;  ///< in 8-byte units, trailer not included
    u16 flags;
    u64 transaction_id;
};
static_assert(sizeof(PacketDescriptor) == 16);
inline constexpr u16 kPacketCompletionRequested = 1;

/// Behind the descriptor of a GPA-direct packet: then `range_count` times {GpaRange, pfn u64[]}.
struct GpaDirectHeader {
    u32 reserved;
    u32 range_count;
};
struct GpaRange {
    u32 byte_count;
    u32 byte_offset;
};
static_assert(sizeof(GpaRange) == 8);

}  // namespace vg::hv::vmbus
