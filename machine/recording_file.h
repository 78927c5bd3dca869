// Chunks of a recording, or of a trace: written so that a killed writer leaves good ones, read as if an enemy had written them.
#pragma once

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
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

/// What tells the files of one kind from others: all have recording_format's headers of file and chunk.
struct ChunkFormat {
    std::string_view magic;  ///< 8 bytes
    u32 version;
    u32 most_raw_bytes;     ///< in a chunk
    std::string_view what;  ///< "a recording"
    std::string_view made_by;  ///< the command that makes one, with {} for its path
};
inline constexpr ChunkFormat kRecordingChunks{{recording_format::kMagic, sizeof recording_format::kMagic},
                                              recording_format::kVersion,
                                              recording_format::kMaxChunkBytes,
                                              "a recording",
                                              "verdigris run MACHINE.toml --record {}"};

/// Appends chunks. After a write that failed nothing more is written.
class ChunkWriter {
  public:
    /// Error (Usage): the file cannot be made.
    static Result<std::unique_ptr<ChunkWriter>> create(const std::string& path,
                                                       const ChunkFormat& format = kRecordingChunks);
    /// The same for a file that is open for writing and empty; it is closed in the end. @param path  for messages
    static std::unique_ptr<ChunkWriter> on(int file, const std::string& path, const ChunkFormat& format);
    ~ChunkWriter();
    ChunkWriter(const ChunkWriter&) = delete;
    ChunkWriter& operator=(const ChunkWriter&) = delete;

    /// One whole chunk, handed to the host. At most so many bytes as the format allows. Returns its size in the file.
    /// @param type  one of the format's own
    template <class Type>
    u64 write(Type type, std::span<const u8> raw) {
        return write_chunk(static_cast<u32>(type), raw);
    }
    /// Bytes written so far: where the next chunk will begin.
    [[nodiscard]] u64 size() const { return size_; }
    /// Bytes that are no chunk, at the end of the file.
    void write_tail(std::span<const u8> bytes) { put(bytes.data(), bytes.size()); }
    /// Error (Host): why some write failed.
    [[nodiscard]] Result<void> status() const;

  private:
    ChunkWriter(std::string path, int file, const ChunkFormat& format);
    u64 write_chunk(u32 type, std::span<const u8> raw);
    void put(const void* data, std::size_t size);
    std::string path_;
    int file_;
    const ChunkFormat& format_;
    u64 size_ = 0;
    int error_ = 0;  ///< errno
    void* compressor_;
    std::vector<u8> stored_;
};

/// Reads chunks in order.
class ChunkReader {
  public:
    /// Error: Usage (missing), Damaged (no recording, another version).
    static Result<std::unique_ptr<ChunkReader>> open(const std::string& path,
                                                     const ChunkFormat& format = kRecordingChunks);
    ~ChunkReader();
    ChunkReader(const ChunkReader&) = delete;
    ChunkReader& operator=(const ChunkReader&) = delete;

    enum class Next : u8 { Chunk, End, Cut };  ///< Cut: the file ends in the middle of a chunk
    /// The next chunk's type and content. Error (Damaged): a checksum, size or type that cannot be.
    template <class Type>
    Result<Next> next(Type& type, std::vector<u8>& raw) {
        u32 number = 0;
        auto result = next_chunk(number, raw);
        type = static_cast<Type>(number);
        return result;
    }
    /// Where the next chunk begins.
    [[nodiscard]] u64 offset() const { return offset_; }
    /// Goes on at a place in the file.
    void seek(u64 offset);
    /// The file's last `bytes.size()` bytes. False: it is shorter. The place stays.
    [[nodiscard]] bool read_tail(std::span<u8> bytes);
    /// Bytes of the file.
    [[nodiscard]] u64 file_bytes();
    /// An error about what was read last, which began at offset().
    [[nodiscard]] Unexpected<Error> damaged(const std::string& what) const;

  private:
    ChunkReader(std::string path, std::FILE* file, const ChunkFormat& format)
        : path_(std::move(path)), file_(file), format_(format) {}
    Result<Next> next_chunk(u32& type, std::vector<u8>& raw);
    std::string path_;
    std::FILE* file_;
    const ChunkFormat& format_;
    u64 offset_ = 0;
};

}  // namespace vg::machine
