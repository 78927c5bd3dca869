// One function for each panel: it draws what its view says, and posts what people ask for as commands. A panel keeps
// only how it is scrolled and what is typed into its fields.
#pragma once

#include "ui/gui/canvas.h"
#include "ui/gui/widgets/rows.h"
#include "ui/model/desk/commands.h"

namespace vg::gui {

struct RegistersPanel {
    Scroll scroll;
    std::string open;  ///< the register whose bits are listed
};
struct DisassemblyPanel {
    Scroll scroll;
    std::string address;
};
struct MemoryPanel {
    Scroll scroll;
    std::string address;
};
struct StackPanel {
    TableState frames, words;
};
struct BreakpointsPanel {
    TableState table;
    std::string text, mistake;
    std::optional<u64> selected;
};
struct ConsolePanel {
    Scroll scroll{0, true, true};
    std::string typed;
};
/// Owns the texture of the guest's picture.
struct ScreenPanel {
    Canvas& canvas;
    ImTextureID texture = nullptr;
    u64 version = 0;
    int width = 0, height = 0;
    std::string problem;
    explicit ScreenPanel(Canvas& drawn_on) : canvas(drawn_on) {}
    ScreenPanel(const ScreenPanel&) = delete;
    ScreenPanel& operator=(const ScreenPanel&) = delete;
    ~ScreenPanel();
};
struct TimelinePanel {
    Scroll scroll;
};
struct PartitionsPanel {
    TableState table;
};
struct WalkPanel {
    TableState guest, second;
    std::string address;
};
struct EventsPanel {
    TableState table;
};
struct SynicPanel {
    TableState pages, sints, events;
};
struct VmbusPanel {
    TableState channels, messages, packets, followed;
};
struct IommuPanel {
    TableState parts, events;
};
struct DevicesPanel {
    Scroll scroll;
    std::string filter;
};
struct TranslatorPanel {
    TableState blocks;
    Scroll code;
};
struct MessagesPanel {
    Scroll scroll{0, true, true};
};

void draw(RegistersPanel& panel, desk::Workbench& bench, const Look& look);
void draw(DisassemblyPanel& panel, desk::Workbench& bench, const Look& look);
void draw(MemoryPanel& panel, desk::Workbench& bench, const Look& look);
void draw(StackPanel& panel, desk::Workbench& bench, const Look& look);
void draw(BreakpointsPanel& panel, desk::Workbench& bench, const Look& look);
void draw(ConsolePanel& panel, desk::Workbench& bench, const Look& look);
void draw(ScreenPanel& panel, desk::Workbench& bench, const Look& look);
void draw(TimelinePanel& panel, desk::Workbench& bench, const Look& look);
void draw(PartitionsPanel& panel, desk::Workbench& bench, const Look& look);
void draw(WalkPanel& panel, desk::Workbench& bench, const Look& look);
void draw(EventsPanel& panel, desk::EventsView& view, const Look& look);
void draw(SynicPanel& panel, desk::Workbench& bench, const Look& look);
void draw(VmbusPanel& panel, desk::Workbench& bench, const Look& look);
void draw(IommuPanel& panel, desk::Workbench& bench, const Look& look);
void draw(DevicesPanel& panel, desk::Workbench& bench, const Look& look);
void draw(TranslatorPanel& panel, desk::Workbench& bench, const Look& look);
void draw(MessagesPanel& panel, desk::Workbench& bench, const Look& look);

/// Every panel's state.
class Panels {
  public:
    explicit Panels(Canvas& canvas) : screen_(canvas) {}
    void draw(desk::Panel panel, desk::Workbench& bench, const Look& look);

  private:
    RegistersPanel registers_;
    DisassemblyPanel disassembly_;
    MemoryPanel memory_;
    StackPanel stack_;
    BreakpointsPanel breakpoints_;
    ConsolePanel console_;
    ScreenPanel screen_;
    TimelinePanel timeline_;
    PartitionsPanel partitions_;
    WalkPanel walk_;
    EventsPanel hypercalls_, events_;
    SynicPanel synic_;
    VmbusPanel vmbus_;
    IommuPanel iommu_;
    DevicesPanel devices_;
    TranslatorPanel translator_;
    MessagesPanel messages_;
};

}  // namespace vg::gui
