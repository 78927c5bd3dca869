// Lists of any length: only what is in sight is asked for.
#include <catch2/catch.hpp>

#include <chrono>
#include <set>

#include "ui/gui/widgets/rows.h"
#include "ui/gui/window.h"

using namespace vg;

namespace {

/// Ten million rows that count who looks at them.
class Long final : public desk::Table {
  public:
    static constexpr u64 kRows = 10'000'000;
    [[nodiscard]] const std::vector<desk::Column>& columns() const override { return columns_; }
    [[nodiscard]] u64 rows() const override { return kRows; }
    [[nodiscard]] desk::Cell cell(u64 row, std::size_t) const override {
        asked.insert(row);
        return {"row " + std::to_string(row), {}};
    }
    mutable std::set<u64> asked;

  private:
    std::vector<desk::Column> columns_{{"a", 20}, {"b", 0}};
};

struct Screen {
    std::unique_ptr<gui::Window> window;
    gui::Look look;
    Screen() {
        unsetenv("DISPLAY");
        unsetenv("WAYLAND_DISPLAY");
        auto opened = gui::Window::open(800, 600, true);
        REQUIRE(opened);
        window = std::move(*opened);
        ImGui::CreateContext();
        ImGui::GetIO().IniFilename = nullptr;
        gui::load_fonts(look, 1);
        look.theme = gui::theme_named("dark");
        gui::apply(look, "dark");
    }
    ~Screen() { ImGui::DestroyContext(); }
    void frame(const desk::Table& table, gui::TableState& state) {
        ImGui::GetIO().DisplaySize = {800, 600};
        ImGui::GetIO().DeltaTime = 0.01F;
        ImGui::NewFrame();
        ImGui::SetNextWindowPos({0, 0});
        ImGui::SetNextWindowSize({800, 600});
        ImGui::Begin("w", nullptr, ImGuiWindowFlags_NoDecoration);
        gui::draw_table(look, "t", table, state);
        ImGui::End();
        ImGui::Render();
        window->canvas().draw(*ImGui::GetDrawData(), 0xff000000);
    }
};

}  // namespace

TEST_CASE("gui: a list of ten million rows asks for those in sight, wherever it is scrolled to", "[gui]") {
    Screen screen;
    gui::upload_fonts(screen.window->canvas());
    Long table;
    gui::TableState state;
    for (const u64 top : {u64{0}, u64{4'999'999}, Long::kRows - 1, u64{9'123'456}}) {
        state.scroll.top = static_cast<double>(top);
        for (int i = 0; i < 3; ++i) {
            table.asked.clear();
            screen.frame(table, state);
        }
        REQUIRE_FALSE(table.asked.empty());
        CHECK(table.asked.size() < 60);
        const u64 first = *table.asked.begin();
        CHECK(*table.asked.rbegin() == first + table.asked.size() - 1);
        CHECK(first == std::min(top, Long::kRows - table.asked.size()));
    }
    // The wheel moves by rows, even where a float could not tell them apart.
    ImGui::GetIO().MousePos = {200, 300};
    screen.frame(table, state);
    const double before = state.scroll.top;
    ImGui::GetIO().MouseWheel = -1;
    screen.frame(table, state);
    CHECK(state.scroll.top == before + 3);
}
