// DMA remapping: requester id and IOVA to memory. VT-d 4.1 "DMA Remapping", "Non-Recoverable Address Translation
// Faults".
#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "iommu/spec/slpte.h"
#include "iommu/views.h"

namespace vg::iommu {
namespace {

constexpr bool in_interrupt_range(u64 address) {
    return address >= request::kBase && address < request::kBase + request::kSize;
}

}  // namespace

/// One qword at a time, each once. Only RAM and ROM hold tables: a walk never reaches a device.
template <class T>
bool Vtd::load(u64 spa, T& out) const {
    static_assert(sizeof(T) % 8 == 0);
    const u8* host = memory_.readable(Spa(spa));
    if (host == nullptr) return false;
    for (std::size_t i = 0; i < sizeof(T); i += 8) {
        const u64 part = __atomic_load_n(reinterpret_cast<const u64*>(host + i), __ATOMIC_RELAXED);
        std::memcpy(reinterpret_cast<u8*>(&out) + i, &part, sizeof part);
    }
    return true;
}
template bool Vtd::load(u64, Irte&) const;
template bool Vtd::load(u64, Descriptor&) const;

u64 Vtd::above_host() const { return ~low_mask(config_.host_address_bits); }

/// Page by page until something refuses. VT-d 4.1 "Handling Requests to Interrupt Address Range": FEEx_xxxx is never
/// translated; a write of four bytes is an interrupt request, anything else is not supported.
bool Vtd::transfer(u16 rid, u64 iova, u64 size, bool write, u8* to, const u8* from) {
    if (size == 0) return true;  // a zero-length read asks for nothing (CAP.ZLR)
    Transfer entry{.rid = rid, .write = write, .iova = iova, .size = size};
    for (u64 done = 0; done < size && entry.verdict == Verdict::Ok;) {
        const u64 at = iova + done;
        const u64 count = std::min(size - done, kPageSize - (at & kPageMask));
        Page page;
        if (in_interrupt_range(at)) {
            if (write && size == 4 && at % 4 == 0) page.verdict = Verdict::Interrupt;
        } else {
            page = translate(rid, at, write);
        }
        if (page.verdict == Verdict::Ok) {
            const Spa spa(page.spa);
            const mmu::Accessor by{mmu::Accessor::Kind::Device, rid};
            const u8* host = write ? memory_.ram(spa) : memory_.readable(spa);
            if (host == nullptr) {
                page.verdict = Verdict::NoMemory;
            } else if (write) {
                memory_.write(spa, from + done, count, by);
            } else {
                memory_.read(spa, to + done, count, by);
            }
        }
        if (done == 0) entry.spa = page.spa;
        done += count;
        entry.verdict = page.verdict;
        entry.reason = page.reason;
        if (page.verdict != Verdict::Ok) entry.size = done;
    }
    history_.transfers.push(entry);
    if (log_.wants(Area::Iommu, Level::Trace)) log_.trace(Area::Iommu, "{}", describe(entry));
    if (entry.verdict == Verdict::Interrupt) {
        u32 data = 0;
        std::memcpy(&data, from, sizeof data);
        interrupt(rid, true, iova, data);
        return true;
    }
    return entry.verdict == Verdict::Ok;
}

Vtd::Page Vtd::translate(u16 rid, u64 iova, bool write) {
    if ((state_.status & reg::global::kTranslation) == 0) {
        return {is_protected(iova) ? Verdict::Protected : Verdict::Ok, FaultReason::None, iova};
    }
    const Context context = find_context(rid);
    Page page{Verdict::Fault, context.reason, 0};
    if (context.reason == FaultReason::None && context.pass_through) {
        if ((iova & above_host()) == 0)
            return {is_protected(iova) ? Verdict::Protected : Verdict::Ok, FaultReason::None, iova};
        page.reason = FaultReason::AddressTooHigh;
    } else if (context.reason == FaultReason::None) {
        page = walk(rid, context, iova, write);
    }
    if (page.reason != FaultReason::None) dma_fault(rid, page.reason, iova, write, !context.fault_disable);
    return page;
}

/// VT-d 4.1 "Protected Memory Enable Register": what no second-level table translates must stay out of the regions.
/// Such requests are blocked without being recorded.
bool Vtd::is_protected(u64 spa) const {
    const State& s = state_;
    if ((s.protected_enable & reg::pmen::kEnable) == 0) return false;
    constexpr u64 kInGranule = reg::pmen::kGranule - 1;
    return (spa >= s.protected_low_base && spa <= (s.protected_low_limit | kInGranule)) ||
           (spa >= s.protected_high_base && spa <= (s.protected_high_limit | kInGranule));
}

Vtd::Context Vtd::take_apart(const ContextEntry& entry) {
    Context context;
    context.fault_disable = (entry.low & ContextEntry::kFaultDisable) != 0;
    const u64 type = bits(entry.low, ContextEntry::kTypeHigh, ContextEntry::kTypeLow);
    context.pass_through = static_cast<TranslationType>(type) == TranslationType::PassThrough;
    context.domain = static_cast<u16>(bits(entry.high, ContextEntry::kDomainHigh, ContextEntry::kDomainLow));
    context.levels =
        static_cast<u8>(levels_of_width(bits(entry.high, ContextEntry::kWidthHigh, ContextEntry::kWidthLow)));
    context.table = entry.low & ContextEntry::kPointer;
    return context;
}

/// VT-d 4.1 "Context Entry" and the conditions LCT.2 to LCT.4 of "Legacy Mode Address Translation Faults", in that
/// order.
FaultReason Vtd::check_context(const ContextEntry& entry) const {
    if ((entry.low & ContextEntry::kPresent) == 0) return FaultReason::ContextNotPresent;
    const auto type = static_cast<TranslationType>(bits(entry.low, ContextEntry::kTypeHigh, ContextEntry::kTypeLow));
    const bool pass_through = type == TranslationType::PassThrough;
    const u64 pointer_reserved = pass_through ? 0 : above_host();  // the pointer is ignored
    if ((entry.low & (ContextEntry::kReservedLow | pointer_reserved)) != 0 ||
        (entry.high & ContextEntry::kReservedHigh) != 0) {
        return FaultReason::ContextReserved;
    }
    if (type != TranslationType::Untranslated && !(pass_through && config_.pass_through))
        return FaultReason::ContextInvalid;
    const unsigned levels = levels_of_width(bits(entry.high, ContextEntry::kWidthHigh, ContextEntry::kWidthLow));
    const bool supported = (levels == 3 && config_.levels3) || (levels == 4 && config_.levels4);
    // "When TT indicates pass-through processing, this field must be programmed to indicate the largest AGAW."
    const bool largest = levels == (config_.levels4 ? 4 : 3);
    return supported && (!pass_through || largest) ? FaultReason::None : FaultReason::ContextInvalid;
}

/// Reads the tables. `entry` is what was read of the context entry; zero if it was not reached.
Vtd::Context Vtd::load_context(u16 rid, ContextEntry& entry) const {
    Context failed;
    RootEntry root;
    if (bits(state_.root, reg::kTranslationModeHigh, reg::kTranslationModeLow) != 0) {
        failed.reason = FaultReason::RootModeUnsupported;
    } else if (!load((state_.root & reg::kTableAddress) + (rid >> 8) * sizeof root, root)) {
        failed.reason = FaultReason::RootUnreadable;
    } else if ((root.low & RootEntry::kPresent) == 0) {
        failed.reason = FaultReason::RootNotPresent;
    } else if ((root.low & (RootEntry::kReservedLow | above_host())) != 0 ||
               (root.high & RootEntry::kReservedHigh) != 0) {
        failed.reason = FaultReason::RootReserved;
    } else if (!load((root.low & ContextEntry::kPointer) + (rid & 0xff) * sizeof entry, entry)) {
        entry = {};
        failed.reason = FaultReason::ContextUnreadable;
    }
    if (failed.reason != FaultReason::None) return failed;
    Context context = take_apart(entry);
    context.reason = check_context(entry);
    return context;
}

Vtd::Context Vtd::find_context(u16 rid) {
    if (const ContextCache::Entry* hit = contexts_.find(rid)) {
        Context context = take_apart(hit->context);
        context.reason = hit->reason;
        return context;
    }
    ContextCache::Entry entry{.source = rid};
    Context context = load_context(rid, entry.context);
    entry.reason = context.reason;
    // VT-d 4.1 "Caching Mode": what is not present or wrong is tagged with domain 0.
    if (context.reason == FaultReason::None) entry.domain = context.domain;
    if (context.reason == FaultReason::None || config_.caching_mode) contexts_.insert(entry);
    return context;
}

Vtd::Page Vtd::walk(u16 rid, const Context& context, u64 iova, bool write) {
    const unsigned width = 12 + 9 * context.levels;
    if ((iova >> width) != 0) return {Verdict::Fault, FaultReason::AddressTooHigh, 0};
    Iotlb::Entry found{.source = rid, .domain = context.domain, .iova = iova};
    FaultReason reason;
    if (const Iotlb::Entry* hit = iotlb_.find(rid, context.domain, iova)) {
        found = *hit;
        const bool permitted = (found.rights & (write ? slpte::kWrite : slpte::kRead)) != 0;
        reason = found.reason != FaultReason::None ? found.reason
                 : permitted                       ? FaultReason::None
                 : write                           ? FaultReason::NoWrite
                                                   : FaultReason::NoRead;
    } else {
        reason = walk_tables(context, iova, write, found);
        const bool denied = reason == FaultReason::NoRead || reason == FaultReason::NoWrite;
        if (reason == FaultReason::None) {
            iotlb_.insert(found);
        } else if (config_.caching_mode && (!denied || found.rights == 0)) {
            if (!denied) found.reason = reason;
            iotlb_.insert(found);
        }
    }
    if (reason != FaultReason::None) return {Verdict::Fault, reason, 0};
    const u64 spa = found.spa | (iova & low_mask(found.page_bits));
    if (in_interrupt_range(spa)) return {Verdict::Fault, FaultReason::InterruptRangeOutput, spa};
    return {Verdict::Ok, FaultReason::None, spa};
}

/// VT-d 4.1 "Second-Stage Translation". At each level permission comes first, so that an entry without any right is
/// "not present" and its other bits do not count ("Fault Conditions and Remapping Hardware Behavior for Various
/// Requests").
FaultReason Vtd::walk_tables(const Context& context, u64 iova, bool write, Iotlb::Entry& found) const {
    const u64 need = write ? slpte::kWrite : slpte::kRead;
    const u64 always_reserved = above_host() & ~slpte::kIgnoredHigh;
    u64 table = context.table;
    found.rights = slpte::kRead | slpte::kWrite;
    for (unsigned level = context.levels - 1u;; --level) {
        u64 entry = 0;
        if (!load(table + ((iova >> slpte::shift_of(level)) & 511) * sizeof entry, entry)) {
            found.rights = 0;
            return level == context.levels - 1u ? FaultReason::ContextInvalid : FaultReason::TableUnreadable;
        }
        found.rights &= static_cast<u8>(entry & (slpte::kRead | slpte::kWrite));
        if ((entry & need) == 0) return write ? FaultReason::NoWrite : FaultReason::NoRead;
        const bool large = level > 0 && (entry & slpte::kLarge) != 0;
        const bool leaf = level == 0 || large;
        const bool large_possible = (level == 1 && config_.pages_2m) || (level == 2 && config_.pages_1g);
        u64 reserved = always_reserved;
        if (large && !large_possible) reserved |= slpte::kLarge;
        if (!leaf || !config_.snoop_control) reserved |= slpte::kSnoop;
        if (large) reserved |= low_mask(slpte::shift_of(level)) & ~kPageMask;
        if ((entry & reserved) != 0) return FaultReason::EntryReserved;
        if (!leaf) {
            table = entry & low_mask(config_.host_address_bits) & ~kPageMask;
            continue;
        }
        found.page_bits = static_cast<u8>(slpte::shift_of(level));
        found.spa = entry & slpte::leaf_address(level, config_.host_address_bits);
        return FaultReason::None;
    }
}

ContextInfo Vtd::peek_context(u16 rid) const {
    ContextEntry entry;
    const Context context = load_context(rid, entry);
    ContextInfo info{.reason = context.reason};
    if (context.reason != FaultReason::None) return info;
    info.domain = context.domain;
    info.pass_through = context.pass_through;
    info.levels = context.levels;
    if (!context.pass_through) info.table = Spa(context.table);
    return info;
}

}  // namespace vg::iommu
