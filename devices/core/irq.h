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

/// A wire that two sources share: high while either is.
class SharedLine {
  public:
    explicit SharedLine(IrqLine& target) : first_(*this), second_(*this), target_(target) {}
    SharedLine(const SharedLine&) = delete;
    SharedLine& operator=(const SharedLine&) = delete;
    [[nodiscard]] IrqLine& first() { return first_; }
    [[nodiscard]] IrqLine& second() { return second_; }
    /// Levels of the sources; the target's is its own state.
    template <class V>
    void fields(V& v) {
        v("first", first_.level);
        v("second", second_.level);
    }

  private:
    struct Source final : IrqLine {
        explicit Source(SharedLine& to) : line(to) {}
        void set(bool new_level) override {
            level = new_level;
            line.target_.set(line.first_.level || line.second_.level);
        }
        SharedLine& line;
        bool level = false;
    };
    Source first_, second_;
    IrqLine& target_;
};

/// Where an IOAPIC or an MSI sends its message: address and data as on the bus (SDM 3A "Message Signalled Interrupts").
class MessageSink {
  public:
    virtual ~MessageSink() = default;
    virtual void send(u64 address, u32 data) = 0;
};

}  // namespace vg::devices
