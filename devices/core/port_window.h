// A chip whose registers lie in several separate port ranges offers one window per range.
#pragma once

#include <functional>
#include <utility>

#include "devices/core/io.h"

namespace vg::devices {

/// Port access forwarded to two functions of the owning chip, which outlives the window.
class PortWindow final : public PortIo {
  public:
    using Read = std::function<IoStatus(u16 offset, unsigned size, u32& value)>;
    using Write = std::function<IoStatus(u16 offset, unsigned size, u32 value)>;

    PortWindow(Read read, Write write) : read_(std::move(read)), write_(std::move(write)) {}

    IoStatus port_read(u16 offset, unsigned size, u32& value) override { return read_(offset, size, value); }
    IoStatus port_write(u16 offset, unsigned size, u32 value) override { return write_(offset, size, value); }

  private:
    Read read_;
    Write write_;
};

}  // namespace vg::devices
