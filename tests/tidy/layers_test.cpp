// Reads the sources and fails on an include that points up, on a third-party header outside its fence, and on a
// mutable global.
#include <catch2/catch.hpp>

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

/// Third-party headers with a fence: prefix, and the paths that may include them.
const std::vector<std::pair<std::string, std::vector<std::string>>> kFences = {
    {"xbyak/", {"jit/", "cpu/native_stub"}},
    {"imgui", {"ui/gui/"}},
    {"SDL", {"ui/gui/"}},
    {"toml++/", {"machine/config"}},
    {"CLI/", {"ui/cli/"}},
    {"Zydis/", {"tests/"}},
    {"capstone/", {"ui/", "tests/"}},
};

struct Source {
    std::string path;  // relative
    std::vector<std::string> lines;
};

std::vector<Source> sources() {
    std::vector<Source> found;
    for (const auto& [folder, allowed] : kMayInclude) {
        if (!fs::exists(kRoot / folder)) continue;
        for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
            const std::string extension = entry.path().extension();
            if (extension != ".cpp" && extension != ".h" && extension != ".def") continue;
            Source source{fs::relative(entry.path(), kRoot).string(), {}};
            std::ifstream in(entry.path());
            for (std::string line; std::getline(in, line);) source.lines.push_back(line);
            found.push_back(std::move(source));
        }
    }
    return found;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

/// What is wrong with one include line of one file, or "".
std::string check_include(const std::string& path, const std::string& header) {
    for (const auto& [prefix, places] : kFences) {
        if (header.rfind(prefix, 0) != 0) continue;
        for (const std::string& place : places)
            if (path.rfind(place, 0) == 0) return "";
        return path + " includes " + header + " outside its fence";
    }
    const std::string target = folder_of(header);
    const std::string own = folder_of(path);
    if (header.find('/') == std::string::npos || kMayInclude.count(target) == 0 || target == own) return "";
    if (kMayInclude.at(own).count(target) == 0) return path + " includes " + header + ": " + own + " may not include " + target;
    // The provider cores run in the built-in parent and inside guests: layouts and plain types only.
    return "";
}

}  // namespace

TEST_CASE("tidy: includes point down and third-party headers stay in their fences", "[tidy]") {
    const std::regex include(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
    std::size_t checked = 0;
    for (const Source& source : sources()) {
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
}
