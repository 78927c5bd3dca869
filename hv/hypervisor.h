// The hypervisor: owns the partitions, the logical processors and the pages it keeps for itself.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "hv/device_guard.h"
#include "hv/page_ledger.h"
#include "hv/partition.h"
#include "hv/partition_node.h"
#include "mmu/physical_memory.h"

namespace vg::hv {

/// Who runs VPs: the machine. Called when the hypervisor makes one and before it destroys it, also in the middle of
/// another VP's hypercall.
class VpHost {
  public:
    virtual ~VpHost() = default;
    virtual void vp_created(cpu::Vp& vp) = 0;
    virtual void vp_destroyed(cpu::Vp& vp) = 0;
};

/// A processor of the machine as the root partition starts it (K-151).
struct LogicalProcessor {
    u32 apic_id = 0;
    bool added = false;
};

/// What a guest as root partition may do to the machine.
struct RootEvents {
    std::function<void()> power_off;  ///< EnterSleepState(S5)
};

/// The root partition: it sees the machine's memory at its own addresses, less what the hypervisor keeps.
struct RootConfig {
    PartitionConfig partition;      ///< profile C-93 is `root_partition_config()`
    std::vector<u32> apic_ids;      ///< one for each logical processor; the first one runs VP 0
    bool root_scheduler = false;
    RootEvents events;
};
/// Profile C-93.
[[nodiscard]] PartitionConfig root_partition_config();
/// A child that is offered all that a guest can make use of: profile C-91 but for StartVirtualProcessor (C-42), which
/// stock kernels do not use. A default PartitionConfig is what a kernel needs to boot (C-90).
[[nodiscard]] PartitionConfig full_partition_config();

class Hypervisor {
  public:
    static constexpr std::size_t kMaxPartitions = 256;  ///< at a time; each is an object of the host
    static constexpr std::size_t kMaxVps = 512;         ///< of all partitions: each costs the host a few hundred KiB
    static constexpr u32 kMaxVpsPerPartition = 256;
    /// The root's space ends here, or with the processors' physical addresses if they end before: what the builder of
    /// second-level tables reaches. DEVIATION: a root with wider addresses sees nothing above.
    static constexpr unsigned kRootSpaceBits = 46;
    /// Private pages that tables of such a space take before anything of it is split.
    static constexpr u64 kRootSpacePages = 160;

    /// @param private_memory  RAM range of `memory` that only the hypervisor uses: second-level tables, overlay pages.
    Hypervisor(mmu::PhysicalMemory& memory, EventQueue& events, Log& log, Spa private_memory, u64 private_size);
    ~Hypervisor();
    Hypervisor(const Hypervisor&) = delete;
    Hypervisor& operator=(const Hypervisor&) = delete;

    /// Private memory that `partition_ram` bytes of guest memory with `vp_count` VPs need at most, in whole pages:
    /// a guest can move overlay pages about until every large mapping is split.
    [[nodiscard]] static u64 private_bytes(u64 partition_ram, u32 vp_count);
    void set_vp_host(VpHost* host) { vp_host_ = host; }
    [[nodiscard]] VpHost* vp_host() const { return vp_host_; }
    /// Puts the devices of the root partition under the hypervisor's rule (the machine, once it knows them). Without it
    /// their DMA is not checked.
    void set_device_guard(std::unique_ptr<DeviceGuard> guard) { device_guard_ = std::move(guard); }
    [[nodiscard]] DeviceGuard* device_guard() const { return device_guard_.get(); }

    /// A child of the built-in parent. The private memory must hold at least the root table and the partition's overlay
    /// pages (asserted).
    Partition& create_partition(PartitionConfig config, InterceptSink& sink);
    /// The root partition, once. `model` is that of all logical processors; VP 0 exists afterwards.
    Partition& create_root(RootConfig config, InterceptSink& sink, const cpu::CpuModel& model);

    [[nodiscard]] PartitionNode* root() const { return root_; }
    [[nodiscard]] PartitionNode* find_node(u64 partition_id) const;
    [[nodiscard]] Partition* find(u64 partition_id) const;
    [[nodiscard]] const std::vector<std::unique_ptr<PartitionNode>>& nodes() const { return nodes_; }
    [[nodiscard]] std::size_t vp_count() const;

    // ---- life cycle of the root's children (K-120..K-122)
    /// NoResources beyond kMaxPartitions.
    HvStatus create_child(PartitionNode& parent, const CreatePartitionIn& in, u64& partition_id);
    HvStatus initialize(PartitionNode& node);
    /// Frees VPs, mappings, ports. Every page that was in use can be withdrawn afterwards.
    HvStatus finalize(PartitionNode& node);
    /// The node is gone afterwards.
    HvStatus remove(PartitionNode& node);

    // ---- statistics pages (K-177): of the root's own deposits, seen in its space while they are mapped
    struct StatsKey {
        u32 type = 0, vp_index = 0;
        u64 id = 0;
        auto operator<=>(const StatsKey&) const = default;
    };
    /// InsufficientMemory: the root has deposited too little with itself. A page that is mapped is returned again.
    HvStatus map_stats(const StatsKey& key, Spa& page);
    HvStatus unmap_stats(const StatsKey& key);

    [[nodiscard]] std::vector<LogicalProcessor>& logical_processors() { return logical_processors_; }
    [[nodiscard]] const RootConfig& root_config() const { return root_config_; }
    [[nodiscard]] const cpu::CpuModel& root_model() const { return *root_model_; }
    [[nodiscard]] PageLedger& ledger() { return ledger_; }

    /// A zeroed private page, or an Error (Host) when the range is used up.
    Result<Spa> allocate_page();
    void free_page(Spa page);
    [[nodiscard]] u64 free_private_pages() const {
        return free_pages_.size() + (end_.value - next_page_.value) / kPageSize;
    }
    [[nodiscard]] Spa private_base() const { return first_; }
    [[nodiscard]] u64 private_size() const { return end_.value - first_.value; }
    [[nodiscard]] bool is_private(Spa page) const { return page >= first_ && page < end_; }

    [[nodiscard]] mmu::PhysicalMemory& memory() { return memory_; }
    [[nodiscard]] EventQueue& events() { return events_; }
    [[nodiscard]] Log& log() { return log_; }
    void fields(StateVisitor& v);

  private:
    mmu::PhysicalMemory& memory_;
    EventQueue& events_;
    Log& log_;
    VpHost* vp_host_ = nullptr;
    std::unique_ptr<DeviceGuard> device_guard_;
    Spa first_, next_page_, end_;
    std::vector<Spa> free_pages_;
    PageLedger ledger_;
    RootConfig root_config_;
    const cpu::CpuModel* root_model_ = nullptr;
    std::vector<LogicalProcessor> logical_processors_;
    std::map<StatsKey, Spa> stats_pages_;
    std::vector<std::unique_ptr<PartitionNode>> nodes_;  // parents before their children
    PartitionNode* root_ = nullptr;
    u64 next_partition_id_ = 1;
};

}  // namespace vg::hv
