// The machine's event stream: what happens between its parts, as records for tools (breakpoints, traces, captures,
// timelines). Watching changes nothing in a run. Where nobody listens a tap costs one test of a mask.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace vg {

/// One kind per row of base/tap_kinds.def.
enum class TapKind : u8 {
#define VG_TAP(kind, ...) kind,
#include "base/tap_kinds.def"
#undef VG_TAP
    Count
};

/// A set of kinds, a bit for each.
using TapMask = u32;
static_assert(static_cast<unsigned>(TapKind::Count) <= 32);
[[nodiscard]] constexpr TapMask tap_bit(TapKind kind) { return TapMask{1} << static_cast<unsigned>(kind); }
inline constexpr TapMask kAllTaps = (TapMask{1} << static_cast<unsigned>(TapKind::Count)) - 1;

/// `operation` of a Disk event.
enum class DiskOperation : u8 { Read, Write, Flush, Discard };

/// What a row of base/tap_kinds.def says.
struct TapRow {
    std::string_view name;
    std::string_view fields[4];  ///< "": unused
    std::string_view payload;    ///< "": none
};
[[nodiscard]] const TapRow& tap_row(TapKind kind);
/// TapKind::Count: no kind has this name.
[[nodiscard]] TapKind tap_kind(std::string_view name);

/// One thing that happened. Its virtual time is the clock's at the moment of the call.
struct TapEvent {
    static constexpr u32 kNoVp = ~u32{0};
    TapKind kind = TapKind::Count;
    u64 partition = 0;              ///< id; 0: the bare PC, or no partition's
    u32 vp = kNoVp;                 ///< index in the partition
    u64 values[4] = {};             ///< as the row names them
    std::span<const u8> payload{};  ///< valid during the call
};

/// Where parts tell and tools listen. One per machine, reached through its Log; the machine's thread only.
class Tap {
  public:
    using Listener = std::function<void(const TapEvent&)>;

    [[nodiscard]] bool wants(TapKind kind) const { return (mask_ & tap_bit(kind)) != 0; }
    /// Ask wants() first: making an event costs more than the test.
    void tell(const TapEvent& event);

    /// Returns a number for remove(). The listener must not add or remove listeners.
    unsigned listen(TapMask kinds, Listener listener);
    void remove(unsigned listener);

  private:
    struct Entry {
        unsigned number;
        TapMask kinds;
        Listener listener;
    };
    void update_mask();
    std::vector<Entry> entries_;
    TapMask mask_ = 0;
    unsigned next_number_ = 1;
};

}  // namespace vg
