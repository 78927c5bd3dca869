#include "base/host_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"

namespace vg {

namespace {

constexpr int kPopulateRead = 22, kPopulateWrite = 23;  // Linux 5.14: MADV_POPULATE_READ, _WRITE

}  // namespace

HostMemory::HostMemory(u64 size, u64 front, bool huge) : size_(align_up(size, kPageSize)) {
    const u64 area_size = size_ + front + kHostHugePage;
    void* const area = mmap(nullptr, area_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) return;
    area_ = static_cast<u8*>(area);
    area_size_ = area_size;
    u8* const data = reinterpret_cast<u8*>(align_up(reinterpret_cast<u64>(area_) + front, kHostHugePage));
    if (mprotect(data, size_, PROT_READ | PROT_WRITE) != 0) return;
    data_ = data;
    madvise(data_, size_, huge && size_ >= kHostHugePage ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

HostMemory::~HostMemory() {
    if (area_ != nullptr) munmap(area_, area_size_);
}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
    std::swap(area_, other.area_);
    std::swap(area_size_, other.area_size_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

void populate(void* at, u64 size, Populate how) {
    const u64 first = align_down(reinterpret_cast<u64>(at), kPageSize);
    const u64 end = align_up(reinterpret_cast<u64>(at) + size, kPageSize);
    madvise(reinterpret_cast<void*>(first), end - first, how == Populate::ForWriting ? kPopulateWrite : kPopulateRead);
}

void HostMemory::release() { give_back(data_, size_); }

void give_back(void* at, u64 size) {
    const u64 begin = reinterpret_cast<u64>(at), end = begin + size;
    const u64 first = align_up(begin, kPageSize), last = align_down(end, kPageSize);
    if (first >= last || madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED) != 0) {
        std::memset(at, 0, size);
        return;
    }
    std::memset(at, 0, first - begin);
    std::memset(reinterpret_cast<void*>(last), 0, end - last);
}

PageRun next_resident(const u8* data, u64 from, u64 size) {
    constexpr u64 kPresent = u64{1} << 63, kSwapped = u64{1} << 62;  // Linux: Documentation/admin-guide/mm/pagemap
    const auto touched = [](u64 entry) { return (entry & (kPresent | kSwapped)) != 0; };
    const int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {from, size};
    std::array<u64, 4096> entries;
    PageRun run{size, size};
    bool found = false;
    while (from < size && !(found && run.end != from)) {
        const u64 page = (reinterpret_cast<u64>(data) + from) / kPageSize;
        const u64 count = std::min<u64>(entries.size(), (size - from) / kPageSize);
        const ssize_t got = ::pread(fd, entries.data(), count * sizeof(u64), static_cast<off_t>(page * sizeof(u64)));
        if (got < static_cast<ssize_t>(sizeof(u64))) {  // nothing is known: everything may have been touched
            run = {found ? run.first : from, size};
            break;
        }
        const auto begin = entries.begin(), end = begin + got / static_cast<ssize_t>(sizeof(u64));
        const auto first = found ? begin : std::find_if(begin, end, touched);
        const auto past = std::find_if_not(first, end, touched);
        const auto offset = [&](auto at) { return from + static_cast<u64>(at - begin) * kPageSize; };
        if (first != end && !found) {
            run.first = offset(first);
            found = true;
        }
        if (found) run.end = offset(past);
        from = offset(end);
    }
    ::close(fd);
    return run;
}

}  // namespace vg
