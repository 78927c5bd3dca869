// Remote NDIS as a network VSP speaks it: messages, object identifiers, per-packet information. Rows D-65..D-74.
#pragma once

#include "base/types.h"

namespace vg::hv::rndis {

// ---- messages

/// Numbers; values from a guest are checked before use. A completion has the top bit.
enum class MessageType : u32 {
    Packet = 1,
    Initialize = 2,
    Halt = 3,
    Query = 4,
    Set = 5,
    Reset = 6,
    IndicateStatus = 7,
    KeepAlive = 8,
    InitializeComplete = 0x8000'0002,
    QueryComplete = 0x8000'0004,
    SetComplete = 0x8000'0005,
    ResetComplete = 0x8000'0006,
    KeepAliveComplete = 0x8000'0008
};

inline constexpr u32 kStatusSuccess = 0;
inline constexpr u32 kStatusMediaConnect = 0x4001'000b;
inline constexpr u32 kStatusMediaDisconnect = 0x4001'000c;
inline constexpr u32 kStatusFailure = 0xc000'0001;
inline constexpr u32 kStatusNotSupported = 0xc000'00bb;
inline constexpr u32 kStatusInvalidLength = 0xc001'0014;
inline constexpr u32 kStatusInvalidData = 0xc001'0015;

#pragma pack(push, 1)

struct Header {
    u32 type, length;  ///< length: of the whole message
};
inline constexpr u32 kHeaderBytes = sizeof(Header);  ///< offsets inside a body count from behind it

/// Body of a data message (D-73).
struct Packet {
    u32 data_offset, data_length;
    u32 oob_offset, oob_length, oob_count;
    u32 info_offset, info_length;  ///< per-packet information
    u32 vc, reserved;
};
static_assert(sizeof(Packet) == 36);

struct Initialize {
    u32 id, major, minor, max_transfer;
};
struct InitializeComplete {
    u32 id, status, major, minor, device_flags, medium, max_packets, max_transfer, alignment_shift, reserved[2];
};
static_assert(sizeof(InitializeComplete) == 44);

/// Of Query and Set.
struct Request {
    u32 id, oid, info_length, info_offset, vc;
};
static_assert(sizeof(Request) == 20);
struct QueryComplete {
    u32 id, status, info_length, info_offset;
};
/// Of Set and KeepAlive.
struct StatusComplete {
    u32 id, status;
};
struct ResetComplete {
    u32 status, addressing_reset;
};
struct IndicateStatus {
    u32 status, length, offset;
};

// ---- per-packet information (D-74)

/// The top bit of `type` marks types of the protocol's own use.
struct PacketInfo {
    u32 size, type, offset;
};
inline constexpr u32 kInfoInternal = 0x8000'0000;
inline constexpr u32 kInfoChecksum = 0, kInfoLargeSend = 2, kInfoVlan = 6, kInfoHash = 8;

// Checksum, as sent.
inline constexpr u32 kSendIpv4 = 1u << 0, kSendIpv6 = 1u << 1, kSendTcp = 1u << 2, kSendUdp = 1u << 3,
                     kSendIpHeader = 1u << 4;
// Checksum, as received.
inline constexpr u32 kTcpFailed = 1u << 0, kUdpFailed = 1u << 1, kIpFailed = 1u << 2, kTcpSucceeded = 1u << 3,
                     kUdpSucceeded = 1u << 4, kIpSucceeded = 1u << 5;
// Large send: segment size in [19:0], offset of the TCP header in [29:20].
inline constexpr u32 kLargeSendSizeMask = 0xf'ffff;
inline constexpr u32 kLargeSendVersion2 = 1u << 30, kLargeSendIpv6 = 1u << 31;

/// 802.1Q: priority in [2:0], canonical format in bit 3, identifier in [15:4].
constexpr u32 vlan_info(u16 tci) { return u32{tci} >> 13 | (u32{tci} >> 12 & 1) << 3 | (u32{tci} & 0xfff) << 4; }
constexpr u16 vlan_tci(u32 info) {
    return static_cast<u16>((info & 7) << 13 | (info >> 3 & 1) << 12 | (info >> 4 & 0xfff));
}

// ---- objects (D-69, D-71)

inline constexpr u32 kOidSupportedList = 0x0001'0101, kOidHardwareStatus = 0x0001'0102,
                     kOidMediaSupported = 0x0001'0103, kOidMediaInUse = 0x0001'0104, kOidMaxLookahead = 0x0001'0105,
                     kOidMaxFrameSize = 0x0001'0106, kOidLinkSpeed = 0x0001'0107, kOidTransmitSpace = 0x0001'0108,
                     kOidReceiveSpace = 0x0001'0109, kOidTransmitBlock = 0x0001'010a, kOidReceiveBlock = 0x0001'010b,
                     kOidVendorId = 0x0001'010c, kOidVendorDescription = 0x0001'010d, kOidPacketFilter = 0x0001'010e,
                     kOidLookahead = 0x0001'010f, kOidDriverVersion = 0x0001'0110, kOidMaxTotalSize = 0x0001'0111,
                     kOidProtocolOptions = 0x0001'0112, kOidMacOptions = 0x0001'0113, kOidMediaConnect = 0x0001'0114,
                     kOidMaxSendPackets = 0x0001'0115, kOidVendorDriverVersion = 0x0001'0116,
                     kOidNetworkAddresses = 0x0001'0118, kOidPhysicalMedium = 0x0001'0202,
                     kOidRssCapabilities = 0x0001'0203, kOidRssParameters = 0x0001'0204, kOidMaxLinkSpeed = 0x0001'0206,
                     kOidConfigParameter = 0x0001'021b;
inline constexpr u32 kOidTransmitted = 0x0002'0101, kOidReceived = 0x0002'0102, kOidTransmitErrors = 0x0002'0103,
                     kOidReceiveErrors = 0x0002'0104, kOidReceiveNoBuffer = 0x0002'0105, kOidFriendlyName = 0x0002'0216;
inline constexpr u32 kOidPermanentAddress = 0x0101'0101, kOidCurrentAddress = 0x0101'0102,
                     kOidMulticastList = 0x0101'0103, kOidMaxMulticast = 0x0101'0104, kOidEncapsulation = 0x0101'010a,
                     kOidAlignmentErrors = 0x0102'0101, kOidOneCollision = 0x0102'0102,
                     kOidMoreCollisions = 0x0102'0103;
inline constexpr u32 kOidOffloadCurrent = 0xfc01'020b, kOidOffloadParameters = 0xfc01'020c,
                     kOidOffloadCapabilities = 0xfc01'020d;

// Packet filter.
inline constexpr u32 kFilterDirected = 0x01, kFilterMulticast = 0x02, kFilterAllMulticast = 0x04,
                     kFilterBroadcast = 0x08, kFilterPromiscuous = 0x20;

struct ObjectHeader {
    u8 type, revision;
    u16 size;
};
inline constexpr u8 kObjectDefault = 0x80, kObjectRssCapabilities = 0x88, kObjectRssParameters = 0x89,
                    kObjectOffload = 0xa7;

// Offload capabilities (D-70): an encapsulation and what is done in it.
inline constexpr u32 kEncapsulationEthernet = 2;
inline constexpr u32 kChecksumIpOptions = 0x001, kChecksumTcpOptions = 0x004, kChecksumTcp = 0x010,
                     kChecksumUdp = 0x040, kChecksumIp = 0x100;

struct Offload {
    ObjectHeader header;
    u32 ipv4_send_encapsulation, ipv4_send, ipv4_receive_encapsulation, ipv4_receive;
    u32 ipv6_send_encapsulation, ipv6_send, ipv6_receive_encapsulation, ipv6_receive;
    u32 lso_v1[4];
    u32 ipsec_v1[7];
    u32 lso_ipv4_encapsulation, lso_ipv4_max, lso_ipv4_min_segments;
    u32 lso_ipv6_encapsulation, lso_ipv6_max, lso_ipv6_min_segments, lso_ipv6_options;
    u32 flags;
    u8 ipsec_v2[32];                     // from NDIS 6.1
    u8 rsc_ipv4, rsc_ipv6, reserved[2];  // from NDIS 6.30
    u32 nvgre[2];
};
static_assert(sizeof(Offload) == 156);
inline constexpr u16 kOffloadBytes60 = 112, kOffloadBytes61 = 144, kOffloadBytes630 = 156;

/// What a guest wants turned on (revision 1; later ones are longer).
struct OffloadParameters {
    ObjectHeader header;
    u8 ipv4, tcp4, udp4, tcp6, udp6;
    u8 lso_v1, ipsec_v1, lso_ipv4, lso_ipv6;
};
static_assert(sizeof(OffloadParameters) == 13);
/// Values of its checksum fields; 0: no change.
inline constexpr u8 kOffloadDisabled = 1, kOffloadSend = 2, kOffloadReceive = 3, kOffloadBoth = 4;

struct RssCapabilities {
    ObjectHeader header;
    u32 flags, message_count, queue_count;
    u16 table_entries;
};
static_assert(sizeof(RssCapabilities) == 18);
inline constexpr u32 kRssClassifyAtIsr = 0x0200'0000, kRssClassifyAtDpc = 0x0400'0000, kRssToeplitz = 1,
                     kRssIpv4 = 0x100, kRssIpv6 = 0x200;

struct RssParameters {
    ObjectHeader header;
    u16 flags, base_cpu;
    u32 hash;
    u16 table_bytes, reserved;
    u32 table_offset;  ///< offsets from the structure's start
    u16 key_bytes, reserved2;
    u32 key_offset;
};
static_assert(sizeof(RssParameters) == 28);
inline constexpr u16 kRssHashUnchanged = 2, kRssTableUnchanged = 4, kRssKeyUnchanged = 8, kRssDisable = 0x10;
inline constexpr u32 kHashToeplitz = 1, kHashIpv4 = 0x100, kHashTcpIpv4 = 0x200, kHashIpv6 = 0x400,
                     kHashTcpIpv6 = 0x1000;
inline constexpr u32 kRssTableEntries = 128, kRssKeyBytes = 40;

/// A named parameter, in UTF-16 (kOidConfigParameter). Offsets from the structure's start.
struct ConfigParameter {
    u32 name_offset, name_length, type, value_offset, value_length;
};

#pragma pack(pop)

}  // namespace vg::hv::rndis
