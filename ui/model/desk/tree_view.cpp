#include "ui/model/desk/tree_view.h"

#include "ui/model/desk/event_table.h"

namespace vg::desk {

namespace {
constexpr std::size_t kMaxNodes = 200'000;
constexpr unsigned kMaxDepth = 32;
}  // namespace

TreeView::TreeView(std::string path) : path_(std::move(path)), live_(parse) {}

std::vector<TreeView::Node> TreeView::parse(const Json& reply) {
    std::vector<Node> nodes;
    const auto visit = [&nodes](const auto& self, const Json& node, const std::string& path, unsigned depth) -> void {
        const auto one = [&](const std::string& key, const Json& value) {
            if (nodes.size() >= kMaxNodes) return;
            const std::string name = shown(key, 128);
            const bool inner = value.is_structured();
            nodes.push_back(
                {path.empty() ? name : path + "/" + name, name, inner ? "" : words_of(value, 512), depth, inner});
            if (inner && depth < kMaxDepth) self(self, value, std::string(nodes.back().path), depth + 1);
        };
        if (node.is_object())
            for (const auto& [key, value] : node.items()) one(key, value);
        else if (node.is_array())
            for (std::size_t i = 0; i < node.size(); ++i) one(std::to_string(i), node[i]);
    };
    const Json& tree = member(reply, "tree");
    visit(visit, tree.is_null() ? reply : tree, "", 0);
    return nodes;
}

void TreeView::update(Session& session) {
    // A tree is large: while the machine runs, now and then is enough.
    live_.update(session, {{"op", "inspect"}, {"path", path_}, {"json", true}},
                 session.running() ? session.stops() + (session.epoch() / 5 << 32) : session.epoch() + (u64{1} << 60));
    if (live_.answers() == taken_) return;
    taken_ = live_.answers();
    nodes_ = live_.value() ? *live_.value() : std::vector<Node>();
    if (!session.running() && stops_ != session.stops()) {
        stops_ = session.stops();
        before_ = std::move(at_stop_);
    }
    values_.clear();
    for (const Node& node : nodes_)
        if (!node.inner) values_.emplace(node.path, node.value);
    if (!session.running()) at_stop_ = values_;
    lay_out();
}

void TreeView::lay_out() {
    rows_.clear();
    // With a filter: from the end, so that a parent knows whether something below it stays.
    std::vector<bool> kept(nodes_.size(), filter_.empty());
    if (!filter_.empty()) {
        unsigned keep_above = 0;  // depth of what was kept last: everything nearer to the root on the way up stays
        for (std::size_t i = nodes_.size(); i-- > 0;) {
            const Node& node = nodes_[i];
            const bool parent = node.inner && keep_above == node.depth + 1;
            kept[i] = parent || contains_text(node.path, filter_) || contains_text(node.value, filter_);
            if (kept[i])
                keep_above = node.depth;
            else if (node.depth < keep_above)
                keep_above = 0;
        }
    }
    unsigned hidden_below = ~0u;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = nodes_[i];
        if (node.depth > hidden_below) continue;
        hidden_below = ~0u;
        if (!kept[i]) continue;
        const bool open = node.inner && (all_open_ != (open_.count(node.path) != 0) || !filter_.empty());
        if (node.inner && !open) hidden_below = node.depth;
        const auto before = before_.find(node.path);
        rows_.push_back({node.path, node.name, node.value, node.depth, node.inner, open,
                         !node.inner && before != before_.end() && before->second != node.value});
    }
}

void TreeView::toggle(const std::string& path) {
    if (open_.erase(path) == 0) open_.insert(path);
    lay_out();
}
void TreeView::open_all(bool open) {
    all_open_ = open;
    open_.clear();
    lay_out();
}
void TreeView::set_filter(std::string text) {
    if (text == filter_) return;
    filter_ = std::move(text);
    lay_out();
}

std::vector<std::string> TreeView::text() const {
    std::vector<std::string> lines;
    for (const Node& node : nodes_)
        if (!node.inner) lines.push_back(node.path + " = " + node.value);
    return lines;
}

}  // namespace vg::desk
