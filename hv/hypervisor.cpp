#include "hv/hypervisor.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "hv/guest_parent.h"
#include "hv/spec/vp_state.h"
#include "hv/vp.h"

namespace vg::hv {
namespace {

constexpr u64 kLargePage = u64{2} << 20, kHugePage = u64{1} << 30;
/// Root and the tables of a sparse layout, hypercall page, reference TSC page.
constexpr u64 kPagesPerPartition = 64;
constexpr u64 kOverlayPagesPerVp = 4;

}  // namespace

PartitionConfig root_partition_config() {
    PartitionConfig config;
    config.name = "root";
    config.privileges = 0x000211ff'00000f7f;
    config.features_edx = 0x00080500;
    config.hints_eax = 0x00000220;
    config.root = true;
    return config;
}

PartitionConfig full_partition_config() {
    PartitionConfig config;
    config.privileges = 0x00100030'0000ae7f;
    config.features_edx = 0x000ac530;
    config.hints_eax = 0x00000e2c;
    return config;
}

Hypervisor::Hypervisor(mmu::PhysicalMemory& memory, EventQueue& events, Log& log, Spa private_memory, u64 private_size)
    : memory_(memory),
      events_(events),
      log_(log),
      first_(Spa(align_up(private_memory.value, kPageSize))),
      next_page_(first_),
      end_(Spa(align_down(private_memory.value + private_size, kPageSize))),
      ledger_(memory) {}

Hypervisor::~Hypervisor() {
    device_guard_.reset();  // no device reaches anything when its table goes
    while (!nodes_.empty()) {
        if (Partition* partition = nodes_.back()->partition.get()) partition->release_shown_pages();
        nodes_.back()->partition.reset();
        nodes_.pop_back();
    }
}

u64 Hypervisor::private_bytes(u64 partition_ram, u32 vp_count) {
    const u64 tables = partition_ram / kLargePage + partition_ram / kHugePage;
    return (tables + kPagesPerPartition + kOverlayPagesPerVp * vp_count) * kPageSize;
}

Partition& Hypervisor::create_partition(PartitionConfig config, InterceptSink& sink) {
    nodes_.push_back(
        std::make_unique<PartitionNode>(*this, next_partition_id_++, nullptr, MemoryPool::Source::Private));
    PartitionNode& node = *nodes_.back();
    node.config = std::move(config);
    node.partition = std::make_unique<Partition>(*this, node, sink);
    return *node.partition;
}

Partition& Hypervisor::create_root(RootConfig config, InterceptSink& sink, const cpu::CpuModel& model) {
    VG_ASSERT(root_ == nullptr && !config.apic_ids.empty());
    root_config_ = std::move(config);
    root_model_ = &model;
    for (const u32 apic_id : root_config_.apic_ids) logical_processors_.push_back({apic_id, false});
    logical_processors_.front().added = true;
    nodes_.push_back(
        std::make_unique<PartitionNode>(*this, next_partition_id_++, nullptr, MemoryPool::Source::Private));
    root_ = nodes_.back().get();
    root_->config = root_config_.partition;
    root_->config.max_vps = static_cast<u32>(root_config_.apic_ids.size());
    root_->partition = std::make_unique<Partition>(*this, *root_, sink);
    Partition& partition = *root_->partition;
    // The whole space at its own addresses: devices may be anywhere in it. What is private stays out.
    const u64 top = u64{1} << std::min<unsigned>(model.physical_bits(), kRootSpaceBits);
    for (const auto& [from, to] : {std::pair(u64{0}, first_.value), std::pair(end_.value, top)}) {
        if (from >= to) continue;
        const auto mapped = partition.map_memory(Gpa(from), Spa(from), to - from, {});
        VG_ASSERT(mapped.has_value());  // less private memory than private_bytes asks for
    }
    partition.show_root_pages();
    partition.create_vp(0, model, logical_processors_.front().apic_id);
    return partition;
}

PartitionNode* Hypervisor::find_node(u64 partition_id) const {
    for (const auto& node : nodes_)
        if (node->id == partition_id) return node.get();
    return nullptr;
}

Partition* Hypervisor::find(u64 partition_id) const {
    const PartitionNode* node = find_node(partition_id);
    return node == nullptr ? nullptr : node->partition.get();
}

std::size_t Hypervisor::vp_count() const {
    std::size_t count = 0;
    for (const auto& node : nodes_)
        if (node->partition != nullptr) count += node->partition->vps().size();
    return count;
}

// ---- the root's children

HvStatus Hypervisor::create_child(PartitionNode& parent, const CreatePartitionIn& in, u64& partition_id) {
    if (&parent != root_) return HvStatus::PartitionTooDeep;
    constexpr u64 kIsolationType = 0x1f;
    if ((in.isolation & kIsolationType) != 0) return HvStatus::FeatureUnavailable;
    if (nodes_.size() >= kMaxPartitions) return HvStatus::NoResources;
    nodes_.push_back(
        std::make_unique<PartitionNode>(*this, next_partition_id_++, &parent, MemoryPool::Source::Deposits));
    PartitionNode& node = *nodes_.back();
    node.state = PartitionState::Created;
    node.creation_flags = in.flags;
    node.config.name = "partition" + std::to_string(node.id);
    node.config.max_vps = kMaxVpsPerPartition;
    node.sink = std::make_unique<GuestParent>(node);
    partition_id = node.id;
    return HvStatus::Success;
}

HvStatus Hypervisor::initialize(PartitionNode& node) {
    if (node.state != PartitionState::Created) return HvStatus::InvalidPartitionState;
    if (!node.pool.can_allocate(Partition::kOwnPages)) return HvStatus::InsufficientMemory;
    node.config.halt_intercept = (node.creation_flags & create_flag::kLapic) == 0;
    node.config.x2apic = (node.creation_flags & create_flag::kX2Apic) != 0;
    node.partition = std::make_unique<Partition>(*this, node, *node.sink);
    node.state = PartitionState::Initialized;
    return HvStatus::Success;
}

HvStatus Hypervisor::finalize(PartitionNode& node) {
    if (node.state == PartitionState::Finalized || &node == root_) return HvStatus::InvalidPartitionState;
    for (const auto& other : nodes_) {
        if (other->partition == nullptr) continue;
        other->partition->connections().disconnect_from(node.id);
        other->partition->forget_messages_from(node.id);
    }
    node.ports.clear();
    std::vector<StatsKey> stats;
    for (const auto& [key, page] : stats_pages_)
        if (key.type >= static_cast<u32>(StatsType::Partition) && key.id == node.id) stats.push_back(key);
    for (const StatsKey& key : stats) (void)unmap_stats(key);
    if (node.partition != nullptr) node.partition->release_shown_pages();
    node.partition.reset();
    node.state = PartitionState::Finalized;
    return HvStatus::Success;
}

HvStatus Hypervisor::remove(PartitionNode& node) {
    if (node.parent == nullptr || node.state == PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    if (node.pool.available() != 0 || node.pool.in_use() != 0) return HvStatus::OperationDenied;
    std::erase_if(nodes_, [&](const auto& each) { return each.get() == &node; });
    return HvStatus::Success;
}

// ---- statistics pages

HvStatus Hypervisor::map_stats(const StatsKey& key, Spa& page) {
    if (const auto found = stats_pages_.find(key); found != stats_pages_.end()) {
        page = found->second;
        return HvStatus::Success;
    }
    const std::optional<Spa> taken = root_->pool.allocate_deposited();
    if (!taken) return HvStatus::InsufficientMemory;
    page = *taken;
    if (key.type == static_cast<u32>(StatsType::Hypervisor))
        memory_.write(page + kStatsLogicalProcessors * sizeof(u64), u64{logical_processors_.size()});
    const auto shown = root_->partition->map_memory(Gpa(page.value), page, kPageSize, {true, true, false});
    VG_ASSERT(shown.has_value());  // its tables were there when it was deposited
    stats_pages_.emplace(key, page);
    return HvStatus::Success;
}

HvStatus Hypervisor::unmap_stats(const StatsKey& key) {
    const auto found = stats_pages_.find(key);
    if (found == stats_pages_.end()) return HvStatus::NotFound;
    const auto hidden = root_->partition->unmap_memory(Gpa(found->second.value), kPageSize);
    VG_ASSERT(hidden.has_value());
    root_->pool.free_deposited(found->second);
    stats_pages_.erase(found);
    return HvStatus::Success;
}

// ---- private pages

Result<Spa> Hypervisor::allocate_page() {
    Spa page;
    if (!free_pages_.empty()) {
        page = free_pages_.back();
        free_pages_.pop_back();
    } else if (next_page_ < end_) {
        page = next_page_;
        next_page_ = next_page_ + kPageSize;
    } else {
        return fail(Error::Code::Host, "the hypervisor's private memory is used up: give it more");
    }
    static constexpr std::array<u8, kPageSize> kZeroes{};
    memory_.write(page, kZeroes.data(), kZeroes.size());
    return page;
}

void Hypervisor::free_page(Spa page) {
    VG_ASSERT(page.offset() == 0);
    free_pages_.push_back(page);
}

// ---- state

void PartitionNode::fields(StateVisitor& v) {
    if (parent != nullptr) {
        v("state", state);
        v("creation_flags", creation_flags);
        v("root_signals", root_signals, Fmt::Dec);
    }
    {
        VisitScope scope(v, "pool");
        pool.fields(v);
    }
    for (auto& [number, port] : ports) {
        VisitScope scope(v, "port" + std::to_string(number));
        v("type", port.type);
        v("connection_partition", port.connection_partition, Fmt::Dec);
        v("sint", port.target.sint, Fmt::Dec);
        v("vp", port.target.vp_index, Fmt::Dec);
        v("base_flag", port.target.base_flag, Fmt::Dec);
        v("flag_count", port.target.flag_count, Fmt::Dec);
    }
    for (auto& [property, value] : properties) v("property" + std::to_string(static_cast<u32>(property)), value);
    if (partition != nullptr) partition->fields(v);
}

void Hypervisor::fields(StateVisitor& v) {
    v("next_page", next_page_);
    v("next_partition_id", next_partition_id_, Fmt::Dec);
    std::vector<u64> free_pages;
    for (const Spa page : free_pages_) free_pages.push_back(page.value);
    v("free_pages", free_pages, std::size_t{1} << 20);
    if (v.loading()) {
        free_pages_.clear();
        for (const u64 page : free_pages) free_pages_.push_back(Spa(page));
    }
    {
        VisitScope scope(v, "ledger");
        ledger_.fields(v);
    }
    for (auto& [key, page] : stats_pages_) v(fmt::format("stats_{:x}_{}_{}", key.type, key.id, key.vp_index), page);
    for (std::size_t i = 0; i < logical_processors_.size(); ++i) {
        VisitScope scope(v, "lp" + std::to_string(i));
        v("added", logical_processors_[i].added);
    }
    for (const auto& node : nodes_) {
        VisitScope scope(v, "partition" + std::to_string(node->id));
        node->fields(v);
    }
    if (device_guard_ != nullptr) {
        VisitScope scope(v, "device_guard");
        device_guard_->fields(v);
    }
}

}  // namespace vg::hv
