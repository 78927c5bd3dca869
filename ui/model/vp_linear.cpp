#include "ui/model/vp_linear.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"
#include "hv/hypervisor.h"
#include "hv/vp.h"
#include "machine/pc_machine.h"
#include "mmu/spec/paging.h"
#include "mmu/walk.h"

namespace vg::model {
namespace {

constexpr u64 kFrame = low_mask(52) & ~kPageMask;
/// Of one look at what is mapped: all that 1 GiB can need, and a few.
constexpr unsigned kMaxTables = 1024;

bool is_canonical(u64 address) { return sign_extend(address, 48) == address; }

}  // namespace

PlacedVp placed_vp(machine::Machine& machine, SymbolPlace place) {
    if (place.partition == 0) {
        machine::PcMachine* pc = machine.pc();
        if (pc == nullptr || place.vp >= pc->vps().size()) return {};
        return {pc->vps()[place.vp].get(), nullptr};
    }
    hv::Hypervisor* hypervisor = machine.hypervisor();
    const hv::Partition* partition = hypervisor == nullptr ? nullptr : hypervisor->find(place.partition);
    hv::Vp* vp = partition == nullptr ? nullptr : partition->find_vp(place.vp);
    if (vp == nullptr) return {};
    return {&vp->processor(), vp};
}

VpLinearView::VpLinearView(cpu::Vp& vp) : memory_(vp.physical()), mode_(vp.tlb().mode()), slat_(vp.tlb().slat()) {}

VpLinearView::VpLinearView(cpu::Vp& vp, u64 cr3) : VpLinearView(vp) { mode_.cr3 = cr3; }

const u8* VpLinearView::page(u64 address) const {
    const u64 base = address & ~kPageMask;
    if (base == cached_page_) return cached_host_;
    if (mode_.kind == mmu::PagingKind::Level4 && !is_canonical(address)) return nullptr;
    if (mode_.kind != mmu::PagingKind::Level4 && (address >> 32) != 0) return nullptr;
    const mmu::Translation t = mmu::peek_walk(memory_, mode_, slat_, Gva(base), mmu::Access::Read, false);
    cached_page_ = base;
    cached_host_ = t.status == mmu::Translation::Status::Ok ? memory_.readable(t.spa) : nullptr;
    return cached_host_;
}

bool VpLinearView::read(u64 address, void* out, std::size_t size) const {
    u8* to = static_cast<u8*>(out);
    while (size != 0) {
        const u8* host = page(address);
        if (host == nullptr) return false;
        const u64 offset = address & kPageMask;
        const std::size_t count = std::min<std::size_t>(size, kPageSize - offset);
        std::memcpy(to, host + offset, count);
        to += count;
        address += count;
        size -= count;
        if (address == 0 && size != 0) return false;  // nothing lies behind the last page
    }
    return true;
}

bool VpLinearView::read_physical(u64 gpa, void* out, std::size_t size) const {
    mmu::PagingMode flat;
    flat.physical_bits = mode_.physical_bits;
    u8* to = static_cast<u8*>(out);
    while (size != 0) {
        Spa spa(gpa);
        if (slat_.kind != mmu::SlatMode::Kind::None) {
            if ((gpa >> 48) != 0) return false;
            // Without paging a walk is the second level's alone.
            const auto t = mmu::peek_walk(memory_, flat, slat_, Gva(gpa), mmu::Access::Read, false);
            if (t.status != mmu::Translation::Status::Ok) return false;
            spa = t.spa;
        }
        const u8* host = memory_.readable(spa);
        if (host == nullptr) return false;
        const std::size_t count = std::min<std::size_t>(size, kPageSize - (gpa & kPageMask));
        std::memcpy(to, host, count);
        to += count;
        gpa += count;
        size -= count;
    }
    return true;
}

u64 VpLinearView::kernel_half() const {
    if (mode_.kind != mmu::PagingKind::Level4) return 0;
    u64 top = 0;
    if (!read_physical((mode_.cr3 & kFrame) + 511 * sizeof top, &top, sizeof top)) return 0;
    return (top & mmu::pte::kPresent) == 0 ? 0 : top & kFrame;
}

/// What a table of this level (4 the top) maps of `wanted`. A hostile guest's tables may point at each other:
/// @param budget  tables that may still be read
void VpLinearView::collect(u64 table, unsigned level, u64 base, LinearRange wanted, unsigned& budget,
                           std::vector<LinearRange>& out) const {
    std::array<u64, 512> entries{};
    if (budget == 0 || !read_physical(table & kFrame, entries.data(), sizeof entries)) return;
    --budget;
    const unsigned shift = 12 + 9 * (level - 1);
    for (unsigned i = 0; i < 512 && out.size() < kMaxRanges; ++i) {
        u64 first = base + (u64{i} << shift);
        if (level == 4) first = sign_extend(first, 48);
        const u64 last = first + low_mask(shift), value = entries[i];
        if (last < wanted.first || first > wanted.last || (value & mmu::pte::kPresent) == 0) continue;
        if (level > 1 && (level == 4 || (value & mmu::pte::kLarge) == 0)) {
            collect(value, level - 1, first, wanted, budget, out);
        } else if (!out.empty() && out.back().last + 1 == first) {
            out.back().last = std::min(last, wanted.last);
        } else {
            out.push_back({std::max(first, wanted.first), std::min(last, wanted.last)});
        }
    }
}

std::vector<LinearRange> VpLinearView::mapped(u64 first, u64 last) const {
    std::vector<LinearRange> out;
    unsigned budget = kMaxTables;
    if (mode_.kind == mmu::PagingKind::Level4) collect(mode_.cr3, 4, 0, {first, last}, budget, out);
    return out;
}

}  // namespace vg::model
