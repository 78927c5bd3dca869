// The hypervisor: owns the partitions and the pages it keeps for itself.
#pragma once

#include <memory>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "hv/partition.h"
#include "mmu/physical_memory.h"

namespace vg::hv {

class Hypervisor {
  public:
    /// @param private_memory  RAM range of `memory` that only the hypervisor uses: second-level tables, overlay pages.
    Hypervisor(mmu::PhysicalMemory& memory, EventQueue& events, Log& log, Spa private_memory, u64 private_size);
    ~Hypervisor();
    Hypervisor(const Hypervisor&) = delete;
    Hypervisor& operator=(const Hypervisor&) = delete;

    /// Private memory that `partition_ram` bytes of guest memory with `vp_count` VPs need at most, in whole pages:
    /// a guest can move overlay pages about until every large mapping is split.
    [[nodiscard]] static u64 private_bytes(u64 partition_ram, u32 vp_count);

    /// The private memory must hold at least the root table and the partition's overlay pages (asserted).
    Partition& create_partition(PartitionConfig config, InterceptSink& sink);
    [[nodiscard]] Partition* find(u64 partition_id) const;
    [[nodiscard]] const std::vector<std::unique_ptr<Partition>>& partitions() const { return partitions_; }

    /// A zeroed private page, or an Error (Host) when the range is used up.
    Result<Spa> allocate_page();
    void free_page(Spa page);

    [[nodiscard]] mmu::PhysicalMemory& memory() { return memory_; }
    [[nodiscard]] EventQueue& events() { return events_; }
    [[nodiscard]] Log& log() { return log_; }
    void fields(StateVisitor& v);

  private:
    mmu::PhysicalMemory& memory_;
    EventQueue& events_;
    Log& log_;
    Spa next_page_;
    Spa end_;
    std::vector<Spa> free_pages_;
    std::vector<std::unique_ptr<Partition>> partitions_;
    u64 next_partition_id_ = 1;
};

}  // namespace vg::hv
