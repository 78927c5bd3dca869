#include "roms/parent/trace.h"

#include "hv/spec/msr.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {

/// M-08: the hypervisor knows the rate of the TSC, which began with the machine.
u64 now_ns(u64 tsc_hz) { return tsc_hz == 0 ? 0 : static_cast<u64>(u128{read_tsc()} * 1'000'000'000 / tsc_hz); }

void say(Area area, Level level, std::string_view line, u64 tsc_hz) {
    if (level > Level::Debug) return log_line(line);
    const u64 now = now_ns(tsc_hz);
    log("[{} {}] {}.{:09} parent: {}", to_string(area), to_string(level), now / 1'000'000'000, now % 1'000'000'000, line);
}

}  // namespace

Log make_log(std::string_view cmdline) {
    constexpr std::string_view kKey = "log=";
    const u64 tsc_hz = read_msr(hv::msr::TSC_FREQUENCY);
    Log made([tsc_hz](Area area, Level level, std::string_view line) { say(area, level, line, tsc_hz); });
    while (!cmdline.empty()) {
        const std::string_view word = cmdline.substr(0, cmdline.find(' '));
        cmdline.remove_prefix(word.size() == cmdline.size() ? word.size() : word.size() + 1);
        if (!word.starts_with(kKey)) continue;
        std::vector<std::pair<Area, Level>> levels;
        if (!parse_log_setting(word.substr(kKey.size()), levels)) log("parent: {}: there is no such area or level", word);
        for (const auto& [area, level] : levels) made.set_level(area, level);
    }
    return made;
}

}  // namespace vg::parent
