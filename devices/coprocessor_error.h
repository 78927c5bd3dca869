// Coprocessor error logic of a PC: from the processor's FERR# to IRQ 13, from port 0xF0 to IGNNE#. SDM 1
// "MS-DOS Compatibility Sub-mode", Intel ICH9 data sheet "COPROC_ERR".
#pragma once

#include "devices/core/device.h"
#include "devices/core/irq.h"

namespace vg::devices {

/// A write to the port ends the interrupt and lets the processor ignore the error until it is cleared.
class CoprocessorError final : public Device, public PortIo {
  public:
    static constexpr u16 kPort = 0xf0;
    static constexpr u32 kIrq = 13;

    explicit CoprocessorError(IrqLine& irq) : irq_(irq) {}

    /// FERR# as the processor drives it.
    void set_error(bool active);
    /// IGNNE#: the processor is to execute on in spite of the error.
    [[nodiscard]] bool ignored() const { return ignored_; }

    [[nodiscard]] std::string_view name() const override { return "coprocessor_error"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

  private:
    IrqLine& irq_;
    bool error_ = false, ignored_ = false;
};

}  // namespace vg::devices
