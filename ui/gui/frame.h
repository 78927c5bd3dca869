// The window's content around the panels: menus, run controls, panes and tabs, status line, palette, dialogs.
#pragma once

#include "ui/gui/file_dialog.h"
#include "ui/gui/panels/panels.h"

namespace vg::gui {

class Frame {
  public:
    Frame(desk::Workbench& bench, Canvas& canvas) : bench_(bench), panels_(canvas) {}
    /// Draws everything, between ImGui::NewFrame and Render.
    void draw(const Look& look);
    /// Runs the command that has this key. True: there is one.
    bool key(const struct Shortcut& shortcut);

  private:
    void menus(const Look& look);
    void menu_item(const desk::Command& command);
    void toolbar(const Look& look, float width);
    void tool(const Look& look, const char* id, const char* label);
    void panes(const Look& look, desk::Rect room);
    void node(const Look& look, desk::LayoutNode& node, unsigned& number);
    void splitter(const Look& look, desk::LayoutNode& node, unsigned number);
    void leaf(const Look& look, desk::LayoutNode& node, unsigned number);
    bool tabs(const Look& look, desk::LayoutNode& node);
    void drop_zone(const Look& look, const desk::LayoutNode& node);
    void status(const Look& look, desk::Rect room);
    void welcome(const Look& look, desk::Rect room);
    void palette(const Look& look);
    void prompt(const Look& look);
    void invoke(const desk::Command& command, const std::string& argument);

    desk::Workbench& bench_;
    Panels panels_;
    FileDialog files_;
    std::string typed_, prompt_for_, argument_;
    int chosen_ = 0;
    bool prompting_ = false;
    /// What tabs that were dragged ask for, done when no node is being drawn.
    struct Move {
        desk::Panel panel = desk::Panel::Count, beside = desk::Panel::Count;
        std::optional<desk::Side> side;
        std::size_t position = 0;
    } move_;
    desk::Panel close_ = desk::Panel::Count;
};

}  // namespace vg::gui
