// Reset control register at port 0xCF9 (Intel ICH9 data sheet "RST_CNT"), which the FADT can name as RESET_REG.
#pragma once

#include <functional>

#include "devices/core/device.h"

namespace vg::devices {

/// One byte: bit 2 starts a reset when it goes from 0 to 1, bit 1 chooses a system reset over a processor INIT,
/// bit 3 a power cycle. FADT.RESET_VALUE is kSystemReset.
class ResetControl final : public Device, public PortIo {
  public:
    /// `hard` is false for a processor INIT only.
    using Reset = std::function<void(bool hard)>;

    static constexpr u16 kPort = 0xcf9;
    static constexpr u8 kSystemReset = 0x06;

    explicit ResetControl(Reset reset) : reset_(std::move(reset)) {}

    [[nodiscard]] std::string_view name() const override { return "reset_control"; }
    void reset() override { value_ = 0; }
    void fields(StateVisitor& v) override { v("value", value_, Fmt::Bin); }
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

  private:
    Reset reset_;
    u8 value_ = 0;
};

}  // namespace vg::devices
