#include "roms/parent/pages.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"
#include "roms/parent/platform.h"

extern "C" vg::u64 boot_pml4[512];

namespace vg::parent {

namespace {

constexpr u64 kGiB = u64{1} << 30, kMappedAtStart = 4 * kGiB;
constexpr u64 kPresentWritable = 3, kLargePage = 0x80;
constexpr u64 kMostRam = 64 * kGiB;

/// Bit set: the page is free. Only pages of RAM ever are.
struct Allocator {
    u64* words = nullptr;
    u64 pages = 0;  ///< bits
    u64 free = 0;
    u64 lowest = 0;  ///< no page below is free

    [[nodiscard]] bool is_free(u64 page) const { return (words[page / 64] >> (page % 64) & 1) != 0; }
    void set(u64 page, bool to_free) {
        const u64 mask = u64{1} << (page % 64);
        words[page / 64] = to_free ? words[page / 64] | mask : words[page / 64] & ~mask;
    }
    /// First run of `count` free pages that begins at a multiple of `align`; `pages` if there is none.
    [[nodiscard]] u64 find(u64 count, u64 align) const {
        u64 page = align_up(lowest, align);
        while (page + count <= pages) {
            if (words[page / 64] == 0) {
                page = align_up((page / 64 + 1) * 64, align);
                continue;
            }
            u64 run = 0;
            while (run < count && is_free(page + run)) ++run;
            if (run == count) return page;
            page = align_up(page + run + 1, align);
        }
        return pages;
    }
};
Allocator allocator;  // tidy: the machine has one memory

void give(u64 first, u64 end) {
    for (u64 page = first; page < end; ++page) allocator.set(page, true);
    if (end > first) allocator.free += end - first;
}
void take(u64 first, u64 end) {
    for (u64 page = first; page < std::min(end, allocator.pages); ++page) {
        if (!allocator.is_free(page)) continue;
        allocator.set(page, false);
        --allocator.free;
    }
}

/// Maps [4 GiB, top) in 2 MiB pages, each at its own address.
void map_above(u64 top) {
    for (u64 base = kMappedAtStart; base < top; base += kGiB) {
        u64& upper = boot_pml4[base >> 39];
        if (upper == 0) upper = allocate_pages(1) | kPresentWritable;
        const u64 directory = allocate_pages(1);
        if (directory == 0 || upper < kPageSize) panic("no memory for page tables");
        at<u64>(upper & ~kPageMask)[base >> 30 & 511] = directory | kPresentWritable;
        for (u64 i = 0; i < 512; ++i) at<u64>(directory)[i] = (base + (i << 21)) | kPresentWritable | kLargePage;
    }
}

}  // namespace

u64 allocate_pages(u64 count, u64 align_pages) {
    VG_ASSERT(count != 0 && std::has_single_bit(align_pages));
    const u64 page = allocator.find(count, align_pages);
    if (page == allocator.pages) return 0;
    take(page, page + count);
    if (page == allocator.lowest) allocator.lowest = page + count;
    std::memset(at<>(page * kPageSize), 0, count * kPageSize);
    return page * kPageSize;
}

void free_pages(u64 address, u64 count) {
    const u64 page = address / kPageSize;
    VG_ASSERT(address % kPageSize == 0 && page < allocator.pages && count <= allocator.pages - page);
    for (u64 i = 0; i < count; ++i) VG_ASSERT(!allocator.is_free(page + i));
    give(page, page + count);
    allocator.lowest = std::min(allocator.lowest, page);
}

u64 free_page_count() { return allocator.free; }

void start_pages(std::span<const machine::boot::HvmMemmapEntry> map, u64 image_end,
                 std::span<const machine::boot::HvmModule> modules) {
    constexpr u32 kRam = 1;
    u64 top = 0, everything = 0;
    for (const auto& entry : map) {
        if (entry.type == kRam) top = std::max(top, entry.addr + entry.size);
        everything = std::max(everything, entry.addr + entry.size);
    }
    allocator.pages = std::min(top, kMostRam) / kPageSize;
    // The map of pages itself lies behind the image and the modules.
    u64 place = image_end;
    for (const auto& module : modules) place = std::max(place, module.paddr + module.size);
    place = align_up(place, kPageSize);
    const u64 size = align_up(allocator.pages / 8 + 8, kPageSize);
    if (place + size > kMappedAtStart) panic("no room for the map of pages");
    allocator.words = at<u64>(place);
    std::memset(allocator.words, 0, size);
    for (const auto& entry : map) {
        if (entry.type != kRam) continue;
        give(std::min(align_up(entry.addr, kPageSize) / kPageSize, allocator.pages),
             std::min((entry.addr + entry.size) / kPageSize, allocator.pages));
    }
    take(0, (place + size) / kPageSize);
    map_above(everything);
}

}  // namespace vg::parent
