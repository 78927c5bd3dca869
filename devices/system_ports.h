// Two one-byte ports of every PC: the POST code display and system control port A.
#pragma once

#include <functional>

#include "devices/core/device.h"

namespace vg::devices {

/// Port 0x80: shows the last byte written; also the port that old software writes to waste a microsecond.
class PostPort final : public Device, public PortIo {
  public:
    static constexpr u16 kPort = 0x80;

    [[nodiscard]] std::string_view name() const override { return "post_port"; }
    void reset() override { code_ = 0; }
    void fields(StateVisitor& v) override { v("code", code_); }
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;
    [[nodiscard]] u8 code() const { return code_; }

  private:
    u8 code_ = 0;
};

/// Port 0x92: bit 0 rising resets the processor, bit 1 opens the A20 gate.
class SystemControlPort final : public Device, public PortIo {
  public:
    static constexpr u16 kPort = 0x92;

    /// @param reset asked for a processor reset.
    /// @param a20   told of every change of the gate. It is open at power-on, as firmware would leave it.
    SystemControlPort(std::function<void()> reset, std::function<void(bool open)> a20)
        : reset_(std::move(reset)), a20_(std::move(a20)) {}

    [[nodiscard]] std::string_view name() const override { return "system_control_port"; }
    void reset() override;
    void fields(StateVisitor& v) override { v("value", value_, Fmt::Bin); }
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

  private:
    static constexpr u8 kReset = 0x01, kA20 = 0x02;

    std::function<void()> reset_;
    std::function<void(bool)> a20_;
    u8 value_ = kA20;
};

}  // namespace vg::devices
