#include "devices/coprocessor_error.h"

namespace vg::devices {

void CoprocessorError::set_error(bool active) {
    error_ = active;
    if (!active) ignored_ = false;
    if (active && !ignored_) irq_.set(true);
}

void CoprocessorError::reset() {
    error_ = ignored_ = false;
    irq_.set(false);
}

void CoprocessorError::fields(StateVisitor& v) {
    v("error", error_);
    v("ignored", ignored_);
}

IoStatus CoprocessorError::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    value = 0;  // write-only
    return IoStatus::Ok;
}

IoStatus CoprocessorError::port_write(u16 offset, unsigned size, u32) {
    if (size != 1) return IoStatus::BadSize;
    if (offset != 0) return IoStatus::NoRegister;
    ignored_ = error_;
    irq_.set(false);
    return IoStatus::Ok;
}

}  // namespace vg::devices
