// `--log AREA=LEVEL` and where lines of the log go.
#include <fmt/format.h>

#include <cstdio>

#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

/// The names of an enumeration's values before `end`, in order.
template <class Enum>
std::vector<std::string> names_before(unsigned end) {
    std::vector<std::string> names;
    for (unsigned i = 0; i < end; ++i) names.emplace_back(to_string(static_cast<Enum>(i)));
    return names;
}

}  // namespace

Result<std::vector<std::pair<Area, Level>>> parse_log_options(const std::vector<std::string>& settings) {
    std::vector<std::pair<Area, Level>> parsed;
    for (const std::string& text : settings) {
        if (parse_log_setting(text, parsed)) continue;
        return fail(Error::Code::Usage,
                    fmt::format("--log {}: write AREA=LEVEL with an area of {} all and a level of {}", text,
                                fmt::join(names_before<Area>(static_cast<unsigned>(Area::Count)), " "),
                                fmt::join(names_before<Level>(static_cast<unsigned>(Level::Off) + 1), " ")));
    }
    return parsed;
}

void print_log_line(Area area, Level level, std::string_view line) {
    std::fprintf(stderr, "[%s %s] %s\n", std::string(to_string(area)).c_str(), std::string(to_string(level)).c_str(),
                 printable(line).c_str());
}

}  // namespace vg::cli
