// Network VSP protocol (NVSP): messages inside VMBus packets. Rows D-50..D-64.
#pragma once

#include "base/types.h"

namespace vg::hv::netvsc {

// ---- versions (D-51)

inline constexpr u32 kVersion1 = 0x0000'0002;
inline constexpr u32 kVersion2 = 0x0003'0002;
inline constexpr u32 kVersion4 = 0x0004'0000;
inline constexpr u32 kVersion5 = 0x0005'0000;
inline constexpr u32 kVersion6 = 0x0006'0000;
inline constexpr u32 kVersion61 = 0x0006'0001;
inline constexpr u32 kKnownVersions[] = {kVersion61, kVersion6, kVersion5, kVersion4, kVersion2, kVersion1};

/// Message numbers. Values from a guest are checked before use.
enum class MessageType : u32 {
    None = 0,
    Init = 1,
    InitComplete = 2,
    SendNdisVersion = 100,
    SendReceiveBuffer = 101,
    SendReceiveBufferComplete = 102,
    RevokeReceiveBuffer = 103,
    SendSendBuffer = 104,
    SendSendBufferComplete = 105,
    RevokeSendBuffer = 106,
    SendRndisPacket = 107,
    SendRndisPacketComplete = 108,
    SendNdisConfig = 125,
    SendVfAssociation = 128,
    SwitchDataPath = 129,
    OidQueryEx = 131,
    OidQueryExComplete = 132,
    SubChannel = 133,
    SendIndirectionTable = 134
};

enum class Status : u32 {
    None = 0,
    Success = 1,
    Fail = 2,
    ProtocolTooNew = 3,
    ProtocolTooOld = 4,
    InvalidRndisPacket = 5,
    Busy = 6,
    ProtocolUnsupported = 7
};

inline constexpr u16 kReceiveBufferId = 0xcafe;  ///< page set of transfer-page packets (D-61)
inline constexpr u32 kNoSection = 0xffff'ffff;
inline constexpr u32 kChannelData = 0, kChannelControl = 1;
inline constexpr u32 kMaxMdlChain = 34;
inline constexpr u32 kSubChannelAllocate = 1;
inline constexpr u32 kSendTableEntries = 16;  ///< of the indirection table for what a guest sends (D-64)

/// Bits of what a guest can do (D-52).
inline constexpr u64 kCapabilityVlan = u64{1} << 3;

#pragma pack(push, 1)

struct Init {
    u32 min_version, max_version;
};
struct InitComplete {
    u32 version, max_mdl_chain, status;
};
struct NdisVersion {
    u32 major, minor;
};
struct NdisConfig {
    u32 mtu;  ///< longest frame, header included
    u32 reserved;
    u64 capabilities;
};
/// Of SendReceiveBuffer and SendSendBuffer.
struct SendBuffer {
    u32 gpadl;
    u16 id;
};
struct ReceiveSection {
    u32 offset, suballocation_size, suballocation_count, end;
};
struct ReceiveBufferComplete {
    u32 status, section_count;
    ReceiveSection section;
};
struct SendBufferComplete {
    u32 status, section_size;
};
struct RndisPacket {
    u32 channel_type, section_index, section_bytes;
};
struct RndisPacketComplete {
    u32 status;
};
struct SubChannelRequest {
    u32 operation, count;
};
struct SubChannelComplete {
    u32 status, count;
};
struct IndirectionTable {
    u32 count, offset;  ///< offset of the table from the message's start
};

struct Message {
    u32 type;
    union {
        Init init;
        InitComplete init_complete;
        NdisVersion ndis_version;
        NdisConfig ndis_config;
        SendBuffer buffer;
        u16 revoked_id;
        ReceiveBufferComplete receive_buffer_complete;
        SendBufferComplete send_buffer_complete;
        RndisPacket rndis;
        RndisPacketComplete rndis_complete;
        SubChannelRequest sub_channels;
        SubChannelComplete sub_channels_complete;
        IndirectionTable indirection;
        u8 raw[36];
    };
};
static_assert(sizeof(Message) == 40);

/// The indirection table behind a whole message: where guests of every version look for it.
struct IndirectionTableMessage {
    Message message;
    u32 entries[kSendTableEntries];
};
static_assert(sizeof(IndirectionTableMessage) == 104);

/// One range of a transfer-page packet (D-61).
struct TransferRange {
    u32 byte_count, byte_offset;
};
/// Between the descriptor and the message of a transfer-page packet with one range.
struct TransferPages {
    u16 pageset_id;
    u8 sender_owns;
    u8 reserved;
    u32 range_count;
    TransferRange range;
};
static_assert(sizeof(TransferPages) == 16);

#pragma pack(pop)

}  // namespace vg::hv::netvsc
