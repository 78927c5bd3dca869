// Instructions around an address, with symbols and the arrows of jumps between them.
#pragma once

#include "ui/model/desk/live.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

struct CodeLine {
    u64 address = 0;
    std::string bytes, text, symbol;
    std::optional<u64> target;  ///< of a jump or call
};
/// A jump between two shown lines, by their indexes; the lane is its distance from the code, 0 the nearest.
struct JumpArrow {
    std::size_t from = 0, to = 0;
    unsigned lane = 0;
};
inline constexpr unsigned kMaxJumpLanes = 6;

/// Arrows that do not cross where lanes suffice: short ones near the code. Calls, and jumps to lines that are not
/// there, have none.
[[nodiscard]] std::vector<JumpArrow> jump_arrows(const std::vector<CodeLine>& lines);
[[nodiscard]] std::vector<CodeLine> parse_code(const Json& reply);

class DisassemblyView final : public View {
  public:
    DisassemblyView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return rip_ && live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }

    /// Shows the code at an address; it stays there until follow().
    void go_to(u64 address);
    /// Shows the code at RIP, now and at each stop.
    void follow() {
        following_ = true;
        shown_rip_.reset();
    }
    [[nodiscard]] bool following() const { return following_; }
    [[nodiscard]] const std::vector<CodeLine>& lines() const { return lines_; }
    [[nodiscard]] const std::vector<JumpArrow>& arrows() const { return arrows_; }
    [[nodiscard]] std::optional<u64> rip() const { return rip_; }
    /// First line shown. Set by wheel and keys; moves on into code that is not loaded yet.
    [[nodiscard]] std::size_t top() const { return top_; }
    void scroll(s64 by, std::size_t visible);
    /// Lines that the panel has room for: decides how a followed address is placed.
    void set_visible(std::size_t lines) { visible_ = lines; }
    /// The line that commands mean; nothing: RIP.
    [[nodiscard]] std::optional<u64> selected() const { return selected_; }
    void select(u64 address) { selected_ = address; }

  private:
    void take(u64 anchor);
    [[nodiscard]] std::optional<std::size_t> line_at(u64 address) const;

    Live<std::vector<CodeLine>> live_;
    std::vector<CodeLine> lines_;
    std::vector<JumpArrow> arrows_;
    std::optional<u64> rip_, shown_rip_, selected_;
    u64 anchor_ = 0, taken_ = 0;
    u64 shown_anchor_ = 0;  ///< of the lines that are there
    std::optional<u64> keep_;  ///< the line that is to be the first when the next answer is there
    bool centre_ = false, following_ = true;
    std::size_t top_ = 0, visible_ = 24;
};

}  // namespace vg::desk
