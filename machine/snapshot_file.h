// Chunks and index of a snapshot's file: written whole or not at all, read as if an enemy had written them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "devices/storage/block_file.h"
#include "machine/spec/snapshot.h"

namespace vg::machine {

/// Writes chunks one behind the other, then index and header.
class SnapshotWriter {
  public:
    explicit SnapshotWriter(devices::BlockFile& file);
    ~SnapshotWriter();
    SnapshotWriter(const SnapshotWriter&) = delete;
    SnapshotWriter& operator=(const SnapshotWriter&) = delete;

    /// @param raw  at most kMaxChunkBytes
    [[nodiscard]] Result<void> add(snapshot_format::ChunkType type, u64 place, std::span<const u8> raw, u32 number = 0);
    /// Once, behind the last chunk.
    [[nodiscard]] Result<void> seal();

  private:
    devices::BlockFile& file_;
    std::vector<snapshot_format::Entry> index_;
    std::vector<u8> stored_;
    u64 end_ = sizeof(snapshot_format::Header);
    void* compressor_;
};

/// The chunks of a file. What open() has checked: header and index by their checksums; every chunk lies in the file and
/// is no larger than it may be; chunks of one type and number are in ascending order and do not overlap.
class SnapshotReader {
  public:
    /// Error (Damaged): no snapshot, another version, or what was found where.
    static Result<std::unique_ptr<SnapshotReader>> open(std::unique_ptr<devices::BlockFile> file);
    ~SnapshotReader();
    SnapshotReader(const SnapshotReader&) = delete;
    SnapshotReader& operator=(const SnapshotReader&) = delete;

    [[nodiscard]] const std::vector<snapshot_format::Entry>& index() const { return index_; }
    [[nodiscard]] const std::string& name() const { return file_->name(); }
    [[nodiscard]] u64 file_bytes() const { return file_->size(); }
    /// A chunk's content. Error (Damaged): its checksum or its size is wrong.
    [[nodiscard]] Result<void> read(const snapshot_format::Entry& entry, std::vector<u8>& raw);
    /// The content of all chunks of a type, one behind the other. Error (Damaged): damaged, gaps, or more than `limit`.
    [[nodiscard]] Result<std::vector<u8>> read_all(snapshot_format::ChunkType type, u64 limit);

  private:
    explicit SnapshotReader(std::unique_ptr<devices::BlockFile> file);
    [[nodiscard]] Unexpected<Error> damaged(const std::string& what) const;
    [[nodiscard]] Result<void> load_index();
    [[nodiscard]] Result<void> check(const snapshot_format::Entry& entry, const snapshot_format::Entry* before) const;
    std::unique_ptr<devices::BlockFile> file_;
    std::vector<snapshot_format::Entry> index_;
    u64 index_offset_ = 0;
    std::vector<u8> stored_;
    void* decompressor_;
};

}  // namespace vg::machine
