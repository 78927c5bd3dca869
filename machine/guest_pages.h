// RAM of a child that is given back to the host and lent again.
#pragma once

#include "base/result.h"
#include "hv/partition.h"
#include "machine/layout.h"
#include "mmu/physical_memory.h"

namespace vg::machine {

/// The RAM of one child: where its guest sees it, and where it is. Addresses are those of `limit` bytes of RAM; how
/// much of it is mapped is the partition's business.
class GuestPages {
  public:
    /// @param ram    system-physical address of all of it
    /// @param limit  bytes
    GuestPages(hv::Partition& partition, mmu::PhysicalMemory& memory, Spa ram, u64 limit)
        : partition_(partition), memory_(memory), ram_(ram), layout_(limit) {}

    /// All of these pages are RAM of the guest.
    [[nodiscard]] bool mapped(u64 first_page, u64 count) const;
    /// None of them is, but all could be.
    [[nodiscard]] bool absent(u64 first_page, u64 count) const;
    /// Takes pages out of the guest's space; the host gets its memory back. mapped(), or false and nothing is done.
    [[nodiscard]] bool take(u64 first_page, u64 count);
    /// Puts zeroed pages back. absent(), or false and nothing is done.
    [[nodiscard]] bool give(u64 first_page, u64 count);
    [[nodiscard]] const RamLayout& layout() const { return layout_; }

  private:
    template <class Visit>
    bool pieces(u64 first_page, u64 count, Visit visit) const;

    hv::Partition& partition_;
    mmu::PhysicalMemory& memory_;
    Spa ram_;
    RamLayout layout_;
};

}  // namespace vg::machine
