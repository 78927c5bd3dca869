// A VGA with a linear frame buffer, as a PCI function: IBM's registers and the Bochs display interface. What QEMU calls
// its standard VGA, for which SeaBIOS has a video BIOS.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/core/port_window.h"
#include "devices/spec/dispi.h"
#include "devices/spec/vga.h"
#include "mmu/dma.h"

namespace vg::devices {

/// The display memory is RAM of the board that follows the memory BAR; where it lies is told by `follow`.
///
/// Modes that are shown: text, 16 colours in planes, 256 colours, and those of the display interface with 8 to 32 bits
/// per pixel.
///
/// DEVIATION: the four-colour and two-colour modes of the CGA are shown as 16 colours in planes would be, and split
/// screens and pixel panning are not shown.
class Vga final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kMemoryBytes = 16 << 20;
    static constexpr u64 kRegisterBytes = 0x1000;
    static constexpr u32 kMemoryBar = 0, kRegisterBar = 2;
    static constexpr u64 kWindowBase = 0xa0000, kWindowSize = 0x20000;
    static constexpr u16 kMaxWidth = 2560, kMaxHeight = 1600;

    /// Where the display memory lies from now on: at the BAR's address, or nowhere that a processor reaches (nullopt).
    /// Returns its address.
    using Follow = std::function<Iova(std::optional<u64> bar)>;

    /// QEMU's standard VGA.
    static constexpr PciFunction::Identity kStandard = {.vendor = 0x1234,
                                                        .device = 0x1111,
                                                        .class_code = 0x030000,
                                                        .revision = 2,
                                                        .subsystem_vendor = 0x1af4,
                                                        .subsystem = 0x1100};
    /// The video of a generation-1 partition: the memory BAR only (row D-98).
    static constexpr PciFunction::Identity kPartition = {.vendor = 0x1414, .device = 0x5353, .class_code = 0x030000};
    /// @param memory  what reaches the display memory, kMemoryBytes from where `follow` says
    Vga(const PciSlot& slot, EventQueue& events, mmu::Dma& memory, Follow follow,
        const PciFunction::Identity& identity = kStandard);

    /// Pixels as 0x00RRGGBB, line by line.
    struct Picture {
        u32 width = 0, height = 0;
        std::vector<u32> pixels;
    };
    /// What is shown; no pixels while the screen is off or in a mode that is not known.
    [[nodiscard]] Picture picture() const;

    [[nodiscard]] std::string_view name() const override { return "display"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    /// The register BAR: VGA ports from 0x400 on, the display interface from dispi::kOffset on.
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;
    /// Ports from vga::kFirstPort on, and the three of the display interface.
    [[nodiscard]] PortIo& vga_ports() { return vga_ports_; }
    [[nodiscard]] PortIo& dispi_ports() { return dispi_ports_; }
    /// The 128 KiB at kWindowBase.
    [[nodiscard]] mmu::MmioHandler& window() { return window_; }

  private:
    struct State {
        std::array<u16, dispi::kRegisterCount> dispi{};
        u16 dispi_index = 0;
        std::array<u8, vga::kSequencerCount> sequencer{};
        std::array<u8, vga::kGraphicsCount> graphics{};
        std::array<u8, vga::kCrtcCount> crtc{};
        std::array<u8, vga::kAttributeCount> attribute{};
        std::array<u8, 768> palette{};
        std::array<u8, 4> latch{};
        u8 sequencer_index = 0, graphics_index = 0, crtc_index = 0, attribute_index = 0;
        bool attribute_data = false;  // the next write to 3C0 is data
        u8 misc = 0, dac_mask = 0xff, dac_index = 0, dac_component = 0, dac_state = 0;
        bool dac_reading = false;
    };
    class Window final : public mmu::MmioHandler {
      public:
        explicit Window(Vga& vga) : vga_(vga) {}
        u64 mmio_read(u64 offset, unsigned size) override;
        void mmio_write(u64 offset, unsigned size, u64 value) override;

      private:
        Vga& vga_;
    };
    /// The memory BAR where the RAM does not follow it.
    class Linear final : public mmu::MmioHandler {
      public:
        explicit Linear(Vga& vga) : vga_(vga) {}
        u64 mmio_read(u64 offset, unsigned size) override;
        void mmio_write(u64 offset, unsigned size, u64 value) override;

      private:
        Vga& vga_;
    };

    static State fresh();
    void follow_bar();
    [[nodiscard]] u8 read_port(u16 port);
    void write_port(u16 port, u8 value);
    [[nodiscard]] bool crtc_here(u16 port) const;
    [[nodiscard]] u8 read_status();
    void write_attribute(u8 value);
    void write_crtc(u8 value);
    [[nodiscard]] u8 read_dac();
    void write_dac(u8 value);
    [[nodiscard]] u16 read_dispi(u32 index) const;
    void write_dispi(u32 index, u16 value);

    /// Byte of the window as an offset in the display memory's 64 KiB planes; false: not decoded.
    [[nodiscard]] bool decode(u64& offset) const;
    [[nodiscard]] u8 read_memory(u64 offset);
    void write_memory(u64 offset, u8 value);
    void write_planes(u64 cell, u8 value);
    [[nodiscard]] u8 peek(u64 at) const;
    void poke(u64 at, u8 value);
    void peek(u64 at, std::span<u8> out) const;

    // vga_picture.cpp
    [[nodiscard]] Picture linear_picture() const;
    [[nodiscard]] Picture text_picture() const;
    [[nodiscard]] Picture planar_picture() const;
    [[nodiscard]] Picture chained_picture() const;
    [[nodiscard]] u32 colour(u8 index) const;
    [[nodiscard]] u32 attribute_colour(u8 index) const;
    [[nodiscard]] u32 lines() const;

    EventQueue& events_;
    mmu::Dma& memory_;
    Follow follow_;
    Window window_{*this};
    Linear linear_{*this};
    PciFunction pci_;
    PortWindow vga_ports_, dispi_ports_;
    Iova home_;  // derived
    State state_ = fresh();
};

}  // namespace vg::devices
