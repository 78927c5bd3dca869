// Reads the sources and fails on an include that points up, on a third-party header outside its fence, and on a
// mutable global.
#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = VG_SOURCE_DIR;

/// architecture.md §1: what a folder may include, itself left out.
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"base", {}},
    {"mmu", {"base"}},
    {"cpu", {"base", "mmu"}},
    {"jit", {"base", "mmu", "cpu"}},
    {"devices", {"base", "mmu"}},
    {"iommu", {"base", "mmu", "devices"}},
    {"hv", {"base", "mmu", "cpu", "devices"}},
    {"machine", {"base", "mmu", "cpu", "jit", "devices", "iommu", "hv"}},
    {"ui", {"base", "mmu", "cpu", "jit", "devices", "iommu", "hv", "machine"}},
};

/// The provider cores run in the built-in parent and inside guests: layouts and plain types only.
const std::string kProviderCores = "hv/vsp/";
const std::vector<std::string> kProviderCoresMayInclude = {"hv/vsp/", "hv/spec/", "base/"};

/// The parent partition's system runs inside a guest: what it compiles again knows no host, no engine, no machine.
const std::string kGuestSystem = "roms/parent/";
const std::vector<std::string> kGuestSystemMayInclude = {
    "roms/parent/", "roms/vmm/mmio.h", "base/", "devices/", "hv/spec/", "hv/hypercalls.def", "hv/vmbus/", "hv/vsp/",
    "hv/parent/storage_controller.h", "machine/acpi_tables.h", "machine/guest_memory.h", "machine/layout.h", "machine/loader.h",
    "machine/loader_spec.h"};

/// Third-party headers with a fence: prefix, and the paths that may include them.
const std::vector<std::pair<std::string, std::vector<std::string>>> kFences = {
    {"xbyak/", {"jit/", "cpu/native_stub", "tests/machine/parallel_test"}},
    {"imgui", {"ui/gui/", "tests/gui/"}},
    {"SDL", {"ui/gui/", "tests/gui/"}},
    {"png.h", {"ui/gui/", "ui/model/png"}},
    {"toml++/", {"machine/config"}},
    {"CLI/", {"ui/cli/"}},
    {"slirp/", {"devices/net/user_network"}},
    {"pcap/", {"devices/net/pcap_file", "devices/net/pcap_frames", "tests/devices/network_test"}},
    {"Zydis/", {"tests/"}},
    {"capstone/", {"ui/", "tests/"}},
    {"elfutils/", {"ui/model/elf_symbols"}},
    {"gelf.h", {"ui/model/elf_symbols"}},
    {"unicorn/", {"tests/oracle/"}},
    {"catch2/", {"tests/"}},
};

struct Source {
    std::string path;  // relative
    std::vector<std::string> lines;
};

void add_sources(const std::string& folder, std::vector<Source>& found) {
    if (!fs::exists(kRoot / folder)) return;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
        const std::string extension = entry.path().extension();
        if (extension != ".cpp" && extension != ".h" && extension != ".def") continue;
        Source source{fs::relative(entry.path(), kRoot).string(), {}};
        std::ifstream in(entry.path());
        for (std::string line; std::getline(in, line);) source.lines.push_back(line);
        found.push_back(std::move(source));
    }
}

std::vector<Source> sources() {
    std::vector<Source> found;
    for (const auto& [folder, allowed] : kMayInclude) add_sources(folder, found);
    add_sources("roms/parent", found);
    return found;
}

/// Tests may include every layer; the fences hold for them too.
std::vector<Source> sources_and_tests() {
    std::vector<Source> found = sources();
    add_sources("tests", found);
    add_sources("roms/vmm", found);
    return found;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }
bool starts_with_any(const std::string& text, const std::vector<std::string>& prefixes) {
    return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return text.rfind(p, 0) == 0; });
}

/// What is wrong with one include line of one file, or "".
std::string check_include(const std::string& path, const std::string& header) {
    for (const auto& [prefix, places] : kFences)
        if (header.rfind(prefix, 0) == 0)
            return starts_with_any(path, places) ? "" : path + " includes " + header + " outside its fence";
    if (path.rfind(kGuestSystem, 0) == 0) {
        const bool allowed = header.find('/') == std::string::npos || header.rfind("fmt/", 0) == 0 ||
                             starts_with_any(header, kGuestSystemMayInclude);
        return allowed ? "" : path + " includes " + header + ": the guest's system may not";
    }
    const std::string target = folder_of(header);
    const std::string own = folder_of(path);
    if (header.find('/') == std::string::npos || kMayInclude.count(target) == 0 || kMayInclude.count(own) == 0) return "";
    if (path.rfind(kProviderCores, 0) == 0 && !starts_with_any(header, kProviderCoresMayInclude))
        return path + " includes " + header + ": a provider core may include layouts and plain types only";
    if (target == own || kMayInclude.at(own).count(target) != 0) return "";
    return path + " includes " + header + ": " + own + " may not include " + target;
}

}  // namespace

TEST_CASE("tidy: includes point down and third-party headers stay in their fences", "[tidy]") {
    const std::regex include(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
    std::size_t checked = 0;
    for (const Source& source : sources_and_tests()) {
        for (const std::string& line : source.lines) {
            std::smatch match;
            if (!std::regex_search(line, match, include)) continue;
            const std::string problem = check_include(source.path, match[1]);
            INFO(problem);
            CHECK(problem.empty());
            ++checked;
        }
    }
    CHECK(checked > 100);
}

TEST_CASE("tidy: the include rules reject what they should", "[tidy]") {
    CHECK(!check_include("mmu/walk.cpp", "cpu/vp.h").empty());
    CHECK(!check_include("devices/ioapic.cpp", "hv/partition.h").empty());
    CHECK(!check_include("hv/vp.cpp", "machine/machine.h").empty());
    CHECK(!check_include("hv/vp.cpp", "xbyak/xbyak.h").empty());
    CHECK(!check_include("cpu/interp.cpp", "unicorn/unicorn.h").empty());
    CHECK(!check_include("tests/jit/engine_test.cpp", "unicorn/unicorn.h").empty());
    CHECK(!check_include("hv/vsp/storage.cpp", "hv/partition.h").empty());
    CHECK(!check_include("hv/vsp/storage.cpp", "mmu/dma.h").empty());
    CHECK(!check_include("roms/parent/child.cpp", "hv/partition.h").empty());
    CHECK(!check_include("roms/parent/child.cpp", "machine/machine.h").empty());
    CHECK(!check_include("roms/parent/child.cpp", "cpu/vp.h").empty());
    CHECK(check_include("roms/parent/child.cpp", "hv/spec/partition.h").empty());
    CHECK(check_include("tests/oracle/unicorn_cpu.h", "unicorn/unicorn.h").empty());
    CHECK(check_include("tests/hv/vp_test.cpp", "machine/machine.h").empty());
    CHECK(check_include("hv/vsp/storage.cpp", "hv/spec/storvsc.h").empty());
    CHECK(check_include("cpu/native_stub.cpp", "xbyak/xbyak.h").empty());
    CHECK(check_include("hv/vp.cpp", "cpu/vp.h").empty());
}

TEST_CASE("tidy: no mutable globals", "[tidy]") {
    // A line at namespace scope (not indented) that defines an object which is not constant.
    const std::regex definition(R"(^(static |inline |thread_local |volatile )*[A-Za-z_][A-Za-z0-9_:<>,\s\*&]*\s[A-Za-z_][A-Za-z0-9_]*(\[[^\]]*\])*\s*(=[^=].*|\{.*\})?;)");
    const std::regex harmless(
        R"(\b(const|constexpr|constinit const|using|typedef|return|namespace|extern|friend|class|struct|enum|union|template|goto|delete|operator|static_assert|public|private|case)\b|\()");
    for (const Source& source : sources()) {
        if (source.path.find(".def") != std::string::npos) continue;
        for (const std::string& line : source.lines) {
            if (line.find("// tidy:") != std::string::npos) continue;
            if (!std::regex_search(line, definition) || std::regex_search(line, harmless)) continue;
            FAIL_CHECK(source.path << " has a mutable global: " << line);
        }
    }
    CHECK(std::regex_search("int counter = 0;", definition));
    CHECK(!std::regex_search("int counter = 0;", harmless));
}

TEST_CASE("tidy: every folder says what it is for", "[tidy]") {
    for (const auto& [folder, allowed] : kMayInclude) {
        INFO(folder);
        CHECK(fs::exists(kRoot / folder / "README.md"));
    }
    CHECK(fs::exists(kRoot / kGuestSystem / "README.md"));
}
