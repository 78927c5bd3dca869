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

}  // namespace vg
