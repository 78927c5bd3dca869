#include "ui/model/desk/layout.h"

#include <algorithm>
#include <cmath>

namespace vg::desk {

namespace {

constexpr PanelRow kRows[] = {
#define VG_PANEL(panel, id, title, summary) {id, title, summary},
#include "ui/model/desk/panels.def"
#undef VG_PANEL
};

using Node = std::unique_ptr<LayoutNode>;

Node tabs(std::vector<Panel> panels) {
    auto node = std::make_unique<LayoutNode>();
    node->tabs = std::move(panels);
    return node;
}
Node split_node(LayoutNode::Kind kind, float ratio, Node first, Node second) {
    auto node = std::make_unique<LayoutNode>();
    node->kind = kind;
    node->ratio = ratio;
    node->first = std::move(first);
    node->second = std::move(second);
    return node;
}
Node columns(float ratio, Node first, Node second) {
    return split_node(LayoutNode::Kind::Columns, ratio, std::move(first), std::move(second));
}
Node rows(float ratio, Node first, Node second) {
    return split_node(LayoutNode::Kind::Rows, ratio, std::move(first), std::move(second));
}

/// Calls visit(node) for every node, parents first; stops where it returns true.
template <class NodeRef, class Visit>
bool walk(NodeRef& node, const Visit& visit) {
    if (visit(node)) return true;
    if (node.kind == LayoutNode::Kind::Tabs) return false;
    return walk(*node.first, visit) || walk(*node.second, visit);
}

template <class NodeRef>
NodeRef* leaf_of(NodeRef& root, Panel panel) {
    NodeRef* found = nullptr;
    walk(root, [&](NodeRef& node) {
        if (std::find(node.tabs.begin(), node.tabs.end(), panel) == node.tabs.end()) return false;
        found = &node;
        return true;
    });
    return found;
}

unsigned depth_of(const LayoutNode& node) {
    return node.kind == LayoutNode::Kind::Tabs ? 1 : 1 + std::max(depth_of(*node.first), depth_of(*node.second));
}

Node debug_layout() {
    using enum Panel;
    return rows(0.70F,
                columns(0.24F, rows(0.66F, tabs({Registers}), tabs({Partitions, Breakpoints})),
                        columns(0.62F, rows(0.60F, tabs({Disassembly, Translator, Walk}), tabs({Memory, Devices})),
                                rows(0.5F, tabs({Stack}), tabs({Hypercalls, Vmbus, Synic, Iommu, Events})))),
                columns(0.5F, tabs({Console, Screen, Messages}), tabs({Timeline})));
}
Node protocol_layout() {
    using enum Panel;
    return rows(0.72F,
                columns(0.62F, tabs({Vmbus, Events}), rows(0.5F, tabs({Hypercalls, Iommu}), tabs({Synic, Partitions}))),
                columns(0.5F, tabs({Timeline}), tabs({Console, Screen, Messages})));
}
/// Every panel in sight: for tests of drawing time.
Node everything_layout() {
    using enum Panel;
    const auto row = [](Panel a, Panel b, Panel c) {
        return columns(1.0F / 3, tabs({a}), columns(0.5F, tabs({b}), tabs({c})));
    };
    Node top = rows(1.0F / 3, row(Registers, Disassembly, Memory),
                    rows(0.5F, row(Stack, Breakpoints, Console), row(Screen, Timeline, Partitions)));
    Node bottom = rows(1.0F / 3, row(Walk, Hypercalls, Synic),
                       rows(0.5F, row(Vmbus, Iommu, Devices), row(Translator, Events, Messages)));
    return columns(0.5F, std::move(top), std::move(bottom));
}

void place_node(LayoutNode& node, Rect rect, float gap) {
    node.rect = rect;
    if (node.kind == LayoutNode::Kind::Tabs) return;
    const bool across = node.kind == LayoutNode::Kind::Columns;
    const float whole = std::max(0.0F, (across ? rect.width : rect.height) - gap);
    const float first = std::floor(whole * node.ratio);
    Rect a = rect, b = rect;
    if (across) {
        a.width = first;
        b.x += first + gap;
        b.width = whole - first;
    } else {
        a.height = first;
        b.y += first + gap;
        b.height = whole - first;
    }
    place_node(*node.first, a, gap);
    place_node(*node.second, b, gap);
}

}  // namespace

const PanelRow& panel_row(Panel panel) { return kRows[static_cast<std::size_t>(panel)]; }
std::optional<Panel> panel_by_id(std::string_view id) {
    for (std::size_t i = 0; i < kPanels; ++i)
        if (kRows[i].id == id) return static_cast<Panel>(i);
    return {};
}

Layout::Layout() : root_(debug_layout()) {}

std::vector<std::string_view> Layout::presets() { return {"debug", "protocol", "everything"}; }
std::optional<Layout> Layout::preset(std::string_view name) {
    Layout layout;
    if (name == "protocol")
        layout.root_ = protocol_layout();
    else if (name == "everything")
        layout.root_ = everything_layout();
    else if (name != "debug")
        return {};
    return layout;
}

bool Layout::is_open(Panel panel) const { return leaf_of(std::as_const(*root_), panel) != nullptr; }
bool Layout::is_shown(Panel panel) const {
    const LayoutNode* leaf = leaf_of(std::as_const(*root_), panel);
    return leaf && leaf->tabs[leaf->active] == panel;
}

void Layout::show(Panel panel) {
    if (LayoutNode* leaf = leaf_of(*root_, panel)) {
        leaf->active =
            static_cast<std::size_t>(std::find(leaf->tabs.begin(), leaf->tabs.end(), panel) - leaf->tabs.begin());
        return;
    }
    // Where the standard arrangement has it: beside the first of its neighbours there that is open.
    const Layout standard;
    const LayoutNode* home = leaf_of(std::as_const(*standard.root_), panel);
    LayoutNode* into = nullptr;
    for (const Panel neighbour : home->tabs)
        if (!into) into = leaf_of(*root_, neighbour);
    if (!into)
        walk(*root_,
             [&](LayoutNode& node) { return node.kind == LayoutNode::Kind::Tabs && (into = &node) != nullptr; });
    into->tabs.push_back(panel);
    into->active = into->tabs.size() - 1;
}

void Layout::close(Panel panel) {
    LayoutNode* leaf = leaf_of(*root_, panel);
    if (!leaf || (root_->kind == LayoutNode::Kind::Tabs && root_->tabs.size() == 1)) return;
    leaf->tabs.erase(std::find(leaf->tabs.begin(), leaf->tabs.end(), panel));
    if (leaf->active != 0 && leaf->active >= leaf->tabs.size()) --leaf->active;
    tidy();
}

void Layout::move_to_tabs(Panel panel, Panel beside, std::size_t position) {
    LayoutNode* into = leaf_of(*root_, beside);
    LayoutNode* from = leaf_of(*root_, panel);
    if (!into) return;
    if (from) {
        if (from == into && into->tabs.size() == 1) return;
        from->tabs.erase(std::find(from->tabs.begin(), from->tabs.end(), panel));
        if (from->active != 0 && from->active >= from->tabs.size()) --from->active;
    }
    position = std::min(position, into->tabs.size());
    into->tabs.insert(into->tabs.begin() + static_cast<std::ptrdiff_t>(position), panel);
    into->active = position;
    tidy();
}

void Layout::split(Panel panel, Panel beside, Side side) {
    LayoutNode* into = leaf_of(*root_, beside);
    if (!into || depth_of(*root_) + 1 > kMaxDepth) return;
    LayoutNode* from = leaf_of(*root_, panel);
    if (from == into && into->tabs.size() == 1) return;
    if (from) {
        from->tabs.erase(std::find(from->tabs.begin(), from->tabs.end(), panel));
        if (from->active != 0 && from->active >= from->tabs.size()) --from->active;
    }
    Node old = tabs(std::move(into->tabs));
    old->active = std::min(into->active, old->tabs.size() - 1);
    Node added = tabs({panel});
    const bool before = side == Side::Left || side == Side::Top;
    into->tabs.clear();
    into->active = 0;
    into->kind = side == Side::Left || side == Side::Right ? LayoutNode::Kind::Columns : LayoutNode::Kind::Rows;
    into->ratio = 0.5F;
    into->first = before ? std::move(added) : std::move(old);
    into->second = before ? std::move(old) : std::move(added);
    tidy();
}

/// Takes out leaves without tabs: their sibling takes the place.
void Layout::tidy() {
    const auto prune = [](const auto& self, Node& node) -> void {
        if (node->kind == LayoutNode::Kind::Tabs) return;
        self(self, node->first);
        self(self, node->second);
        const auto empty = [](const Node& n) { return n->kind == LayoutNode::Kind::Tabs && n->tabs.empty(); };
        if (empty(node->first)) {
            Node rest = std::move(node->second);
            node = std::move(rest);
        } else if (empty(node->second)) {
            Node rest = std::move(node->first);
            node = std::move(rest);
        }
    };
    prune(prune, root_);
}

void Layout::place(Rect all, float gap) { place_node(*root_, all, gap); }

std::vector<Panel> Layout::open_panels() const {
    std::vector<Panel> panels;
    walk(std::as_const(*root_), [&](const LayoutNode& node) {
        panels.insert(panels.end(), node.tabs.begin(), node.tabs.end());
        return false;
    });
    return panels;
}

float known_scale(double scale) {
    float best = kScales[0];
    if (!std::isfinite(scale)) return best;
    for (const float known : kScales)
        if (std::abs(known - scale) < std::abs(best - scale)) best = known;
    return best;
}

}  // namespace vg::desk
