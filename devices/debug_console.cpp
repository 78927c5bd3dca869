#include "devices/debug_console.h"

namespace vg::devices {

IoStatus DebugConsole::port_write(u16, unsigned size, u32 value) {
    if (size != 1) return IoStatus::BadSize;
    const char byte = static_cast<char>(value);
    if (byte >= ' ' && byte <= '~') line_ += byte;
    if (byte == '\n' || line_.size() == kMaxLine) {
        log_.debug(Area::Devices, "firmware: {}", line_);
        line_.clear();
    }
    return IoStatus::Ok;
}

}  // namespace vg::devices
