// Our own parent (roms/parent) on a machine with a display: its screen says what its serial port says.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <string>
#include <vector>

#include "machine/acpi_tables.h"
#include "machine/machine.h"
#include "roms/parent/frame_console.h"
#include "roms/parent/spec/font.h"
#include "tests/support/temp_dir.h"

using namespace vg;

namespace {

namespace font = parent::font;

constexpr u32 kWidth = 1024, kHeight = 768, kCellWidth = 12, kCellHeight = 16;  // the mode that firmware leaves

/// The text of the picture at the beginning of the display memory, lines without trailing spaces.
std::vector<std::string> screen_text(machine::Machine& machine) {
    std::vector<u32> pixels(kWidth * kHeight);
    machine.memory().read(Spa(machine::board::kDisplayMemoryBase), pixels.data(), pixels.size() * sizeof pixels[0]);
    std::vector<std::string> lines;
    for (u32 row = 0; row < kHeight / kCellHeight; ++row) {
        std::string line;
        for (u32 column = 0; column < kWidth / kCellWidth; ++column) {
            char found = 0;  // no glyph
            for (std::size_t i = 0; i < font::kGlyphs.size() && found == 0; ++i) {
                bool equal = true;
                for (u32 at = 0; at < kCellWidth * kCellHeight && equal; ++at) {
                    const u32 x = at % kCellWidth, y = at / kCellWidth, dot = x / 2;
                    const bool set = dot < font::kColumns && (font::kGlyphs[i][y / 2] >> (4 - dot) & 1) != 0;
                    equal = pixels[(row * kCellHeight + y) * kWidth + column * kCellWidth + x] ==
                            (set ? parent::FrameConsole::kForeground : parent::FrameConsole::kBackground);
                }
                if (equal) found = static_cast<char>(font::kFirst + static_cast<char>(i));
            }
            line += found;
        }
        while (!line.empty() && line.back() == ' ') line.pop_back();
        lines.push_back(line);
    }
    return lines;
}

}  // namespace

TEST_CASE("parent: the display shows what the serial port says", "[machine][parent]") {
    test::TempDir dir;
    const std::string table = "exit = when-children-stop\n";
    test::write_file(dir / "children.conf", {table.begin(), table.end()});
    REQUIRE(std::system(("cd " + (dir / ".") + " && tar --format=ustar -cf store.img children.conf").c_str()) == 0);
    const auto config =
        machine::parse_config("[machine]\nmemory = \"256 MiB\"\n[hypervisor]\n[boot]\nkernel = \"" VG_PARENT
                              "\"\n[devices]\ndisplay = true\n"
                              "[[disk]]\nbus = \"ahci\"\nimage = \"store.img\"\nformat = \"raw\"\n",
                              "m.toml", dir / ".", {});
    REQUIRE(config);
    std::string console;
    machine::MachineOptions options;
    options.console = [&](const std::string&, u8 byte) {
        if (byte != '\r') console += static_cast<char>(byte);
    };
    auto machine = machine::Machine::create(*config, std::move(options));
    REQUIRE(machine);
    (*machine)->run_until(VTime{5} * 1'000'000'000);
    REQUIRE((*machine)->outcome().kind == machine::Outcome::Kind::PoweredOff);
    CHECK(console.find("MiB free") != std::string::npos);
    std::string shown;
    for (const std::string& line : screen_text(**machine)) {
        if (!line.empty()) shown += line + '\n';
    }
    CHECK(shown == console);
}
