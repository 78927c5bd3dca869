// Video of a partition: messages inside VMBus packets. Rows D-06, D-90..D-98.
#pragma once

#include "base/types.h"

namespace vg::hv::video {

enum class MessageType : u32 {
    VersionRequest = 1,
    VersionResponse = 2,
    VramLocation = 3,
    VramLocationAck = 4,
    SituationUpdate = 5,
    SituationUpdateAck = 6,
    PointerPosition = 7,
    PointerShape = 8,
    FeatureChange = 9,
    Dirt = 10,
    ResolutionRequest = 13,
    ResolutionResponse = 14
};

constexpr u32 version(u16 major, u16 minor) { return u32{minor} << 16 | major; }
inline constexpr u32 kVersion3_0 = version(3, 0), kVersion3_2 = version(3, 2), kVersion3_3 = version(3, 3),
                     kVersion3_4 = version(3, 4), kVersion3_5 = version(3, 5);

inline constexpr u32 kEdidBytes = 128, kMaxResolutions = 64;
inline constexpr u32 kMaxRectangles = 255;  ///< of one message
inline constexpr u32 kMaxPointerSide = 96;

#pragma pack(push, 1)
/// Behind the pipe header (hv/spec/vmbus.h).
struct Header {
    u32 type;
    u32 size;  ///< this header's 8 bytes included
};
struct VersionRequest {
    Header header;
    u32 version;
};
struct VersionResponse {
    Header header;
    u32 version;
    u8 accepted;
    u8 outputs;
};
struct VramLocation {
    Header header;
    u64 context;
    u8 specified;
    u64 gpa;
};
struct Ack {
    Header header;
    u64 context;
};
struct Situation {
    u8 active;
    u32 vram_offset;
    u8 depth_bits;
    u32 width, height, pitch_bytes;
};
struct SituationUpdate {
    Header header;
    u64 context;
    u8 outputs;
    Situation output;
};
static_assert(sizeof(SituationUpdate) - sizeof(Header) == 27);
struct PointerPosition {
    Header header;
    u8 visible, output;
    s32 x, y;
};
struct PointerShape {
    Header header;
    u8 part, argb;
    u32 width, height, hot_x, hot_y;
};
struct FeatureChange {
    Header header;
    u8 dirt, pointer_position, pointer_shape, situation;
};
struct Rectangle {
    s32 x1, y1, x2, y2;  ///< x2 and y2 are behind it
};
struct Dirt {
    Header header;
    u8 output, count;
};
struct Resolution {
    u16 width, height;
    bool operator==(const Resolution&) const = default;
};
struct ResolutionRequest {
    Header header;
    u8 most;
};
struct ResolutionResponse {
    Header header;
    u8 edid[kEdidBytes];
    u8 count, standard_index, standard;
    Resolution list[kMaxResolutions];
};
#pragma pack(pop)

}  // namespace vg::hv::video
