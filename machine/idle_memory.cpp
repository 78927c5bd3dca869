#include "machine/idle_memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/bits.h"
#include "base/host_memory.h"
#include "machine/child_machine.h"
#include "machine/machine.h"

namespace vg::machine {

bool IdleMemory::quiet(double seconds) {
    const u64 instructions = machine_.instructions(), now = machine_.now();
    const bool busy = (instructions - instructions_) * kQuietShare > now - now_;
    if (since_ < 0 || busy) since_ = seconds;
    instructions_ = instructions;
    now_ = now;
    return seconds - since_ >= kQuietSeconds;
}

bool IdleMemory::look_at_memory() {
    u64 first = 0, left = kStepBytes;
    mmu::PhysicalMemory& memory = machine_.memory();
    for (const mmu::Region& region : memory.regions()) {
        if (region.kind != mmu::RegionKind::Ram) continue;
        if (next_ < first + region.size) {
            const u64 at = next_ - first, size = std::min(left, region.size - at);
            (void)memory.release_zero_pages(region, at, size);
            next_ += size;
            left -= size;
            // Children that run the same kernel have the same pages: the host's KSM may merge them, if it is on.
            if (at + size == region.size && machine_.children().size() > 1)
                (void)::madvise(region.host, region.size, MADV_MERGEABLE);
            if (left == 0) return true;
        }
        first += region.size;
    }
    return false;
}

bool IdleMemory::look_for_equals() {
    std::vector<const mmu::Region*> regions;
    u64 largest = 0;
    for (const mmu::Region& region : machine_.memory().regions()) {
        const auto is_of = [&](const auto& child) { return child->name() == region.name; };
        if (region.kind != mmu::RegionKind::Ram || std::ranges::none_of(machine_.children(), is_of)) continue;
        regions.push_back(&region);
        largest = std::max(largest, region.size);
    }
    if (regions.size() < 2 || next_ >= largest) return false;
    const u64 size = std::max(kHostHugePage, align_down(kStepBytes / regions.size(), kHostHugePage));
    (void)shared_.share(machine_.memory(), regions, next_, size);
    next_ += size;
    return true;
}

void IdleMemory::step(double seconds) {
    const bool is_quiet = quiet(seconds);
    switch (stage_) {
        case Stage::Waiting:
            if (is_quiet) stage_ = Stage::Caches;
            return;
        case Stage::Caches:
            machine_.engine().release_memory();
            (void)::malloc_trim(0);
            stage_ = Stage::Memory;
            next_ = 0;
            return;
        case Stage::Memory:
            if (look_at_memory()) return;
            stage_ = Stage::Equals;
            next_ = 0;
            return;
        case Stage::Equals:
            if (look_for_equals()) return;
            stage_ = Stage::Done;
            done_at_ = instructions_;
            return;
        case Stage::Done:
            if (instructions_ - done_at_ >= kWorkBetween) stage_ = Stage::Waiting;
            return;
    }
}

}  // namespace vg::machine
