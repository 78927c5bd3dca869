// Device tables for whoever owns a remapping unit from the host's side: the hypervisor, when the unit is its own and
// the parent partition runs as a guest.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "base/result.h"
#include "iommu/vtd.h"
#include "mmu/slat_builder.h"

namespace vg::iommu {

/// Builds root and context tables in pages of its owner and programs the unit as a driver would: by its registers, so
/// that it is the same unit with the same rules. A device reaches what its domain's second-level table maps, or
/// nothing: one that is not attached is refused.
///
/// A domain is a 4-level table in second-stage or EPT format (iommu/spec/slpte.h says where they agree), such as the
/// one of a partition (mmu::SlatBuilder::root). The table stays its owner's, who calls `flush` after every change that
/// removes or narrows a mapping, and before the pages are used for something else.
class DeviceDomains {
  public:
    /// @param unit  4-level capable, not in use by anybody else; its registers must be out of every guest's reach.
    /// @param allocate_page  zeroed RAM pages that no device's domain maps
    DeviceDomains(mmu::PhysicalMemory& memory, Vtd& unit, mmu::SlatBuilder::AllocatePage allocate_page,
                  mmu::SlatBuilder::FreePage free_page);
    /// Frees the tables and leaves the unit refusing every device.
    ~DeviceDomains();
    DeviceDomains(const DeviceDomains&) = delete;
    DeviceDomains& operator=(const DeviceDomains&) = delete;

    /// Makes the root table and turns translation on: from now on every device that is not attached is refused.
    /// Error: what `allocate_page` said.
    [[nodiscard]] Result<void> enable();
    /// Lets requester `rid` reach what the table at `root` maps. `root` may carry an EPTP's attribute bits 11:0, which
    /// are ignored. Devices that share a `domain` (1..65535) must share the table. Replaces an earlier attachment.
    /// Error (Usage): domain 0, a table above the unit's address width, or not enabled; else what `allocate_page` said.
    [[nodiscard]] Result<void> attach(u16 rid, u16 domain, u64 root);
    /// Refuses the device again. Nothing happens if it is not attached.
    void detach(u16 rid);
    /// Forgets what the unit has cached of a domain's table.
    void flush(u16 domain);
    /// The same for [iova, iova+size), size > 0. What the unit's page-selective invalidations cannot express is flushed
    /// with the whole domain.
    void flush(u16 domain, Iova iova, u64 size);

    /// From now on the unit says when it has recorded a fault, by a message to its event sink; what is in the message
    /// says nothing.
    void report_faults();
    struct Faults {
        std::vector<Fault> list;  ///< oldest first, at most Vtd::kFaultRecords
        bool overflow = false;    ///< there were more than the unit could record
    };
    /// Takes the faults out of the unit's registers, so that it can record others. Allowed in the event sink.
    [[nodiscard]] Faults take_faults();

    /// What the tables in memory were made from.
    void fields(StateVisitor& v);

    /// Attached devices and their domains.
    [[nodiscard]] const std::map<u16, u16>& attached() const { return attached_; }
    /// Pages that the device tables occupy.
    [[nodiscard]] u64 table_pages() const { return (root_ != 0 ? 1 : 0) + context_tables_.size(); }

  private:
    void write32(u32 offset, u32 value) { unit_.mmio_write(offset, 4, value); }
    void write64(u32 offset, u64 value) { unit_.mmio_write(offset, 8, value); }
    Result<u64> context_table(u8 bus);
    void set_context(u16 rid, u64 table, const ContextEntry& entry);
    void invalidate_contexts(u64 command);
    void invalidate_iotlb(u64 command);
    void use_root(u64 root);

    mmu::PhysicalMemory& memory_;
    Vtd& unit_;
    mmu::SlatBuilder::AllocatePage allocate_page_;
    mmu::SlatBuilder::FreePage free_page_;
    u64 root_ = 0;
    std::map<u8, u64> context_tables_;  // by bus
    std::map<u16, u16> attached_;
};

}  // namespace vg::iommu
