#include "ui/model/desk/workbench.h"

#include <fmt/format.h>

namespace vg::desk {

std::vector<std::string> MessagesView::text() const {
    std::vector<std::string> lines;
    for (const Message& message : session_->messages()) lines.push_back(message.text);
    return lines;
}

Workbench::Workbench(LinkMaker make_link)
    : timeline(events),
      hypercalls(events, tap_bit(TapKind::Hypercall)),
      synic(events),
      vmbus(events),
      iommu(events),
      devices(""),
      all_events(events, kAllTaps),
      messages(session),
      make_link_(std::move(make_link)) {}

Result<void> Workbench::open(const std::string& target) {
    auto link = make_link_(target);
    if (!link) return fail(link.error().code, link.error().text);
    attach(std::move(*link), target);
    return {};
}

void Workbench::attach(std::unique_ptr<ControlLink> link, std::string target) {
    events.clear();
    navigation.clear();
    temporary_.reset();
    disassembly.follow();
    session.attach(std::move(link), std::move(target));
}

View& Workbench::view(Panel panel) {
    switch (panel) {
        case Panel::Registers:
            return registers;
        case Panel::Disassembly:
            return disassembly;
        case Panel::Memory:
            return memory;
        case Panel::Stack:
            return stack;
        case Panel::Breakpoints:
            return breakpoints;
        case Panel::Console:
            return console;
        case Panel::Screen:
            return screen;
        case Panel::Timeline:
            return timeline;
        case Panel::Partitions:
            return partitions;
        case Panel::Walk:
            return walk;
        case Panel::Hypercalls:
            return hypercalls;
        case Panel::Synic:
            return synic;
        case Panel::Vmbus:
            return vmbus;
        case Panel::Iommu:
            return iommu;
        case Panel::Devices:
            return devices;
        case Panel::Translator:
            return translator;
        case Panel::Events:
            return all_events;
        case Panel::Messages:
        case Panel::Count:
            break;
    }
    return messages;
}

bool Workbench::update(Session::Clock::time_point now) {
    const u64 stops = session.stops();
    const bool came = session.pump(now);
    if (temporary_ && stops != session.stops() && !session.running()) {
        breakpoints.remove(session, *temporary_);
        temporary_.reset();
    }
    for (std::size_t i = 0; i < kPanels; ++i) {
        const auto panel = static_cast<Panel>(i);
        if (layout.is_shown(panel)) view(panel).update(session);
    }
    // The listing shows breakpoints too.
    if (layout.is_shown(Panel::Disassembly) && !layout.is_shown(Panel::Breakpoints)) breakpoints.update(session);
    events.update(session);
    return came;
}

bool Workbench::settled() const {
    if (!session.attached() || !session.trouble().empty()) return true;
    if (!session.ready() || session.pending() != 0) return false;
    for (std::size_t i = 0; i < kPanels; ++i) {
        const auto panel = static_cast<Panel>(i);
        if (layout.is_shown(panel) && view(panel).waiting()) return false;
    }
    return true;
}

Place Workbench::place() const {
    const auto code = disassembly.following() ? std::nullopt : disassembly.selected();
    if (layout.is_shown(Panel::Walk) && walk.address())
        return {Panel::Walk, session.focus(), Space::Linear, walk.address()};
    return {Panel::Disassembly, session.focus(), memory.space(), code};
}

void Workbench::show_place(const Place& place) {
    session.set_focus(place.vp);
    layout.show(place.panel);
    switch (place.panel) {
        case Panel::Memory:
            memory.go_to(place.space, place.address.value_or(0));
            break;
        case Panel::Walk:
            walk.go_to(place.address.value_or(0));
            break;
        default:
            if (place.address)
                disassembly.go_to(*place.address);
            else
                disassembly.follow();
    }
}

void Workbench::go(std::optional<Place> place) {
    if (place) show_place(*place);
}

void Workbench::go_to_code(u64 address) {
    navigation.leave(place());
    show_place({Panel::Disassembly, session.focus(), Space::Linear, address});
}
void Workbench::go_to_memory(Space space, u64 address) {
    navigation.leave({Panel::Memory, session.focus(), memory.space(), memory.top()});
    show_place({Panel::Memory, session.focus(), space, address});
}
void Workbench::go_to_walk(u64 address) {
    navigation.leave(place());
    show_place({Panel::Walk, session.focus(), Space::Linear, address});
}
void Workbench::look_at(VpId vp) {
    if (vp == session.focus()) return;
    navigation.leave(place());
    session.set_focus(vp);
    disassembly.follow();
}

void Workbench::resolve(const std::string& text, std::function<void(u64)> then) {
    if (const auto address = parse_number(text, false)) return then(*address);
    if (const auto address = registers.value(text)) return then(*address);
    session.ask(for_focus(session, {{"op", "resolve"}, {"text", text}}),
                [this, then = std::move(then)](Result<Json> answer) {
                    if (!answer) return session.say(shown(answer.error().text, 400), Tone::Bad);
                    then(number_of(answer->is_object() ? member(*answer, "address") : *answer));
                });
}

void Workbench::run_to(u64 address) {
    session.ask(for_focus(session, {{"op", "break_add"}, {"kind", "address"}, {"address", hex(address)}}),
                [this, address](Result<Json> answer) {
                    if (!answer) return session.say(shown(answer.error().text, 400), Tone::Bad);
                    temporary_ = static_cast<u32>(number(*answer, "number"));
                    session.move({{"op", "continue"}}, fmt::format("running to {:#x}", address));
                });
}

}  // namespace vg::desk
