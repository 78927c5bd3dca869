// The board of the bare PC as the root partition's hypervisor level sees it.
#pragma once

#include <functional>
#include <utility>

#include "cpu/platform.h"
#include "hv/partition.h"

namespace vg::machine {

/// Passes what the root's processors ask for on to the board that would serve them without a hypervisor. The root's
/// memory is the machine's, so nothing of it comes here but accesses to what the hypervisor keeps: nobody answers those.
class RootSink final : public hv::InterceptSink {
  public:
    /// @param board  the platform of a processor without hypervisor
    RootSink(cpu::Platform& board, std::function<void()> reset) : board_(board), reset_(std::move(reset)) {}

    u32 port_read(hv::Vp& vp, u16 port, unsigned size) override;
    void port_write(hv::Vp& vp, u16 port, unsigned size, u32 value) override;
    bool mmio_read(hv::Vp&, Gpa, unsigned, u64&) override { return false; }
    bool mmio_write(hv::Vp&, Gpa, unsigned, u64) override { return false; }
    void partition_reset(hv::Vp&) override { reset_(); }
    void partition_shutdown(hv::Vp& vp) override;
    void partition_crashed(hv::Vp&) override {}  // it is logged; what follows is the guest's decision
    int acknowledge_external(hv::Vp& vp) override;
    cpu::FerrAnswer ferr(hv::Vp& vp, bool active) override;

  private:
    cpu::Platform& board_;
    std::function<void()> reset_;
};

}  // namespace vg::machine
