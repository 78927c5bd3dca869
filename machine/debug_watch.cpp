#include "machine/debug_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cpu/segments.h"
#include "hv/hypervisor.h"
#include "mmu/walk.h"

namespace vg::machine {

namespace {

/// A guest-physical address of the partition.
std::optional<Spa> from_physical(Machine& machine, u64 partition, u64 address) {
    if (partition == 0) return Spa(address);
    hv::Partition* const found = machine.hypervisor() != nullptr ? machine.hypervisor()->find(partition) : nullptr;
    return found != nullptr ? found->translate(Gpa(address)) : std::nullopt;
}

std::optional<Spa> from_linear(Machine& machine, cpu::Vp& vp, u64 address) {
    const mmu::PagingMode& mode = vp.tlb().mode();
    const bool fits = mode.kind == mmu::PagingKind::Level4 ? cpu::canonical(address) : address >> 32 == 0;
    if (!fits) return std::nullopt;
    const mmu::Translation t =
        mmu::peek_walk(machine.memory(), mode, vp.tlb().slat(), Gva(address), mmu::Access::Read, false);
    return t.status == mmu::Translation::Status::Ok ? std::optional(t.spa) : std::nullopt;
}

}  // namespace

Result<WatchedRange> WatchedRange::translate(Machine& machine, const StopRule& rule, cpu::Vp* vp) {
    WatchedRange range;
    for (u64 done = 0; done < rule.size;) {
        const u64 address = rule.address + done;
        const u64 size = std::min(rule.size - done, kPageSize - (address & kPageMask));
        const u64 partition = vp != nullptr ? vp->partition() : rule.partition.value_or(0);
        std::optional<Spa> spa;
        if (rule.physical)
            spa = from_physical(machine, partition, address);
        else if (vp != nullptr)
            spa = from_linear(machine, *vp, address);
        if (!spa) return fail(Error::Code::Usage, fmt::format("nothing is mapped at {:#x}", address));
        if (machine.memory().ram(*spa) == nullptr)
            return fail(Error::Code::Usage,
                        fmt::format("what is mapped at {:#x} is not RAM, so it cannot be watched", address));
        range.pieces_.push_back({address, *spa, size});
        done += size;
    }
    return range;
}

std::optional<WatchedRange::Touched> WatchedRange::touched(Spa spa, u64 size) const {
    for (const Piece& piece : pieces_) {
        if (spa.value >= piece.spa.value + piece.size || piece.spa.value >= spa.value + size) continue;
        const u64 first = std::max(spa.value, piece.spa.value);
        return Touched{piece.address + (spa.value - piece.spa.value), piece.address + (first - piece.spa.value)};
    }
    return std::nullopt;
}

void WatchedRange::collect(const StopRule& rule, std::map<u64, u8>& pages) const {
    const u8 what =
        static_cast<u8>((rule.on_read ? WatchedPages::kReads : 0) | (rule.on_write ? WatchedPages::kWrites : 0));
    for (const Piece& piece : pieces_) pages[piece.spa.page_base().value] |= what;
}

void WatchedPages::set(std::map<u64, u8> pages) {
    for (const auto& [page, what] : pages_)
        if (pages.count(page) == 0) memory_.set_watched(Spa(page), false, false);
    for (const auto& [page, what] : pages) memory_.set_watched(Spa(page), (what & kReads) != 0, (what & kWrites) != 0);
    pages_ = std::move(pages);
}

}  // namespace vg::machine
