#include "devices/uart16550.h"

#include <algorithm>

#include "base/bits.h"

namespace vg::devices {

namespace {

enum Register : u16 { kData = 0, kIer = 1, kIirFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6, kScr = 7 };

constexpr u8 kIerReceive = 0x01, kIerThre = 0x02, kIerLine = 0x04, kIerModem = 0x08, kIerMask = 0x0f;
constexpr u8 kIirNone = 0x01, kIirModem = 0x00, kIirThre = 0x02, kIirReceive = 0x04, kIirLine = 0x06,
             kIirTimeout = 0x0c, kIirFifos = 0xc0;
constexpr u8 kFcrEnable = 0x01, kFcrClearReceive = 0x02, kFcrStored = 0xc9;
constexpr u8 kMcrDtr = 0x01, kMcrRts = 0x02, kMcrOut1 = 0x04, kMcrOut2 = 0x08, kMcrLoop = 0x10, kMcrMask = 0x1f;
constexpr u8 kLsrData = 0x01, kLsrOverrun = 0x02, kLsrThre = 0x20, kLsrEmpty = 0x40;
constexpr u8 kMsrCts = 0x10, kMsrDsr = 0x20, kMsrRi = 0x40, kMsrDcd = 0x80;
constexpr u8 kMsrTrailingRi = 0x04;

}  // namespace

Uart16550::Uart16550(std::string name, IrqLine& irq, Output output)
    : name_(std::move(name)), irq_(irq), output_(std::move(output)) {}

void Uart16550::reset() {
    state_ = State{};
    irq_.set(false);
}

void Uart16550::fields(StateVisitor& v) {
    State& s = state_;
    v("ier", s.ier, Fmt::Bin);
    v("fcr", s.fcr, Fmt::Bin);
    v("lcr", s.lcr, Fmt::Bin);
    v("mcr", s.mcr, Fmt::Bin);
    v("overrun", s.overrun);
    v("msr_delta", s.msr_delta, Fmt::Bin);
    v("scr", s.scr);
    v("divisor", s.divisor, Fmt::Dec);
    v("thre_pending", s.thre_pending);
    v("irq_level", s.irq_level);
    v("fifo", s.fifo, 16);
    v("queue", s.queue, kMaxQueued);
}

std::size_t Uart16550::fifo_capacity() const { return (state_.fcr & kFcrEnable) != 0 ? 16 : 1; }

std::size_t Uart16550::trigger_level() const {
    static constexpr u8 kLevels[] = {1, 4, 8, 14};
    return (state_.fcr & kFcrEnable) != 0 ? kLevels[state_.fcr >> 6] : 1;
}

u8 Uart16550::line_status() const {
    return static_cast<u8>(kLsrThre | kLsrEmpty | (state_.fifo.empty() ? 0 : kLsrData) | state_.overrun);
}

u8 Uart16550::modem_lines() const {
    if ((state_.mcr & kMcrLoop) == 0) return kMsrDcd | kMsrDsr | kMsrCts;
    return static_cast<u8>(((state_.mcr & kMcrRts) != 0 ? kMsrCts : 0) | ((state_.mcr & kMcrDtr) != 0 ? kMsrDsr : 0) |
                           ((state_.mcr & kMcrOut1) != 0 ? kMsrRi : 0) | ((state_.mcr & kMcrOut2) != 0 ? kMsrDcd : 0));
}

// PC16550D, table "Interrupt Control Functions": the highest priority comes first. A FIFO below its trigger level
// reports the character timeout at once, since the line is never in the middle of a character.
u8 Uart16550::interrupt_id() const {
    if ((state_.ier & kIerLine) != 0 && state_.overrun != 0) return kIirLine;
    if ((state_.ier & kIerReceive) != 0 && !state_.fifo.empty()) {
        return state_.fifo.size() >= trigger_level() ? kIirReceive : kIirTimeout;
    }
    if ((state_.ier & kIerThre) != 0 && state_.thre_pending) return kIirThre;
    if ((state_.ier & kIerModem) != 0 && state_.msr_delta != 0) return kIirModem;
    return kIirNone;
}

// On a PC, OUT2 gates the interrupt pin; in loopback the OUT2 pin is inactive.
void Uart16550::update_irq() {
    const bool gate = (state_.mcr & (kMcrOut2 | kMcrLoop)) == kMcrOut2;
    const bool level = gate && interrupt_id() != kIirNone;
    if (level == state_.irq_level) return;
    state_.irq_level = level;
    irq_.set(level);
}

void Uart16550::refill() {
    if (!state_.fifo.empty() || state_.queue.empty() || (state_.mcr & kMcrLoop) != 0) return;
    const std::size_t count = std::min(fifo_capacity(), state_.queue.size());
    const auto end = state_.queue.begin() + static_cast<std::ptrdiff_t>(count);
    state_.fifo.assign(state_.queue.begin(), end);
    state_.queue.erase(state_.queue.begin(), end);
}

std::size_t Uart16550::receive(std::span<const u8> bytes) {
    const std::size_t taken = std::min(bytes.size(), kMaxQueued - state_.queue.size());
    state_.queue.insert(state_.queue.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    refill();
    update_irq();
    return taken;
}

u8 Uart16550::read_receiver() {
    if (state_.fifo.empty()) return 0;
    const u8 value = state_.fifo.front();
    state_.fifo.erase(state_.fifo.begin());
    refill();
    return value;
}

u8 Uart16550::read_interrupt_id() {
    const u8 id = interrupt_id();
    if (id == kIirThre) state_.thre_pending = false;  // reading the source clears it
    return static_cast<u8>(id | ((state_.fcr & kFcrEnable) != 0 ? kIirFifos : 0));
}

void Uart16550::write_transmitter(u8 value) {
    state_.thre_pending = true;  // empty again at once
    if ((state_.mcr & kMcrLoop) == 0) {
        if (output_) output_(value);
        return;
    }
    if (state_.fifo.size() < fifo_capacity()) {
        state_.fifo.push_back(value);
        return;
    }
    // The FIFO keeps what it has; a receiver without FIFO is overwritten. PC16550D, LSR bit 1.
    state_.overrun = kLsrOverrun;
    if (fifo_capacity() == 1) state_.fifo.front() = value;
}

void Uart16550::write_fifo_control(u8 value) {
    const bool mode_changes = ((value ^ state_.fcr) & kFcrEnable) != 0;
    if (mode_changes || ((value & kFcrEnable) != 0 && (value & kFcrClearReceive) != 0)) state_.fifo.clear();
    // "FCR0 must be a 1 when other FCR bits are written to or they will not be programmed."
    state_.fcr = (value & kFcrEnable) != 0 ? value & kFcrStored : 0;
    refill();
}

void Uart16550::write_modem_control(u8 value) {
    const u8 before = modem_lines();
    state_.mcr = value & kMcrMask;
    const u8 after = modem_lines();
    u8 delta = static_cast<u8>((before ^ after) >> 4);
    // The ring indicator reports only its trailing edge.
    if ((after & kMsrRi) != 0) delta = static_cast<u8>(delta & ~kMsrTrailingRi);
    state_.msr_delta |= delta;
    refill();
}

IoStatus Uart16550::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    switch (offset) {
        case kData:
            value = dlab() ? state_.divisor & 0xff : read_receiver();
            break;
        case kIer:
            value = dlab() ? state_.divisor >> 8 : state_.ier;
            break;
        case kIirFcr:
            value = read_interrupt_id();
            break;
        case kLcr:
            value = state_.lcr;
            break;
        case kMcr:
            value = state_.mcr;
            break;
        case kLsr:
            value = line_status();
            state_.overrun = 0;
            break;
        case kMsr:
            value = modem_lines() | state_.msr_delta;
            state_.msr_delta = 0;
            break;
        case kScr:
            value = state_.scr;
            break;
        default:
            return IoStatus::NoRegister;
    }
    update_irq();
    return IoStatus::Ok;
}

IoStatus Uart16550::port_write(u16 offset, unsigned size, u32 wide) {
    if (size != 1) return IoStatus::BadSize;
    const u8 value = static_cast<u8>(wide);
    switch (offset) {
        case kData:
            if (dlab()) {
                state_.divisor = static_cast<u16>(with_bits(state_.divisor, 7, 0, value));
            } else {
                write_transmitter(value);
            }
            break;
        case kIer:
            if (dlab()) {
                state_.divisor = static_cast<u16>(with_bits(state_.divisor, 15, 8, value));
                break;
            }
            // Enabling the THRE interrupt while the transmitter is empty raises it; drivers rely on it to start
            // sending.
            if ((value & ~state_.ier & kIerThre) != 0) state_.thre_pending = true;
            state_.ier = value & kIerMask;
            break;
        case kIirFcr:
            write_fifo_control(value);
            break;
        case kLcr:
            state_.lcr = value;
            break;
        case kMcr:
            write_modem_control(value);
            break;
        case kLsr:
        case kMsr:
            break;  // factory test and read-only
        case kScr:
            state_.scr = value;
            break;
        default:
            return IoStatus::NoRegister;
    }
    update_irq();
    return IoStatus::Ok;
}

}  // namespace vg::devices
