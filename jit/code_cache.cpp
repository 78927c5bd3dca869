#include "jit/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace vg::jit {

Result<CodeArena> CodeArena::create(u32 size) {
    const auto refused = [](const char* what) {
        return fail(Error::Code::Host, std::string("translated code: ") + what + ": " + std::strerror(errno) +
                                           ". Allow executable shared mappings, or run with --engine step");
    };
    const int fd = memfd_create("verdigris-code", MFD_CLOEXEC);
    if (fd < 0) return refused("memfd_create");
    CodeArena arena;
    arena.size_ = size;
    const bool sized = ftruncate(fd, size) == 0;
    void* writable = sized ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    void* executable = sized ? mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) : MAP_FAILED;
    const int saved = errno;
    close(fd);
    errno = saved;
    if (writable != MAP_FAILED) arena.writable_ = static_cast<u8*>(writable);
    if (executable != MAP_FAILED) arena.executable_ = static_cast<u8*>(executable);
    if (arena.writable_ == nullptr || arena.executable_ == nullptr) return refused("mmap");
    return arena;
}

CodeArena::CodeArena(CodeArena&& other) noexcept { *this = std::move(other); }

CodeArena& CodeArena::operator=(CodeArena&& other) noexcept {
    std::swap(writable_, other.writable_);
    std::swap(executable_, other.executable_);
    std::swap(size_, other.size_);
    std::swap(used_, other.used_);
    return *this;
}

CodeArena::~CodeArena() {
    if (writable_ != nullptr) munmap(writable_, size_);
    if (executable_ != nullptr) munmap(executable_, size_);
}

}  // namespace vg::jit
