#include "ui/cli/pcapng_output.h"

namespace vg::cli {

void BufferedFile::put(std::string_view bytes) {
    buffer_ += bytes;
    if (buffer_.size() >= kPiece) (void)flush();
}

Result<void> BufferedFile::flush() {
    failed_ = failed_ || !write_all(file_.fd(), buffer_);
    buffer_.clear();
    if (failed_) return fail(Error::Code::Host, "the capture could not be written; check free space");
    return {};
}

PcapngOutput::PcapngOutput(machine::Machine& machine, OutputFile* file) {
    if (file == nullptr) return;
    file_ = std::make_unique<BufferedFile>(*file);
    capture_ = std::make_unique<model::LiveCapture>(machine, [this](std::string_view bytes) { file_->put(bytes); });
}

Result<void> PcapngOutput::finish() {
    capture_.reset();
    return file_ != nullptr ? file_->flush() : Result<void>{};
}

}  // namespace vg::cli
