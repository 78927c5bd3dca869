// The process that runs a recording's machine for a timeline, and the key frames that it leaves behind.
#pragma once

#include <memory>

#include "machine/machine.h"
#include "machine/recording.h"
#include "ui/model/message_channel.h"

namespace vg::model {

/// Serves one timeline until it closes its end. Requests are those of the control protocol, and of its own:
///
///   timeline_goto {task, target}             runs to a position, past all rules
///   timeline_scan {task, until, steps, here}       runs to `until` and finds the last stop before it: of the rules, or of steps of a VP
///   timeline_rules {rules}               these and no others, with their numbers
///   timeline_frame {}                    leaves a key frame here
///   timeline_frames {interval}           leaves them by itself, so many instructions apart; 0: not
///
/// The first two answer at once; a notice `done` with the number `task` follows. A key frame is a copy of the process that waits at the other end
/// of a channel of its own, which the notice `frame` brings. It answers `branch`, which comes with a channel, by another copy
/// that goes on from there as a worker on that channel; it ends when its channel does.
///
/// Only in a process of its own, which ends behind it.
[[noreturn]] void serve_timeline(MessageChannel channel, std::shared_ptr<const machine::Recording> recording,
                                 machine::MachineOptions::EngineKind engine);

/// Positions in messages.
[[nodiscard]] Json position_json(const machine::Position& position);
[[nodiscard]] machine::Position position_of(const Json& json);

}  // namespace vg::model
