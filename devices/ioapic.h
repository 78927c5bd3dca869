// I/O APIC (Intel 82093AA data sheet; EOI register as in version 0x20 parts, Intel ICH9 data sheet "I/O APIC").
#pragma once

#include <vector>

#include "devices/core/device.h"
#include "devices/core/irq.h"

namespace vg::devices {

/// Turns lines into interrupt messages. Polarity bits are stored and otherwise ignored: `set(true)` on a line always
/// means "asserted", whichever voltage that is on a real board.
class Ioapic final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kSize = 0x1000;
    static constexpr u32 kVersion = 0x20;

    /// @param pins 1..120.
    /// @param sink receives address FEE00000 | RTE[63:48] << 4 | destination mode << 2, so that a remappable-format
    ///             entry (VT-d 4.1 §5.1.5) becomes a remappable-format message without further knowledge here.
    explicit Ioapic(MessageSink& sink, u32 pins = 24);

    [[nodiscard]] std::string_view name() const override { return "ioapic"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

    /// Input pin `index`, which must exist.
    [[nodiscard]] IrqLine& line(u32 index);
    [[nodiscard]] u32 pin_count() const { return static_cast<u32>(lines_.size()); }
    /// A local APIC finished this vector: level-triggered entries that wait for it may fire again.
    void eoi(u8 vector);

  private:
    class Line final : public IrqLine {
      public:
        Line(Ioapic& chip, u32 index) : chip_(chip), index_(index) {}
        void set(bool level) override { chip_.set_line(index_, level); }

      private:
        Ioapic& chip_;
        u32 index_;
    };
    struct State {
        u8 index = 0;
        u8 id = 0;
        std::vector<u64> entries;
        std::vector<u8> levels;
    };

    [[nodiscard]] State fresh() const;
    void set_line(u32 index, bool level);
    [[nodiscard]] u32 read_register() const;
    void write_register(u32 value);
    void write_entry(u32 index, u64 value);
    /// Fires a level-triggered entry that is asserted, unmasked and not waiting for an EOI.
    void service_level(u32 index);
    void send(u64 entry);

    MessageSink& sink_;
    std::vector<Line> lines_;
    State state_;
};

}  // namespace vg::devices
