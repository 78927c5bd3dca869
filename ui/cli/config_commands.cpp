#include <cstdio>

#include "machine/config.h"
#include "ui/cli/commands.h"
#include "ui/cli/settings.h"

namespace vg::cli {

namespace {

Result<machine::Config> load(const std::string& file, const std::vector<std::string>& settings) {
    auto overrides = parse_settings(settings);
    if (!overrides) return Unexpected{overrides.error()};
    return machine::load_config(file, *overrides);
}

}  // namespace

Result<std::vector<machine::Override>> parse_settings(const std::vector<std::string>& settings) {
    std::vector<machine::Override> overrides;
    for (const std::string& text : settings) {
        const std::size_t equals = text.find('=');
        if (equals == std::string::npos || equals == 0) {
            return fail(Error::Code::Usage, "-s " + text + ": write KEY=VALUE, for example -s machine.memory='\"2 GiB\"'");
        }
        overrides.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
    return overrides;
}

int config_check(const std::string& file, const std::vector<std::string>& settings) {
    auto config = load(file, settings);
    if (!config) return report(config.error());
    if (auto ok = machine::check_config(*config); !ok) return report(ok.error());
    std::printf("%s: OK\n", file.c_str());
    return kPass;
}

int config_show(const std::string& file, const std::vector<std::string>& settings) {
    auto config = load(file, settings);
    if (!config) return report(config.error());
    std::fputs(machine::show_config(*config).c_str(), stdout);
    return kPass;
}

int config_schema() {
    std::fputs(machine::config_schema().c_str(), stdout);
    return kPass;
}

}  // namespace vg::cli
