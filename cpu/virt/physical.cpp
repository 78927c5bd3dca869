#include "cpu/virt/physical.h"

#include <algorithm>

#include "cpu/vp.h"

namespace vg::cpu::virt {

mmu::SlatMode host_slat(const Vp& vp) {
    const std::size_t below = vp.levels().size() - (vp.guest_mode() ? 1 : 0);
    return below == 0 ? mmu::SlatMode{} : vp.levels()[below - 1].controls.slat;
}

mmu::SlatMode guest_slat(const Vp& vp) {
    const mmu::SlatMode host = host_slat(vp);
    return {.physical_bits = vp.model().physical_bits(), .below = host.root, .below_bits = host.physical_bits};
}

std::optional<Spa> system_address(Vp& vp, u64 address) {
    const mmu::SlatMode slat = host_slat(vp);
    if (slat.kind == mmu::SlatMode::Kind::None) return Spa(address);
    const mmu::Translation t = mmu::translate_gpa(vp.physical(), slat, Gpa(address), mmu::Access::Write);
    if (t.status != mmu::Translation::Status::Ok) return std::nullopt;
    return t.spa;
}

namespace {

/// Calls `part(spa, offset, bytes)` for each page of the range. What the second level withholds is skipped.
template <class Part>
void by_pages(Vp& vp, u64 address, u32 size, mmu::Access access, Part part) {
    const mmu::SlatMode slat = host_slat(vp);
    for (u32 done = 0; done < size;) {
        const u64 at = address + done;
        const u32 count = std::min(size - done, static_cast<u32>(kPageSize - (at & kPageMask)));
        Spa spa(at);
        bool there = true;
        if (slat.kind != mmu::SlatMode::Kind::None) {
            const mmu::Translation t = mmu::translate_gpa(vp.physical(), slat, Gpa(at), access);
            there = t.status == mmu::Translation::Status::Ok;
            spa = t.spa;
        }
        if (there) part(spa, done, count);
        done += count;
    }
}

}  // namespace

void read_physical(Vp& vp, u64 address, void* out, u32 size) {
    u8* const to = static_cast<u8*>(out);
    std::fill(to, to + size, u8{0xff});
    by_pages(vp, address, size, mmu::Access::Read,
             [&](Spa spa, u32 offset, u32 count) { vp.physical().read(spa, to + offset, count); });
}

void write_physical(Vp& vp, u64 address, const void* data, u32 size) {
    const u8* const from = static_cast<const u8*>(data);
    by_pages(vp, address, size, mmu::Access::Write,
             [&](Spa spa, u32 offset, u32 count) { vp.physical().write(spa, from + offset, count); });
}

}  // namespace vg::cpu::virt
