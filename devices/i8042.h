// 8042 keyboard controller (IBM PS/2 Technical Reference "Keyboard and Auxiliary Device
// Controller").
#pragma once

#include <array>
#include <functional>

#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/core/port_window.h"
#include "devices/ps2.h"

namespace vg::devices {

/// A byte that a device has to send appears in the output buffer as soon as that is empty, unless its port is disabled;
/// the keyboard goes first. What is sent to a port without a device comes back as a resend request with the time-out
/// bit.
class I8042 final : public Device {
  public:
    static constexpr u16 kDataPort = 0x60, kCommandPort = 0x64;

    struct Callbacks {
        std::function<void()> reset;         ///< command FE or output port bit 0 low
        std::function<void(bool open)> a20;  ///< output port bit 1 changed
    };

    /// @param keyboard, mouse  what is plugged in, or null; they outlive the controller
    I8042(IrqLine& irq1, IrqLine& irq12, Callbacks callbacks, Ps2Device* keyboard = nullptr,
          Ps2Device* mouse = nullptr);

    [[nodiscard]] std::string_view name() const override { return "i8042"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    /// One port each: 0x60 and 0x64.
    [[nodiscard]] PortIo& data_port() { return data_port_; }
    [[nodiscard]] PortIo& command_port() { return command_port_; }

  private:
    struct State {
        u8 status = 0x18;  // keyboard not locked, last write was a command
        u8 output = 0;
        u8 output_port = 0x03;     // A20 open, reset line high
        u8 pending_command = 0;    // waits for its data byte; 0: none
        std::array<u8, 32> ram{};  // byte 0 is the command byte
        bool released = false;     // translation has swallowed an F0 prefix
    };

    u8 read_data();
    void write_data(u8 value);
    void write_command(u8 command);
    void put(u8 value, u8 source_bits);
    /// Fills an empty output buffer from the devices.
    void refill();
    void send(Ps2Device* device, u8 value, u8 disable_bit, u8 source_bits);
    void write_output_port(u8 value);
    void update_irqs();

    IrqLine& irq1_;
    IrqLine& irq12_;
    Callbacks callbacks_;
    Ps2Device* keyboard_;
    Ps2Device* mouse_;
    PortWindow data_port_;
    PortWindow command_port_;
    State state_;
};

}  // namespace vg::devices
