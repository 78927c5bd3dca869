// What the AHCI driver needs of the system that it runs on, so that it also runs in tests on the host.
#pragma once

#include "base/types.h"

namespace vg::parent {

/// One AHCI function and what is around it. All calls on the processor that takes its interrupts, which are off outside
/// wait().
class AhciSystem {
  public:
    /// Physically contiguous memory.
    struct Memory {
        u8* bytes = nullptr;  ///< null: there is none
        u64 address = 0;      ///< as the device has it
    };
    /// What the function writes where to interrupt.
    struct Message {
        u64 address = 0;
        u16 data = 0;
    };

    virtual ~AhciSystem() = default;

    /// Configuration space of the function: 1, 2 or 4 bytes, aligned.
    [[nodiscard]] virtual u32 config_read(u32 offset, u32 size) = 0;
    virtual void config_write(u32 offset, u32 size, u32 value) = 0;
    /// Makes base address register 5 reachable at `address`. False: it is not.
    [[nodiscard]] virtual bool map_registers(u64 address) = 0;
    /// Its registers.
    [[nodiscard]] virtual u32 read(u32 offset) = 0;
    virtual void write(u32 offset, u32 value) = 0;

    /// Zeroed pages that the device may read and write, kept for good.
    [[nodiscard]] virtual Memory allocate(u64 pages) = 0;
    /// Where the device reaches [data, data + size), if that is contiguous memory that it may use; else 0.
    [[nodiscard]] virtual u64 device_address(const void* data, u64 size) = 0;

    [[nodiscard]] virtual Message message() = 0;
    [[nodiscard]] virtual u64 now_100ns() = 0;
    /// Returns when an interrupt has come, at `deadline_100ns` at the latest; may return earlier.
    virtual void wait(u64 deadline_100ns) = 0;
};

}  // namespace vg::parent
