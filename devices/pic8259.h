// The two interrupt controllers of a PC (Intel 8259A data sheet; edge/level registers as in the ICH9 data sheet).
#pragma once

#include <array>

#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/core/port_window.h"

namespace vg::devices {

/// Master and slave, cascaded through input 2.
///
/// DEVIATION: an edge is latched until it is acknowledged, also if the line falls before; the real chip would answer
/// the acknowledge cycle with a spurious vector 7.
class PicPair final : public Device {
  public:
    static constexpr u16 kMasterPort = 0x20, kSlavePort = 0xa0, kElcrPort = 0x4d0;  // two ports each

    /// `intr` is high while an interrupt waits for `acknowledge`.
    explicit PicPair(IrqLine& intr);

    [[nodiscard]] std::string_view name() const override { return "pic"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    [[nodiscard]] PortIo& master_ports() { return ports_[0]; }
    [[nodiscard]] PortIo& slave_ports() { return ports_[1]; }
    [[nodiscard]] PortIo& elcr_ports() { return elcr_ports_; }

    /// Inputs 0..15; 2 is the cascade and not connected.
    [[nodiscard]] IrqLine& line(u32 index);
    [[nodiscard]] bool pending() const;
    /// The processor's acknowledge cycle: the vector of the highest request, or a spurious one (input 7).
    u8 acknowledge();

  private:
    struct Chip {
        u8 irr = 0, isr = 0, imr = 0;
        u8 lines = 0;  ///< levels of the inputs
        u8 elcr = 0;   ///< 1: level-triggered
        u8 vector_base = 0;
        u8 lowest = 7;     ///< input with the lowest priority
        u8 next_word = 0;  ///< initialization word that the data port expects; 0: none
        bool single = false, needs_word4 = false;
        bool read_isr = false, poll = false;
        bool special_mask = false, auto_eoi = false, rotate_on_auto_eoi = false, fully_nested_special = false;
    };
    class Line final : public IrqLine {
      public:
        Line() = default;
        void set(bool level) override { owner->set_line(index, level); }
        PicPair* owner = nullptr;
        u32 index = 0;
    };

    [[nodiscard]] u8 requests(unsigned chip) const;
    /// Input that may interrupt now, or -1.
    [[nodiscard]] int highest(unsigned chip) const;
    void acknowledge_input(unsigned chip, unsigned input);
    void set_line(u32 index, bool level);
    IoStatus read(unsigned chip, u16 offset, unsigned size, u32& value);
    IoStatus write(unsigned chip, u16 offset, unsigned size, u32 value);
    void write_command(Chip& chip, u8 value);
    void write_data(Chip& chip, u8 value);
    void end_of_interrupt(Chip& chip, u8 command);
    void update();

    IrqLine& intr_;
    std::array<PortWindow, 2> ports_;
    PortWindow elcr_ports_;
    std::array<Line, 16> lines_;
    std::array<Chip, 2> chips_{};
};

}  // namespace vg::devices
