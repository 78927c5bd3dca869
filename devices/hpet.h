// High precision event timer block (IA-PC HPET 1.0a).
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/spec/hpet.h"

namespace vg::devices {

/// A 64-bit counter of 100 MHz and three comparators, each one-shot or periodic, without message interrupts. A
/// comparator interrupts at most once per microsecond, however short its period.
class Hpet final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kBase = 0xfed00000, kSize = 0x1000;
    static constexpr u64 kTickNs = 10;
    static constexpr u32 kTimerCount = 3;
    static constexpr u32 kIdentity =
        0x8086a201;  ///< low half of the capabilities: vendor, legacy routes, 64 bits, 3 timers

    struct Wiring {
        IrqLine& irq0;  ///< with legacy replacement: timer 0
        IrqLine& irq8;  ///< and timer 1
        /// Interrupt inputs 0..31 that a timer may be routed to otherwise; null: not possible.
        std::array<IrqLine*, 32> routes{};
        /// Told when the legacy timers are cut off from their lines (true), or get them back.
        std::function<void(bool replaced)> legacy;
    };

    Hpet(EventQueue& events, Wiring wiring);

    [[nodiscard]] std::string_view name() const override { return "hpet"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    struct Timer {
        u64 configuration = hpet::kCanPeriodic | hpet::kCan64;
        u64 comparator = ~u64{0};
        u64 period = 0;
        bool high = false;  // its line, level-triggered
    };
    struct State {
        u64 configuration = 0, status = 0;
        u64 counter = 0;  // at started_at, or for good while it is off
        VTime started_at = 0;
        std::array<Timer, kTimerCount> timers{};
    };

    [[nodiscard]] bool on() const { return (state_.configuration & hpet::kEnable) != 0; }
    [[nodiscard]] u64 counter() const;
    [[nodiscard]] u64 read_register(u64 offset) const;
    void write_register(u64 offset, u64 value, u64 mask);
    void write_timer(u32 index, u64 offset, u64 value, u64 mask);
    void configure(u64 value);
    void expire(u32 index);
    void arm(u32 index, VTime earliest);
    void arm_all();
    [[nodiscard]] IrqLine* line_of(u32 index) const;
    void drive(u32 index);
    void drive_all();

    EventQueue& events_;
    Wiring wiring_;
    std::array<EventQueue::TimerId, kTimerCount> ids_{};
    State state_;
};

}  // namespace vg::devices
