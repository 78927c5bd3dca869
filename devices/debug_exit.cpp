#include "devices/debug_exit.h"

namespace vg::devices {

void DebugExit::fields(StateVisitor& v) {
    v("last_value", state_.last_value);
    v("write_count", state_.write_count, Fmt::Dec);
}

IoStatus DebugExit::port_read(u16 offset, unsigned, u32& value) {
    if (offset != 0) return IoStatus::NoRegister;
    value = 0;
    return IoStatus::Ok;
}

IoStatus DebugExit::port_write(u16 offset, unsigned, u32 value) {
    if (offset != 0) return IoStatus::NoRegister;
    state_.last_value = value;
    ++state_.write_count;
    if (exit_) exit_(value);
    return IoStatus::Ok;
}

}  // namespace vg::devices
