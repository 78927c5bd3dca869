#include <catch2/catch.hpp>

#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "machine/acpi_tables.h"

using namespace vg;
using namespace vg::machine;

namespace {

enum class Board { Pc, Generation1, Generation2 };

std::vector<AcpiTable> tables_for(unsigned processors, Board board = Board::Pc) {
    AcpiOptions options;
    for (unsigned i = 0; i < processors; ++i) options.apic_ids.push_back(i);
    options.memory_top = u64{4} << 30;
    options.vmbus = board != Board::Pc;
    options.has_pic = board != Board::Generation2;
    options.vga = board == Board::Generation1;
    if (board == Board::Pc) {
        options.dmar.emplace();
        options.hpet = true;
    }
    if (board != Board::Generation2) options.pci.emplace();
    if (board == Board::Pc) options.pci->ecam = {0xe0000000, 0x10000000};
    if (!options.pci) return *build_acpi(options);
    options.pci->low_memory = {0xc0000000, 0x20000000};
    options.pci->high_memory = {u64{4} << 30, u64{1} << 36};
    options.pci->ports = {0xc000, 0x4000};
    auto built = build_acpi(options);
    REQUIRE(built);
    return *built;
}

std::string run(const std::string& command, int& status) {
    std::string out;
    FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    REQUIRE(pipe != nullptr);
    char buffer[4096];
    while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, count);
    status = ::pclose(pipe);
    return out;
}

}  // namespace

TEST_CASE("acpi: every table adds up to zero and lies where its parent points", "[machine][acpi]") {
    for (const unsigned processors : {1u, 4u, 16u}) {
        const auto tables = tables_for(processors);
        for (const AcpiTable& table : tables) {
            if (table.signature == "FACS") continue;  // has no checksum
            u8 sum = 0;
            for (const u8 byte : table.content) sum = static_cast<u8>(sum + byte);
            CHECK(sum == 0);
        }
        const auto find = [&](const std::string& signature) -> const AcpiTable& {
            for (const AcpiTable& table : tables)
                if (table.signature == signature) return table;
            FAIL("no table " << signature);
            return tables[0];
        };
        u64 xsdt = 0, fadt = 0;
        std::memcpy(&xsdt, find("RSD PTR ").content.data() + 24, 8);
        CHECK(xsdt == find("XSDT").address.value);
        std::memcpy(&fadt, find("XSDT").content.data() + 36, 8);
        CHECK(fadt == find("FACP").address.value);
        u32 dsdt = 0;
        std::memcpy(&dsdt, find("FACP").content.data() + 40, 4);
        CHECK(dsdt == find("DSDT").address.value);
    }
}

TEST_CASE("acpi: iasl disassembles and compiles every table without error or warning", "[machine][acpi]") {
    if (std::system("command -v iasl >/dev/null") != 0) FAIL("iasl is missing: run tools/setup");
    char folder[] = "/tmp/vg-acpi-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    const Board board = GENERATE(Board::Pc, Board::Generation1, Board::Generation2);
    for (const AcpiTable& table : tables_for(2, board)) {
        if (table.signature == "RSD PTR " || table.signature == "FACS") continue;
        const std::string base = std::string(folder) + "/" + table.signature;
        std::ofstream(base + ".aml", std::ios::binary)
            .write(reinterpret_cast<const char*>(table.content.data()), static_cast<std::streamsize>(table.content.size()));
        int status = 0;
        const std::string decompiled = run("cd " + std::string(folder) + " && iasl -d " + base + ".aml", status);
        INFO(decompiled);
        CHECK(status == 0);
        // 6033: the VMBus device's _HID "VMBus" (B-11) is shorter than ACPI's identifiers.
        const std::string compiled = run("cd " + std::string(folder) + " && iasl -vw 6033 -p again " + base + ".dsl", status);
        INFO(compiled);
        CHECK(status == 0);
        CHECK(compiled.find("0 Errors") != std::string::npos);
        if (table.signature == "DSDT") {
            CHECK(compiled.find("0 Warnings") != std::string::npos);
            CHECK(decompiled.find("Error") == std::string::npos);
        }
    }
    CHECK(std::system(("rm -r " + std::string(folder)).c_str()) == 0);
}

TEST_CASE("acpi: VMBus is below the PCI root of generation 1, whose windows are its own (B-13)", "[machine][acpi]") {
    const auto dsdt_of = [](Board board) {
        std::string found;
        for (const AcpiTable& table : tables_for(1, board)) {
            if (table.signature == "DSDT") found.assign(table.content.begin(), table.content.end());
            CHECK((table.signature != "MCFG" || board == Board::Pc));
        }
        return found;
    };
    const std::string one = dsdt_of(Board::Generation1), two = dsdt_of(Board::Generation2), pc = dsdt_of(Board::Pc);
    CHECK(one.find("VMBS") > one.find("PCI0"));
    CHECK(one.find("VMBS") != std::string::npos);
    CHECK(one.find("VMOD") == std::string::npos);
    CHECK(two.find("VMOD") < two.find("VMBS"));
    CHECK(two.find("PCI0") == std::string::npos);
    CHECK(pc.find("VMBS") == std::string::npos);
}

TEST_CASE("acpi: DMAR describes the remapping unit, and is there only with one", "[machine][acpi]") {
    const auto dmar_of = [](const AcpiOptions& options) {
        std::vector<u8> found;
        auto built = build_acpi(options);
        REQUIRE(built);
        for (const AcpiTable& table : *built)
            if (table.signature == "DMAR") found = table.content;
        return found;
    };
    AcpiOptions options;
    options.apic_ids = {0};
    CHECK(dmar_of(options).empty());
    options.dmar = DmarOptions{.host_address_bits = 39, .interrupt_remapping = true, .x2apic = false, .ioapic_id = 7, .ioapic_rid = 0xf0fa};
    const std::vector<u8> content = dmar_of(options);
    const std::vector<u8> expected = {38, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,             // width, flags
                                      0, 0, 24, 0, 1, 0, 0, 0,                          // DRHD, all of PCI
                                      0x00, 0x00, 0xd9, 0xfe, 0, 0, 0, 0,               // registers
                                      3, 8, 0, 0, 7, 0xf0, 0x1f, 2};                    // IOAPIC 7 at f0:1f.2
    REQUIRE(content.size() == 36 + expected.size());
    CHECK(std::vector<u8>(content.begin() + 36, content.end()) == expected);
}

TEST_CASE("acpi: a DSDT of one's own is checked before anything is built", "[machine][acpi]") {
    AcpiOptions options;
    options.apic_ids = {0};
    options.dsdt_name = "mine.aml";
    const auto good = tables_for(1);
    std::vector<u8> dsdt;
    for (const AcpiTable& table : good)
        if (table.signature == "DSDT") dsdt = table.content;
    options.dsdt = dsdt;
    CHECK(build_acpi(options));

    options.dsdt[9] ^= 1;
    auto wrong = build_acpi(options);
    REQUIRE(!wrong);
    CHECK(wrong.error().text.find("mine.aml: offset 9: wrong checksum") == 0);
    options.dsdt = dsdt;
    options.dsdt.pop_back();
    wrong = build_acpi(options);
    REQUIRE(!wrong);
    CHECK(wrong.error().text.find("offset 4") != std::string::npos);
    options.dsdt = dsdt;
    options.dsdt[0] = 'X';
    CHECK(!build_acpi(options));
    options.dsdt.resize(20);
    CHECK(!build_acpi(options));
}
