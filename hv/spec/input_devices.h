// Keyboard and mouse of a partition: messages inside VMBus packets. Rows D-04, D-05, D-80..D-86.
#pragma once

#include "base/types.h"

namespace vg::hv::keyboard {

enum class MessageType : u32 { ProtocolRequest = 1, ProtocolResponse = 2, Event = 3, LedIndicators = 4 };

inline constexpr u32 kVersion = 0x00010000;

inline constexpr u32 kUnicode = 1, kBreak = 2, kE0 = 4, kE1 = 8;  ///< Event::info

#pragma pack(push, 1)
struct ProtocolRequest {
    u32 type, version;
};
struct ProtocolResponse {
    u32 type, accepted;
};
struct Event {
    u32 type;
    u16 make_code;  ///< scan code set 1, below 0x80
    u16 reserved;
    u32 info;
};
static_assert(sizeof(Event) == 12);
struct Leds {
    u32 type, leds;
};
#pragma pack(pop)

}  // namespace vg::hv::keyboard

namespace vg::hv::mouse {

enum class MessageType : u32 {
    ProtocolRequest = 0,
    ProtocolResponse = 1,
    DeviceInfo = 2,
    DeviceInfoAck = 3,
    InputReport = 4
};

inline constexpr u32 kVersion = 0x00020000;
inline constexpr u16 kMaxPosition = 32767;
inline constexpr u8 kButtonBits = 5;

#pragma pack(push, 1)
/// Behind the pipe header (hv/spec/vmbus.h).
struct Header {
    u32 type;
    u32 size;  ///< of what follows
};
struct ProtocolRequest {
    Header header;
    u32 version;
};
struct ProtocolResponse {
    Header header;
    u32 version;
    u8 approved;
};
static_assert(sizeof(ProtocolResponse) == 13);  // D-84: exactly

/// HID descriptor (HID 1.11 §6.2.1) in front of the report descriptor.
struct HidDescriptor {
    u8 length;
    u8 type;
    u16 hid_version;
    u8 country;
    u8 descriptors;
    u8 report_type;
    u16 report_bytes;
};
static_assert(sizeof(HidDescriptor) == 9);

struct DeviceInfo {
    Header header;
    u32 size;
    u16 vendor, product, version;
    u16 reserved[11];
    HidDescriptor hid;
};
static_assert(sizeof(DeviceInfo) == 8 + 32 + 9);

struct InputReport {
    Header header;
    u8 buttons;
    u16 x, y;  ///< 0..kMaxPosition
    s16 wheel;
};
static_assert(sizeof(InputReport) == 8 + 7);
#pragma pack(pop)

}  // namespace vg::hv::mouse
