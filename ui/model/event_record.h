// One event of a machine's tap, kept: as a row of the control protocol's `events` brings it, or straight from the tap.
#pragma once

#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/tap.h"
#include "ui/model/control_link.h"

namespace vg::model {

struct EventRecord {
    u64 seq = 0;
    VTime time = 0;
    u64 instructions = 0;  ///< position in the run
    TapKind kind = TapKind::Count;
    u64 partition = 0;
    u32 vp = TapEvent::kNoVp;
    u64 values[4] = {};
    u32 payload_size = 0;  ///< of the event; `payload` may be cut
    std::vector<u8> payload;

    [[nodiscard]] bool cut() const { return payload_size > payload.size(); }
};

/// Error (Usage): the row is not what docs/control.md says.
[[nodiscard]] Result<EventRecord> event_from_json(const Json& row);
/// The same row.
[[nodiscard]] Json event_to_json(const EventRecord& record);
[[nodiscard]] EventRecord event_from_tap(const TapEvent& event, u64 seq, VTime time, u64 instructions);

}  // namespace vg::model
