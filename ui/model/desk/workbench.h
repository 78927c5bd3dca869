// Everything the desktop debugger knows, without its window: the machine's session, every panel's view, the
// arrangement, and the way people went through it.
#pragma once

#include <functional>

#include "ui/model/desk/breakpoints_view.h"
#include "ui/model/desk/console_view.h"
#include "ui/model/desk/disassembly_view.h"
#include "ui/model/desk/layout.h"
#include "ui/model/desk/machine_views.h"
#include "ui/model/desk/memory_view.h"
#include "ui/model/desk/navigation.h"
#include "ui/model/desk/registers_view.h"
#include "ui/model/desk/stack_view.h"
#include "ui/model/desk/timeline_view.h"
#include "ui/model/desk/tree_view.h"
#include "ui/model/desk/vmbus_view.h"

namespace vg::desk {

/// What the session said, as a panel.
class MessagesView final : public View {
  public:
    explicit MessagesView(Session& session) : session_(&session) {}
    void update(Session&) override {}
    [[nodiscard]] std::vector<std::string> text() const override;

  private:
    Session* session_;
};

/// Makes a link to what a person names: a machine's description, a socket, a recording. The one place that knows how.
using LinkMaker = std::function<Result<std::unique_ptr<ControlLink>>(const std::string& target)>;

class Workbench {
  public:
    explicit Workbench(LinkMaker make_link);
    Workbench(const Workbench&) = delete;
    Workbench& operator=(const Workbench&) = delete;

    /// Error: what the maker of links said; what was open stays.
    Result<void> open(const std::string& target);
    void attach(std::unique_ptr<ControlLink> link, std::string target);
    /// Once a frame: takes what came, and asks for what the panels in front need. Returns whether anything came.
    bool update(Session::Clock::time_point now);
    /// Nothing is asked and not answered, and no panel in front waits: what is shown is what is.
    [[nodiscard]] bool settled() const;

    [[nodiscard]] View& view(Panel panel);
    [[nodiscard]] const View& view(Panel panel) const { return const_cast<Workbench*>(this)->view(panel); }

    // Ways through the machine; each remembers where one was.
    void go_to_code(u64 address);
    void go_to_memory(Space space, u64 address);
    void go_to_walk(u64 address);
    void go_back() { go(navigation.back(place())); }
    void go_forward() { go(navigation.forward(place())); }
    void look_at(VpId vp);
    /// Resolves a number, symbol, register or expression, then calls `then` with the address; mistakes become messages.
    void resolve(const std::string& text, std::function<void(u64)> then);
    /// Runs until this address is reached, by a breakpoint that is taken away again.
    void run_to(u64 address);

    /// What only a window can do, asked for by commands.
    struct Wishes {
        std::string screenshot;
        bool quit = false, palette = false, open_dialog = false, prompt_again = false;
        std::string prompt;  ///< a command that wants its argument from the person
    } wishes;

    Session session;
    EventLog events;
    Settings settings;
    Layout layout;
    Navigation navigation;
    RegistersView registers;
    DisassemblyView disassembly;
    MemoryView memory;
    StackView stack;
    BreakpointsView breakpoints;
    ConsoleView console;
    ScreenView screen;
    TimelineView timeline;
    PartitionsView partitions;
    WalkView walk;
    EventsView hypercalls;
    SynicView synic;
    VmbusView vmbus;
    IommuView iommu;
    TreeView devices;
    TranslatorView translator;
    EventsView all_events;
    MessagesView messages;

  private:
    [[nodiscard]] Place place() const;
    void go(std::optional<Place> place);
    void show_place(const Place& place);

    LinkMaker make_link_;
    std::optional<u32> temporary_;  ///< breakpoint of run_to()
};

}  // namespace vg::desk
