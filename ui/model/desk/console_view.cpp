#include "ui/model/desk/console_view.h"

#include <algorithm>

namespace vg::desk {

namespace {
constexpr std::size_t kMaxReply = 8 << 20, kMaxSequence = 256;
}

void ConsoleText::clear() { *this = ConsoleText(); }

void ConsoleText::feed(const std::vector<int>& bytes) {
    for (const int byte : bytes) one(static_cast<char>(byte < 0 ? '?' : byte));
}

void ConsoleText::one(char byte) {
    const auto code = static_cast<unsigned char>(byte);
    switch (state_) {
        case State::Escape:
            state_ = byte == '['                                                ? State::Sequence
                     : byte == ']' || byte == 'P' || byte == '_' || byte == '^' ? State::String
                                                                                : State::Text;
            sequence_ = 0;
            return;
        case State::Sequence:
            if ((code >= 0x40 && code <= 0x7e) || ++sequence_ > kMaxSequence) state_ = State::Text;
            return;
        case State::String:
            if (byte == '\a' || byte == '\\' || ++sequence_ > kMaxSequence) state_ = State::Text;
            return;
        case State::Text:
            break;
    }
    if (byte == 0x1b) {
        state_ = State::Escape;
    } else if (byte == '\n') {
        lines_.push_back(std::move(current_));
        current_.clear();
        column_ = 0;
        if (lines_.size() > kMaxLines) lines_.pop_front();
    } else if (byte == '\r') {
        column_ = 0;
    } else if (byte == '\b') {
        column_ -= column_ != 0 ? 1 : 0;
    } else if (byte != 0 && byte != '\a') {
        if (current_.size() >= kMaxLine && column_ >= current_.size()) one('\n');
        if (column_ < current_.size())
            current_[column_] = byte;
        else
            current_ += byte;
        ++column_;
    }
}

std::string ConsoleText::line(std::size_t index) const {
    if (index < lines_.size()) return shown(lines_[index], kMaxLine * 4);
    return index == lines_.size() ? shown(current_, kMaxLine * 4) : std::string();
}

void ConsoleView::update(Session& session) {
    if (session.focus().partition != partition_) {
        partition_ = session.focus().partition;
        text_.clear();
        after_ = epoch_ = 0;
        asking_ = std::make_shared<bool>(false);
    }
    if (!session.ready() || *asking_ || (epoch_ == session.epoch() && !more_)) return;
    epoch_ = session.epoch();
    *asking_ = true;
    session.ask({{"op", "console"}, {"partition", partition_}, {"after", after_}},
                [this, weak = std::weak_ptr(asking_)](Result<Json> answer) {
                    const auto asking = weak.lock();
                    if (!asking) return;
                    *asking = false;
                    more_ = false;
                    error_ = answer ? "" : shown(answer.error().text, 400);
                    if (!answer) return;
                    const u64 next = number(*answer, "next", after_);
                    if (next < after_) {  // the run went back
                        text_.clear();
                        after_ = 0;
                        more_ = true;
                        return;
                    }
                    const Json& bytes = member(*answer, "text");
                    if (bytes.is_string()) text_.feed(parse_hex(bytes.get_ref<const std::string&>(), kMaxReply));
                    more_ = next > after_;
                    after_ = next;
                });
}

void ConsoleView::type(Session& session, std::string_view text) {
    session.ask({{"op", "type"}, {"partition", session.focus().partition}, {"text", std::string(text)}},
                [&session](Result<Json> answer) {
                    if (!answer) session.say(shown(answer.error().text, 400), Tone::Bad);
                });
}

std::vector<std::string> ConsoleView::text() const {
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < text_.lines(); ++i) lines.push_back(text_.line(i));
    return lines;
}

}  // namespace vg::desk
