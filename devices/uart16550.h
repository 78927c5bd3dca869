// 16550A serial port (National Semiconductor PC16550D data sheet).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "devices/core/device.h"
#include "devices/core/irq.h"

namespace vg::devices {

/// Eight byte-wide registers. The line is infinitely fast: the transmitter is always empty, and the receive FIFO is
/// refilled from a queue as soon as the guest has drained it, so the host cannot cause an overrun.
class Uart16550 final : public Device, public PortIo {
  public:
    using Output = std::function<void(u8)>;

    /// Bytes that wait for the guest beyond the chip's own FIFO; `receive` refuses more.
    static constexpr std::size_t kMaxQueued = 64 * 1024;
    static constexpr u32 kPortCount = 8;

    /// `output` is called for each byte sent, from the guest's access. An empty function drops them.
    Uart16550(std::string name, IrqLine& irq, Output output);

    [[nodiscard]] std::string_view name() const override { return name_; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

    /// Bytes arrive on the line. Returns how many were taken; the rest does not fit into the queue.
    std::size_t receive(std::span<const u8> bytes);
    /// True if the guest has read everything that was received.
    [[nodiscard]] bool drained() const { return state_.fifo.empty() && state_.queue.empty(); }

  private:
    struct State {
        u8 ier = 0;
        u8 fcr = 0;
        u8 lcr = 0;
        u8 mcr = 0;
        u8 overrun = 0;  // LSR bit 1 as stored; the other LSR bits are derived
        u8 msr_delta = 0;
        u8 scr = 0;
        u16 divisor = 0;
        bool thre_pending = false;
        bool irq_level = false;
        std::vector<u8> fifo;
        std::vector<u8> queue;
    };

    [[nodiscard]] bool dlab() const { return (state_.lcr & 0x80) != 0; }
    [[nodiscard]] std::size_t fifo_capacity() const;
    [[nodiscard]] std::size_t trigger_level() const;
    [[nodiscard]] u8 line_status() const;
    [[nodiscard]] u8 modem_lines() const;
    [[nodiscard]] u8 interrupt_id() const;
    u8 read_receiver();
    u8 read_interrupt_id();
    void write_transmitter(u8 value);
    void write_fifo_control(u8 value);
    void write_modem_control(u8 value);
    void refill();
    void update_irq();

    std::string name_;
    IrqLine& irq_;
    Output output_;
    State state_;
};

}  // namespace vg::devices
