// The machine's devices under the hypervisor: its remapping unit, programmed so that they reach what the root partition
// does.
#pragma once

#include <map>
#include <memory>
#include <span>

#include "base/log.h"
#include "base/result.h"
#include "devices/core/irq.h"
#include "hv/device_guard.h"
#include "hv/hypervisor.h"
#include "iommu/domains.h"
#include "iommu/vtd.h"

namespace vg::machine {

/// Every function is in the root's domain, whose table is the root's own second-level table. A domain's number is its
/// partition's id. Interrupts are not remapped: the root programs what K-221 answers, which is the identity.
class RootDevices final : public hv::DeviceGuard, private devices::MessageSink {
  public:
    /// @param unit     in nobody's address space; outlives this object
    /// @param devices  requester ids of the root's functions
    /// Error: no private page left.
    static Result<std::unique_ptr<RootDevices>> create(hv::Hypervisor& hypervisor, iommu::Vtd& unit,
                                                       std::span<const u16> devices);
    ~RootDevices() override;

    void flush(u64 partition_id, Gpa gpa, u64 size) override;
    void fields(StateVisitor& v) override;

    [[nodiscard]] const iommu::DeviceDomains& domains() const { return domains_; }
    /// Refused transfers by requester id. What the last ones were is in the unit's history.
    [[nodiscard]] const std::map<u16, u64>& faults() const { return faults_; }
    /// Faults that came while the unit's registers were full.
    [[nodiscard]] u64 lost_faults() const { return lost_faults_; }

  private:
    RootDevices(hv::Hypervisor& hypervisor, iommu::Vtd& unit);
    /// The unit's fault event.
    void send(u64 address, u32 data) override;

    hv::Hypervisor& hypervisor_;
    iommu::Vtd& unit_;
    iommu::DeviceDomains domains_;
    u16 root_domain_;
    std::map<u16, u64> faults_;  // at most one for each function of the board
    u64 lost_faults_ = 0;
    RateLimit complaints_{20};
};

}  // namespace vg::machine
