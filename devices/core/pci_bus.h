// A host bridge and the functions behind it: configuration accesses, memory and port windows, interrupt pins.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/core/port_window.h"
#include "devices/core/requester.h"

namespace vg::devices {

/// The root of the PCI hierarchy. Routes by bus, device and function; functions sit on bus 0 (root complex integrated
/// endpoints). Base addresses have an effect only inside the windows, so that a guest cannot put one over RAM or a
/// chip.
///
/// Interrupt pins: pin p (0 is INTA) of device d drives input (d + p) modulo the number of inputs, or p if the device is
/// one that the chipset wires itself; the board's _PRT says so.
class PciBus final : public Device {
  public:
    struct Range {
        u64 base = 0, size = 0;
    };
    struct Windows {
        Range low, high;  ///< memory, below and above 4 GiB; either may be empty
        Range ports;      ///< at most up to 0x10000
    };
    static constexpr u64 kEcamBytesPerBus = 1 << 20;

    /// @param upstream  what functions reach memory and interrupt controllers by
    /// @param inputs    interrupt controller inputs that the pins share, level-triggered; at least one
    /// @param first_wired  devices from this number on are those of the chipset
    PciBus(Upstream& upstream, const Windows& windows, const std::vector<IrqLine*>& inputs, u32 first_wired = 32);
    ~PciBus() override;

    /// The place for a new function, to build its device with. Each once.
    [[nodiscard]] PciSlot slot(u32 device, u32 function = 0);
    /// The function answers from now on. It was built with a slot of this bus, outlives it, and attached once.
    /// Functions 1..7 of a device need its function 0, described with set_multi_function().
    void attach(PciFunction& function);
    [[nodiscard]] const std::map<Rid, PciFunction*>& functions() const { return functions_; }
    /// The interrupt input that the pin (1 INTA .. 4 INTD) of a device drives, as an index into `inputs`.
    [[nodiscard]] u32 input_of(u32 device, u8 pin) const {
        return ((device < first_wired_ ? device : 0) + pin - 1u) % static_cast<u32>(inputs_.size());
    }

    [[nodiscard]] std::string_view name() const override { return "pci"; }
    /// The bridge's own registers; functions belong to their devices.
    void reset() override;
    void fields(StateVisitor& v) override;

    /// Configuration mechanism #1, four ports each: 0xCF8 (32-bit accesses only) and 0xCFC.
    [[nodiscard]] PortIo& config_address() { return address_port_; }
    [[nodiscard]] PortIo& config_data() { return data_port_; }
    /// The enhanced mechanism: kEcamBytesPerBus for each bus from 0 on, as many as the board maps.
    [[nodiscard]] mmu::MmioHandler& ecam() { return ecam_; }
    [[nodiscard]] mmu::MmioHandler& low_memory() { return low_; }
    [[nodiscard]] mmu::MmioHandler& high_memory() { return high_; }
    [[nodiscard]] PortIo& ports() { return ports_; }
    [[nodiscard]] const Windows& windows() const { return windows_; }

  private:
    /// A pin of one device and the input it shares with others: high while any of them is.
    struct Input {
        IrqLine* line = nullptr;
        u32 asserted = 0;
    };
    class Pin final : public IrqLine {
      public:
        explicit Pin(Input& input) : input_(input) {}
        void set(bool level) override;

      private:
        Input& input_;
        bool level_ = false;
    };
    class Ecam final : public mmu::MmioHandler {
      public:
        explicit Ecam(PciBus& bus) : bus_(bus) {}
        u64 mmio_read(u64 offset, unsigned size) override;
        void mmio_write(u64 offset, unsigned size, u64 value) override;

      private:
        PciBus& bus_;
    };
    class MemoryWindow final : public mmu::MmioHandler {
      public:
        MemoryWindow(PciBus& bus, const Range& range) : bus_(bus), range_(range) {}
        u64 mmio_read(u64 offset, unsigned size) override;
        void mmio_write(u64 offset, unsigned size, u64 value) override;

      private:
        PciBus& bus_;
        const Range& range_;
    };
    struct Claim {
        PciFunction* function;
        PciFunction::Decode decode;
    };

    [[nodiscard]] u32 config_read(Rid rid, u32 offset, unsigned size) const;
    void config_write(Rid rid, u32 offset, unsigned size, u32 value);
    [[nodiscard]] bool selected(u16 port_offset, unsigned size, u32& reg) const;
    /// Collects what all functions claim, inside the windows, in order of their requester ids.
    void update_claims();
    [[nodiscard]] const Claim* find(u64 address, bool io) const;
    [[nodiscard]] u64 memory_read(u64 address, unsigned size);
    void memory_write(u64 address, unsigned size, u64 value);

    Upstream& upstream_;
    Windows windows_;
    std::vector<Input> inputs_;
    u32 first_wired_;
    std::map<Rid, std::unique_ptr<Pin>> pins_;
    std::map<Rid, PciFunction*> functions_;
    std::vector<Claim> claims_;
    PortWindow address_port_, data_port_, ports_;
    Ecam ecam_{*this};
    MemoryWindow low_, high_;
    u32 address_ = 0;
};

}  // namespace vg::devices
