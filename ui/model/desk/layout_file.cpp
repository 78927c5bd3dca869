// The layout file: the arrangement as TOML and back.
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "base/utf8.h"
#include "machine/config_toml.h"
#include "ui/model/desk/json_read.h"
#include "ui/model/desk/layout.h"

namespace vg::desk {

namespace {

constexpr std::size_t kMaxFile = 256 << 10;
constexpr unsigned kMaxNesting = 64;  ///< of tables, before the parser sees the text

void write_node(std::string& out, const LayoutNode& node, const std::string& table) {
    out += fmt::format("\n[{}]\n", table);
    if (node.kind == LayoutNode::Kind::Tabs) {
        out += "tabs = [";
        for (std::size_t i = 0; i < node.tabs.size(); ++i)
            out += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", panel_row(node.tabs[i]).id);
        out += fmt::format("]\nactive = {}\n", node.active);
        return;
    }
    out += fmt::format("split = \"{}\"\nratio = {:.4f}\n", node.kind == LayoutNode::Kind::Columns ? "columns" : "rows",
                       static_cast<double>(node.ratio));
    write_node(out, *node.first, table + ".first");
    write_node(out, *node.second, table + ".second");
}

/// Brackets nested too deeply would exhaust the parser's stack: counted here without understanding strings, which can
/// only count too many.
bool nests_too_deeply(std::string_view text) {
    unsigned open = 0, dots = 0;
    for (const char c : text) {
        if (c == '\n')
            dots = 0;
        else if (c == '.')
            ++dots;
        else if (c == '[' || c == '{')
            ++open;
        else if ((c == ']' || c == '}') && open != 0)
            --open;
        if (open > kMaxNesting || dots > kMaxNesting) return true;
    }
    return false;
}

}  // namespace

struct LayoutReader {
    std::set<Panel> seen;

    std::unique_ptr<LayoutNode> read(const toml::table& table, unsigned depth) {
        auto node = std::make_unique<LayoutNode>();
        const std::string split = table["split"].value_or(std::string());
        const toml::table* first = table["first"].as_table();
        const toml::table* second = table["second"].as_table();
        if ((split == "columns" || split == "rows") && first && second && depth < Layout::kMaxDepth) {
            node->kind = split == "columns" ? LayoutNode::Kind::Columns : LayoutNode::Kind::Rows;
            const double ratio = table["ratio"].value_or(0.5);
            node->ratio = std::isfinite(ratio)
                              ? std::clamp(static_cast<float>(ratio), Layout::kLeastRatio, 1 - Layout::kLeastRatio)
                              : 0.5F;
            node->first = read(*first, depth + 1);
            node->second = read(*second, depth + 1);
            return node;
        }
        if (const toml::array* tabs = table["tabs"].as_array()) {
            for (const auto& item : *tabs) {
                const auto panel = panel_by_id(item.value_or(std::string_view()));
                if (panel && seen.insert(*panel).second) node->tabs.push_back(*panel);
            }
        }
        const s64 active = table["active"].value_or(s64{0});
        node->active =
            active >= 0 && static_cast<std::size_t>(active) < node->tabs.size() ? static_cast<std::size_t>(active) : 0;
        return node;
    }

    static bool fill(Layout& layout, const toml::table& table) {
        LayoutReader reader;
        auto root = reader.read(table, 1);
        if (reader.seen.empty()) return false;
        layout.root_ = std::move(root);
        layout.tidy();
        return true;
    }
};

std::string Layout::toml() const {
    std::string out;
    write_node(out, *root_, "layout");
    return out;
}

std::string arrangement_toml(const Settings& settings, const Layout& layout) {
    return fmt::format(
        "# Window of `verdigris gui`. Written when it is left.\nversion = 1\ntheme = \"{}\"\nscale = {}\n{}",
        settings.theme, static_cast<double>(settings.scale), layout.toml());
}

Result<Arrangement> parse_arrangement(std::string_view text) {
    if (text.size() > kMaxFile) return fail(Error::Code::Usage, "a layout file is at most 256 KiB");
    if (nests_too_deeply(text)) return fail(Error::Code::Usage, "tables nested too deeply for a layout file");
    if (utf8_prefix(text) != text.size()) return fail(Error::Code::Usage, "the text is not UTF-8");
    const toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
        const auto& error = parsed.error();
        return fail(Error::Code::Usage, fmt::format("{}:{}: {}", error.source().begin.line, error.source().begin.column,
                                                    shown(error.description())));
    }
    const toml::table& table = parsed.table();
    if (table["version"].value_or(s64{0}) != 1)
        return fail(Error::Code::Usage, "not a layout file of this version (version = 1)");
    Arrangement arrangement;
    if (table["theme"].value_or(std::string()) == "light") arrangement.settings.theme = "light";
    const double scale = table["scale"].value_or(0.0);
    arrangement.settings.scale = scale > 0 ? known_scale(scale) : 0;
    if (const toml::table* layout = table["layout"].as_table()) {
        if (!LayoutReader::fill(arrangement.layout, *layout))
            return fail(Error::Code::Usage, "[layout] names no panel");
    }
    return arrangement;
}

}  // namespace vg::desk
