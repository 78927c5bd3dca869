// How panels share the window: a tree of splits with tabs at its leaves, saved as TOML.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::desk {

enum class Panel : u8 {
#define VG_PANEL(panel, ...) panel,
#include "ui/model/desk/panels.def"
#undef VG_PANEL
    Count
};
inline constexpr std::size_t kPanels = static_cast<std::size_t>(Panel::Count);
struct PanelRow {
    std::string_view id, title, summary;
};
[[nodiscard]] const PanelRow& panel_row(Panel panel);
[[nodiscard]] std::optional<Panel> panel_by_id(std::string_view id);

struct Rect {
    float x = 0, y = 0, width = 0, height = 0;
};

/// A split of two parts, or tabs.
struct LayoutNode {
    enum class Kind : u8 { Tabs, Columns, Rows };
    Kind kind = Kind::Tabs;
    float ratio = 0.5F;  ///< of the first part, kLeastRatio .. 1 - kLeastRatio
    std::unique_ptr<LayoutNode> first, second;
    std::vector<Panel> tabs;
    std::size_t active = 0;
    Rect rect;  ///< where it was laid out
};

enum class Side : u8 { Left, Right, Top, Bottom };

class Layout {
  public:
    static constexpr float kLeastRatio = 0.08F;
    static constexpr unsigned kMaxDepth = 12;

    Layout();
    /// Named arrangements that come with the program; nothing: there is none of this name.
    static std::optional<Layout> preset(std::string_view name);
    [[nodiscard]] static std::vector<std::string_view> presets();

    [[nodiscard]] LayoutNode& root() { return *root_; }
    [[nodiscard]] const LayoutNode& root() const { return *root_; }
    [[nodiscard]] bool is_open(Panel panel) const;
    /// Open, and the tab in front.
    [[nodiscard]] bool is_shown(Panel panel) const;
    /// Brings a panel to the front, beside others of its kind if it was closed.
    void show(Panel panel);
    void close(Panel panel);
    /// Moves a panel into the tabs that hold `beside`, at a position.
    void move_to_tabs(Panel panel, Panel beside, std::size_t position);
    /// Splits the tabs that hold `beside` and puts the panel on one side. Nothing happens if the tree would become too
    /// deep.
    void split(Panel panel, Panel beside, Side side);
    /// Computes every node's rect.
    void place(Rect all, float gap);
    [[nodiscard]] std::vector<Panel> open_panels() const;

    /// The tree as TOML, a `[layout]` table.
    [[nodiscard]] std::string toml() const;

  private:
    friend struct LayoutReader;
    void tidy();
    std::unique_ptr<LayoutNode> root_;
};

struct Settings {
    std::string theme = "dark";  ///< or "light"
    float scale = 0;             ///< 1, 1.25, 1.5, 2; 0: from the display
};

/// What the layout file holds.
struct Arrangement {
    Settings settings;
    Layout layout;
};
[[nodiscard]] std::string arrangement_toml(const Settings& settings, const Layout& layout);
/// Reads a file's text. It may come from anywhere: unknown panels are left out, panels that stand twice are taken once,
/// ratios are clamped, depth and size are bounded. Error (Usage): no TOML, not of this kind, or too large.
[[nodiscard]] Result<Arrangement> parse_arrangement(std::string_view text);
inline constexpr float kScales[] = {1.0F, 1.25F, 1.5F, 2.0F};
/// The nearest of kScales.
[[nodiscard]] float known_scale(double scale);

}  // namespace vg::desk
