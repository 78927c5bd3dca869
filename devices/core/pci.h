// A PCI function: configuration space, base addresses, capabilities, interrupts, and the gate in front of its DMA.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/state.h"
#include "devices/core/io.h"
#include "devices/core/irq.h"
#include "devices/core/msix.h"
#include "devices/core/requester.h"
#include "devices/spec/pci.h"
#include "mmu/dma.h"
#include "mmu/physical_memory.h"

namespace vg::devices {

/// A place on a bus, as the board gives it to a device: who it is and what it reaches. The references outlive the
/// device.
struct PciSlot {
    Rid rid;
    mmu::Dma& dma;
    MessageSink& messages;
    IrqLine& intx;
};

/// The PCI side of a device, which owns it and hands it to its bus. A device describes itself by the calls of
/// "Description" in its constructor; afterwards the guest drives the configuration space, and the device moves data by
/// dma() and raises interrupts by set_intx() and signal().
class PciFunction {
  public:
    struct Identity {
        u16 vendor = 0, device = 0;
        u32 class_code = 0;  ///< base class, sub-class, programming interface: 24 bits
        u8 revision = 0;
        u16 subsystem_vendor = 0, subsystem = 0;
    };
    enum class Memory : u8 { Bits32, Bits64, Bits64Prefetchable };

    PciFunction(const PciSlot& slot, const Identity& identity);
    PciFunction(const PciFunction&) = delete;
    PciFunction& operator=(const PciFunction&) = delete;

    // ---- Description. `index` is the base address register, 0..5; 64-bit ones take two. Sizes are powers of two.
    /// At least 16 bytes. Handlers see offsets within the BAR, accesses of 1, 2, 4 or 8 bytes that do not leave it.
    void add_memory_bar(u32 index, u64 size, Memory kind, mmu::MmioHandler& handler);
    /// 4..256 ports.
    void add_io_bar(u32 index, u32 size, PortIo& handler);
    /// D0 and D3hot; state survives D3hot.
    void add_power_management();
    /// 1, 2, 4, 8, 16 or 32 vectors.
    void add_msi(u32 vectors);
    /// 1..2048 vectors; table and pending bits at these offsets (multiples of 8) of a memory BAR described before.
    /// There, the device's own handler is not asked.
    void add_msix(u32 vectors, u32 bar, u32 table_offset, u32 pba_offset);
    /// Root complex integrated endpoint. `function_reset` brings the device back to its reset state, reset() included;
    /// null: no function level reset.
    void add_express(std::function<void()> function_reset);
    /// Interrupt pin 1 (INTA) .. 4.
    void set_interrupt_pin(u8 pin);
    /// A register of the device's own. `writable` are the bits that the guest may change.
    void set_register(u32 offset, unsigned size, u32 value, u32 writable = 0);
    /// A vendor specific capability: `body` follows its length byte. Returns its offset.
    u32 add_vendor_capability(std::span<const u8> body);
    /// Functions 1..7 are there too.
    void set_multi_function();
    /// Told of every write to configuration space, after it has had its effect.
    void on_config_write(std::function<void(u32 offset, unsigned size)> observer) { write_observer_ = std::move(observer); }
    /// Supplies what the guest reads from these registers in place of what is stored, side effects included.
    void on_config_read(u32 offset, unsigned size, std::function<u32(u32 offset, unsigned size)> reader);

    // ---- For the device.
    /// Memory as this function reaches it; refuses everything while bus mastering is off.
    [[nodiscard]] mmu::Dma& dma() { return gate_; }
    /// Level of the interrupt pin. Has an effect on the line only while messages are off and the pin is not disabled.
    void set_intx(bool level);
    /// Sends vector's message, or keeps it pending while it is masked. Nothing while messages are off. With MSI, a
    /// vector beyond those the guest allowed is folded onto them.
    void signal(u32 vector);
    [[nodiscard]] bool messages_enabled() const { return msi_enabled() || msix_enabled(); }
    [[nodiscard]] bool msix_enabled() const;
    /// Vectors that the guest lets this function use: 1 unless MSI with several, or MSI-X, is on.
    [[nodiscard]] u32 enabled_vectors() const;
    /// The value of a configuration register as the guest would read it, without side effects.
    [[nodiscard]] u32 peek(u32 offset, unsigned size) const;
    /// Power-on state: what was described, base addresses zero, nothing enabled.
    void reset();
    void fields(StateVisitor& v);

    // ---- For the bus.
    [[nodiscard]] Rid rid() const { return slot_.rid; }
    /// A configuration access of 1, 2 or 4 bytes, naturally aligned, below pci::kConfigSize.
    [[nodiscard]] u32 config_read(u32 offset, unsigned size);
    void config_write(u32 offset, unsigned size, u32 value);

    /// A range that the function claims at present: its BAR with this address, and decoding is on.
    struct Decode {
        u64 base, size;
        u32 bar;
        bool io;
    };
    [[nodiscard]] const std::vector<Decode>& decodes() const { return decodes_; }
    /// An access within one decode: `offset` is relative to its base.
    u64 memory_read(u32 bar, u64 offset, unsigned size);
    void memory_write(u32 bar, u64 offset, unsigned size, u64 value);
    [[nodiscard]] PortIo& io_handler(u32 bar) const { return *bars_[bar].ports; }
    /// Told whenever decodes() may have changed.
    void on_decode_change(std::function<void()> observer) { decode_observer_ = std::move(observer); }

  private:
    struct Bar {
        u64 size = 0;  // 0: not there, or the upper half of a 64-bit one
        bool io = false, wide = false;
        mmu::MmioHandler* memory = nullptr;
        PortIo* ports = nullptr;
    };
    /// Bus Master Enable: "Controls the ability of a Function to issue Memory and I/O Read/Write Requests" (PCIe
    /// §7.5.1.1.3).
    class Gate final : public mmu::Dma {
      public:
        explicit Gate(PciFunction& function) : function_(function) {}
        [[nodiscard]] bool read(Iova address, void* out, u64 size) override;
        [[nodiscard]] bool write(Iova address, const void* data, u64 size) override;

      private:
        PciFunction& function_;
    };

    u32 add_capability(u8 id, u32 size);
    void poke(u32 offset, unsigned size, u32 value);
    [[nodiscard]] u16 command() const { return static_cast<u16>(peek(pci::kCommand, 2)); }
    [[nodiscard]] bool may_master() const { return (command() & pci::kBusMaster) != 0; }
    [[nodiscard]] bool msi_enabled() const;
    void send(u64 address, u32 data);
    void send_pending_msi();
    void update_intx();
    void update_decodes();
    void after_write(u32 offset, unsigned size, u32 value);
    [[nodiscard]] bool in_msix(u32 bar, u64 offset) const { return msix_ && msix_bar_ == bar && msix_->claims(offset); }

    PciSlot slot_;
    Gate gate_{*this};
    std::array<u8, pci::kConfigSize> config_{};    // what the guest reads
    std::array<u8, pci::kConfigSize> initial_{};   // at reset
    std::array<u8, pci::kConfigSize> writable_{};  // bits that it may change
    std::array<u8, pci::kConfigSize> clears_{};    // bits that writing a one clears
    std::array<Bar, pci::kBarCount> bars_{};
    std::vector<Decode> decodes_;
    std::function<void()> decode_observer_, function_reset_;
    std::function<void(u32, unsigned)> write_observer_;
    std::function<u32(u32, unsigned)> reader_;
    u32 reader_at_ = 0, reader_size_ = 0;
    std::unique_ptr<MsixTable> msix_;
    u32 msix_bar_ = 0;
    u32 next_capability_ = 0x40, last_link_ = pci::kCapabilities;
    u32 power_ = 0, msi_ = 0, msix_cap_ = 0, express_ = 0;  // offsets of capabilities; 0: not there
    bool intx_ = false;
};

}  // namespace vg::devices
