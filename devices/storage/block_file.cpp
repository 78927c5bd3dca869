#include "devices/storage/block_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/bits.h"

namespace vg::devices {

namespace {

class HostFile final : public BlockFile {
  public:
    HostFile(std::string name, int fd, u64 size, s64 modified, bool writable)
        : name_(std::move(name)), fd_(fd), size_(size), modified_(modified), writable_(writable) {}
    ~HostFile() override { ::close(fd_); }
    HostFile(const HostFile&) = delete;
    HostFile& operator=(const HostFile&) = delete;

    [[nodiscard]] const std::string& name() const override { return name_; }
    [[nodiscard]] u64 size() const override { return size_; }
    [[nodiscard]] bool writable() const override { return writable_; }
    [[nodiscard]] s64 modified() const override { return modified_; }

    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        while (!out.empty()) {
            const ssize_t count = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return failed("read", offset);
            if (count == 0) {
                return fail(Error::Code::Damaged,
                            fmt::format("{}: the file ends at byte {}, {} more bytes were expected there; it was "
                                        "truncated: restore it from a backup or recreate it",
                                        name_, offset, out.size()));
            }
            out = out.subspan(static_cast<std::size_t>(count));
            offset += static_cast<u64>(count);
        }
        return {};
    }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override {
        while (!data.empty()) {
            const ssize_t count = ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) return failed("write", offset);
            data = data.subspan(static_cast<std::size_t>(count));
            offset += static_cast<u64>(count);
            size_ = std::max(size_, offset);
        }
        return {};
    }
    [[nodiscard]] Result<void> read_parts(u64 offset, std::span<const std::span<u8>> parts) override {
        return in_vectors(fd_, offset, parts, ::preadv, [this](u64 at, std::span<u8> rest) { return read(at, rest); });
    }
    [[nodiscard]] Result<void> write_parts(u64 offset, std::span<const std::span<u8>> parts) override {
        auto done = in_vectors(fd_, offset, parts, ::pwritev, [this](u64 at, std::span<u8> rest) { return write(at, rest); });
        for (const std::span<u8> part : parts) offset += part.size();
        if (done) size_ = std::max(size_, offset);
        return done;
    }
    [[nodiscard]] Result<void> zero(u64 offset, u64 size) override {
        if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                        static_cast<off_t>(size)) == 0) {
            return {};
        }
        // Not every file system can punch holes.
        const std::vector<u8> zeroes(static_cast<std::size_t>(std::min<u64>(size, 1 << 20)));
        while (size != 0) {
            const u64 part = std::min<u64>(size, zeroes.size());
            if (auto done = write(offset, {zeroes.data(), static_cast<std::size_t>(part)}); !done) return done;
            offset += part;
            size -= part;
        }
        return {};
    }
    [[nodiscard]] Result<void> sync() override {
        // The kernel reports a failed write-back once and then forgets the data: what failed stays failed. fsync(2).
        while (!lost_ && ::fdatasync(fd_) != 0) {
            if (errno != EINTR) lost_ = failed("flush", 0).error;
        }
        if (lost_) return Unexpected{*lost_};
        return {};
    }
    [[nodiscard]] Result<void> resize(u64 size) override {
        if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) return failed("resize", size);
        size_ = size;
        return {};
    }

  private:
    /// As many parts by one call of the host as it takes; what such a call leaves over, and its errors, one by one.
    template <class Call, class Rest>
    [[nodiscard]] static Result<void> in_vectors(int fd, u64 offset, std::span<const std::span<u8>> parts, Call call,
                                                 Rest rest) {
        std::array<iovec, 256> vectors;
        while (!parts.empty()) {
            const std::size_t count = std::min(parts.size(), vectors.size());
            for (std::size_t i = 0; i < count; ++i) vectors[i] = {parts[i].data(), parts[i].size()};
            const ssize_t moved = call(fd, vectors.data(), static_cast<int>(count), static_cast<off_t>(offset));
            u64 done = static_cast<u64>(std::max<ssize_t>(moved, 0));
            for (const std::span<u8> part : parts.first(count)) {
                const u64 within = std::min<u64>(done, part.size());
                done -= within;
                if (within != part.size()) {
                    if (auto ok = rest(offset + within, part.subspan(within)); !ok) return ok;
                }
                offset += part.size();
            }
            parts = parts.subspan(count);
        }
        return {};
    }
    [[nodiscard]] Unexpected<Error> failed(const char* what, u64 offset) const {
        return fail(Error::Code::Host, fmt::format("{}: cannot {} at byte {}: {}; check free space and the disk below",
                                                   name_, what, offset, std::strerror(errno)));
    }

    std::string name_;
    int fd_;
    u64 size_;
    s64 modified_;
    bool writable_;
    std::optional<Error> lost_;
};

Unexpected<Error> cannot_open(const std::string& path, int reason) {
    switch (reason) {
        case ENOENT:
            return fail(
                Error::Code::Usage,
                fmt::format("{}: no such file; check the path, or create one with: qemu-img create -f vpc {} 4G", path,
                            path));
        case EEXIST:
            return fail(Error::Code::Usage, fmt::format("{}: already exists; choose another name or remove it", path));
        case EACCES:
        case EPERM:
        case EROFS:
            return fail(Error::Code::Usage, fmt::format("{}: {}; check its permissions", path, std::strerror(reason)));
        default:
            return fail(Error::Code::Usage,
                        fmt::format("{}: cannot be opened: {}; check the path", path, std::strerror(reason)));
    }
}

struct Measure {
    u64 size;
    s64 modified;
};

Result<Measure> measure(const std::string& path, int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return cannot_open(path, errno);
    const s64 modified = status.st_mtim.tv_sec;
    if (S_ISREG(status.st_mode)) return Measure{static_cast<u64>(status.st_size), modified};
    if (S_ISBLK(status.st_mode)) {
        const off_t end = ::lseek(fd, 0, SEEK_END);
        if (end < 0) return cannot_open(path, errno);
        return Measure{static_cast<u64>(end), modified};
    }
    return fail(Error::Code::Usage, fmt::format("{}: is neither a file nor a block device; name a disk image", path));
}

std::string folder_of(const std::string& path) {
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    return parent.empty() ? "." : parent.string();
}

/// A descriptor of a file in `folder` that has no name, or loses it at once where the file system wants one; -1.
int unnamed_in(const std::string& folder) {
    const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    std::string name = folder + "/verdigris-XXXXXX";
    const int named = ::mkostemp(name.data(), O_CLOEXEC);
    if (named >= 0) ::unlink(name.c_str());
    return named;
}

/// Gives a finished file its name, which must be free: a hard link, or a rename where the file system has no links.
bool give_name(const std::string& temporary, const std::string& path) {
    if (::link(temporary.c_str(), path.c_str()) == 0) return true;
    if (errno == EEXIST) return false;
    return ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0;
}

Unexpected<Error> outside(const std::string& name, u64 offset, u64 size, u64 limit) {
    return fail(Error::Code::Damaged, fmt::format("{}: the file ends at byte {}, {} bytes were expected at byte {}; it "
                                                  "was truncated: restore it from a backup or recreate it",
                                                  name, limit, size, offset));
}

}  // namespace

Result<std::unique_ptr<BlockFile>> open_file(const std::string& path, FileAccess access) {
    const bool writable = access != FileAccess::ReadOnly;
    const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK |
                      (access == FileAccess::CreateNew ? O_CREAT | O_EXCL : 0);
    const int fd = ::open(path.c_str(), flags, 0644);
    if (fd < 0) return cannot_open(path, errno);
    // Locked first: until then another machine may still be changing the size.
    const bool busy = ::flock(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    const auto measured = measure(path, fd);
    if (busy || !measured) ::close(fd);
    if (!measured) return Unexpected{measured.error()};
    if (busy) {
        return fail(
            Error::Code::Usage,
            fmt::format("{}: is in use by another machine{}; stop that one first, or use a throw-away overlay on "
                        "an image that nobody writes",
                        path, writable ? "" : ", which writes to it"));
    }
    return std::unique_ptr<BlockFile>(
        std::make_unique<HostFile>(path, fd, measured->size, measured->modified, writable));
}

Result<void> check_new_file(const std::string& path) {
    std::error_code ignored;
    const std::string folder = folder_of(path);
    if (!std::filesystem::is_directory(folder, ignored)) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: cannot be created: there is no folder {}; make it with: mkdir -p {}", path, folder,
                                folder));
    }
    if (::access(folder.c_str(), W_OK | X_OK) == 0) return {};
    return fail(Error::Code::Usage, fmt::format("{}: cannot be created: {}; check the permissions of {}", path,
                                                std::strerror(errno), folder));
}

Result<void> create_file(const std::string& path, const std::function<Result<void>(BlockFile&)>& fill) {
    if (auto checked = check_new_file(path); !checked) return checked;
    const std::string folder = folder_of(path);
    const std::string temporary = fmt::format("{}.new-{}", path, ::getpid());
    auto file = open_file(temporary, FileAccess::CreateNew);
    if (!file) return Unexpected{file.error()};
    auto done = fill(**file);
    if (done) done = (*file)->sync();
    if (done && !give_name(temporary, path)) {
        const int reason = errno;
        done = fail(Error::Code::Usage,
                    fmt::format("{}: cannot be created: {}; {}", path, std::strerror(reason),
                                reason == EEXIST ? "choose another name or remove it" : "choose another place"));
    }
    ::unlink(temporary.c_str());
    if (!done) return done;
    if (const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
        (void)::fsync(fd);  // makes the name itself durable, where the file system supports it
        ::close(fd);
    }
    return {};
}

Result<std::unique_ptr<BlockFile>> open_unnamed_file(const std::string& label) {
    const char* chosen = std::getenv("TMPDIR");
    int fd = -1;
    if (chosen != nullptr && *chosen != 0) fd = unnamed_in(chosen);
    if (fd < 0) fd = unnamed_in("/var/tmp");
    if (fd < 0) fd = ::memfd_create("verdigris-overlay", MFD_CLOEXEC);
    if (fd < 0) {
        return fail(Error::Code::Host, fmt::format("{}: no place for a temporary file: {}; set TMPDIR to a folder with "
                                                   "free space",
                                                   label, std::strerror(errno)));
    }
    return std::unique_ptr<BlockFile>(std::make_unique<HostFile>(label, fd, 0, 0, true));
}

Result<void> BlockFile::read_parts(u64 offset, std::span<const std::span<u8>> parts) {
    for (const std::span<u8> part : parts) {
        if (auto done = read(offset, part); !done) return done;
        offset += part.size();
    }
    return {};
}

Result<void> BlockFile::write_parts(u64 offset, std::span<const std::span<u8>> parts) {
    for (const std::span<u8> part : parts) {
        if (auto done = write(offset, part); !done) return done;
        offset += part.size();
    }
    return {};
}

Result<void> MemoryFile::read(u64 offset, std::span<u8> out) {
    if (!fits(offset, out.size(), content_.size())) return outside(name_, offset, out.size(), content_.size());
    if (!out.empty()) std::memcpy(out.data(), content_.data() + offset, out.size());
    return {};
}
Result<void> MemoryFile::write(u64 offset, std::span<const u8> data) {
    if (!writable_ || !fits(offset, data.size(), kMaxSize)) {
        return fail(Error::Code::Host, fmt::format("{}: cannot write at byte {}", name_, offset));
    }
    if (content_.size() < offset + data.size()) content_.resize(offset + data.size());
    std::copy(data.begin(), data.end(), content_.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
}
Result<void> MemoryFile::zero(u64 offset, u64 size) {
    if (!fits(offset, size, content_.size())) return outside(name_, offset, size, content_.size());
    std::fill_n(content_.begin() + static_cast<std::ptrdiff_t>(offset), size, u8{0});
    return {};
}
Result<void> MemoryFile::resize(u64 size) {
    if (size > kMaxSize) return fail(Error::Code::Host, fmt::format("{}: cannot grow to {} bytes", name_, size));
    content_.resize(size);
    return {};
}

Result<void> SparseMemoryFile::read(u64 offset, std::span<u8> out) {
    if (!fits(offset, out.size(), size_)) return outside(name_, offset, out.size(), size_);
    while (!out.empty()) {
        const u64 within = offset % kBlockBytes;
        const auto part = out.first(static_cast<std::size_t>(std::min<u64>(out.size(), kBlockBytes - within)));
        const auto block = blocks_.find(offset / kBlockBytes);
        if (block == blocks_.end())
            std::fill(part.begin(), part.end(), u8{0});
        else
            std::memcpy(part.data(), block->second->data() + within, part.size());
        out = out.subspan(part.size());
        offset += part.size();
    }
    return {};
}

Result<void> SparseMemoryFile::write(u64 offset, std::span<const u8> data) {
    size_ = std::max(size_, offset + data.size());
    while (!data.empty()) {
        const u64 within = offset % kBlockBytes;
        const auto part = data.first(static_cast<std::size_t>(std::min<u64>(data.size(), kBlockBytes - within)));
        auto& block = blocks_[offset / kBlockBytes];
        if (block == nullptr) block = std::make_unique<Block>();
        std::memcpy(block->data() + within, part.data(), part.size());
        data = data.subspan(part.size());
        offset += part.size();
    }
    return {};
}

Result<void> SparseMemoryFile::zero(u64 offset, u64 size) {
    if (!fits(offset, size, size_)) return outside(name_, offset, size, size_);
    while (size != 0) {
        const u64 within = offset % kBlockBytes, part = std::min(size, kBlockBytes - within);
        const auto block = blocks_.find(offset / kBlockBytes);
        if (block != blocks_.end()) {
            if (part == kBlockBytes)
                blocks_.erase(block);
            else
                std::memset(block->second->data() + within, 0, part);
        }
        offset += part;
        size -= part;
    }
    return {};
}

Result<void> SparseMemoryFile::resize(u64 size) {
    if (size < size_) {
        if (auto ok = zero(size, size_ - size); !ok) return ok;
    }
    size_ = size;
    return {};
}

}  // namespace vg::devices
