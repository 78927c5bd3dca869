#include "base/log.h"

namespace vg {

std::string_view to_string(Area area) {
    constexpr std::string_view kNames[] = {"base",  "cpu", "mmu",   "jit", "devices", "storage",
                                           "iommu", "hv",  "vmbus", "vsp", "machine", "ui"};
    static_assert(std::size(kNames) == static_cast<unsigned>(Area::Count));
    return kNames[static_cast<unsigned>(area)];
}

std::string_view to_string(Level level) {
    constexpr std::string_view kNames[] = {"trace", "debug", "info", "warn", "error", "off"};
    return kNames[static_cast<unsigned>(level)];
}

bool parse_log_setting(std::string_view text, std::vector<std::pair<Area, Level>>& levels) {
    const std::size_t equals = text.find('=');
    const std::string_view area = text.substr(0, equals);
    const std::string_view name = equals == std::string_view::npos ? "debug" : text.substr(equals + 1);
    for (unsigned level = 0; level <= static_cast<unsigned>(Level::Off); ++level) {
        if (to_string(static_cast<Level>(level)) != name) continue;
        const std::size_t before = levels.size();
        for (unsigned i = 0; i < static_cast<unsigned>(Area::Count); ++i) {
            if (area != "all" && area != to_string(static_cast<Area>(i))) continue;
            levels.emplace_back(static_cast<Area>(i), static_cast<Level>(level));
        }
        return levels.size() != before;
    }
    return false;
}

}  // namespace vg
