// Panes and tabs, and the file they are kept in.
#include <catch2/catch.hpp>

#include <set>

#include "tests/support/random.h"
#include "ui/model/desk/layout.h"

using namespace vg;
using namespace vg::desk;

namespace {

/// Every leaf has tabs, no panel stands twice, the active tab exists.
void check_sane(const LayoutNode& node, std::set<Panel>& seen) {
    if (node.kind != LayoutNode::Kind::Tabs) {
        REQUIRE(node.first);
        REQUIRE(node.second);
        CHECK(node.ratio >= Layout::kLeastRatio);
        CHECK(node.ratio <= 1 - Layout::kLeastRatio);
        check_sane(*node.first, seen);
        check_sane(*node.second, seen);
        return;
    }
    REQUIRE_FALSE(node.tabs.empty());
    CHECK(node.active < node.tabs.size());
    for (const Panel panel : node.tabs) CHECK(seen.insert(panel).second);
}
void check_sane(const Layout& layout) {
    std::set<Panel> seen;
    check_sane(layout.root(), seen);
}

}  // namespace

TEST_CASE("desk: the built-in arrangements hold panels once; the standard one has them all", "[desk][layout]") {
    for (const std::string_view name : Layout::presets()) {
        const auto layout = Layout::preset(name);
        REQUIRE(layout);
        check_sane(*layout);
    }
    CHECK(Layout().open_panels().size() == kPanels);
    const auto everything = Layout::preset("everything");
    for (std::size_t i = 0; i < kPanels; ++i) CHECK(everything->is_shown(static_cast<Panel>(i)));
    CHECK_FALSE(Layout::preset("none"));
}

TEST_CASE("desk: an arrangement comes back from its file", "[desk][layout]") {
    Layout layout;
    layout.split(Panel::Timeline, Panel::Memory, Side::Left);
    layout.show(Panel::Walk);
    layout.close(Panel::Stack);
    const std::string text = arrangement_toml({"light", 1.5F}, layout);
    const auto read = parse_arrangement(text);
    REQUIRE(read);
    CHECK(read->settings.theme == "light");
    CHECK(read->settings.scale == 1.5F);
    CHECK(arrangement_toml(read->settings, read->layout) == text);
}

TEST_CASE("desk: splits and moves keep the tree whole, whatever they are", "[desk][layout]") {
    test::Random random(7);
    Layout layout;
    for (int i = 0; i < 5000; ++i) {
        const auto panel = static_cast<Panel>(random.below(kPanels)),
                   beside = static_cast<Panel>(random.below(kPanels));
        switch (random.below(4)) {
            case 0:
                layout.split(panel, beside, static_cast<Side>(random.below(4)));
                break;
            case 1:
                layout.move_to_tabs(panel, beside, random.below(5));
                break;
            case 2:
                layout.close(panel);
                break;
            default:
                layout.show(panel);
        }
        check_sane(layout);
    }
}

TEST_CASE("desk: closing the last panel leaves it open", "[desk][layout]") {
    Layout layout;
    for (std::size_t i = 0; i < kPanels; ++i) layout.close(static_cast<Panel>(i));
    CHECK(layout.open_panels().size() == 1);
    layout.show(Panel::Vmbus);
    CHECK(layout.is_shown(Panel::Vmbus));
}

TEST_CASE("desk: a hostile arrangement is refused or made sane", "[desk][layout]") {
    CHECK_FALSE(parse_arrangement(""));
    CHECK_FALSE(parse_arrangement("version = 2\n"));
    CHECK_FALSE(parse_arrangement("[=]"));
    CHECK_FALSE(parse_arrangement("version = 1\n[layout]\ntabs = [\"no such\"]\n"));
    CHECK_FALSE(parse_arrangement("\xff\xfe"));
    CHECK_FALSE(parse_arrangement(std::string(300 << 10, '#')));
    CHECK_FALSE(parse_arrangement("version = 1\na = " + std::string(50'000, '[')));
    std::string deep = "version = 1\n[layout";
    for (int i = 0; i < 20'000; ++i) deep += ".first";
    CHECK_FALSE(parse_arrangement(deep + "]\n"));
    const auto odd = parse_arrangement(
        "version = 1\ntheme = 5\nscale = nan\n[layout]\nsplit = \"rows\"\nratio = inf\n[layout.first]\ntabs = "
        "[\"memory\", \"memory\", 3, \"walk\"]\nactive = -1\n"
        "[layout.second]\nsplit = \"columns\"\nratio = -4.0\n[layout.second.first]\ntabs = "
        "[\"memory\"]\n[layout.second.second]\ntabs = [\"stack\"]\nactive = 900\n");
    REQUIRE(odd);
    check_sane(odd->layout);
    CHECK(odd->layout.open_panels() == std::vector<Panel>{Panel::Memory, Panel::Walk, Panel::Stack});
    CHECK(odd->settings.scale == 0);
}

TEST_CASE("desk: rects of panes fill the room without overlap", "[desk][layout]") {
    Layout layout;
    layout.place({0, 0, 1280, 720}, 4);
    double area = 0;
    const auto sum = [&](const auto& self, const LayoutNode& node) -> void {
        CHECK(node.rect.width > 0);
        CHECK(node.rect.height > 0);
        CHECK(node.rect.x + node.rect.width <= 1280.01F);
        CHECK(node.rect.y + node.rect.height <= 720.01F);
        if (node.kind == LayoutNode::Kind::Tabs)
            area += static_cast<double>(node.rect.width * node.rect.height);
        else {
            self(self, *node.first);
            self(self, *node.second);
        }
    };
    sum(sum, layout.root());
    CHECK(area < 1280.0 * 720);
    CHECK(area > 1280.0 * 720 * 0.95);
}
