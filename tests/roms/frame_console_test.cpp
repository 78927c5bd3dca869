// Text on the parent's screen, read back from the pixels that the machine's display would show.
#include <catch2/catch.hpp>

#include <set>
#include <string>
#include <vector>

#include "roms/parent/frame_console.h"
#include "roms/parent/spec/font.h"

using namespace vg;
using namespace vg::parent;

namespace {

constexpr u32 kCellWidth = 12, kCellHeight = 16;

struct Screen final : FrameScroller {
    Screen(u32 width, u32 height, u32 stride, u32 lines)
        : pixels(u64{stride} * lines + 64, 0xdeadbeef),
          frame{{reinterpret_cast<volatile u32*>(pixels.data()), u64{stride} * lines}, width, height, stride} {}
    void show_from(u32 line) override {
        first = line;
        CHECK(u64{line + frame.height} * frame.stride <= frame.pixels.size());
    }
    /// The character in a cell of what is shown; 0: no glyph looks like that, '\x7f': the box.
    [[nodiscard]] char at(u32 row, u32 column) const {
        for (std::size_t i = 0; i < font::kGlyphs.size(); ++i) {
            bool equal = true;
            for (u32 y = 0; y < kCellHeight && equal; ++y) {
                for (u32 x = 0; x < kCellWidth && equal; ++x) {
                    const u32 pixel =
                        pixels[u64{first + row * kCellHeight + y} * frame.stride + column * kCellWidth + x];
                    const bool dot = x / 2 < 5 && (font::kGlyphs[i][y / 2] >> (4 - x / 2) & 1) != 0;
                    equal = pixel == (dot ? FrameConsole::kForeground : FrameConsole::kBackground);
                }
            }
            if (equal) return static_cast<char>(' ' + i);
        }
        return 0;
    }
    [[nodiscard]] std::string line(u32 row, u32 columns) const {
        std::string text;
        for (u32 column = 0; column < columns; ++column) text += at(row, column);
        while (!text.empty() && text.back() == ' ') text.pop_back();
        return text;
    }
    /// Nothing was written behind the memory or left undefined in the picture.
    [[nodiscard]] bool intact() const {
        for (std::size_t i = frame.pixels.size(); i < pixels.size(); ++i) {
            if (pixels[i] != 0xdeadbeef) return false;
        }
        for (u64 y = first; y < first + frame.height; ++y) {
            for (u64 x = 0; x < frame.width; ++x) {
                if (pixels[y * frame.stride + x] == 0xdeadbeef) return false;
            }
        }
        return true;
    }

    std::vector<u32> pixels;
    Frame frame;
    u32 first = ~0u;
};

}  // namespace

TEST_CASE("font: every glyph is its own", "[roms][font]") {
    std::set<font::Glyph> seen(font::kGlyphs.begin(), font::kGlyphs.end());
    CHECK(seen.size() == font::kGlyphs.size());
    for (const font::Glyph& glyph : font::kGlyphs) {
        for (const u8 row : glyph) CHECK(row < 1u << font::kColumns);
    }
}

TEST_CASE("frame console: what is written can be read on the screen", "[roms][console]") {
    Screen screen(240, 100, 256, 200);
    FrameConsole console(screen.frame, screen);
    REQUIRE(console.columns() == 20);
    REQUIRE(console.rows() == 6);
    CHECK(screen.first == 0);
    console.write("Hello, partition!\r\n\tx\byz\n\xe4");
    CHECK(screen.line(0, 20) == "Hello, partition!");
    CHECK(screen.line(1, 20) == "        yz");
    CHECK(screen.line(2, 20) == "\x7f");
    console.write(
        "\x1b[1;31mred\x1b[0m\x1b"
        "c!\n\x1b[12\nover\rO");
    CHECK(screen.line(2, 20) == "\x7fred!");
    CHECK(screen.line(4, 20) == "Over");
    CHECK(screen.intact());
    std::string all;
    for (char c = '!'; c <= '~'; ++c) all += c;
    console.write("\n" + all);  // longer than a line: goes on in the next
    std::string shown;
    for (u32 row = 0; row < 6; ++row) shown += screen.line(row, 20);
    CHECK(shown.find(all) != std::string::npos);
    CHECK(screen.intact());
}

TEST_CASE("frame console: scrolls through the display memory and back to its beginning", "[roms][console]") {
    const u32 lines = GENERATE(32u + 16, 100u + 16, 512u, 519u);
    const u32 height = lines < 100 ? 32 : 100;
    Screen screen(120, height, 128, lines);
    FrameConsole console(screen.frame, screen);
    std::set<u32> tops;
    for (u32 i = 0; i < 200; ++i) {
        console.write((i == 0 ? "" : "\n") + std::to_string(i));
        tops.insert(screen.first);
        const u32 rows = console.rows();
        for (u32 row = 0; row < rows; ++row) {
            const u32 expected = i < rows ? row : i - rows + 1 + row;
            if (screen.line(row, 10) != (expected <= i ? std::to_string(expected) : "")) {
                INFO("line " << row << " after " << i);
                CHECK(screen.line(row, 10) == std::to_string(expected));
            }
        }
        if (!screen.intact()) FAIL("damaged after " << i);
    }
    CHECK(tops.size() >= 2);
    CHECK(tops.count(0) == 1);
}
