// Memory pools and GPA spaces. TLFS 6.0b "Guest Physical Address Spaces"; K-022, K-126..K-129, K-141, R-30..R-34.
#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"
#include "hv/hypercalls/target.h"
#include "hv/memory_pool.h"

namespace vg::hv::hypercalls {
namespace {

constexpr u64 kPageNumberLimit = u64{1} << (48 - 12);

/// Where a page of the caller lies, if it is memory that the caller owns: no overlay, nothing of the hypervisor's.
std::optional<Spa> own_page(Partition& caller, u64 pfn) {
    if (pfn >= kPageNumberLimit) return std::nullopt;
    const std::optional<GpaBacking> backing = caller.backing(Gpa(pfn * kPageSize));
    Hypervisor& hypervisor = caller.hypervisor();
    if (!backing || backing->overlay || hypervisor.is_private(backing->spa) ||
        hypervisor.ledger().deposited(backing->spa) || hypervisor.memory().find(backing->spa) == nullptr)
        return std::nullopt;
    return backing->spa;
}

}  // namespace

HvStatus deposit_memory(Vp& caller, const DepositHeader& in, const u64& pfn) {
    const Target target = find_for_root(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->state == PartitionState::Finalized) return HvStatus::InvalidPartitionState;
    Partition& owner = caller.partition();
    const std::optional<Spa> page = own_page(owner, pfn);
    if (!page) return HvStatus::InvalidParameter;
    PageLedger& ledger = owner.hypervisor().ledger();
    if (!ledger.can_deposit(*page)) return HvStatus::OperationDenied;  // a child maps it, or it is no RAM
    // From here on the depositor does not reach the page any more.
    if (!owner.unmap_memory(Gpa(pfn * kPageSize), kPageSize)) return HvStatus::InsufficientRootMemory;
    ledger.set_deposited(*page, true);
    target.node->pool.deposit(*page);
    return HvStatus::Success;
}

HvStatus withdraw_memory(Vp& caller, const WithdrawHeader& in, u64& pfn) {
    const Target target = find_for_root(caller, in.partition_id);
    if (!target) return target.status;
    const std::optional<Spa> page = target.node->pool.withdraw();
    if (!page) return HvStatus::NoResources;
    Partition& owner = caller.partition();
    owner.hypervisor().ledger().set_deposited(*page, false);
    // The root's space is the identity, and the tables for this page are still there.
    const auto mapped = owner.map_memory(Gpa(page->value), *page, kPageSize, {});
    VG_ASSERT(mapped.has_value());
    pfn = page->page();
    return HvStatus::Success;
}

HvStatus memory_balance(Vp& caller, const MemoryBalanceIn& in, MemoryBalanceOut& out) {
    const Target target = find_for_root(caller, in.partition_id);
    if (!target) return target.status;
    out = {target.node->pool.available(), target.node->pool.in_use()};
    return HvStatus::Success;
}

HvStatus map_gpa(Vp& caller, const MapGpaHeader& in, u32 index, const u64& pfn) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->state != PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    const bool large = (in.flags & map_flag::kLarge) != 0;
    const u64 pages = large ? kPagesPerLargePage : 1;
    if (in.target_pfn >= kPageNumberLimit) return HvStatus::InvalidParameter;
    const u64 first = in.target_pfn + index * pages;
    if (!fits(first, pages, kPageNumberLimit) || first % pages != 0) return HvStatus::InvalidParameter;
    Partition& child = *target.node->partition;
    mmu::SlatPermissions permissions{(in.flags & map_flag::kRead) != 0, (in.flags & map_flag::kWrite) != 0,
                                     (in.flags & (map_flag::kKernelExecute | map_flag::kUserExecute)) != 0};
    Spa source;
    const u32 kind = in.flags & map_flag::kKindMask;
    if (kind == map_flag::kNoAccess) {
        permissions = {false, false, false};  // the list is stale bytes (K-128)
    } else {
        if (kind != 0) return HvStatus::InvalidParameter;
        if (pfn % pages != 0 || !fits(pfn, pages, kPageNumberLimit)) return HvStatus::InvalidParameter;
        if (permissions.write && !permissions.read) return HvStatus::InvalidParameter;
        for (u64 i = 0; i < pages; ++i) {
            const std::optional<Spa> page = own_page(caller.partition(), pfn + i);
            if (!page) return HvStatus::InvalidParameter;
            if (i == 0) source = *page;
            // The caller's space is the identity with holes, so a large page of it is one of the machine's.
            if (*page != source + i * kPageSize || page->page() >= kPageNumberLimit) return HvStatus::InvalidParameter;
        }
        PageLedger& ledger = caller.partition().hypervisor().ledger();
        if (!ledger.can_map(source, pages * kPageSize)) return HvStatus::NoResources;
    }
    const auto mapped = child.map_memory(Gpa(first * kPageSize), source, pages * kPageSize, permissions);
    if (mapped) return HvStatus::Success;
    return mapped.error().code == Error::Code::Host ? HvStatus::InsufficientMemory : HvStatus::InvalidParameter;
}

HvStatus unmap_gpa(Vp& caller, const MapGpaHeader& in, u32 index) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    // Finalize has unmapped everything already; a parent that unmaps region by region afterwards is right too.
    if (target.node->state == PartitionState::Finalized) return HvStatus::Success;
    if (target.node->state != PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    const u64 pages = (in.flags & kUnmapLarge) != 0 ? kPagesPerLargePage : 1;
    if (in.target_pfn >= kPageNumberLimit) return HvStatus::InvalidParameter;
    const u64 first = in.target_pfn + index * pages;
    if (!fits(first, pages, kPageNumberLimit) || first % pages != 0) return HvStatus::InvalidParameter;
    const auto unmapped = target.node->partition->unmap_memory(Gpa(first * kPageSize), pages * kPageSize);
    return unmapped ? HvStatus::Success : HvStatus::InsufficientMemory;
}

HvStatus read_gpa(Vp& caller, const ReadGpaIn& in, ReadGpaOut& out) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (in.count > sizeof out.data) return HvStatus::InvalidParameter;
    const bool done =
        fits(in.gpa, in.count, u64{1} << 48) && target.vp->partition().read_memory(Gpa(in.gpa), out.data, in.count);
    out.access_result = done ? 0 : static_cast<u64>(TranslateResult::GpaUnmapped);
    return HvStatus::Success;
}

HvStatus write_gpa(Vp& caller, const WriteGpaIn& in, u64& out) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (in.count > sizeof in.data) return HvStatus::InvalidParameter;
    const bool done =
        fits(in.gpa, in.count, u64{1} << 48) && target.vp->partition().write_memory(Gpa(in.gpa), in.data, in.count);
    out = done ? 0 : static_cast<u64>(TranslateResult::GpaUnmapped);
    return HvStatus::Success;
}

}  // namespace vg::hv::hypercalls
