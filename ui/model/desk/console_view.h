// The console of the partition that is looked at: what its guest printed, as lines, and keys for it.
#pragma once

#include <deque>

#include "ui/model/desk/view.h"

namespace vg::desk {

/// Text of a terminal that only goes down: colours and cursor movements are left out, carriage return and backspace
/// work within the line.
class ConsoleText {
  public:
    static constexpr std::size_t kMaxLines = 20'000, kMaxLine = 1024;
    void feed(const std::vector<int>& bytes);
    void clear();
    [[nodiscard]] std::size_t lines() const { return lines_.size() + 1; }
    /// Fit for showing. The last line is the one that is being written.
    [[nodiscard]] std::string line(std::size_t index) const;

  private:
    enum class State : u8 { Text, Escape, Sequence, String };
    void one(char byte);
    std::deque<std::string> lines_;
    std::string current_;
    std::size_t column_ = 0;
    State state_ = State::Text;
    std::size_t sequence_ = 0;  ///< bytes of it so far
};

class ConsoleView final : public View {
  public:
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return *asking_; }
    [[nodiscard]] std::string problem() const override { return error_; }
    [[nodiscard]] const ConsoleText& console() const { return text_; }
    /// Types into the guest's console.
    void type(Session& session, std::string_view text);

  private:
    ConsoleText text_;
    std::string error_;
    u64 partition_ = 0, after_ = 0, epoch_ = 0;
    bool more_ = false;
    std::shared_ptr<bool> asking_ = std::make_shared<bool>(false);
};

}  // namespace vg::desk
