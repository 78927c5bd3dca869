// A child's RAM: pages of this system, in pieces of 2 MiB, mapped into the child's space.
#pragma once

#include <vector>

#include "machine/guest_memory.h"
#include "machine/layout.h"
#include "roms/parent/deposits.h"

namespace vg::parent {

/// The pages stay this system's: it reads and writes them directly. What a child has there may change at any time:
/// whoever reads copies first and checks the copy.
class ChildMemory final : public machine::GuestMemory {
  public:
    static constexpr u64 kPiece = u64{2} << 20;

    /// @param bytes  a multiple of kPiece
    explicit ChildMemory(u64 bytes) : bytes_(bytes), layout_(bytes) {}
    ~ChildMemory() override;
    ChildMemory(const ChildMemory&) = delete;
    ChildMemory& operator=(const ChildMemory&) = delete;

    /// Allocates the pages, zeroed. False: this system has not that many in pieces of 2 MiB.
    [[nodiscard]] bool allocate();
    /// Maps them into an initialized partition.
    HvStatus map(u64 partition_id, Deposits& deposits);
    [[nodiscard]] const machine::RamLayout& layout() const { return layout_; }

    [[nodiscard]] bool write(Gpa gpa, std::span<const u8> data) override;
    [[nodiscard]] bool read(Gpa gpa, std::span<u8> out) override;

  private:
    /// Calls `piece(pointer, offset, size)` for each consecutive part; false, with nothing done, if some of it is not
    /// RAM.
    template <class F>
    bool for_each(Gpa gpa, u64 size, F piece) const;
    HvStatus map_range(u64 partition_id, Deposits& deposits, u64 gpa, u64 first_piece, u64 count);

    u64 bytes_;
    machine::RamLayout layout_;
    std::vector<u64> pieces_;  ///< addresses; first those below the gap, then those above 4 GiB
};

}  // namespace vg::parent
