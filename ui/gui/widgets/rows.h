// A scrolled area of rows of equal height, as many as one likes: only those in sight are drawn.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ui/gui/theme.h"

namespace vg::gui {

/// Draws text of one line, cut where characters end and with an ellipsis if `room` pixels are too few. Returns its width.
float fitted_text(ImDrawList& list, const ImFont& font, ImVec2 place, ImU32 colour, std::string_view text, float room);
/// The same as a text.
[[nodiscard]] std::string fitted(const ImFont& font, std::string_view text, float room);

/// Where an area is scrolled to; kept by its panel.
struct Scroll {
    double top = 0;           ///< first row in sight
    bool follow_end = false;  ///< stays at the end when rows are added, until scrolled away
    bool at_end = true;
};

/// For Rows: no first and no last row, and no scrollbar; the panel moves its content by wheel().
inline constexpr u64 kEndless = ~u64{0};

/// One area, from construction to destruction. Takes the room that is left in its window, or `height` pixels of it.
class Rows {
  public:
    Rows(const Look& look, const char* id, u64 count, Scroll& scroll, float height = 0, float indent = 0);
    ~Rows();
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;

    [[nodiscard]] u64 first() const { return first_; }
    /// One behind the last row in sight.
    [[nodiscard]] u64 last() const { return last_; }
    /// How many rows have room.
    [[nodiscard]] std::size_t visible() const { return visible_; }
    [[nodiscard]] float y(u64 row) const;
    [[nodiscard]] float left() const { return origin_.x; }
    [[nodiscard]] float right() const { return origin_.x + width_; }
    [[nodiscard]] float width() const { return width_; }
    /// The row under the mouse.
    [[nodiscard]] std::optional<u64> hovered() const { return hovered_; }
    [[nodiscard]] std::optional<u64> clicked(int button = 0) const;
    [[nodiscard]] std::optional<u64> double_clicked() const;
    /// Rows that the wheel asked for in this frame.
    [[nodiscard]] int wheel() const { return wheel_; }

    void fill(u64 row, ImU32 colour) const;
    /// Text at `x` pixels from the left, cut at `limit` pixels from the left (0: the right edge). Returns where it
    /// ends.
    float text(u64 row, float x, ImU32 colour, std::string_view text, float limit = 0, bool sans = false) const;
    [[nodiscard]] ImDrawList& list() const { return *list_; }
    [[nodiscard]] const Look& look() const { return *look_; }

  private:
    void scrollbar(Scroll& scroll, u64 count, float height);
    const Look* look_;
    ImDrawList* list_ = nullptr;
    ImVec2 origin_{};
    float width_ = 0;
    double top_ = 0;
    u64 first_ = 0, last_ = 0;
    std::size_t visible_ = 0;
    std::optional<u64> hovered_;
    int wheel_ = 0;
};

/// A table of the model. `selected` is the row that is marked; a click changes it.
struct TableState {
    Scroll scroll;
    std::string filter;
};
struct TableAnswer {
    std::optional<u64> clicked, double_clicked;
};
TableAnswer draw_table(const Look& look, const char* id, const desk::Table& table, TableState& state,
                       std::optional<u64> selected = {}, float height = 0);

/// Text of one line that wraps, quiet.
void note(const Look& look, std::string_view text, desk::Tone tone = desk::Tone::Quiet);
/// What a view says instead of content: its problem, or that it waits. True: something was said.
bool excuse(const Look& look, const desk::View& view, bool empty);
/// A heading inside a panel, one line of `room` pixels (0: all there is).
void heading(const Look& look, std::string_view text, float room = 0);
/// A one-line field as wide as there is room. `flags` are ImGuiInputTextFlags. True when it changed, or, with
/// EnterReturnsTrue, when Enter was pressed.
bool text_field(const Look& look, const char* id, std::string& text, std::string_view hint, int flags = 0);

}  // namespace vg::gui
