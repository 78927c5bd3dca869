#include "devices/system_ports.h"

namespace vg::devices {

IoStatus PostPort::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    value = code_;
    return IoStatus::Ok;
}

IoStatus PostPort::port_write(u16 offset, unsigned size, u32 value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    code_ = static_cast<u8>(value);
    return IoStatus::Ok;
}

void SystemControlPort::reset() {
    value_ = kA20;
    if (a20_) a20_(true);
}

IoStatus SystemControlPort::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    value = value_;
    return IoStatus::Ok;
}

IoStatus SystemControlPort::port_write(u16 offset, unsigned size, u32 wide) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    const u8 before = value_;
    value_ = static_cast<u8>(wide) & (kReset | kA20);
    if (((before ^ value_) & kA20) != 0 && a20_) a20_((value_ & kA20) != 0);
    if ((value_ & ~before & kReset) != 0 && reset_) reset_();
    return IoStatus::Ok;
}

}  // namespace vg::devices
