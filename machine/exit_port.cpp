#include "machine/exit_port.h"

#include <fmt/format.h>

namespace vg::machine {

Result<std::unique_ptr<devices::DebugExit>> add_exit_port(devices::IoBus& io, const Place& at, u32 port,
                                                          devices::DebugExit::Exit exit) {
    if (port == 0) return std::unique_ptr<devices::DebugExit>{};
    const auto base = static_cast<u16>(port);
    if (const auto* owner = io.claimed(base, devices::DebugExit::kPortCount)) {
        return fail(
            Error::Code::Usage,
            fmt::format("{}: isa_debug_exit = 0x{:x}: ports 0x{:x} to 0x{:x} are those of {}; the usual port is 0xf4",
                        at.text("isa_debug_exit"), port, owner->base, owner->base + owner->count - 1, owner->name));
    }
    auto device = std::make_unique<devices::DebugExit>(std::move(exit));
    io.map("debug_exit", base, devices::DebugExit::kPortCount, *device);
    return device;
}

}  // namespace vg::machine
