// The port on which firmware writes what it does, a line at a time (port 402H of Bochs and QEMU).
#pragma once

#include <string>

#include "base/log.h"
#include "devices/core/device.h"

namespace vg::devices {

/// Lines go to the log (Area::Devices, Debug). Not state: the guest cannot read back what it wrote.
class DebugConsole final : public PortIo {
  public:
    static constexpr u16 kPort = 0x402;
    static constexpr u8 kPresent = 0xe9;  ///< what reading gives
    static constexpr std::size_t kMaxLine = 256;

    explicit DebugConsole(Log& log) : log_(log) {}
    IoStatus port_read(u16, unsigned size, u32& value) override {
        if (size != 1) return IoStatus::BadSize;
        value = kPresent;
        return IoStatus::Ok;
    }
    IoStatus port_write(u16, unsigned size, u32 value) override;

  private:
    Log& log_;
    std::string line_;
};

}  // namespace vg::devices
