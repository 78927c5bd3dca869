#include "ui/model/desk/stack_view.h"

#include <fmt/format.h>

namespace vg::desk {

namespace {
constexpr unsigned kFrames = 128, kWords = 64;
}

std::vector<StackView::Frame> StackView::parse_frames(const Json& reply) {
    std::vector<Frame> frames;
    for (const Json* frame : items(reply, kFrames))
        frames.push_back({number(*frame, "pc"), number(*frame, "sp"), words(*frame, "symbol", 160),
                          words(*frame, "file", 160), number(*frame, "line")});
    return frames;
}

StackView::StackView()
    : frames_live_(parse_frames),
      pointer_([](const Json& reply) { return number(reply, "rsp"); }),
      words_live_([](const Json& reply) {
          const Json& data = member(reply, "data");
          return Words{data.is_string() ? parse_hex(data.get_ref<const std::string&>(), kWords * 8)
                                        : std::vector<int>()};
      }),
      names_([](const Json& reply) {
          std::vector<std::string> names;
          for (const Json* name : items(reply, kWords)) names.push_back(words_of(*name, 160));
          return names;
      }),
      frames_({{"#", 4}, {"address", 19}, {"where", 0}}),
      words_({{"stack", 19}, {"value", 19}, {"points to", 0}}) {}

void StackView::update(Session& session) {
    frames_live_.update(session, for_focus(session, {{"op", "stack"}, {"limit", kFrames}}));
    pointer_.update(session, for_focus(session, {{"op", "registers"}}));
    if (pointer_.value()) {
        const u64 base = *pointer_.value();
        if (!words_live_.waiting() || read_base_ == 0) read_base_ = base;
        words_live_.update(
            session,
            for_focus(session,
                      {{"op", "read"}, {"space", "linear"}, {"address", hex(read_base_)}, {"size", kWords * 8}}));
    }
    if (words_live_.answers() != words_taken_) {
        words_taken_ = words_live_.answers();
        base_ = read_base_;
        values_.clear();
        const std::vector<int> bytes = words_live_.value() ? words_live_.value()->bytes : std::vector<int>();
        for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
            u64 value = 0;
            bool known = true;
            for (std::size_t i = 8; i-- > 0;) {
                known = known && bytes[at + i] >= 0;
                value = value << 8 | static_cast<u64>(bytes[at + i] & 255);
            }
            if (!known) break;
            values_.push_back(value);
        }
        show_words();
    }
    if (!values_.empty()) {
        Json addresses = Json::array();
        for (const u64 value : values_) addresses.push_back(hex(value));
        names_.update(session, for_focus(session, {{"op", "symbolize"}, {"addresses", addresses}}), words_taken_);
    }
    if (names_.answers() != names_taken_) {
        names_taken_ = names_.answers();
        show_words();
    }
    if (frames_live_.answers() == frames_taken_) return;
    frames_taken_ = frames_live_.answers();
    frames_.clear();
    if (!frames_live_.value()) return;
    for (std::size_t i = 0; i < frames_live_.value()->size(); ++i) {
        const Frame& frame = (*frames_live_.value())[i];
        std::string where = frame.symbol.empty() ? "?" : frame.symbol;
        if (!frame.file.empty()) where += fmt::format("  {}:{}", frame.file, frame.line);
        frames_.add({{std::to_string(i), Tone::Quiet},
                     {fmt::format("{:#018x}", frame.pc), {}},
                     {where, frame.symbol.empty() ? Tone::Quiet : Tone::Accent}});
    }
}

void StackView::show_words() {
    words_.clear();
    // Names belong to these values only if they were asked for with them.
    const bool named = names_.value() && names_.version() == words_taken_;
    for (std::size_t i = 0; i < values_.size(); ++i) {
        const std::string name = named && i < names_.value()->size() ? (*names_.value())[i] : "";
        words_.add({{fmt::format("{:#018x}", base_ + i * 8), Tone::Quiet},
                    {fmt::format("{:#018x}", values_[i]), {}},
                    {name, Tone::Accent}});
    }
}

std::optional<u64> StackView::frame_address(u64 row) const {
    if (!frames_live_.value() || row >= frames_live_.value()->size()) return {};
    return (*frames_live_.value())[row].pc;
}
std::optional<u64> StackView::word_address(u64 row) const {
    if (row >= values_.size()) return {};
    return values_[row];
}

std::vector<std::string> StackView::text() const {
    std::vector<std::string> lines = table_text(frames_);
    for (std::string& line : table_text(words_)) lines.push_back(std::move(line));
    return lines;
}

}  // namespace vg::desk
