// Intel 82574L gigabit Ethernet controller, as a PCI function.
#pragma once

#include <array>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/net/frame.h"
#include "devices/spec/e1000e.h"

namespace vg::devices {

/// Moves at most kFramesPerEvent frames and kDescriptorsPerEvent descriptors in one event; the next one comes when
/// those have passed a wire of 1 Gb/s. Frames that arrive wait in the card until the guest has descriptors for them.
///
/// DEVIATION: interrupts are throttled (ITR, EITR), but not delayed (RDTR, RADV, TIDV, TADV).
/// DEVIATION: all frames go to receive queue 0 (no RSS), and none has a time stamp.
/// DEVIATION: no wake-up, no management, no flow control frames; the flash is empty.
class E1000e final : public Device, public mmu::MmioHandler, public NetworkCard {
  public:
    static constexpr u64 kRegisterBytes = 0x20000;
    static constexpr u32 kFramesPerEvent = 16, kDescriptorsPerEvent = 64;
    static constexpr VTime kLatency_ns = 1'000;
    static constexpr VTime kNegotiation_ns = 1'000'000;  ///< from a reset of the PHY to link up
    /// What arrives and waits. A real card has 40 KiB and asks its link partner to pause; here, what feeds the card
    /// asks for receive_room().
    static constexpr u64 kReceiveBufferBytes = 1 << 20;
    /// Of all buffers of one packet that the guest sends; longer ones are lost.
    static constexpr u64 kMaxPacketBytes = 128 * 1024;

    /// @param index  which of the board's cards: names its timers
    E1000e(const PciSlot& slot, EventQueue& events, u32 index, const MacAddress& address);

    [[nodiscard]] std::string_view name() const override { return name_; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    mmu::MmioHandler* mmio() override { return this; }
    /// BAR 0.
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

    void receive(std::span<const u8> frame) override;
    [[nodiscard]] u64 receive_room() const override { return kReceiveBufferBytes - waiting_bytes_; }
    void connect(FrameSink& cable) override { cable_ = &cable; }

  private:
    /// Registers that only hold what is written: see kPlain in the source file.
    static constexpr u32 kPlainCount = 58;
    struct Ring {
        u64 base = 0;
        u32 length = 0, head = 0, tail = 0;
        [[nodiscard]] u32 entries(u32 entry_bytes = e1000e::kDescriptorBytes) const { return length / entry_bytes; }
        /// Descriptors between head and tail; none while either lies outside of the ring.
        [[nodiscard]] u32 available(u32 entry_bytes = e1000e::kDescriptorBytes) const;
    };
    /// A context descriptor (§7.2.6).
    struct Context {
        u8 ip_start = 0, ip_offset = 0, transport_start = 0, transport_offset = 0, header_bytes = 0;
        u16 ip_end = 0, transport_end = 0, mss = 0;
        bool tcp = false, ipv4 = false;
    };
    struct TransmitQueue {
        Ring ring;
        std::array<Context, 2> contexts{};  // of ordinary packets, of those to be segmented
        std::vector<u8> packet;             // gathered so far
        u32 options = 0, command = 0;       // of its first descriptor: `upper`, `lower`
        e1000e::TransmitDescriptor last{};  // its last one
        bool started = false, lost = false;
        bool segmenting = false;    // `last` is the descriptor at the head, and segments of `packet` are being sent
        u32 sent = 0, segment = 0;  // bytes of payload, frames
    };
    struct State {
        u32 ctrl = e1000e::kCtrlAtReset, mdic = 0, eerd = 0, eewr = 0, swsm = 0;
        u32 icr = 0, ims = 0;
        std::array<u32, kPlainCount> plain{};
        std::array<Ring, e1000e::kQueues> receive{};
        std::array<TransmitQueue, e1000e::kQueues> transmit{};
        std::array<u32, e1000e::kMulticastWords> multicast{};
        std::array<u32, e1000e::kVlanWords> vlans{};
        std::array<u32, e1000e::kReceiveAddresses * 2> addresses{};
        std::array<u32, 32> redirection{};
        std::array<u32, 10> rss_key{};
        std::array<u32, e1000e::kStatisticsWords> statistics{};
        std::array<VTime, e1000e::kVectors> next_message{};  // not before
        u32 waiting_vectors = 0;
        u32 next_queue = 0;
        VTime transmit_free_at = 0, receive_free_at = 0;
        u64 time_base = 0;
        VTime time_since = 0;
    };
    /// What a software reset leaves alone.
    struct Lasting {
        std::array<u16, e1000e::kNvmWords> nvm{};
        std::array<u16, e1000e::kPhyRegisters> phy{};
        u32 io_address = 0;
        bool link = true;
    };
    /// The I/O BAR: an address register and a window (§10.2.1.2).
    class IoWindow final : public PortIo {
      public:
        explicit IoWindow(E1000e& card) : card_(card) {}
        IoStatus port_read(u16 offset, unsigned size, u32& value) override;
        IoStatus port_write(u16 offset, unsigned size, u32 value) override;

      private:
        E1000e& card_;
    };
    /// The flash BAR: nothing but erased bytes.
    class Flash final : public mmu::MmioHandler {
      public:
        u64 mmio_read(u64, unsigned size) override;
        void mmio_write(u64, unsigned, u64) override {}
    };

    // e1000e.cpp: registers
    [[nodiscard]] State fresh() const;
    [[nodiscard]] Lasting fresh_lasting() const;
    void software_reset();
    [[nodiscard]] u32 plain(u32 offset) const;
    u32& plain_at(u32 offset);
    u32 read(u32 offset);
    void write(u32 offset, u32 value);
    [[nodiscard]] u32* array_word(u32 offset);
    bool write_ring(u32 offset, u32 value);
    [[nodiscard]] const u32* ring_word(u32 offset, u32& value) const;
    void write_ctrl(u32 value);
    [[nodiscard]] u32 status() const;
    u32 read_statistic(u32 offset);
    void ring_fields(StateVisitor& v, Ring& ring);
    void queue_fields(StateVisitor& v, TransmitQueue& queue);
    void waiting_fields(StateVisitor& v);

    // e1000e_link.cpp: NVM, PHY, clock, statistics
    void write_mdic(u32 value);
    void write_phy(u32 number, u16 value);
    void restart_link(bool comes_up);
    void link_up();
    void read_nvm(u32 value);
    void write_nvm(u32 value);
    [[nodiscard]] u64 system_time() const;
    void set_system_time(u64 value);
    void count(e1000e::Statistic which, u32 by = 1);
    void count_octets(e1000e::Statistic which, u64 bytes);
    void count_frame(std::span<const u8> frame, bool received);

    // e1000e_interrupts.cpp
    void raise(u32 causes);
    void notify(u32 causes);
    void update_pin();
    u32 read_icr();
    void write_icr(u32 value);
    void mask_automatically();
    [[nodiscard]] u32 pending_of(u32 vector) const;
    void try_message(u32 vector);
    void send_message(u32 vector);
    void throttle_over();

    // e1000e_transmit.cpp
    void arm_transmit();
    void transmit_some();
    void stop_transmit();
    void serve(TransmitQueue& queue, u32 number);
    [[nodiscard]] bool fetch(TransmitQueue& queue, u32& frames);
    [[nodiscard]] bool loops_back() const { return (plain(e1000e::kRctl) & 0xc0) == e1000e::kRctlMacLoopback; }
    [[nodiscard]] bool runnable(const TransmitQueue& queue) const;
    static void take_context(TransmitQueue& queue, const e1000e::TransmitDescriptor& descriptor);
    void gather(TransmitQueue& queue, const e1000e::TransmitDescriptor& descriptor);
    void send_packet(TransmitQueue& queue);
    [[nodiscard]] bool send_segments(TransmitQueue& queue, u32& frames);
    void send_frame(std::vector<u8>& frame, const e1000e::TransmitDescriptor& last);
    /// Whether the descriptor was written back.
    bool retire(TransmitQueue& queue, const e1000e::TransmitDescriptor& descriptor);

    // e1000e_receive.cpp
    [[nodiscard]] bool accepts(std::span<const u8> frame) const;
    [[nodiscard]] bool accepts_address(std::span<const u8> frame) const;
    [[nodiscard]] bool accepts_vlan(std::span<const u8> frame) const;
    void arm_receive();
    void receive_some();
    [[nodiscard]] bool deliver(const std::vector<u8>& frame);
    [[nodiscard]] u32 buffer_bytes() const;
    [[nodiscard]] u32 receive_entry_bytes() const;
    [[nodiscard]] bool write_split(u64 at, std::span<const u8> part, u32 status, u16 vlan);
    [[nodiscard]] bool write_single(u64 at, std::span<const u8> part, u32 status, u16 vlan);
    [[nodiscard]] bool packet_split() const;

    std::string name_;
    MacAddress address_;
    EventQueue& events_;
    PciFunction pci_;
    IoWindow io_{*this};
    Flash flash_;
    EventQueue::TimerId transmit_timer_, receive_timer_, throttle_timer_, link_timer_;
    FrameSink* cable_ = nullptr;
    State state_;
    Lasting lasting_;
    std::deque<std::vector<u8>> waiting_;  // frames that have arrived
    u64 waiting_bytes_ = 0;
    u64 wire_bytes_ = 0;  // sent in the present event
};

}  // namespace vg::devices
