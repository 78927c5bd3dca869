// Interval timer of a PC with the speaker port that gates its third channel (Intel 8254 data sheet).
#pragma once

#include <array>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/core/port_window.h"

namespace vg::devices {

/// Three counters at 1193182 Hz of virtual time. Counter 0 drives `irq0` with its output.
///
/// DEVIATION: in mode 3 a new count takes effect at the end of the full cycle, not of the half cycle.
class Pit8254 final : public Device, public PortIo {
  public:
    static constexpr u16 kPort = 0x40;
    static constexpr u32 kPortCount = 4;
    static constexpr u16 kSpeakerPort = 0x61;
    static constexpr u64 kHz = 1'193'182;

    Pit8254(EventQueue& events, IrqLine& irq0);

    [[nodiscard]] std::string_view name() const override { return "pit"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;
    /// Port 0x61: bit 0 gate of counter 2, bit 1 speaker data, bit 4 refresh toggle, bit 5 output of counter 2.
    [[nodiscard]] PortIo& speaker_port() { return speaker_port_; }

  private:
    struct Channel {
        u8 mode = 0;
        u8 access = 3;  ///< 1 low byte, 2 high byte, 3 low then high
        bool bcd = false;
        bool gate = true;
        bool loaded = false;     ///< a full count was written since the mode
        bool triggered = false;  ///< modes 1 and 5: the gate rose
        u32 count = 0;           ///< in clocks, 1..65536
        u32 next_count = 0;      ///< modes 2 and 3: takes over at the end of the cycle; 0: none
        u64 start = 0;           ///< clock at which counting began
        u64 stopped_at = 0;      ///< clocks counted when the gate closed (modes 0 and 4)
        bool write_high = false, read_high = false;
        u8 low_byte = 0;
        bool count_latched = false, status_latched = false;
        u16 latched_count = 0;
        u8 latched_status = 0;
    };
    struct State {
        std::array<Channel, 3> channels{};
        u8 speaker = 0;
        bool irq_level = false;
        State() { channels[2].gate = false; }
    };

    [[nodiscard]] u64 clock() const;
    [[nodiscard]] static u64 elapsed(const Channel& c, u64 now);
    static void settle(Channel& c, u64 now);
    [[nodiscard]] static bool output(const Channel& c, u64 now);
    [[nodiscard]] static u16 counter(const Channel& c, u64 now);
    /// Clock of the next change of the output after `now`, or all-ones.
    [[nodiscard]] static u64 next_change(const Channel& c, u64 now);
    [[nodiscard]] static u8 status(const Channel& c, u64 now);

    void write_control(u8 value);
    void write_count(Channel& c, u8 value);
    void load(Channel& c, u16 value);
    u8 read_counter(Channel& c);
    void set_gate(Channel& c, bool open);
    void update();

    EventQueue& events_;
    IrqLine& irq_;
    EventQueue::TimerId timer_;
    PortWindow speaker_port_;
    State state_;
};

}  // namespace vg::devices
