#include "machine/root_devices.h"

#include <fmt/format.h>

#include "base/assert.h"
#include "base/state.h"

namespace vg::machine {

RootDevices::RootDevices(hv::Hypervisor& hypervisor, iommu::Vtd& unit)
    : hypervisor_(hypervisor),
      unit_(unit),
      domains_(
          hypervisor.memory(), unit, [&hypervisor] { return hypervisor.allocate_page(); },
          [&hypervisor](Spa page) { hypervisor.free_page(page); }),
      root_domain_(static_cast<u16>(hypervisor.root()->id)) {
    VG_ASSERT(root_domain_ == hypervisor.root()->id);
    unit_.set_event_sink(this);
}

RootDevices::~RootDevices() { unit_.set_event_sink(nullptr); }

Result<std::unique_ptr<RootDevices>> RootDevices::create(hv::Hypervisor& hypervisor, iommu::Vtd& unit,
                                                         std::span<const u16> devices) {
    std::unique_ptr<RootDevices> made(new RootDevices(hypervisor, unit));
    if (auto ok = made->domains_.enable(); !ok) return Unexpected{ok.error()};
    const u64 table = hypervisor.root()->partition->slat().root;
    for (const u16 rid : devices) {
        if (auto ok = made->domains_.attach(rid, made->root_domain_, table); !ok) return Unexpected{ok.error()};
    }
    made->domains_.report_faults();
    return made;
}

void RootDevices::flush(u64 partition_id, Gpa gpa, u64 size) {
    if (partition_id == root_domain_) domains_.flush(root_domain_, Iova(gpa.value), size);
}

void RootDevices::send(u64, u32) {
    const iommu::DeviceDomains::Faults taken = domains_.take_faults();
    if (taken.overflow) ++lost_faults_;
    for (const iommu::Fault& fault : taken.list) {
        if (domains_.attached().contains(fault.rid)) ++faults_[fault.rid];
        if (complaints_.pass()) {
            hypervisor_.log().warn(Area::Hv, "a device of partition {} was refused: {}", root_domain_,
                                   iommu::describe(fault));
        }
    }
}

void RootDevices::fields(StateVisitor& v) {
    domains_.fields(v);
    v("lost_faults", lost_faults_, Fmt::Dec);
    for (const auto& [rid, domain] : domains_.attached()) {
        VisitScope scope(v, iommu::rid_text(rid));
        u64 count = 0;
        if (const auto found = faults_.find(rid); found != faults_.end()) count = found->second;
        v("faults", count, Fmt::Dec);
        if (v.loading() && count != 0) faults_[rid] = count;
    }
}

}  // namespace vg::machine
