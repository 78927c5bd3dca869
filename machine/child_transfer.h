// One child of a machine that runs, saved for itself and taken in by another machine. The file is a snapshot of a machine
// that has only this child, so everything that snapshots can do can be done with it.
#pragma once

#include <string>

#include "base/result.h"
#include "machine/machine.h"
#include "machine/snapshot.h"

namespace vg::machine {

/// Makes `to` what `from` is: state, memory, timers. `to` was made from the same section, in another machine, and has not
/// run; its disks have the same content. Time there is no earlier than here (Machine::skip_to). Both between rounds.
/// Error (Usage): the child has something that cannot be moved. `to` is not to be used then.
[[nodiscard]] Result<void> transfer_child(Machine& here, ChildMachine& from, Machine& there, ChildMachine& to);

/// Writes a snapshot of one child. Its disks are flushed; it goes on. Between rounds.
/// Error (Usage): no such child, it is off, the name is taken; (Host).
[[nodiscard]] Result<void> save_child(Machine& machine, const std::string& child, const std::string& path);

/// Adds the child of a snapshot that has one to a machine that runs, where it goes on: with its channels as they were, its
/// network adapters on the switches of this machine, its disks as `config` says (Snapshot::config). If its time is behind
/// this machine's it sees the time jump; if it is ahead, the others do: at most by 10 s, which kernels take without complaint.
/// Between rounds. Error (Usage): a larger jump, a name that is taken, files of disks that have changed, no room; (Damaged).
[[nodiscard]] Result<void> take_in_child(Machine& machine, Snapshot& snapshot, const Config& config);

}  // namespace vg::machine
