#include "hv/hypervisor.h"

#include <array>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "hv/vp.h"

namespace vg::hv {
namespace {

constexpr u64 kLargePage = u64{2} << 20, kHugePage = u64{1} << 30;
/// Root and the tables of a sparse layout, hypercall page, reference TSC page.
constexpr u64 kPagesPerPartition = 64;
constexpr u64 kOverlayPagesPerVp = 3;

}  // namespace

Hypervisor::Hypervisor(mmu::PhysicalMemory& memory, EventQueue& events, Log& log, Spa private_memory, u64 private_size)
    : memory_(memory),
      events_(events),
      log_(log),
      next_page_(Spa(align_up(private_memory.value, kPageSize))),
      end_(Spa(align_down(private_memory.value + private_size, kPageSize))) {}

Hypervisor::~Hypervisor() = default;

u64 Hypervisor::private_bytes(u64 partition_ram, u32 vp_count) {
    const u64 tables = partition_ram / kLargePage + partition_ram / kHugePage;
    return (tables + kPagesPerPartition + kOverlayPagesPerVp * vp_count) * kPageSize;
}

Partition& Hypervisor::create_partition(PartitionConfig config, InterceptSink& sink) {
    partitions_.push_back(std::make_unique<Partition>(*this, next_partition_id_++, std::move(config), sink));
    return *partitions_.back();
}

Partition* Hypervisor::find(u64 partition_id) const {
    for (const auto& partition : partitions_)
        if (partition->id() == partition_id) return partition.get();
    return nullptr;
}

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
    for (const auto& partition : partitions_) {
        VisitScope scope(v, "partition" + std::to_string(partition->id()));
        partition->fields(v);
    }
}

}  // namespace vg::hv
