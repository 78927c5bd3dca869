// Layouts of Virtual I/O Device (VIRTIO) Version 1.2: PCI transport (§4.1), split virtqueues (§2.7), devices (§5).
#pragma once

#include "base/types.h"

namespace vg::devices::virtio {

inline constexpr u16 kVendor = 0x1af4, kFirstDevice = 0x1040;  ///< device id: kFirstDevice + type
inline constexpr u16 kNetwork = 1, kBlock = 2, kConsole = 3;   ///< device types

// Capabilities: what follows capability id, link and length
struct Capability {
    u8 type, bar, id, padding[2];
    u32 offset, length;
} __attribute__((packed));
static_assert(sizeof(Capability) == 13);
inline constexpr u8 kCommonConfig = 1, kNotifyConfig = 2, kIsrConfig = 3, kDeviceConfig = 4, kPciConfig = 5;
inline constexpr u32 kCapabilityBar = 4, kCapabilityOffset = 8, kCapabilityLength = 12,
                     kCapabilityData = 16;  ///< offsets from the capability's beginning

// Common configuration
enum Common : u32 {
    kDeviceFeatureSelect = 0,
    kDeviceFeature = 4,
    kDriverFeatureSelect = 8,
    kDriverFeature = 12,
    kConfigVector = 16,
    kNumQueues = 18,
    kDeviceStatus = 20,
    kConfigGeneration = 21,
    kQueueSelect = 22,
    kQueueSize = 24,
    kQueueVector = 26,
    kQueueEnable = 28,
    kQueueNotifyOffset = 30,
    kQueueDescriptors = 32,
    kQueueDriver = 40,
    kQueueDevice = 48,
    kCommonSize = 56
};
inline constexpr u16 kNoVector = 0xffff;
inline constexpr u8 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 0x40, kFailed = 0x80;
inline constexpr u8 kIsrQueue = 1, kIsrConfigChange = 2;

// Features of every device
inline constexpr u64 kIndirect = u64{1} << 28, kEventIndex = u64{1} << 29, kVersion1 = u64{1} << 32,
                     kAccessPlatform = u64{1} << 33;

// Split virtqueues
struct Descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};
static_assert(sizeof(Descriptor) == 16);
inline constexpr u16 kNext = 1, kWrite = 2, kIndirectTable = 4;
inline constexpr u16 kNoInterrupt = 1;  ///< flags of the available ring
struct UsedElement {
    u32 id, length;
};
static_assert(sizeof(UsedElement) == 8);

// Block device
namespace block {
inline constexpr u64 kSizeMax = 1 << 1, kSegMax = 1 << 2, kReadOnly = 1 << 5, kBlockSize = 1 << 6, kFlush = 1 << 9,
                     kTopology = 1 << 10, kDiscard = 1 << 13, kWriteZeroes = 1 << 14;
struct Config {
    u64 capacity;
    u32 size_max, seg_max;
    u16 cylinders;
    u8 heads, sectors;
    u32 block_size;
    u8 physical_exponent, alignment;
    u16 min_io;
    u32 optimal_io;
    u8 writeback, unused;
    u16 queues;
    u32 max_discard_sectors, max_discard_segments, discard_alignment;
    u32 max_zero_sectors, max_zero_segments;
    u8 zeroes_may_unmap, unused2[3];
};
static_assert(sizeof(Config) == 64);  // four bytes behind the last field are this host's alignment
inline constexpr u32 kConfigBytes = 60;
struct Request {
    u32 type, reserved;
    u64 sector;
};
static_assert(sizeof(Request) == 16);
enum class Type : u32 { In = 0, Out = 1, Flush = 4, GetId = 8, Discard = 11, WriteZeroes = 13 };
inline constexpr u8 kOk = 0, kIoError = 1, kUnsupported = 2;
inline constexpr u32 kIdBytes = 20;
struct Range {
    u64 sector;
    u32 sectors, flags;
};
static_assert(sizeof(Range) == 16);
inline constexpr u32 kUnmap = 1;
}  // namespace block

// Network device
namespace net {
inline constexpr u64 kChecksum = 1 << 0, kMac = 1 << 5, kMergeBuffers = 1 << 15, kStatus = 1 << 16,
                     kControlQueue = 1 << 17, kControlReceive = 1 << 18;
struct Header {
    u8 flags, gso_type;
    u16 header_bytes, gso_size, checksum_start, checksum_offset, buffers;
};
static_assert(sizeof(Header) == 12);
inline constexpr u8 kNeedsChecksum = 1, kNoSegmentation = 0;
inline constexpr u16 kLinkUp = 1;
inline constexpr u8 kClassReceive = 0, kClassMac = 1;
inline constexpr u8 kPromiscuous = 0, kAllMulticast = 1, kMacTable = 0, kMacAddress = 1;
inline constexpr u8 kControlOk = 0, kControlError = 1;
}  // namespace net

// Console device
namespace console {
inline constexpr u64 kSize = 1 << 0;
struct Config {
    u16 columns, rows;
    u32 max_ports, emergency_write;
};
static_assert(sizeof(Config) == 12);
}  // namespace console

}  // namespace vg::devices::virtio
