#include "devices/reset_control.h"

namespace vg::devices {

namespace {
constexpr u8 kSystem = 0x02, kTrigger = 0x04, kFullReset = 0x08;
}

IoStatus ResetControl::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    value = value_;
    return IoStatus::Ok;
}

IoStatus ResetControl::port_write(u16 offset, unsigned size, u32 value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    const bool triggered = (value & ~u32{value_} & kTrigger) != 0;
    value_ = static_cast<u8>(value) & (kSystem | kTrigger | kFullReset);
    if (triggered && reset_) reset_((value & kSystem) != 0);
    return IoStatus::Ok;
}

}  // namespace vg::devices
