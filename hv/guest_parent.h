// What stands in for devices of a guest parent's child: nothing. Its accesses become intercept messages before anybody
// could answer them; what has no message of its own is reported here.
#pragma once

#include "hv/partition.h"

namespace vg::hv {

class GuestParent final : public InterceptSink {
  public:
    explicit GuestParent(PartitionNode& child) : child_(child) {}

    u32 port_read(Vp&, u16, unsigned) override { return ~u32{0}; }
    void port_write(Vp&, u16, unsigned, u32) override {}
    bool mmio_read(Vp&, Gpa, unsigned, u64&) override { return false; }
    bool mmio_write(Vp&, Gpa, unsigned, u64) override { return false; }
    /// There is no message for HV_X64_MSR_RESET: the VP stops as after a triple fault, which parents answer by a reset.
    void partition_reset(Vp& vp) override;
    void partition_shutdown(Vp& vp) override;
    void partition_crashed(Vp& vp) override;

  private:
    PartitionNode& child_;
};

}  // namespace vg::hv
