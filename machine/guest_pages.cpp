#include "machine/guest_pages.h"

#include <algorithm>

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
        memory_.discard(spa, size);
        return true;
    });
}

bool GuestPages::give(u64 first_page, u64 count) {
    if (!absent(first_page, count)) return false;
    return pieces(first_page, count,
                  [this](Gpa gpa, Spa spa, u64 size) { return partition_.map_memory(gpa, spa, size, {}).has_value(); });
}

}  // namespace vg::machine
