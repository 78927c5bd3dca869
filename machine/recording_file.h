// Chunks of a recording: written so that a killed writer leaves good ones, read as if an enemy had written them.
#pragma once

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "machine/spec/recording.h"

namespace vg::machine {

/// Bytes with numbers in LEB128: what entries are made of.
class ByteWriter {
  public:
    void number(u64 value);
    void fixed(u32 value);
    void bytes(std::span<const u8> data) { out_.insert(out_.end(), data.begin(), data.end()); }
    void text(std::string_view text);
    [[nodiscard]] const std::vector<u8>& data() const { return out_; }
    void clear() { out_.clear(); }

  private:
    std::vector<u8> out_;
};

/// Reads the same. Reaching past the end, or a number of more than 64 bits, makes it fail for good: then everything
/// reads as zero.
class ByteReader {
  public:
    explicit ByteReader(std::span<const u8> data) : data_(data) {}
    [[nodiscard]] u64 number();
    [[nodiscard]] u32 fixed();
    [[nodiscard]] std::span<const u8> bytes(u64 size);
    [[nodiscard]] std::string text(u64 limit);
    void fail() { failed_ = true; }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] bool done() const { return failed_ || at_ == data_.size(); }

  private:
    std::span<const u8> data_;
    std::size_t at_ = 0;
    bool failed_ = false;
};

/// Appends chunks. After a write that failed nothing more is written.
class ChunkWriter {
  public:
    /// Error (Usage): the file cannot be made.
    static Result<std::unique_ptr<ChunkWriter>> create(const std::string& path);
    ~ChunkWriter();
    ChunkWriter(const ChunkWriter&) = delete;
    ChunkWriter& operator=(const ChunkWriter&) = delete;

    /// One whole chunk, handed to the host. At most kMaxChunkBytes. Returns its size in the file.
    u64 write(recording_format::ChunkType type, std::span<const u8> raw);
    /// Error (Host): why some write failed.
    [[nodiscard]] Result<void> status() const;

  private:
    ChunkWriter(std::string path, int file);
    void put(const void* data, std::size_t size);
    std::string path_;
    int file_;
    int error_ = 0;  ///< errno
    void* compressor_;
    std::vector<u8> stored_;
};

/// Reads chunks in order.
class ChunkReader {
  public:
    /// Error: Usage (missing), Damaged (no recording, another version).
    static Result<std::unique_ptr<ChunkReader>> open(const std::string& path);
    ~ChunkReader();
    ChunkReader(const ChunkReader&) = delete;
    ChunkReader& operator=(const ChunkReader&) = delete;

    enum class Next : u8 { Chunk, End, Cut };  ///< Cut: the file ends in the middle of a chunk
    /// The next chunk's type and content. Error (Damaged): a checksum, size or type that cannot be.
    Result<Next> next(recording_format::ChunkType& type, std::vector<u8>& raw);

  private:
    ChunkReader(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}
    [[nodiscard]] Unexpected<Error> damaged(const std::string& what) const;
    std::string path_;
    std::FILE* file_;
    u64 offset_ = 0;
};

}  // namespace vg::machine
