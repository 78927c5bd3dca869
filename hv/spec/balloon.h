// Dynamic memory of a partition: messages inside VMBus packets. Rows D-13, D-110..D-113.
#pragma once

#include "base/types.h"

namespace vg::hv::balloon {

enum class MessageType : u16 {
    VersionRequest = 1,
    VersionResponse = 2,
    Capabilities = 3,
    CapabilitiesResponse = 4,
    Status = 5,
    BalloonRequest = 6,
    BalloonResponse = 7,
    UnballoonRequest = 8,
    UnballoonResponse = 9,
    HotAddRequest = 10,
    HotAddResponse = 11,
    Info = 12
};

constexpr u32 version(u16 major, u16 minor) { return u32{major} << 16 | minor; }
inline constexpr u32 kVersion0_3 = version(0, 3), kVersion1_0 = version(1, 0), kVersion2_0 = version(2, 0);

inline constexpr u32 kCapBalloon = 1, kCapHotAdd = 2;

/// A range of pages: [39:0] first page number, [63:40] how many.
constexpr u64 range(u64 first, u64 count) { return (first & 0xff'ffff'ffff) | count << 40; }
constexpr u64 range_first(u64 range) { return range & 0xff'ffff'ffff; }
constexpr u64 range_count(u64 range) { return range >> 40; }
inline constexpr u64 kMaxRangePages = 0xff'ffff;

#pragma pack(push, 1)
struct Header {
    u16 type;
    u16 size;  ///< of the whole message
    u32 transaction;
};
struct VersionRequest {
    Header header;
    u32 version;
    u32 last_attempt;  ///< bit 0
};
struct Response {  ///< to a version and to capabilities
    Header header;
    u64 accepted;  ///< bit 0
};
static_assert(sizeof(Response) == 16);
struct Capabilities {
    Header header;
    u64 capabilities;  ///< kCap..., [5:2] alignment of hot-added memory: log2 of MiB
    u64 min_pages;
    u64 max_page_number;
};
static_assert(sizeof(Capabilities) == 32);
struct Status {
    Header header;
    u64 available, committed, page_file, zero_free;  ///< in pages
    u32 page_file_writes, io_difference;
};
static_assert(sizeof(Status) == 48);
struct BalloonRequest {
    Header header;
    u32 pages;
    u32 reserved;
};
struct BalloonResponse {  ///< ranges follow
    Header header;
    u32 reserved;
    u32 more_and_count;  ///< bit 0: more responses follow, [31:1] number of ranges
};
struct UnballoonRequest {  ///< ranges follow
    Header header;
    u32 more;  ///< bit 0
    u32 range_count;
};
struct UnballoonResponse {
    Header header;
};
struct HotAddRequest {  ///< the guest finds the region for itself
    Header header;
    u64 range;
};
static_assert(sizeof(HotAddRequest) == 16);
struct HotAddResponse {
    Header header;
    u32 pages;
    u32 result;  ///< 1: done
};
#pragma pack(pop)

}  // namespace vg::hv::balloon
