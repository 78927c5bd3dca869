#include "devices/i8042.h"

namespace vg::devices {

namespace {

constexpr u8 kOutputFull = 0x01, kSystemFlag = 0x04, kLastWasCommand = 0x08, kFromAux = 0x20, kTimeout = 0x40;
constexpr u8 kCommandIrq1 = 0x01, kCommandIrq12 = 0x02, kCommandSystem = 0x04, kCommandNoKeyboard = 0x10,
             kCommandNoAux = 0x20, kCommandTranslate = 0x40;
constexpr u8 kPortReset = 0x01, kPortA20 = 0x02;
constexpr u8 kResend = 0xfe;

}  // namespace

I8042::I8042(IrqLine& irq1, IrqLine& irq12, Callbacks callbacks, Ps2Device* keyboard, Ps2Device* mouse)
    : irq1_(irq1),
      irq12_(irq12),
      callbacks_(std::move(callbacks)),
      keyboard_(keyboard),
      mouse_(mouse),
      data_port_(
          [this](u16 offset, unsigned size, u32& value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset != 0) return IoStatus::NoRegister;
              value = read_data();
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset != 0) return IoStatus::NoRegister;
              write_data(static_cast<u8>(value));
              return IoStatus::Ok;
          }),
      command_port_(
          [this](u16 offset, unsigned size, u32& value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset != 0) return IoStatus::NoRegister;
              value = state_.status;
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset != 0) return IoStatus::NoRegister;
              write_command(static_cast<u8>(value));
              return IoStatus::Ok;
          }) {
    for (Ps2Device* device : {keyboard_, mouse_}) {
        if (device != nullptr) device->on_input([this] { refill(); });
    }
}

void I8042::reset() {
    state_ = State{};
    for (Ps2Device* device : {keyboard_, mouse_}) {
        if (device != nullptr) device->reset();
    }
    update_irqs();
    if (callbacks_.a20) callbacks_.a20(true);
}

void I8042::fields(StateVisitor& v) {
    v("status", state_.status, Fmt::Bin);
    v("output", state_.output);
    v("output_port", state_.output_port, Fmt::Bin);
    v("pending_command", state_.pending_command);
    v("ram", state_.ram);
    v("released", state_.released);
    for (Ps2Device* device : {keyboard_, mouse_}) {
        if (device != nullptr) device->fields(v);
    }
}

void I8042::update_irqs() {
    const bool full = (state_.status & kOutputFull) != 0;
    const bool aux = (state_.status & kFromAux) != 0;
    irq1_.set(full && !aux && (state_.ram[0] & kCommandIrq1) != 0);
    irq12_.set(full && aux && (state_.ram[0] & kCommandIrq12) != 0);
}

void I8042::put(u8 value, u8 source_bits) {
    state_.output = value;
    state_.status = static_cast<u8>((state_.status & ~(kFromAux | kTimeout)) | kOutputFull | source_bits);
    update_irqs();
}

u8 I8042::read_data() {
    const u8 value = state_.output;
    state_.status = static_cast<u8>(state_.status & ~(kOutputFull | kFromAux | kTimeout));
    update_irqs();
    refill();
    return value;
}

void I8042::refill() {
    if ((state_.status & kOutputFull) != 0) return;
    const bool translate = (state_.ram[0] & kCommandTranslate) != 0;
    while (keyboard_ != nullptr && (state_.ram[0] & kCommandNoKeyboard) == 0 && keyboard_->has_byte()) {
        const u8 byte = keyboard_->take();
        if (!translate) return put(byte, 0);
        if (byte == 0xf0) {
            state_.released = true;
            continue;
        }
        const u8 high = state_.released ? 0x80 : 0;
        state_.released = false;
        return put(to_set_1(byte) | high, 0);
    }
    if (mouse_ != nullptr && (state_.ram[0] & kCommandNoAux) == 0 && mouse_->has_byte()) put(mouse_->take(), kFromAux);
}

/// Sending to a device enables its port.
void I8042::send(Ps2Device* device, u8 value, u8 disable_bit, u8 source_bits) {
    if (device == nullptr) return put(kResend, source_bits | kTimeout);
    state_.ram[0] = static_cast<u8>(state_.ram[0] & ~disable_bit);
    device->receive(value);
    refill();
}

void I8042::write_output_port(u8 value) {
    const u8 before = state_.output_port;
    state_.output_port = value;
    if (((before ^ value) & kPortA20) != 0 && callbacks_.a20) callbacks_.a20((value & kPortA20) != 0);
    if ((value & kPortReset) == 0) {
        state_.output_port |= kPortReset;
        if (callbacks_.reset) callbacks_.reset();
    }
}

void I8042::write_command(u8 command) {
    state_.status |= kLastWasCommand;
    state_.pending_command = 0;
    if (command >= 0x20 && command <= 0x3f) return put(state_.ram[command & 0x1f], 0);
    if (command >= 0x60 && command <= 0x7f) {
        state_.pending_command = command;
        return;
    }
    if (command >= 0xf0) {  // pulses the output port bits that are 0 in the low nibble
        if ((command & kPortReset) == 0 && callbacks_.reset) callbacks_.reset();
        return;
    }
    switch (command) {
        case 0xa7:
            state_.ram[0] |= kCommandNoAux;
            break;
        case 0xa8:
            state_.ram[0] = static_cast<u8>(state_.ram[0] & ~kCommandNoAux);
            refill();
            break;
        case 0xa9:
            put(0x00, 0);
            break;  // auxiliary interface test: no fault in the interface itself
        case 0xaa:
            state_.status |= kSystemFlag;
            state_.ram[0] |= kCommandSystem;
            put(0x55, 0);
            break;
        case 0xab:
            put(0x00, 0);
            break;
        case 0xad:
            state_.ram[0] |= kCommandNoKeyboard;
            break;
        case 0xae:
            state_.ram[0] = static_cast<u8>(state_.ram[0] & ~kCommandNoKeyboard);
            refill();
            break;
        case 0xc0:
            put(0x80, 0);
            break;  // input port: keyboard not locked
        case 0xd0:
            put(state_.output_port, 0);
            break;
        case 0xd1:
        case 0xd2:
        case 0xd3:
        case 0xd4:
            state_.pending_command = command;
            break;
        default:
            break;  // unknown commands have no answer
    }
}

void I8042::write_data(u8 value) {
    const u8 command = state_.pending_command;
    state_.pending_command = 0;
    state_.status = static_cast<u8>(state_.status & ~kLastWasCommand);
    if (command >= 0x60 && command <= 0x7f) {
        state_.ram[command & 0x1f] = value;
        if (command == 0x60) {
            state_.status = static_cast<u8>((state_.status & ~kSystemFlag) | (value & kCommandSystem));
            update_irqs();
            refill();
        }
        return;
    }
    switch (command) {
        case 0xd1:
            write_output_port(value);
            break;
        case 0xd2:
            put(value, 0);
            break;
        case 0xd3:
            put(value, kFromAux);
            break;
        case 0xd4:
            send(mouse_, value, kCommandNoAux, kFromAux);
            break;
        default:
            send(keyboard_, value, kCommandNoKeyboard, 0);
            break;
    }
}

}  // namespace vg::devices
