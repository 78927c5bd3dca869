// fw_cfg: how a board hands data to firmware (QEMU documentation "QEMU Firmware Configuration (fw_cfg) Device").
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "devices/core/device.h"
#include "mmu/dma.h"

namespace vg::devices {

/// A 16-bit selector at offset 0, a data byte at offset 1 that advances through the selected item; and, once the board
/// has given it memory, DMA by the address register at offset 4 (64 bits, big endian; its low half starts). Items are
/// read-only; past an item's end and in unknown items all bytes are zero.
class FwCfg final : public Device, public PortIo {
  public:
    static constexpr u16 kPort = 0x510;
    static constexpr u32 kPortCount = 2;
    static constexpr u32 kDmaPortCount = 12;  ///< with the address register
    /// Well-known selectors.
    enum Key : u16 {
        kSignature = 0x00,
        kId = 0x01,
        kRamSize = 0x03,
        kNoGraphics = 0x04,
        kCpuCount = 0x05,
        kMaxCpus = 0x0f,
        kFileDirectory = 0x19,
        kFirstFile = 0x20
    };

    FwCfg();

    [[nodiscard]] std::string_view name() const override { return "fw_cfg"; }
    void reset() override { state_ = State{}; }
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

    /// Offers DMA, into this memory, which outlives the device.
    void enable_dma(mmu::Dma& memory);

    /// Sets an item; replaces an earlier one.
    void set(u16 key, std::vector<u8> content) { items_[key] = std::move(content); }
    /// Sets a little-endian number of `bytes` bytes.
    void set_number(u16 key, u64 value, unsigned bytes);
    /// Adds a named file ("etc/e820") and lists it in the directory. Names have 1..55 bytes and are unique.
    void add_file(const std::string& name, std::vector<u8> content);

  private:
    struct State {
        u16 selector = 0;
        u32 position = 0;
        u32 dma_high = 0;
    };
    void rebuild_directory();
    /// Copies from the selected item, with zeroes behind its end.
    void take(std::span<u8> out);
    void run_dma(u64 address);
    [[nodiscard]] bool transfer(u32 control, u32 length, u64 address);

    std::map<u16, std::vector<u8>> items_;
    std::map<std::string, u16> files_;
    mmu::Dma* memory_ = nullptr;
    State state_;
};

}  // namespace vg::devices
