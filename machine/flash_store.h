// What a flash chip of the board holds: pages of switched memory, kept in a file of the user's.
#pragma once

#include <memory>

#include "devices/cfi_flash.h"
#include "devices/storage/block_file.h"
#include "mmu/physical_memory.h"

namespace vg::machine {

/// Writes reach the file at once, so that they are there whatever ends the process.
class FlashStore final : public devices::CfiFlash::Array {
  public:
    /// @param size  of the switched RAM region at `base`
    FlashStore(mmu::PhysicalMemory& memory, Spa base, u64 size);
    /// Creates the file with this content if it is missing, and writes there from now on. Error: it cannot be written.
    Result<void> keep_in(const std::string& path, std::span<const u8> content);
    Result<void> flush() { return file_ != nullptr ? file_->sync() : Result<void>{}; }

    void read(u64 offset, std::span<u8> out) override;
    void write(u64 offset, std::span<const u8> data) override;

  private:
    [[nodiscard]] const mmu::Region& region() const;

    mmu::PhysicalMemory& memory_;
    Spa base_;
    u64 size_;
    std::unique_ptr<devices::BlockFile> file_;
};

}  // namespace vg::machine
