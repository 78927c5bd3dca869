// Files with symbols and line tables, made by the host's compiler.
#include "ui/model/elf_symbols.h"

#include <catch2/catch.hpp>

#include <cstdlib>

#include "tests/support/temp_dir.h"

using namespace vg;
using model::ElfSymbols;

TEST_CASE("elf symbols: names, sizes and lines are those of the compiler", "[ui][symbols]") {
    test::TempDir dir;
    const std::string source =
        "int value = 1;\nint first(int x) {\n    return x + value;\n}\n\nextern \"C\" int _start() {\n    return "
        "first(2);\n}\n";
    test::write_file(dir / "a.cpp", {source.begin(), source.end()});
    const std::string command =
        "g++ -g -O0 -static -nostdlib -ffreestanding -fno-pie -no-pie -Wl,-Ttext=0x400000 -o '" + (dir / "a") + "' '" +
        (dir / "a.cpp") + "' 2>/dev/null";
    REQUIRE(std::system(command.c_str()) == 0);
    const auto file = ElfSymbols::open(dir / "a");
    REQUIRE(file);
    const auto first = (*file)->address("_Z5firsti");
    REQUIRE(first);
    CHECK(*first >= 0x400000);
    const ElfSymbols::Entry* entry = (*file)->holding(*first + 3);
    REQUIRE(entry != nullptr);
    CHECK(entry->name == "_Z5firsti");
    CHECK(entry->code);
    CHECK((*file)->holding(0x3fffff) == nullptr);
    const auto line = (*file)->line(*first);
    REQUIRE(line);
    CHECK(line->file.find("a.cpp") != std::string::npos);
    CHECK(line->line == 2);
    CHECK((*file)->line(*(*file)->address("_start"))->line == 6);
    CHECK_FALSE((*file)->line(0x1000));

    // Cut off anywhere: an error or fewer symbols, nothing worse.
    const std::vector<u8> whole = test::read_file(dir / "a");
    for (std::size_t size = 0; size < whole.size(); size += 97) {
        test::write_file(dir / "cut", {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
        if (const auto cut = ElfSymbols::open(dir / "cut"))
            CHECK((*cut)->entries().size() <= (*file)->entries().size());
    }
}

TEST_CASE("elf symbols: what is no ELF file is refused with its name", "[ui][symbols]") {
    test::TempDir dir;
    test::write_file(dir / "text", {'h', 'e', 'l', 'l', 'o'});
    for (const std::string name : {"text", "missing"}) {
        const auto file = ElfSymbols::open(dir / name);
        REQUIRE_FALSE(file);
        CHECK(file.error().text.find(name) != std::string::npos);
    }
}
