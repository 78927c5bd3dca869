// The call stack, and the words at the stack pointer.
#pragma once

#include "ui/model/desk/live.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

class StackView final : public View {
  public:
    StackView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return frames_live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return frames_live_.error(); }
    [[nodiscard]] const Grid& frames() const { return frames_; }
    [[nodiscard]] const Grid& stack_words() const { return words_; }
    /// Code address of a frame; nothing: there is none.
    [[nodiscard]] std::optional<u64> frame_address(u64 row) const;
    [[nodiscard]] std::optional<u64> word_address(u64 row) const;

  private:
    struct Frame {
        u64 pc = 0, sp = 0;
        std::string symbol, file;
        u64 line = 0;
    };
    struct Words {
        std::vector<int> bytes;
    };
    static std::vector<Frame> parse_frames(const Json& reply);
    void show_words();

    Live<std::vector<Frame>> frames_live_;
    Live<u64> pointer_;
    Live<Words> words_live_;
    Live<std::vector<std::string>> names_;
    Grid frames_, words_;
    std::vector<u64> values_;
    u64 base_ = 0, read_base_ = 0;
    u64 frames_taken_ = 0, words_taken_ = 0, names_taken_ = 0;
};

}  // namespace vg::desk
