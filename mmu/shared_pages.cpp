#include "mmu/shared_pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"

namespace vg::mmu {
namespace {

constexpr u64 kPiecePages = kHostHugePage / kPageSize;
/// Contents of a place that are tried as the one to share.
constexpr unsigned kCandidates = 3;

/// What the host has for each page of a piece.
struct Residency {
    static constexpr u64 kPresent = u64{1} << 63, kSwapped = u64{1} << 62, kOfFile = u64{1} << 61;
    std::array<u64, kPiecePages> entries;

    [[nodiscard]] bool look(const u8* host) {
        const int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (fd < 0) return false;
        const off_t at = static_cast<off_t>(reinterpret_cast<u64>(host) / kPageSize * sizeof(u64));
        const ssize_t got = ::pread(fd, entries.data(), sizeof entries, at);
        ::close(fd);
        return got == static_cast<ssize_t>(sizeof entries);
    }
    [[nodiscard]] bool touched(u64 page) const { return (entries[page] & (kPresent | kSwapped)) != 0; }
    /// Memory of its own, not of a file.
    [[nodiscard]] bool own(u64 page) const { return touched(page) && (entries[page] & kOfFile) == 0; }
};

bool is_shared(const PageInfo& page) { return (page.flags & kSharedPage) != 0; }

}  // namespace

PageRun next_touched(const u8* host, const PageInfo* pages, u64 from, u64 size) {
    const PageRun run = next_resident(host, from, size);
    u64 first = from;
    while (first < run.first && !is_shared(pages[first / kPageSize])) first += kPageSize;
    if (first >= run.first) return run;
    u64 end = first;
    while (end < size && is_shared(pages[end / kPageSize])) end += kPageSize;
    return {first, end};
}

PageRun next_touched(PhysicalMemory& memory, const Region& region, u64 from) {
    if (from >= region.size) return {region.size, region.size};
    if (memory.find(region.base) != &region || memory.ram(region.base) != region.host)
        return next_resident(region.host, from, region.size);  // elsewhere, or switched: never shared
    return next_touched(region.host, &memory.page_info(region.base), from, region.size);
}

void give_back_pages(u8* host, PageInfo* pages, u64 first, u64 end) {
    while (first < end) {
        const bool shared = is_shared(pages[first / kPageSize]);
        u64 next = first;
        for (; next < end && is_shared(pages[next / kPageSize]) == shared; next += kPageSize) {
            pages[next / kPageSize].flags &= static_cast<u8>(~kSharedPage);
        }
        // Without its mapping a shared page would show the copy again.
        if (!shared) {
            give_back(host + first, next - first);
        } else if (::mmap(host + first, next - first, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
            std::memset(host + first, 0, next - first);
            for (u64 at = first; at < next; at += kPageSize) pages[at / kPageSize].flags |= kSharedPage;
        }
        first = next;
    }
}

/// One region's part of the piece that is looked at.
struct SharedPages::View {
    u8* host;
    PageInfo* pages;
    Residency residency;
    std::array<bool, kPiecePages> same;  ///< as the copy

    /// It shows the copy right now.
    [[nodiscard]] bool shows(u64 page) const { return is_shared(pages[page]) && !residency.own(page); }
    [[nodiscard]] bool touched(u64 page) const { return is_shared(pages[page]) || residency.touched(page); }
    [[nodiscard]] const u8* content(u64 page) const { return host + page * kPageSize; }
    /// Only what is worth a mapping is to be shown; notes it as needed.
    void drop_short_runs(std::vector<bool>& needed);
};

SharedPages::~SharedPages() {
    if (file_ >= 0) ::close(file_);
}

bool SharedPages::open(u64 size) {
    if (file_ < 0) file_ = ::memfd_create("verdigris-shared-pages", MFD_CLOEXEC);
    if (file_ < 0) return false;
    if (size_ < size) {
        if (::ftruncate(file_, static_cast<off_t>(size)) != 0) return false;
        size_ = size;
    }
    return true;
}

u64 SharedPages::bytes() const {
    struct stat status {};
    return file_ >= 0 && ::fstat(file_, &status) == 0 ? static_cast<u64>(status.st_blocks) * 512 : 0;
}

u64 SharedPages::share(PhysicalMemory& memory, std::span<const Region* const> regions, u64 offset, u64 size) {
    u64 saved = 0;
    for (u64 at = offset; at < offset + size && runs_ < kMostRuns; at += kHostHugePage)
        saved += share_piece(memory, regions, at);
    return saved;
}

u64 SharedPages::share_piece(PhysicalMemory& memory, std::span<const Region* const> regions, u64 offset) {
    std::vector<View> views;
    views.reserve(regions.size());
    for (const Region* const region : regions) {
        if (offset + kHostHugePage > region->size || memory.ram(region->base) != region->host) continue;
        View& view = views.emplace_back();
        view.host = region->host + offset;
        view.pages = &memory.page_info(region->base + offset);
        if (!view.residency.look(view.host)) return 0;
    }
    if (views.size() < 2 || !open(offset + kHostHugePage)) return 0;
    copies_.resize(kHostHugePage);
    if (::pread(file_, copies_.data(), copies_.size(), static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(kHostHugePage))
        return 0;
    known_.assign(kPiecePages, false);
    fixed_.assign(kPiecePages, false);
    for (u64 page = 0; page < kPiecePages; ++page) choose(views, page);

    std::vector<bool> needed(kPiecePages, false);
    for (View& view : views) view.drop_short_runs(needed);
    write_copies(offset, needed);
    u64 saved = 0;
    for (View& view : views) saved += show(view, offset, needed);
    return saved;
}

/// Which content of a place is the shared one: that which somebody sees already, or one that two regions have.
void SharedPages::choose(std::vector<View>& views, u64 page) {
    u8* const copy = copies_.data() + page * kPageSize;
    const auto equal = [&](const View& view, const u8* content) {
        return view.touched(page) && std::memcmp(view.content(page), content, kPageSize) == 0;
    };
    fixed_[page] = known_[page] = std::ranges::any_of(views, [&](const View& view) { return view.shows(page); });
    unsigned tried = 0;
    for (auto first = views.begin(); first != views.end() && !known_[page] && tried < kCandidates; ++first) {
        if (!first->touched(page)) continue;
        ++tried;
        known_[page] = std::any_of(std::next(first), views.end(),
                                   [&](const View& view) { return equal(view, first->content(page)); });
        if (known_[page]) std::memcpy(copy, first->content(page), kPageSize);
    }
    for (View& view : views) view.same[page] = known_[page] && equal(view, copy);
}

void SharedPages::View::drop_short_runs(std::vector<bool>& needed) {
    constexpr u64 kLeast = kLeastRun / kPageSize;
    for (u64 first = 0; first < kPiecePages;) {
        u64 end = first;
        while (end < kPiecePages && same[end]) ++end;
        for (u64 page = first; page < end; ++page) {
            if (end - first < kLeast)
                same[page] = false;
            else
                needed[page] = true;
        }
        first = end + 1;
    }
}

/// Into the file go those that nobody sees yet: the others are there.
void SharedPages::write_copies(u64 offset, std::vector<bool>& needed) {
    for (u64 first = 0; first < kPiecePages;) {
        u64 end = first;
        while (end < kPiecePages && needed[end] && !fixed_[end]) ++end;
        const u64 at = first * kPageSize, size = (end - first) * kPageSize;
        if (size != 0 &&
            ::pwrite(file_, copies_.data() + at, size, static_cast<off_t>(offset + at)) != static_cast<ssize_t>(size))
            std::fill(needed.begin() + static_cast<std::ptrdiff_t>(first),
                      needed.begin() + static_cast<std::ptrdiff_t>(end), false);
        first = end + 1;
    }
}

/// Maps the copies over what is equal to them. Returns bytes of its own that the region had there.
u64 SharedPages::show(View& view, u64 offset, const std::vector<bool>& written) {
    u64 saved = 0;
    for (u64 first = 0; first < kPiecePages;) {
        u64 end = first, own = 0;
        bool all_shown = true;
        for (; end < kPiecePages && view.same[end] && written[end]; ++end) {
            own += view.residency.own(end) ? kPageSize : 0;
            all_shown = all_shown && view.shows(end);
        }
        if (end != first && !all_shown && runs_ < kMostRuns &&
            ::mmap(view.host + first * kPageSize, (end - first) * kPageSize, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, file_,
                   static_cast<off_t>(offset + first * kPageSize)) != MAP_FAILED) {
            for (u64 page = first; page < end; ++page) view.pages[page].flags |= kSharedPage;
            saved += own;
            ++runs_;
        }
        first = end + 1;
    }
    return saved;
}

}  // namespace vg::mmu
