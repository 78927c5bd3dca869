// Panels drawn without a window: three frames of each, with ordinary and with hostile content.
#include <catch2/catch.hpp>

#include "tests/desk/fixture.h"
#include "tests/support/temp_dir.h"
#include "ui/gui/gui.h"
#include "ui/gui/png.h"

#include <cstdlib>
#include <fstream>

using namespace vg;
using namespace vg::test;

namespace {

struct Drawn {
    Result<int> result = 0;
    gui::Picture picture;
};

/// Runs the debugger on a fake machine, drawing into memory, and returns its last picture.
Drawn draw(const std::shared_ptr<FakeMachine>& machine, const std::string& script, int width = 1280, int height = 720,
           float scale = 1) {
    unsetenv("DISPLAY");
    unsetenv("WAYLAND_DISPLAY");
    const TempDir dir;
    std::ofstream(dir / "s") << script;
    gui::Options options;
    options.target = "fake";
    options.script = dir / "s";
    options.screenshot = dir / "p.png";
    options.width = width;
    options.height = height;
    options.scale = scale;
    Drawn drawn;
    drawn.result = gui::run(options, [machine](const std::string&) -> Result<std::unique_ptr<model::ControlLink>> {
        return std::unique_ptr<model::ControlLink>(std::make_unique<FakeLink>(machine));
    });
    std::ifstream in(options.screenshot, std::ios::binary);
    const std::string file((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    if (auto picture = gui::parse_png(file)) drawn.picture = std::move(*picture);
    return drawn;
}

std::size_t colours(const gui::Picture& picture) {
    return std::set<u32>(picture.pixels.begin(), picture.pixels.end()).size();
}

}  // namespace

TEST_CASE("gui: every panel draws, at every scale and in both themes", "[gui]") {
    for (const float scale : {1.0F, 2.0F}) {
        for (const char* theme : {"dark", "light"}) {
            const Drawn drawn = draw(
                std::make_shared<FakeMachine>(),
                fmt::format("theme {}\nlayout everything\nwait settled\nwait seconds 0.05\n", theme), 1280, 720, scale);
            REQUIRE(drawn.result);
            CHECK(*drawn.result == 0);
            CHECK(drawn.picture.width == 1280);
            CHECK(drawn.picture.height == 720);
            CHECK(colours(drawn.picture) > 30);
        }
    }
}

TEST_CASE("gui: hostile content draws", "[gui]") {
    auto machine = std::make_shared<FakeMachine>();
    const std::string evil = "\xff\xfe\u202e\x1b[31m%s%n" + std::string(100'000, 'W');
    Json tree = {{evil, {{evil, evil}}}};
    Json deep = "end";
    for (int i = 0; i < 200; ++i) deep = Json{{"x", deep}};
    tree["deep"] = deep;
    machine->answers["inspect"] = {{"tree", tree}};
    machine->answers["registers"] = {{"rax", evil}, {evil, "0x1"}, {"rsp", "0x10"}};
    machine->answers["disassemble"] = Json::array({Json{{"address", "0xffffffff81000000"},
                                                        {"bytes", evil},
                                                        {"text", evil},
                                                        {"symbol", evil},
                                                        {"target", "0xffffffff81000000"}}});
    machine->answers["partitions"] = Json::array(
        {Json{{"id", 1},
              {"name", evil},
              {"kind", evil},
              {"vps",
               Json::array({Json{{"index", 0}, {"name", evil}, {"activity", evil}, {"rip", "0xffffffff81000000"}}})}}});
    machine->answers["stack"] = Json::array({Json{{"pc", "0x1"}, {"symbol", evil}, {"file", evil}}});
    machine->answers["jit_blocks"] = {
        {"blocks", Json::array({Json{{"address", evil},
                                     {evil, evil},
                                     {"code", Json::array({Json{{"guest", evil}, {"host", Json::array({evil})}}})}}})}};
    machine->answers["screen"] = {{"width", 5}, {"height", 5}, {"png", "iVBORw0KGgo="}};
    machine->console = evil;
    machine->events.push_back({{"seq", 1},
                               {"time", ~u64{0}},
                               {"kind", "vmbus_packet"},
                               {"values", {{"channel", "0xffffffffffffffff"}}},
                               {"payload", evil}});
    const Drawn drawn =
        draw(machine, "layout everything\nwait settled\nwait seconds 0.05\nlayout debug\nwait seconds 0.05\n");
    REQUIRE(drawn.result);
    CHECK(*drawn.result == 0);
    CHECK(colours(drawn.picture) > 30);
}

TEST_CASE("gui: a machine that cannot be opened is the error of a script", "[gui]") {
    unsetenv("DISPLAY");
    unsetenv("WAYLAND_DISPLAY");
    gui::Options options;
    options.target = "x";
    options.screenshot = "/nowhere/x.png";
    const auto result = gui::run(options, [](const std::string&) -> Result<std::unique_ptr<model::ControlLink>> {
        return fail(Error::Code::Usage, "x: no such file");
    });
    REQUIRE_FALSE(result);
    CHECK(result.error().text == "x: no such file");
}

TEST_CASE("gui: without a display a window is refused with the remedy", "[gui]") {
    unsetenv("DISPLAY");
    unsetenv("WAYLAND_DISPLAY");
    const auto result = gui::run({}, {});
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Error::Code::Host);
    CHECK(result.error().text.find("xvfb-run") != std::string::npos);
}

TEST_CASE("gui: pictures come back from PNG, and damaged ones are refused", "[gui]") {
    const TempDir dir;
    gui::Picture picture{3, 2, {0xff000001, 0xff000200, 0xff030000, 0xffffffff, 0xff123456, 0xff000000}};
    const std::string path = dir / "x.png";
    REQUIRE(gui::write_png(path, picture));
    std::ifstream in(path, std::ios::binary);
    std::string file((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const auto read = gui::parse_png(file);
    REQUIRE(read);
    CHECK(read->pixels == picture.pixels);
    for (std::size_t i = 0; i < file.size(); ++i) (void)gui::parse_png(std::string_view(file).substr(0, i));
    for (std::size_t i = 0; i < file.size(); ++i) {
        std::string broken = file;
        broken[i] = static_cast<char>(broken[i] ^ 0x41);
        (void)gui::parse_png(broken);
    }
    CHECK_FALSE(gui::parse_png(""));
    CHECK_FALSE(gui::parse_png("not a picture"));
    CHECK_FALSE(gui::write_png("/nowhere/x.png", picture));
}
