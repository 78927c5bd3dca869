#include "devices/acpi_pm.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"

namespace vg::devices {

namespace {

constexpr u16 kTimerStatus = 1 << 0, kPowerButton = 1 << 8;
constexpr u16 kStatusBits = 0x8731;  // WAK, RTC, SLPBTN, PWRBTN, GBL, BM, TMR: written ones clear
constexpr u16 kEnableBits = 0x0721;
constexpr u16 kSciEnable = 1 << 0;
constexpr u16 kControlBits = 0x1c03;   // SLP_TYP, BM_RLD, SCI_EN; GBL_RLS and SLP_EN read as zero
constexpr u8 kSleepEnableHigh = 0x20;  // SLP_EN, bit 13, in the register's high byte

u64 ticks_at(VTime now) { return static_cast<u64>(u128{now} * AcpiPm::kTimerHz / kVTimeHz); }
VTime time_of_tick(u64 tick) {
    return static_cast<VTime>((u128{tick} * kVTimeHz + AcpiPm::kTimerHz - 1) / AcpiPm::kTimerHz);
}

}  // namespace

AcpiPm::AcpiPm(EventQueue& events, IrqLine& sci, Sleep sleep)
    : events_(events),
      sci_(sci),
      sleep_(std::move(sleep)),
      wrap_timer_(events.add("acpi_pm/timer_status", [this](VTime) { update(); })) {}

void AcpiPm::reset() {
    state_ = State{};
    events_.cancel(wrap_timer_);
    sci_.set(false);
}

void AcpiPm::fields(StateVisitor& v) {
    v("status", state_.status, Fmt::Bin);
    v("enable", state_.enable, Fmt::Bin);
    v("control", state_.control, Fmt::Bin);
    v("wraps_seen", state_.wraps_seen, Fmt::Dec);
    v("sci_level", state_.sci_level);
}

u32 AcpiPm::timer() const { return static_cast<u32>(ticks_at(events_.now())); }

u64 AcpiPm::top_bit_changes() const { return ticks_at(events_.now()) >> 31; }

void AcpiPm::collect_timer_status() {
    const u64 changes = top_bit_changes();
    if (changes == state_.wraps_seen) return;
    state_.wraps_seen = changes;
    state_.status |= kTimerStatus;
}

void AcpiPm::update() {
    collect_timer_status();
    const bool wanted = (state_.enable & kTimerStatus) != 0 && (state_.status & kTimerStatus) == 0;
    if (wanted) {
        events_.arm(wrap_timer_, time_of_tick((state_.wraps_seen + 1) << 31));
    } else {
        events_.cancel(wrap_timer_);
    }
    const bool level = (state_.control & kSciEnable) != 0 && (state_.status & state_.enable) != 0;
    if (level == state_.sci_level) return;
    state_.sci_level = level;
    sci_.set(level);
}

void AcpiPm::press_power_button() {
    state_.status |= kPowerButton;
    update();
}

IoStatus AcpiPm::port_read(u16 offset, unsigned size, u32& value) {
    if (offset % size != 0) return IoStatus::Unaligned;
    if (!fits(offset, size, kPortCount)) return IoStatus::NoRegister;
    collect_timer_status();
    std::array<u8, kPortCount> image{};
    const u32 now = timer();
    std::memcpy(&image[0], &state_.status, 2);
    std::memcpy(&image[2], &state_.enable, 2);
    std::memcpy(&image[4], &state_.control, 2);
    std::memcpy(&image[8], &now, 4);
    value = 0;
    std::memcpy(&value, &image[offset], size);
    return IoStatus::Ok;
}

void AcpiPm::write_byte(u16 offset, u8 value) {
    const unsigned low = (offset & 1) * 8;
    const auto replace = [&](u16& field, u16 writable) {
        field = static_cast<u16>(with_bits(field, low + 7, low, value) & writable);
    };
    switch (offset / 2) {
        case 0:
            state_.status = static_cast<u16>(state_.status & ~((value << low) & kStatusBits));
            break;
        case 1:
            replace(state_.enable, kEnableBits);
            break;
        case 2:
            replace(state_.control, kControlBits);
            break;
        default:
            break;  // the timer is read-only
    }
}

IoStatus AcpiPm::port_write(u16 offset, unsigned size, u32 value) {
    if (offset % size != 0) return IoStatus::Unaligned;
    if (!fits(offset, size, kPortCount)) return IoStatus::NoRegister;
    collect_timer_status();
    bool sleep = false;
    for (unsigned i = 0; i < size; ++i) {
        const u8 byte = static_cast<u8>(value >> (i * 8));
        write_byte(static_cast<u16>(offset + i), byte);
        sleep = sleep || (offset + i == kControlOffset + 1 && (byte & kSleepEnableHigh) != 0);
    }
    update();
    if (sleep && sleep_) sleep_(static_cast<u8>(bits(state_.control, 12, 10)));
    return IoStatus::Ok;
}

}  // namespace vg::devices
