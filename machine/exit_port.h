// The port by which a test guest ends the run, on the board of whoever asked for one.
#pragma once

#include <memory>

#include "devices/core/io.h"
#include "devices/debug_exit.h"
#include "machine/config.h"

namespace vg::machine {

/// Maps isa-debug-exit at `port`, behind all other chips of the board: the place is the user's choice. 0: none, null.
/// Error (Usage): another chip is there. @param at  of the section with the key isa_debug_exit
[[nodiscard]] Result<std::unique_ptr<devices::DebugExit>> add_exit_port(devices::IoBus& io, const Place& at, u32 port,
                                                                        devices::DebugExit::Exit exit);

}  // namespace vg::machine
