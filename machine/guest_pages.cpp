#include "machine/guest_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/host_memory.h"

namespace vg::machine {

/// Calls visit(gpa, spa, size) for the parts of a range below and above the MMIO gap. False: some of it can be no RAM.
template <class Visit>
bool GuestPages::pieces(u64 first_page, u64 count, Visit visit) const {
    constexpr u64 kMostPages = u64{1} << 36;
    if (count == 0 || first_page > kMostPages || count > kMostPages) return false;
    const u64 begin = first_page * kPageSize, end = begin + count * kPageSize;
    struct Part {
        u64 gpa, size;
        Spa spa;
    };
    const Part parts[] = {{0, layout_.low, ram_}, {kFourGiB, layout_.high, ram_ + layout_.low}};
    u64 covered = 0;
    for (const Part& part : parts) {
        const u64 from = std::max(begin, part.gpa), to = std::min(end, part.gpa + part.size);
        if (from < to) covered += to - from;
    }
    if (covered != end - begin) return false;
    for (const Part& part : parts) {
        const u64 from = std::max(begin, part.gpa), to = std::min(end, part.gpa + part.size);
        if (from < to && !visit(Gpa(from), part.spa + (from - part.gpa), to - from)) return false;
    }
    return true;
}

bool GuestPages::mapped(u64 first_page, u64 count) const {
    return pieces(first_page, count, [this](Gpa gpa, Spa, u64 size) {
        for (u64 at = 0; at < size; at += kPageSize)
            if (!partition_.contains(gpa + at)) return false;
        return true;
    });
}

bool GuestPages::absent(u64 first_page, u64 count) const {
    return pieces(first_page, count, [this](Gpa gpa, Spa, u64 size) {
        for (u64 at = 0; at < size; at += kPageSize)
            if (partition_.contains(gpa + at)) return false;
        return true;
    });
}

bool GuestPages::take(u64 first_page, u64 count) {
    if (!mapped(first_page, count)) return false;
    return pieces(first_page, count, [this](Gpa gpa, Spa spa, u64 size) {
        if (!partition_.unmap_memory(gpa, size)) return false;
        discard(spa, size);
        return true;
    });
}

bool GuestPages::give(u64 first_page, u64 count) {
    if (!absent(first_page, count)) return false;
    return pieces(first_page, count,
                  [this](Gpa gpa, Spa spa, u64 size) { return partition_.map_memory(gpa, spa, size, {}).has_value(); });
}

/// Whoever has cached what is there hears of it before the host forgets the pages.
void GuestPages::discard(Spa spa, u64 size) {
    static constexpr u8 kZeroes[kPageSize] = {};
    const mmu::Region* const region = memory_.find(spa);
    const u64 first = spa - region->base, end = first + size;
    PageRun run{first, first};
    while ((run = next_resident(region->host, run.end, region->size)).first < end) {
        for (u64 page = std::max(run.first, first); page < std::min(run.end, end); page += kPageSize) {
            if (std::memcmp(region->host + page, kZeroes, kPageSize) != 0)
                memory_.write(region->base + page, kZeroes, kPageSize);
        }
    }
    // Private anonymous memory reads as zero afterwards; a host that refuses keeps the zeroes that were written.
    (void)::madvise(region->host + first, size, MADV_DONTNEED);
}

}  // namespace vg::machine
