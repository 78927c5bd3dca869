// Linear frame buffer display: a PCI function with its memory and the Bochs display interface, without VGA.
#pragma once

#include <array>

#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/spec/dispi.h"
#include "mmu/dma.h"

namespace vg::devices {

/// 32 bits per pixel (blue in the lowest byte), any size that fits into the memory up to kMaxWidth by kMaxHeight.
///
/// The display memory is RAM of the board at `home`, so that a base address there costs nothing; at other places
/// accesses go through this device.
class Display final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kMemoryBytes = 16 << 20;
    static constexpr u64 kRegisterBytes = 0x1000;
    static constexpr u32 kMemoryBar = 0, kRegisterBar = 2;
    static constexpr u16 kMaxWidth = 2560, kMaxHeight = 1600;

    struct Mode {
        bool on = false;
        u32 width = 0, height = 0, stride_bytes = 0;
        u64 offset = 0;  ///< of the first pixel in the display memory
    };

    /// @param memory  what reaches the display memory, kMemoryBytes at `home`
    Display(const PciSlot& slot, mmu::Dma& memory, Iova home);

    /// What is shown. Always within the display memory.
    [[nodiscard]] Mode mode() const;
    /// Sets a mode as firmware does.
    void set_mode(u16 width, u16 height);

    [[nodiscard]] std::string_view name() const override { return "display"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    /// The registers.
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    /// The memory BAR at another place than home.
    class Window final : public mmu::MmioHandler {
      public:
        explicit Window(Display& display) : display_(display) {}
        u64 mmio_read(u64 offset, unsigned size) override;
        void mmio_write(u64 offset, unsigned size, u64 value) override;

      private:
        Display& display_;
    };
    using Registers = std::array<u16, dispi::kRegisterCount>;

    static Registers fresh();
    [[nodiscard]] u16 read_register(u32 index) const;
    void write_register(u32 index, u16 value);
    void clear();

    mmu::Dma& memory_;
    Iova home_;
    Window window_{*this};
    PciFunction pci_;
    Registers registers_ = fresh();
};

}  // namespace vg::devices
