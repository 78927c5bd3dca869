// A capture into a file of the user's choice.
#pragma once

#include <memory>
#include <string>

#include "machine/machine.h"
#include "ui/cli/output_file.h"
#include "ui/model/live_capture.h"

namespace vg::cli {

/// Collects bytes and writes them in large pieces.
class BufferedFile {
  public:
    explicit BufferedFile(OutputFile& file) : file_(file) { file_.begin(); }
    void put(std::string_view bytes);
    /// Error (Host): something could not be written, now or before.
    Result<void> flush();

  private:
    static constexpr std::size_t kPiece = 1 << 20;
    OutputFile& file_;
    std::string buffer_;
    bool failed_ = false;
};

/// `run --pcapng FILE`.
class PcapngOutput {
  public:
    /// @param file  null: there is none, and nothing happens
    PcapngOutput(machine::Machine& machine, OutputFile* file);
    /// The capture ends, the rest is written.
    Result<void> finish();

  private:
    std::unique_ptr<BufferedFile> file_;
    std::unique_ptr<model::LiveCapture> capture_;
};

}  // namespace vg::cli
