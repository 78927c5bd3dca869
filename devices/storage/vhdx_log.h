// The log of a VHDX file: updates of the block table and of sector bitmaps that are all there or not at all.
// [MS-VHDX] "Log".
#pragma once

#include <array>
#include <memory>
#include <span>

#include "base/result.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhdx_format.h"

namespace vg::devices::vhdx {

/// The file as its log leaves it: a writable one is changed and durable when this returns, a read-only one is seen
/// through the log's pages in memory. `header` names a log that lies inside the file. Errors: Damaged if the log has
/// no valid end, or reaches outside the file.
[[nodiscard]] Result<std::unique_ptr<BlockFile>> replay_log(std::unique_ptr<BlockFile> file, const Header& header);

struct LogPage {
    u64 offset;  ///< in the file, a multiple of kPage
    std::span<const u8, kPage> bytes;
};

/// Appends entries. Every entry is complete in itself: before it is written, all earlier ones' pages must be durable
/// in their own places (the image's first sync of a commit sees to that).
class LogWriter {
  public:
    /// One entry takes at most this many pages, so that two fit into the smallest log.
    static constexpr std::size_t kMaxPages = 120;

    /// @param file  outlives the writer
    LogWriter(BlockFile& file, u64 offset, u32 length) : file_(file), offset_(offset), length_(length) {}
    /// Begins a log under a new id with an entry that changes nothing; a header may name it once it is durable.
    [[nodiscard]] Result<void> start(const Guid& id);
    /// Writes an entry; durable with the next sync.
    [[nodiscard]] Result<void> append(std::span<const LogPage> pages);

  private:
    BlockFile& file_;
    u64 offset_;
    u32 length_;
    Guid id_{};
    u64 next_sequence_ = 1;
    u32 next_ = 0;  // byte of the log where the next entry goes
};

}  // namespace vg::devices::vhdx
