#include "iommu/domains.h"

#include <fmt/format.h>

#include <bit>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"

namespace vg::iommu {
namespace {

constexpr u64 kWidth48 = 2;                          // ContextEntry.AW
constexpr u64 kNowhere = low_mask(52) & ~kPageMask;  // no memory: a root table that cannot be read

}  // namespace

DeviceDomains::DeviceDomains(mmu::PhysicalMemory& memory, Vtd& unit, mmu::SlatBuilder::AllocatePage allocate_page,
                             mmu::SlatBuilder::FreePage free_page)
    : memory_(memory), unit_(unit), allocate_page_(std::move(allocate_page)), free_page_(std::move(free_page)) {
    VG_ASSERT(unit_.config().levels4);
}

DeviceDomains::~DeviceDomains() {
    if (root_ == 0) return;
    use_root(kNowhere);
    free_page_(Spa(root_));
    for (const auto& [bus, table] : context_tables_) free_page_(Spa(table));
}

Result<void> DeviceDomains::enable() {
    if (root_ != 0) return {};
    const Result<Spa> page = allocate_page_();
    if (!page) return Unexpected{page.error()};
    root_ = page->value;
    use_root(root_);
    return {};
}

/// VT-d 4.1 "Set Root Table Pointer Operation": the context cache first, then the IOTLB; then translation.
void DeviceDomains::use_root(u64 root) {
    using namespace reg::global;
    const u64 status = unit_.mmio_read(reg::kGlobalStatus, 4);
    const u32 levels = static_cast<u32>(status) & (kTranslation | kInterruptRemapping | kCompatibilityFormat);
    write64(reg::kRootTable, root);
    write32(reg::kGlobalCommand, levels | kRootPointer);
    invalidate_contexts(u64{reg::kGlobal} << reg::ccmd::kRequestedLow);
    invalidate_iotlb(u64{reg::kGlobal} << reg::iotlb::kRequestedLow);
    write32(reg::kGlobalCommand, levels | kTranslation);
}

Result<u64> DeviceDomains::context_table(u8 bus) {
    if (const auto found = context_tables_.find(bus); found != context_tables_.end()) return found->second;
    const Result<Spa> page = allocate_page_();
    if (!page) return Unexpected{page.error()};
    context_tables_[bus] = page->value;
    memory_.write<u64>(Spa(root_ + bus * sizeof(RootEntry)), page->value | RootEntry::kPresent);
    return page->value;
}

/// The high half first: the present bit, which is in the low one, makes the entry valid.
void DeviceDomains::set_context(u16 rid, u64 table, const ContextEntry& entry) {
    const u64 at = table + (rid & 0xff) * sizeof entry;
    memory_.write<u64>(Spa(at), 0);
    memory_.write<u64>(Spa(at + 8), entry.high);
    memory_.write<u64>(Spa(at), entry.low);
}

Result<void> DeviceDomains::attach(u16 rid, u16 domain, u64 root) {
    const u64 table = root & ~kPageMask;
    if (root_ == 0 || domain == 0 || (table & ~low_mask(unit_.config().host_address_bits)) != 0) {
        return fail(Error::Code::Usage, fmt::format("cannot attach device {} to domain {} with its table at 0x{:x}",
                                                    rid_text(rid), domain, root));
    }
    Result<u64> contexts = context_table(static_cast<u8>(rid >> 8));
    if (!contexts) return Unexpected{contexts.error()};
    detach(rid);
    set_context(rid, *contexts, {table | ContextEntry::kPresent, u64{domain} << ContextEntry::kDomainLow | kWidth48});
    attached_[rid] = domain;
    if (unit_.config().caching_mode) {  // what was not present may be cached, under domain 0
        invalidate_contexts(u64{reg::kSelective} << reg::ccmd::kRequestedLow | u64{rid} << reg::ccmd::kSourceLow);
        flush(domain);
    }
    return {};
}

void DeviceDomains::detach(u16 rid) {
    const auto found = attached_.find(rid);
    if (found == attached_.end()) return;
    const u16 domain = found->second;
    attached_.erase(found);
    set_context(rid, context_tables_.at(static_cast<u8>(rid >> 8)), {});
    invalidate_contexts(u64{reg::kSelective} << reg::ccmd::kRequestedLow | u64{rid} << reg::ccmd::kSourceLow | domain);
    flush(domain);
}

void DeviceDomains::flush(u16 domain) {
    invalidate_iotlb(u64{reg::kDomain} << reg::iotlb::kRequestedLow | u64{domain} << reg::iotlb::kDomainLow);
}

void DeviceDomains::flush(u16 domain, Iova iova, u64 size) {
    VG_ASSERT(size != 0);
    // The smallest aligned block of a power of two that holds the range.
    const u64 first = iova.value, last = iova.value + (size - 1);
    const unsigned bits_apart = static_cast<unsigned>(std::bit_width(first ^ last));
    const unsigned mask = bits_apart <= 12 ? 0 : bits_apart - 12;
    if (mask > bits(unit_.capabilities(), 53, 48)) return flush(domain);
    write64(reg::kInvalidateAddress, align_down(first, kPageSize) | mask);
    invalidate_iotlb(u64{reg::kSelective} << reg::iotlb::kRequestedLow | u64{domain} << reg::iotlb::kDomainLow);
}

void DeviceDomains::report_faults() { write32(reg::kFaultControl, 0); }

/// VT-d 4.1 "Fault Status Register": FRI is where the first pending record is; records are cleared one by one, then the
/// overflow, after which the unit goes on recording.
DeviceDomains::Faults DeviceDomains::take_faults() {
    Faults taken;
    const u64 status = unit_.mmio_read(reg::kFaultStatus, 4);
    for (u64 i = 0; i < Vtd::kFaultRecords; ++i) {
        constexpr u32 kRecordBytes = 16, kTop = 12;
        const u32 index = static_cast<u32>((bits(status, 15, reg::fsts::kRecordLow) + i) % Vtd::kFaultRecords);
        const u32 place = reg::kFaultRecords + index * kRecordBytes;
        const u64 high = unit_.mmio_read(place + 8, 8);
        if ((high & reg::frcd::kFault) == 0) continue;
        taken.list.push_back({.rid = static_cast<u16>(high),
                              .reason = static_cast<FaultReason>(bits(high, 39, reg::frcd::kReasonLow)),
                              .write = (high & reg::frcd::kRead) == 0,
                              .recorded = true,
                              .info = unit_.mmio_read(place, 8)});
        write32(place + kTop, static_cast<u32>(reg::frcd::kFault >> 32));
    }
    taken.overflow = (status & reg::fsts::kOverflow) != 0;
    if (taken.overflow) write32(reg::kFaultStatus, reg::fsts::kOverflow);
    return taken;
}

void DeviceDomains::fields(StateVisitor& v) {
    v("root", root_);
    std::vector<u64> tables, devices;
    for (const auto& [bus, table] : context_tables_) tables.push_back(table | bus);
    for (const auto& [rid, domain] : attached_) devices.push_back(u64{rid} << 16 | domain);
    constexpr std::size_t kBuses = 256, kDevices = 65536;
    v("context_tables", tables, kBuses);
    v("attached", devices, kDevices);
    if (!v.loading()) return;
    context_tables_.clear();
    for (const u64 table : tables) context_tables_[static_cast<u8>(table)] = table & ~kPageMask;
    attached_.clear();
    for (const u64 device : devices) attached_[static_cast<u16>(device >> 16)] = static_cast<u16>(device);
}

void DeviceDomains::invalidate_contexts(u64 command) {
    write64(reg::kContextCommand, command | reg::ccmd::kInvalidate);
    VG_ASSERT(bits(unit_.mmio_read(reg::kContextCommand, 8), 60, 59) != reg::kReserved);
}

void DeviceDomains::invalidate_iotlb(u64 command) {
    write64(reg::kIotlbInvalidate, command | reg::iotlb::kInvalidate);
    VG_ASSERT(bits(unit_.mmio_read(reg::kIotlbInvalidate, 8), 58, 57) != reg::kReserved);
}

}  // namespace vg::iommu
