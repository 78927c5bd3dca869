// Interrupt lines and messages between chips.
#pragma once

#include "base/types.h"

namespace vg::devices {

/// One wire into an interrupt controller.
class IrqLine {
  public:
    virtual ~IrqLine() = default;
    virtual void set(bool level) = 0;
    void pulse() {
        set(true);
        set(false);
    }
};

/// A line that goes nowhere.
class NoIrq final : public IrqLine {
  public:
    void set(bool) override {}
};

/// Where an IOAPIC or an MSI sends its message: address and data as on the bus (SDM 3A "Message Signalled Interrupts").
class MessageSink {
  public:
    virtual ~MessageSink() = default;
    virtual void send(u64 address, u32 data) = 0;
};

}  // namespace vg::devices
