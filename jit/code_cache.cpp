#include "jit/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "base/host_memory.h"

namespace vg::jit {

namespace {

/// Puts a file in the place of the mapping at `writable` and maps it once more. MAP_FAILED: the host refuses.
void* second_view(void* writable, u32 size) {
    const int file = memfd_create("verdigris-code", MFD_CLOEXEC);
    if (file < 0) return MAP_FAILED;
    void* view = MAP_FAILED;
    if (ftruncate(file, size) == 0 &&
        mmap(writable, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED)
        view = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    return view;
}

}  // namespace

Result<CodeArena> CodeArena::create(u32 size) {
    const auto refused = [](const char* what) {
        return fail(Error::Code::Host, std::string("translated code: ") + what + ": " + std::strerror(errno) +
                                           ". Allow executable shared mappings, or run with --engine step");
    };
    CodeArena arena;
    arena.size_ = size;
    void* writable = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (writable == MAP_FAILED) return refused("mmap");
    arena.writable_ = static_cast<u8*>(writable);
    // An old size of 0 asks for a second view of a shared mapping. A memfd would do as well, but perf(1) looks into
    // its map file (jit/perf_output.h) for anonymous memory only.
    void* executable = mremap(writable, 0, size, MREMAP_MAYMOVE);
    if (executable == MAP_FAILED) executable = second_view(writable, size);  // valgrind(1) knows no size of 0
    if (executable == MAP_FAILED) return refused("mremap");
    arena.executable_ = static_cast<u8*>(executable);
    if (mprotect(executable, size, PROT_READ | PROT_EXEC) != 0) return refused("mprotect");
    return arena;
}

CodeArena::CodeArena(CodeArena&& other) noexcept { *this = std::move(other); }

CodeArena& CodeArena::operator=(CodeArena&& other) noexcept {
    std::swap(writable_, other.writable_);
    std::swap(executable_, other.executable_);
    std::swap(size_, other.size_);
    std::swap(hot, other.hot);
    std::swap(warm, other.warm);
    std::swap(cold, other.cold);
    return *this;
}

void CodeArena::reset(u32 fixed) {
    // Measured on compilers, interpreters and kernels: 55 % of the bytes are hot, 10 % warm.
    const u32 share = (size_ - fixed) / 16;
    const u32 first = fixed + 9 * share, second = first + 2 * share;
    hot = {fixed, first, fixed, std::max(hot.ready, fixed)};
    warm = {first, second, first, std::max(warm.ready, first)};
    cold = {second, size_, second, std::max(cold.ready, second)};
}

void CodeArena::release() {
    for (Part* part : {&hot, &warm, &cold}) {
        VG_ASSERT(part->used == part->begin);
        const u64 first = align_up(u64{part->begin}, kPageSize), end = align_down(u64{part->end}, kPageSize);
        if (first < end && madvise(writable_ + first, end - first, MADV_REMOVE) == 0) part->ready = part->begin;
    }
}

void CodeArena::prepare() {
    constexpr u32 kAhead = 64u << 10, kStep = 512u << 10;
    for (Part* part : {&hot, &warm, &cold}) {
        if (part->ready == part->end || part->used + kAhead <= part->ready) continue;
        const u32 size = std::min(kStep, part->end - part->ready);
        populate(writable_ + part->ready, size);
        populate(executable_ + part->ready, size, Populate::ForReading);
        part->ready += size;
    }
}

void CodeArena::prefetch() const {
    prefetch_for_writing(writable_ + hot.used, 320);
    prefetch_for_writing(writable_ + warm.used, 64);
    prefetch_for_writing(writable_ + cold.used, 192);
}

CodeArena::~CodeArena() {
    if (writable_ != nullptr) munmap(writable_, size_);
    if (executable_ != nullptr) munmap(executable_, size_);
}

}  // namespace vg::jit
