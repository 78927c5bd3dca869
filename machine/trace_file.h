// Instruction traces as files: docs/trace-format.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "machine/recording_file.h"
#include "machine/trace_decoder.h"
#include "machine/trace_encoder.h"

namespace vg::machine {

inline constexpr ChunkFormat kTraceChunks{{trace_format::kMagic, sizeof trace_format::kMagic},
                                          trace_format::kVersion,
                                          trace_format::kMostChunkBytes,
                                          "a trace",
                                          "verdigris run MACHINE.toml --trace {}"};

/// A function that was executed.
struct TraceSymbol {
    u64 partition = 0;
    u64 address = 0;
    u64 size = 0;
    std::string name;
    std::string module;  ///< "" for the kernel or the only image
};

/// Writes a trace. What was written is good whatever happens to the process.
class TraceWriter {
  public:
    /// Error (Usage): the file cannot be made.
    static Result<std::unique_ptr<TraceWriter>> create(const std::string& path, TraceDetail detail, TapMask events);
    /// Into a file that is open and empty. @param path  for messages
    static std::unique_ptr<TraceWriter> on(int file, const std::string& path, TraceDetail detail, TapMask events);

    [[nodiscard]] TraceEncoder& encoder() { return encoder_; }
    /// Writes the chunk if there is anything in it.
    void put_chunk();
    /// Whatever is open is written, then symbols and index. Error (Host): the file could not be written, now or before.
    Result<void> finish(std::vector<TraceSymbol> symbols);
    /// Error (Host): why some write failed.
    [[nodiscard]] Result<void> status() const { return file_->status(); }
    [[nodiscard]] u64 file_bytes() const { return file_->size(); }
    [[nodiscard]] u64 executed() const { return executed_; }

  private:
    TraceWriter(std::unique_ptr<ChunkWriter> file, TraceDetail detail, TapMask events);
    void put_symbols(std::vector<TraceSymbol>& symbols);
    std::unique_ptr<ChunkWriter> file_;
    TraceEncoder encoder_;
    std::vector<TraceEncoder::Summary> index_;
    u64 executed_ = 0;
};

/// A trace's file, opened and checked as far as its index; chunks are checked when they are read.
class TraceFile {
  public:
    /// Error: Usage for a missing file, Damaged for what is no trace of this version. One whose end is missing is good
    /// up to there.
    static Result<std::unique_ptr<TraceFile>> open(const std::string& path);
    /// Whether the file says of itself that it is a trace.
    [[nodiscard]] static bool is_trace(const std::string& path);

    [[nodiscard]] TraceDetail detail() const { return detail_; }
    [[nodiscard]] TapMask events() const { return events_; }
    [[nodiscard]] const std::vector<TraceEncoder::Summary>& chunks() const { return chunks_; }
    /// By partition and address.
    [[nodiscard]] const std::vector<TraceSymbol>& symbols() const { return symbols_; }
    /// The function that an instruction lies in; null: none that is known. Code of user programs has none.
    [[nodiscard]] const TraceSymbol* symbol(u64 partition, u64 linear) const;
    /// What a person should know: its end is missing.
    [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] u64 file_bytes() const { return file_bytes_; }

    /// Reads chunk number `index`. Good until the next. Error (Damaged).
    Result<TraceDecoder*> read(std::size_t index);
    /// What the decoder of the last read() found damaged.
    [[nodiscard]] Error damage() const;

  private:
    TraceFile() = default;
    Result<void> read_meta();
    [[nodiscard]] bool read_index();
    Result<void> scan();
    [[nodiscard]] bool read_symbols(std::span<const u8> raw);

    std::string path_;
    std::unique_ptr<ChunkReader> file_;
    TraceDetail detail_ = TraceDetail::Flow;
    TapMask events_ = 0;
    std::vector<TraceEncoder::Summary> chunks_;
    std::vector<TraceSymbol> symbols_;
    std::vector<std::string> notes_;
    u64 first_chunk_ = 0, file_bytes_ = 0;
    std::vector<u8> raw_;
    std::unique_ptr<TraceDecoder> decoder_;
};

}  // namespace vg::machine
