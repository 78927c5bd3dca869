// Wires and sinks that remember what chips did to them.
#pragma once

#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "devices/core/io.h"
#include "devices/core/irq.h"

namespace vg::test {

class RecordingIrq final : public devices::IrqLine {
  public:
    void set(bool level) override {
        if (level && !high) ++rises;
        high = level;
    }
    bool high = false;
    int rises = 0;
};

class RecordingSink final : public devices::MessageSink {
  public:
    void send(u64 address, u32 data) override { sent.emplace_back(address, data); }
    std::vector<std::pair<u64, u32>> sent;
};

/// A clock and its event queue, moved together.
struct TestTime {
    ManualClock clock;
    EventQueue events{clock};
    /// Moves to `when`, stopping at every event on the way.
    void run_to(VTime when) {
        while (events.next() <= when) {
            if (events.next() > clock.now()) clock.set(events.next());
            events.run_due(clock.now());
        }
        clock.set(when);
    }
    void run_for(VTime by) { run_to(clock.now() + by); }
};

/// One chip's ports by offset, byte access, failing the test on a refusal.
inline u8 in8(devices::PortIo& chip, u16 offset) {
    u32 value = 0;
    return chip.port_read(offset, 1, value) == devices::IoStatus::Ok ? static_cast<u8>(value) : u8{0xff};
}
inline void out8(devices::PortIo& chip, u16 offset, u8 value) { (void)chip.port_write(offset, 1, value); }

}  // namespace vg::test
