// Storage VSP protocol: packets inside VMBus packets. Rows D-30..D-44.
#pragma once

#include "base/types.h"

namespace vg::hv::storvsc {

/// Operation of a packet (D-34). Values from a guest are checked before use.
enum class Operation : u32 {
    CompleteIo = 1,
    RemoveDevice = 2,
    ExecuteSrb = 3,
    ResetLun = 4,
    ResetAdapter = 5,
    ResetBus = 6,
    BeginInit = 7,
    EndInit = 8,
    QueryProtocolVersion = 9,
    QueryProperties = 10,
    EnumerateBus = 11,
    FcHbaData = 12,
    CreateSubChannels = 13,
    EventNotification = 14
};

inline constexpr u16 kVersionWin8 = 0x0501;
inline constexpr u16 kVersionWin8_1 = 0x0600;
inline constexpr u16 kVersionWin10 = 0x0602;

/// NTSTATUS values in `Packet::status`.
inline constexpr u32 kStatusSuccess = 0;
inline constexpr u32 kStatusInvalidParameter = 0xC000'000D;
inline constexpr u32 kStatusNotSupported = 0xC000'00BB;
inline constexpr u32 kStatusInvalidDeviceState = 0xC000'0184;
inline constexpr u32 kStatusRevisionMismatch = 0xC000'0059;

/// SRB status (D-39), low six bits; two flags above.
inline constexpr u8 kSrbSuccess = 0x01;
inline constexpr u8 kSrbError = 0x04;
inline constexpr u8 kSrbInvalidRequest = 0x06;
inline constexpr u8 kSrbDataOverrun = 0x12;
inline constexpr u8 kSrbInvalidLun = 0x20;
inline constexpr u8 kSrbSenseValid = 0x80;

/// Direction of the data of an SRB (D-37).
enum class DataDirection : u8 { Write = 0, Read = 1, None = 2 };

inline constexpr u8 kCdbSize = 16;
inline constexpr u8 kSenseSize = 20;  ///< room for sense data in a reply
inline constexpr u32 kMaxTransferBytes = 0x100000;
inline constexpr u32 kPropertyMultiChannel = 1;

#pragma pack(push, 1)

struct Srb {
    u16 length;
    u8 srb_status;
    u8 scsi_status;
    u8 port;
    u8 path;
    u8 target;
    u8 lun;
    u8 cdb_length;
    u8 sense_length;
    u8 data_in;
    u8 reserved;
    u32 transfer_length;
    union {
        u8 cdb[kCdbSize];
        u8 sense[kSenseSize];
    };
    u16 reserved2;
    u8 queue_tag;
    u8 queue_action;
    u32 srb_flags;
    u32 timeout_s;
    u32 sort_key;
};
static_assert(sizeof(Srb) == 52);

struct ProtocolVersion {
    u16 version;
    u16 revision;
};

struct Properties {
    u32 reserved;
    u16 max_sub_channels;
    u16 reserved2;
    u32 flags;
    u32 max_transfer_bytes;
    u64 reserved3;
};
static_assert(sizeof(Properties) == 24);

struct Packet {
    u32 operation;
    u32 flags;
    u32 status;
    union {
        Srb srb;
        ProtocolVersion version;
        Properties properties;
        u16 sub_channel_count;
        u8 raw[52];
    };
};
static_assert(sizeof(Packet) == 64);

/// User data of the offer of an IDE disk's accelerator (D-02).
struct IdeOffer {
    u16 reserved;
    u8 path;
    u8 target;
    u32 reserved2;
    u32 flags;
};
static_assert(sizeof(IdeOffer) == 12);
inline constexpr u32 kIdeOfferDisk = 2;

#pragma pack(pop)

}  // namespace vg::hv::storvsc
