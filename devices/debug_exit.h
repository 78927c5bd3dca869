// isa-debug-exit: a test guest ends the run by writing a value to a port.
#pragma once

#include <functional>

#include "devices/core/device.h"

namespace vg::devices {

/// Any write of 1, 2 or 4 bytes at offset 0 reports its value; what the value means is the front end's business.
class DebugExit final : public Device, public PortIo {
  public:
    using Exit = std::function<void(u32 raw_value)>;

    static constexpr u32 kPortCount = 4;

    explicit DebugExit(Exit exit) : exit_(std::move(exit)) {}

    [[nodiscard]] std::string_view name() const override { return "debug_exit"; }
    void reset() override { state_ = State{}; }
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

  private:
    struct State {
        u32 last_value = 0;
        u64 write_count = 0;
    };
    Exit exit_;
    State state_;
};

}  // namespace vg::devices
