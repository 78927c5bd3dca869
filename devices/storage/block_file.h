// The file under a disk image: what a format reads and writes, so that tests can put memory in its place.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::devices {

/// A growable array of bytes with a name. Errors of the host (no space, I/O error) are Error::Code::Host.
class BlockFile {
  public:
    virtual ~BlockFile() = default;
    /// Path, for messages and for finding parents next to it.
    [[nodiscard]] virtual const std::string& name() const = 0;
    [[nodiscard]] virtual u64 size() const = 0;
    [[nodiscard]] virtual bool writable() const = 0;
    /// When the file was last modified, as it was opened: Unix seconds; 0 if unknown.
    [[nodiscard]] virtual s64 modified() const { return 0; }
    /// Reads exactly `out.size()` bytes; reaching past the end is an error.
    [[nodiscard]] virtual Result<void> read(u64 offset, std::span<u8> out) = 0;
    /// Writes, growing the file if needed; a gap reads as zeroes.
    [[nodiscard]] virtual Result<void> write(u64 offset, std::span<const u8> data) = 0;
    /// As read and write of all the parts, one behind the other.
    [[nodiscard]] virtual Result<void> read_parts(u64 offset, std::span<const std::span<u8>> parts);
    [[nodiscard]] virtual Result<void> write_parts(u64 offset, std::span<const std::span<u8>> parts);
    /// Makes [offset, offset+size), which lies inside the file, read as zeroes and gives its space back where possible.
    [[nodiscard]] virtual Result<void> zero(u64 offset, u64 size) = 0;
    /// When it returns, all earlier writes are on stable storage. Once it has failed, what was written is in doubt and
    /// a file of the host fails it for ever.
    [[nodiscard]] virtual Result<void> sync() = 0;
    /// Cuts or grows the file to `size`; new bytes are zeroes.
    [[nodiscard]] virtual Result<void> resize(u64 size) = 0;
};

enum class FileAccess : u8 {
    ReadOnly,   ///< shared with other readers
    ReadWrite,  ///< locked against everybody else who opens it through here
    CreateNew   ///< as ReadWrite; an existing file is an error
};

/// Opens a regular file or block device. Errors: Usage for a missing file, a directory, no permission, or a file that
/// another process has open for writing.
[[nodiscard]] Result<std::unique_ptr<BlockFile>> open_file(const std::string& path, FileAccess access);

/// Creates a file complete or not at all: `fill` writes under a temporary name; the file appears under its own when all
/// of it is on stable storage. Errors: Usage if the name is taken or the folder missing; those of `fill`.
[[nodiscard]] Result<void> create_file(const std::string& path, const std::function<Result<void>(BlockFile&)>& fill);

/// Refuses a name under which create_file could not make a file: its folder is missing or may not be written (Usage).
[[nodiscard]] Result<void> check_new_file(const std::string& path);

/// A file without a name, gone when closed: on disk in $TMPDIR or /var/tmp, else in memory. Sparse.
[[nodiscard]] Result<std::unique_ptr<BlockFile>> open_unnamed_file(const std::string& label);

/// Bytes in memory, for tests.
class MemoryFile final : public BlockFile {
  public:
    explicit MemoryFile(std::string name, std::vector<u8> content = {}, bool writable = true)
        : name_(std::move(name)), content_(std::move(content)), writable_(writable) {}

    [[nodiscard]] const std::string& name() const override { return name_; }
    [[nodiscard]] u64 size() const override { return content_.size(); }
    [[nodiscard]] bool writable() const override { return writable_; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override;
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override;
    [[nodiscard]] Result<void> zero(u64 offset, u64 size) override;
    [[nodiscard]] Result<void> sync() override { return {}; }
    [[nodiscard]] Result<void> resize(u64 size) override;
    [[nodiscard]] const std::vector<u8>& content() const { return content_; }

    /// A memory file that would grow past this refuses instead: a test's mistake must not eat the host.
    static constexpr u64 kMaxSize = u64{1} << 30;

  private:
    std::string name_;
    std::vector<u8> content_;
    bool writable_;
};

/// Bytes in this process's memory, of which only the written parts take room. Private to a process that is forked.
class SparseMemoryFile final : public BlockFile {
  public:
    explicit SparseMemoryFile(std::string name) : name_(std::move(name)) {}

    [[nodiscard]] const std::string& name() const override { return name_; }
    [[nodiscard]] u64 size() const override { return size_; }
    [[nodiscard]] bool writable() const override { return true; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override;
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override;
    [[nodiscard]] Result<void> zero(u64 offset, u64 size) override;
    [[nodiscard]] Result<void> sync() override { return {}; }
    [[nodiscard]] Result<void> resize(u64 size) override;

  private:
    static constexpr u64 kBlockBytes = 16 * 1024;
    using Block = std::array<u8, kBlockBytes>;
    std::string name_;
    u64 size_ = 0;
    std::unordered_map<u64, std::unique_ptr<Block>> blocks_;  ///< by number; missing ones are zeroes
};

}  // namespace vg::devices
