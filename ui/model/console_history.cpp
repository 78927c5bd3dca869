#include "ui/model/console_history.h"

#include <algorithm>

namespace vg::model {

void ConsoleHistory::put(const std::string& partition, u8 byte) {
    Text& text = texts_[partition];
    text.bytes += static_cast<char>(byte);
    if (text.bytes.size() < 2 * kBytes) return;
    text.from += text.bytes.size() - kBytes;
    text.bytes.erase(0, text.bytes.size() - kBytes);
}

ConsoleHistory::Part ConsoleHistory::read(const std::string& partition, u64 after, std::size_t limit) const {
    const auto found = texts_.find(partition);
    if (found == texts_.end()) return {};
    const Text& text = found->second;
    const u64 end = text.from + text.bytes.size();
    const u64 from = std::clamp(after, text.from, end);
    const std::string_view part = std::string_view(text.bytes).substr(static_cast<std::size_t>(from - text.from), limit);
    return {from, part, from + part.size()};
}

}  // namespace vg::model
