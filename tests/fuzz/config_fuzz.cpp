// Any text as a configuration file. What loads is shown as text that loads to the same configuration; a check of it ends.
#include <cstddef>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "machine/config.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    using namespace vg::machine;
    if (size > 16 * 1024) return 0;
    // A first line "KEY=VALUE" is an override as after -s; any other is part of the file.
    std::string_view text(reinterpret_cast<const char*>(data), size);
    std::vector<Override> overrides;
    const std::string_view first = text.substr(0, text.find('\n'));
    const std::size_t equals = first.find('=');
    if (equals != std::string_view::npos && equals + 1 < first.size() && first.front() != '[' && first.size() != text.size()) {
        overrides.emplace_back(first.substr(0, equals), first.substr(equals + 1));
        text.remove_prefix(first.size() + 1);
    }
    const auto config = parse_config(text, "fuzz.toml", "/fuzz", overrides);
    if (!config) {
        VG_ASSERT(!config.error().text.empty());
        return 0;
    }
    (void)check_config(*config);
    const std::string shown = show_config(*config);
    const auto again = parse_config(shown, "fuzz.toml", "/fuzz", {});
    VG_ASSERT(again.has_value());
    VG_ASSERT(show_config(*again) == shown);
    return 0;
}
