// Processors of a machine by partition and index, and their linear memory as it is at this moment.
#pragma once

#include "cpu/vp.h"
#include "machine/machine.h"
#include "ui/model/linear_view.h"
#include "ui/model/symbol_source.h"

namespace vg::hv {
class Vp;
}

namespace vg::model {

/// A processor and, in a partition, what the hypervisor has around it.
struct PlacedVp {
    cpu::Vp* processor = nullptr;
    hv::Vp* vp = nullptr;  ///< null on a bare PC
};
/// Nothing (processor is null) if there is no such partition or VP.
[[nodiscard]] PlacedVp placed_vp(machine::Machine& machine, SymbolPlace place);

/// Linear memory through a VP's page tables, read as a supervisor. Keeps the last translation: for as long as the
/// machine stands still.
class VpLinearView final : public LinearView {
  public:
    explicit VpLinearView(cpu::Vp& vp);
    /// The same memory through other tables.
    VpLinearView(cpu::Vp& vp, u64 cr3);

    bool read(u64 address, void* out, std::size_t size) const override;
    std::vector<LinearRange> mapped(u64 first, u64 last) const override;

    [[nodiscard]] const mmu::PagingMode& mode() const { return mode_; }
    /// What the upper half of the address space is known by, whatever is in the lower half: the top table's last entry
    /// without its accessed bits. 0: not in 4-level paging, or nothing is mapped there.
    [[nodiscard]] u64 kernel_half() const;
    /// Guest-physical memory of the same VP.
    [[nodiscard]] bool read_physical(u64 gpa, void* out, std::size_t size) const;

    using LinearView::read;

  private:
    [[nodiscard]] const u8* page(u64 address) const;
    void collect(u64 table, unsigned level, u64 base, LinearRange wanted, unsigned& budget,
                 std::vector<LinearRange>& out) const;

    mmu::PhysicalMemory& memory_;
    mmu::PagingMode mode_;
    mmu::SlatMode slat_;
    mutable u64 cached_page_ = ~u64{0};
    mutable const u8* cached_host_ = nullptr;
};

}  // namespace vg::model
