// MC146818-compatible real-time clock with CMOS memory, ports 0x70 and 0x71 (Motorola MC146818 data sheet).
#pragma once

#include <array>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"

namespace vg::devices {

/// The time of day is the configured start plus virtual time; the host's clock is never read. Offsets: 0 is the index
/// port (bit 7, the NMI mask, is kept but has no effect here), 1 the data port.
///
/// While the clock runs, time registers are computed on reading in the current format, so a change of the format bits
/// takes effect at once; the real chip asks software to write all registers again.
class CmosRtc final : public Device, public PortIo {
  public:
    static constexpr u16 kPort = 0x70;
    static constexpr u32 kPortCount = 2;
    static constexpr u32 kSize = 128;
    static constexpr u8 kCentury = 0x32;  ///< FADT.CENTURY

    /// @param start_unix_seconds wall clock (UTC) at virtual time 0; years 1900..9999 are shown correctly.
    CmosRtc(EventQueue& events, IrqLine& irq8, s64 start_unix_seconds);

    [[nodiscard]] std::string_view name() const override { return "cmos_rtc"; }
    /// Power-on: also the battery-backed part returns to the configured start.
    void reset() override;
    /// What the reset line does: interrupts and the square wave off, nothing else.
    void silence();
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

    /// Memory byte as the board's firmware would leave it; `index` 0x0e..0x7f.
    void set_nvram(u8 index, u8 value);
    [[nodiscard]] u8 nvram(u8 index) const;

  private:
    struct State {
        u8 index = 0;
        u8 reg_a = 0x26, reg_b = 0x02, reg_c = 0;
        bool irq_level = false;
        u8 weekday_shift = 0;            // register minus computed day of week, 0..6
        s64 epoch_seconds = 0;           // time of day at the start of the second that began at epoch_vtime
        s64 epoch_ns = 0;                // virtual time of that start; negative if the second began before time 0
        VTime checked = 0;               // flags of register C are right up to here
        std::array<u8, kSize> memory{};  // NVRAM, alarms, and the time registers while the clock is stopped
    };

    [[nodiscard]] State fresh() const;
    [[nodiscard]] bool running() const;
    [[nodiscard]] s64 seconds_at(VTime now) const;
    [[nodiscard]] VTime second_start(s64 seconds) const;
    [[nodiscard]] bool updating(VTime now) const;
    [[nodiscard]] u8 encode(u32 value) const;
    [[nodiscard]] u32 decode(u8 value) const;
    [[nodiscard]] u8 encode_hour(u32 hour) const;
    [[nodiscard]] u32 decode_hour(u8 value) const;
    /// Time registers of `seconds`, into `memory`.
    void store_time(s64 seconds, std::array<u8, kSize>& memory) const;
    [[nodiscard]] s64 parse_time();
    /// Applies a change of registers A or B, stopping or starting the clock.
    void change_control(u8 reg_a, u8 reg_b, VTime now);
    void write_time(u8 index, u8 value, VTime now);
    u8 read_register(u8 index);
    void write_register(u8 index, u8 value);

    /// Virtual time of the first event of each kind after `after`, or kNever.
    [[nodiscard]] VTime next_periodic(VTime after) const;
    [[nodiscard]] VTime next_update(VTime after) const;
    [[nodiscard]] VTime next_alarm(VTime after) const;
    /// Sets the flags of everything that happened up to `now`.
    void collect(VTime now);
    /// Drives the line and arms the next event that would raise it.
    void update();

    EventQueue& events_;
    IrqLine& irq_;
    s64 start_;
    EventQueue::TimerId timer_;
    State state_;
};

}  // namespace vg::devices
