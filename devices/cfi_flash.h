// A NOR flash chip that is programmed by the Intel command set, as UEFI firmware's variable driver wants it (Intel
// "28F640J3" data sheet; JEDEC JEP137 command set 0001).
#pragma once

#include <array>
#include <functional>
#include <span>

#include "devices/core/device.h"

namespace vg::devices {

/// Eight bits wide, erased in blocks. While it shows its array, reads do not come here; all writes do.
///
/// DEVIATION: the status register is 0 after it was cleared, as in QEMU's chip, and not "ready": OVMF's driver knows
/// flash by that. What the chip does is done at once.
class CfiFlash final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u32 kBlockBytes = 4096;

    /// The chip's content.
    class Array {
      public:
        virtual ~Array() = default;
        virtual void read(u64 offset, std::span<u8> out) = 0;
        /// Where it is kept, if it is kept.
        virtual void write(u64 offset, std::span<const u8> data) = 0;
    };
    /// Whether reads see the array from now on.
    using Show = std::function<void(bool array)>;

    /// @param size  bytes, a multiple of kBlockBytes
    CfiFlash(u64 size, Array& array, Show show);

    [[nodiscard]] std::string_view name() const override { return "flash"; }
    /// The content stays.
    void reset() override;
    void fields(StateVisitor& v) override;
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    enum class Mode : u8 { Array, Status, Identity, Query };
    /// What the next write is.
    enum class Wait : u8 { Command, Program, EraseConfirm, BufferCount, BufferData, BufferConfirm, Lock };
    static constexpr u32 kBuffer = 32;
    struct State {
        Mode mode = Mode::Array;
        Wait wait = Wait::Command;
        u8 status = 0;
        u32 left = 0;
        bool filled = false;
        u64 buffer_base = 0;
        std::array<u8, kBuffer> buffer{};
    };
    [[nodiscard]] u8 read_byte(u64 offset) const;
    void write_byte(u64 offset, u8 value);
    void command(u64 offset, u8 value);
    void set_mode(Mode mode);
    void program(u64 offset, std::span<const u8> data);

    u64 size_;
    Array& array_;
    Show show_;
    State state_;
};

}  // namespace vg::devices
