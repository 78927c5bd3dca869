#include "mmu/physical_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_set>

#include "base/assert.h"
#include "base/bits.h"
#include "base/host_memory.h"
#include "base/state.h"
#include "mmu/shared_pages.h"

namespace vg::mmu {
namespace {

constexpr u32 kGranuleBits = 7;  ///< code marks are per 128 bytes

/// Granules of one page that [offset, offset+size) touches.
u32 granules(u32 offset, u32 size) {
    const u32 first = offset >> kGranuleBits, last = (offset + size - 1) >> kGranuleBits;
    return static_cast<u32>(low_mask(last + 1) & ~low_mask(first));
}

bool is_zero_page(const u8* page) {
    const u64* words = reinterpret_cast<const u64*>(page);
    for (unsigned i = 0; i < kPageSize / 8; i += 16) {
        u64 any = 0;
        for (unsigned j = 0; j < 16; ++j) any |= words[i + j];
        if (any != 0) return false;
    }
    return true;
}

/// Largest naturally aligned piece (1, 2, 4, 8) at `offset` within `size` bytes.
unsigned piece_size(u64 offset, u64 size) {
    unsigned piece = 8;
    while (piece > size || (offset & (piece - 1)) != 0) piece >>= 1;
    return piece;
}

template <class T>
bool exchange(u8* host, u64 expected, u64 desired) {
    std::atomic_ref<T> cell(*reinterpret_cast<T*>(host));
    T old = static_cast<T>(expected);
    return cell.compare_exchange_strong(old, static_cast<T>(desired));
}

}  // namespace

struct PhysicalMemory::Impl {
    std::vector<HostMemory> memory;  ///< of RAM, of its PageInfo, of ROM
    u64 page_count = 0;
    std::vector<TlbObserver*> observers;
    /// Large pages of the host, by address, that some of was given back of: they are not put together again.
    std::unordered_set<u64> scattered;

    u8* allocate(u64 size) {
        u8* data = memory.emplace_back(size).data();
        if (data == nullptr) memory.pop_back();
        return data;
    }
};

PhysicalMemory::PhysicalMemory() : impl_(std::make_unique<Impl>()) {}
PhysicalMemory::~PhysicalMemory() = default;

Result<void> PhysicalMemory::insert(Region region) {
    if ((region.base.value & kPageMask) != 0 || (region.size & kPageMask) != 0 || region.size == 0 ||
        region.base.value + (region.size - 1) < region.base.value) {
        return fail(Error::Code::Usage,
                    fmt::format("memory region {}: 0x{:x}+0x{:x} is not a range of whole 4 KiB pages", region.name,
                                region.base.value, region.size));
    }
    auto after = std::upper_bound(regions_.begin(), regions_.end(), region.base,
                                  [](Spa base, const Region& r) { return base < r.base; });
    const bool hits_next = after != regions_.end() && after->base - region.base < region.size;
    const bool hits_previous =
        after != regions_.begin() && region.base - std::prev(after)->base < std::prev(after)->size;
    if (hits_next || hits_previous) {
        const Region& other = hits_next ? *after : *std::prev(after);
        return fail(Error::Code::Usage, fmt::format("memory region {} at 0x{:x} overlaps {} at 0x{:x}", region.name,
                                                    region.base.value, other.name, other.base.value));
    }
    regions_.insert(after, std::move(region));
    drop_all();
    return {};
}

Result<void> PhysicalMemory::add_ram(std::string name, Spa base, u64 size) {
    const auto host_error = [&](const char* what) {
        return fail(Error::Code::Host, fmt::format("cannot get {} MiB of RAM for {}: {}: {}", size >> 20, name, what,
                                                   std::strerror(errno)));
    };
    // The placeholder checks the range before anything is allocated; its host address follows.
    Region region{.name = name, .base = base, .size = size, .kind = RegionKind::Ram};
    region.first_page = impl_->page_count;
    if (Result<void> r = insert(region); !r) return r;
    const auto remove = [&] { std::erase_if(regions_, [&](const Region& r) { return r.base == base; }); };

    // RAM that begins in the middle of a large page keeps its alignment on the host, so that large pages fit both.
    const u64 lead = base.value & (kHostHugePage - 1);
    u8* host = impl_->allocate(lead + size);
    if (host == nullptr) return remove(), host_error("mmap");
    host += lead;
    u8* pages = impl_->allocate(size / kPageSize * sizeof(PageInfo));
    if (pages == nullptr) return remove(), host_error("mmap");
    impl_->page_count += size / kPageSize;
    for (Region& r : regions_) {
        if (r.base == base) r.host = host;
    }
    ram_.push_back({.base = base.value, .size = size, .host = host, .pages = reinterpret_cast<PageInfo*>(pages)});
    std::stable_sort(ram_.begin(), ram_.end(), [](const RamRange& a, const RamRange& b) { return a.size > b.size; });
    return {};
}

Result<void> PhysicalMemory::add_rom(std::string name, Spa base, const std::vector<u8>& content) {
    const u64 size = align_up(content.size(), kPageSize);
    Region region{.name = std::move(name), .base = base, .size = size, .kind = RegionKind::Rom};
    if (size != 0) {
        region.host = impl_->allocate(size);
        if (region.host == nullptr) {
            return fail(Error::Code::Host, fmt::format("cannot get {} bytes for ROM {}", size, region.name));
        }
        std::memset(region.host, 0xff, size);
        std::memcpy(region.host, content.data(), content.size());
    }
    return insert(std::move(region));
}

Result<void> PhysicalMemory::add_switched_ram(std::string name, Spa base, u64 size, const std::vector<u8>& rom,
                                              MmioHandler* handler) {
    VG_ASSERT(rom.size() <= size);
    u8* content = nullptr;
    if (!rom.empty()) {
        content = impl_->allocate(size);
        if (content == nullptr) {
            return fail(Error::Code::Host, fmt::format("cannot get {} bytes for ROM {}", size, name));
        }
        std::memset(content, 0xff, size);
        std::memcpy(content, rom.data(), rom.size());
    }
    if (auto ok = add_ram(std::move(name), base, size); !ok) return ok;
    const auto range = std::find_if(ram_.begin(), ram_.end(), [&](const RamRange& r) { return r.base == base.value; });
    range->switched = true;
    range->rom = content;
    range->behind = handler;
    for (u64 page = 0; page < size / kPageSize; ++page)
        range->pages[page].flags = PageInfo::kReadsBehind | PageInfo::kWritesBehind;
    return {};
}

const PhysicalMemory::RamRange& PhysicalMemory::ram_of(const Region& region) const {
    const auto range = std::find_if(ram_.begin(), ram_.end(), [&](const RamRange& r) { return r.host == region.host; });
    VG_ASSERT(range != ram_.end());
    return *range;
}

/// @param all  also of pages without code marks: what is executed while it cannot be written has none
void PhysicalMemory::drop_code(const RamRange& range, Spa base, u64 size, bool all) {
    for (u64 at = 0; at < size; at += kPageSize) {
        const Spa page = base + at;
        if (all || range.pages[(page.value - range.base) / kPageSize].code != 0)
            tell_code_written(page, static_cast<u32>(kPageSize));
    }
}

void PhysicalMemory::tell_code_written(Spa spa, u32 size) {
    if (code_observers_.empty()) return;
    hold_off();
    for (CodeObserver* observer : code_observers_) observer->code_written(spa, size);
}

void PhysicalMemory::drop_all() {
    hold_off();
    for (TlbObserver* observer : impl_->observers) observer->drop_all();
}

void PhysicalMemory::switch_pages(Spa base, u64 size, bool reads, bool writes) {
    const RamRange* range = find_ram(base);
    VG_ASSERT(range != nullptr && range->switched && fits(base.value - range->base, size, range->size) &&
              ((base.value | size) & kPageMask) == 0);
    const u8 wanted = static_cast<u8>((reads ? 0 : PageInfo::kReadsBehind) | (writes ? 0 : PageInfo::kWritesBehind));
    drop_code(*range, base, size, true);
    for (u64 at = 0; at < size; at += kPageSize) {
        PageInfo& info = page_info(base + at);
        info.flags = static_cast<u8>((info.flags & ~(PageInfo::kReadsBehind | PageInfo::kWritesBehind)) | wanted);
    }
    drop_all();
}

void PhysicalMemory::move_ram(Spa home, Spa place) {
    const Region* region = find(home);
    VG_ASSERT(region != nullptr && region->kind == RegionKind::Ram && region->base == home && place.offset() == 0);
    const auto range = std::find_if(ram_.begin(), ram_.end(), [&](const RamRange& r) { return r.host == region->host; });
    VG_ASSERT(range != ram_.end());
    if (range->base == place.value) return;
    drop_code(*range, Spa(range->base), range->size, false);
    drop_all();
    for (u64 page = 0; page < range->size / kPageSize; ++page) range->pages[page].flags &= static_cast<u8>(~PageInfo::kWriteCached);
    range->base = place.value;
}

void PhysicalMemory::load(const Region& region, u64 offset, const void* data, u64 size) {
    VG_ASSERT(region.kind == RegionKind::Ram && fits(offset, size, region.size));
    const RamRange& range = ram_of(region);
    before_write(Spa(range.base + offset), static_cast<u32>(size));
    std::memcpy(range.host + offset, data, size);
}

Result<void> PhysicalMemory::add_mmio(std::string name, Spa base, u64 size, MmioHandler& handler) {
    return insert({.name = std::move(name), .base = base, .size = size, .kind = RegionKind::Mmio, .handler = &handler});
}

const Region* PhysicalMemory::find(Spa spa) const {
    auto after = std::upper_bound(regions_.begin(), regions_.end(), spa,
                                  [](Spa address, const Region& r) { return address < r.base; });
    if (after == regions_.begin()) return nullptr;
    const Region& region = *std::prev(after);
    return spa - region.base < region.size ? &region : nullptr;
}

const PhysicalMemory::RamRange* PhysicalMemory::find_ram(Spa spa) const {
    for (const RamRange& range : ram_) {
        if (spa.value - range.base < range.size) return &range;
    }
    return nullptr;
}

u8* PhysicalMemory::ram(Spa spa) const {
    const RamRange* range = find_ram(spa);
    if (range == nullptr || !range->shows(spa, PageInfo::kReadsBehind | PageInfo::kWritesBehind)) return nullptr;
    return range->host + (spa.value - range->base);
}

const u8* PhysicalMemory::readable(Spa spa) const {
    if (const RamRange* range = find_ram(spa)) {
        const u64 offset = spa.value - range->base;
        if (range->shows(spa, PageInfo::kReadsBehind)) return range->host + offset;
        return range->rom != nullptr ? range->rom + offset : nullptr;
    }
    const Region* region = find(spa);
    return region != nullptr && region->kind == RegionKind::Rom ? region->host + (spa - region->base) : nullptr;
}

PageInfo& PhysicalMemory::page_info(Spa spa) {
    const RamRange* range = find_ram(spa);
    VG_ASSERT(range != nullptr);
    return range->pages[(spa.value - range->base) / kPageSize];
}

bool PhysicalMemory::writable_directly(Spa spa) {
    const RamRange* range = find_ram(spa);
    if (range == nullptr) return false;
    const PageInfo& info = range->pages[(spa.value - range->base) / kPageSize];
    constexpr u8 kSlow = PageInfo::kTracked | PageInfo::kReadWatched | PageInfo::kWriteWatched |
                         PageInfo::kReadsBehind | PageInfo::kWritesBehind;
    return info.code == 0 && (info.flags & kSlow) == 0;
}

bool PhysicalMemory::is_read_watched(Spa page) const {
    const RamRange* range = find_ram(page);
    return range != nullptr && (range->pages[(page.value - range->base) / kPageSize].flags & PageInfo::kReadWatched) != 0;
}

void PhysicalMemory::note_read(Spa spa, u64 size, Accessor by) {
    while (size != 0) {
        const u64 count = std::min(size, kPageSize - spa.offset());
        if (is_read_watched(spa.page_base()) && access_observer_ != nullptr)
            access_observer_->accessed(spa, static_cast<u32>(count), false, by);
        spa = spa + count;
        size -= count;
    }
}

void PhysicalMemory::read_mmio(MmioHandler& handler, u64 offset, u8* out, u64 size) {
    while (size != 0) {
        const unsigned piece = piece_size(offset, size);
        const u64 value = handler.mmio_read(offset, piece);
        std::memcpy(out, &value, piece);
        offset += piece;
        out += piece;
        size -= piece;
    }
}

void PhysicalMemory::write_mmio(MmioHandler& handler, u64 offset, const u8* data, u64 size) {
    while (size != 0) {
        const unsigned piece = piece_size(offset, size);
        u64 value = 0;
        std::memcpy(&value, data, piece);
        handler.mmio_write(offset, piece, value);
        offset += piece;
        data += piece;
        size -= piece;
    }
}

/// Within one page.
void PhysicalMemory::read_switched(const RamRange& range, Spa spa, u8* out, u64 size) {
    if (const u8* host = readable(spa))
        std::memcpy(out, host, size);
    else if (range.behind != nullptr)
        read_mmio(*range.behind, spa.value - range.base, out, size);
    else
        std::memset(out, 0xff, size);
}

/// Within one page.
void PhysicalMemory::write_switched(const RamRange& range, Spa spa, const u8* data, u64 size, Accessor by) {
    if (range.shows(spa, PageInfo::kWritesBehind)) {
        before_write(spa, static_cast<u32>(size), by);
        std::memcpy(range.host + (spa.value - range.base), data, size);
    } else if (range.behind != nullptr) {
        write_mmio(*range.behind, spa.value - range.base, data, size);
    }
}

void PhysicalMemory::read(Spa spa, void* out, u64 size, Accessor by) {
    if (reads_watched_ != 0) [[unlikely]] note_read(spa, size, by);
    if (const RamRange* range = find_ram(spa);
        range != nullptr && !range->switched && fits(spa.value - range->base, size, range->size)) {
        std::memcpy(out, range->host + (spa.value - range->base), size);
        return;
    }
    u8* to = static_cast<u8*>(out);
    while (size != 0) {
        if (const RamRange* range = find_ram(spa)) {
            const u64 count = std::min(size, kPageSize - spa.offset());
            read_switched(*range, spa, to, count);
            spa = spa + count;
            to += count;
            size -= count;
            continue;
        }
        const Region* region = find(spa);
        if (region == nullptr) {
            const u64 count = std::min(size, kPageSize - spa.offset());
            std::memset(to, 0xff, count);
            spa = spa + count;
            to += count;
            size -= count;
            continue;
        }
        const u64 offset = spa - region->base;
        const u64 count = std::min({size, region->size - offset, kPageSize - spa.offset()});  // RAM may lie in front
        if (region->kind == RegionKind::Mmio) {
            read_mmio(*region->handler, offset, to, count);
        } else {
            std::memcpy(to, region->host + offset, count);
        }
        spa = spa + count;
        to += count;
        size -= count;
    }
}

void PhysicalMemory::write(Spa spa, const void* data, u64 size, Accessor by) {
    const u8* from = static_cast<const u8*>(data);
    while (size != 0) {
        u64 count = std::min(size, kPageSize - spa.offset());
        if (u8* host = ram(spa)) {
            before_write(spa, static_cast<u32>(count), by);
            std::memcpy(host, from, count);
        } else if (const RamRange* range = find_ram(spa)) {
            write_switched(*range, spa, from, count, by);
        } else if (const Region* region = find(spa); region != nullptr && region->kind == RegionKind::Mmio) {
            write_mmio(*region->handler, spa - region->base, from, count);
        }
        spa = spa + count;
        from += count;
        size -= count;
    }
}

bool PhysicalMemory::compare_exchange(Spa spa, u64 expected, u64 desired, unsigned size) {
    VG_ASSERT((spa.value & (size - 1)) == 0);
    u8* host = ram(spa);
    if (host == nullptr) return false;
    before_write(spa, size, {Accessor::Kind::Processor});
    switch (size) {
        case 1:
            return exchange<u8>(host, expected, desired);
        case 2:
            return exchange<u16>(host, expected, desired);
        case 4:
            return exchange<u32>(host, expected, desired);
        case 8:
            return exchange<u64>(host, expected, desired);
        default:
            VG_UNREACHABLE();
    }
}

void PhysicalMemory::mark_code(Spa spa, u32 size) {
    VG_ASSERT(size != 0 && spa.offset() + u64{size} <= kPageSize);
    PageInfo& info = page_info(spa);
    info.code |= granules(spa.offset(), size);
    drop_write_entries(info, spa.page_base());
}

void PhysicalMemory::drop_write_entries(PageInfo& info, Spa page) {
    if ((info.flags & PageInfo::kWriteCached) == 0) return;
    hold_off();
    for (TlbObserver* observer : impl_->observers) observer->drop_write_entries(page);
    info.flags &= static_cast<u8>(~PageInfo::kWriteCached);
}

void PhysicalMemory::remark_code(Spa page) {
    hold_off();  // nobody is reading what was marked and becomes code only now
    page_info(page).code = 0;
    for (CodeObserver* observer : code_observers_) observer->mark_page(page);
}

void PhysicalMemory::set_tracked(Spa page, bool tracked) {
    PageInfo& info = page_info(page);
    if (!tracked) {
        info.flags &= static_cast<u8>(~PageInfo::kTracked);
        return;
    }
    info.flags |= PageInfo::kTracked;
    drop_write_entries(info, page.page_base());
}

void PhysicalMemory::set_watched(Spa page, bool reads, bool writes) {
    constexpr u8 kWatched = PageInfo::kReadWatched | PageInfo::kWriteWatched;
    page = page.page_base();
    if (find_ram(page) == nullptr) return;  // RAM that has moved away
    PageInfo& info = page_info(page);
    const bool were_reads = (info.flags & PageInfo::kReadWatched) != 0, was_any = (info.flags & kWatched) != 0;
    info.flags = static_cast<u8>((info.flags & ~kWatched) | (reads ? PageInfo::kReadWatched : 0) |
                                 (writes ? PageInfo::kWriteWatched : 0));
    reads_watched_ = reads_watched_ - (were_reads ? 1 : 0) + (reads ? 1 : 0);
    watched_pages_ = watched_pages_ - (was_any ? 1 : 0) + (reads || writes ? 1 : 0);
    // What reads through a write entry is not seen either.
    if (reads || writes) drop_write_entries(info, page);
    if (!reads || were_reads) return;
    hold_off();
    for (TlbObserver* observer : impl_->observers) observer->drop_read_entries(page);
}

void PhysicalMemory::add_tlb_observer(TlbObserver* observer) { impl_->observers.push_back(observer); }
void PhysicalMemory::remove_tlb_observer(TlbObserver* observer) { std::erase(impl_->observers, observer); }

void PhysicalMemory::before_write(Spa spa, u32 size, Accessor by) {
    while (size != 0) {
        const u32 count = std::min(size, static_cast<u32>(kPageSize) - spa.offset());
        const RamRange* range = find_ram(spa);
        if (range != nullptr) {
            const PageInfo& info = range->pages[(spa.value - range->base) / kPageSize];
            if (info.code != 0 && (info.code & granules(spa.offset(), count)) != 0) tell_code_written(spa, count);
            if ((info.flags & PageInfo::kWriteWatched) != 0 && access_observer_ != nullptr) [[unlikely]]
                access_observer_->accessed(spa, count, true, by);
        }
        spa = spa + count;
        size -= count;
    }
}

void PhysicalMemory::discard(Spa base, u64 size) {
    static constexpr u8 kZeroes[kPageSize] = {};
    while (size != 0) {
        const RamRange* const range = find_ram(base);
        if (range == nullptr) {
            base = base + kPageSize;
            size -= kPageSize;
            continue;
        }
        const u64 first = base.value - range->base, end = std::min(range->size, first + size);
        PageRun run{first, first};
        while ((run = next_touched(range->host, range->pages, run.end, range->size)).first < end) {
            for (u64 page = run.first; page < std::min(run.end, end); page += kPageSize)
                if (!is_zero_page(range->host + page)) write(Spa(range->base + page), kZeroes, kPageSize);
        }
        give_back_pages(range->host, range->pages, first, end);  // a host that refuses keeps the zeroes that were written
        base = base + (end - first);
        size -= end - first;
    }
}

u64 PhysicalMemory::release_zero_pages(const Region& region, u64 offset, u64 size) {
    constexpr u64 kLeastRun = 16 * kPageSize;  // less is not worth a split large page
    const u64 end = std::min(region.size, offset + size);
    const PageInfo* const pages = ram_of(region).pages;
    const auto free_page = [&](u64 page) {
        return (pages[page / kPageSize].flags & kSharedPage) == 0 && is_zero_page(region.host + page);
    };
    u64 released = 0;
    for (u64 at = offset; at < end;) {
        const u64 host = reinterpret_cast<u64>(region.host + at);
        const u64 next = std::min(end, at + (align_down(host, kHostHugePage) + kHostHugePage - host));
        std::vector<PageRun> runs;
        u64 free = 0, full = 0;
        PageRun run{at, at};
        while (run.end < next && (run = next_resident(region.host, run.end, next)).first < next) {
            u64 zero = run.first;
            for (u64 page = run.first; page <= run.end; page += kPageSize) {
                if (page < run.end && free_page(page)) continue;
                if (page - zero >= kLeastRun) runs.push_back({zero, page}), free += page - zero;
                zero = page + kPageSize;
            }
            full += run.end - run.first;
        }
        const u64 large = align_down(host, kHostHugePage);
        if (!runs.empty()) {
            if (impl_->scattered.insert(large).second && next - at == kHostHugePage)
                madvise(region.host + at, next - at, MADV_NOHUGEPAGE);
            for (const PageRun& each : runs) give_back(region.host + each.first, each.end - each.first);
        } else if (full == kHostHugePage && impl_->scattered.erase(large) != 0) {
            madvise(region.host + at, next - at, MADV_HUGEPAGE);  // dense again
        }
        released += free;
        at = next;
    }
    return released;
}

u64 PhysicalMemory::resident_bytes() const {
    u64 total = 0;
    for (const RamRange& range : ram_) {
        PageRun run;
        while ((run = next_resident(range.host, run.end, range.size)).first < range.size) total += run.end - run.first;
    }
    return total;
}

void PhysicalMemory::hash(StateHasher& hasher) const {
    for (const Region& region : regions_) {
        if (region.kind != RegionKind::Ram) continue;
        const RamRange& range = ram_of(region);
        PageRun run;
        while ((run = next_touched(range.host, range.pages, run.end, range.size)).first < range.size) {
            for (u64 page = run.first; page < run.end; page += kPageSize) {
                if (is_zero_page(range.host + page)) continue;
                const u64 spa = region.base.value + page;
                hasher.memory(&spa, sizeof spa);
                hasher.memory(range.host + page, kPageSize);
            }
        }
    }
}

}  // namespace vg::mmu
