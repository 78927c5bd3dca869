#include "roms/parent/line_writer.h"

#include "roms/parent/platform.h"

namespace vg::parent {

void LineWriter::put(u8 byte) {
    constexpr u8 kFirstPrintable = 0x20, kDelete = 0x7f;
    if (byte == '\r') return;
    if (byte == '\n') {
        log_line(prefix_ + line_);
        line_.clear();
        return;
    }
    line_ += byte == '\t' || (byte >= kFirstPrintable && byte != kDelete) ? static_cast<char>(byte) : '?';
    if (line_.size() >= kLongestLine) flush();
}

void LineWriter::flush() {
    if (!line_.empty()) put('\n');
}

}  // namespace vg::parent
