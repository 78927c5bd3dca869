#include "ui/model/keys.h"

#include <algorithm>
#include <cctype>

#include "hv/spec/input_devices.h"

namespace vg::model {

using hv::vsp::Keystroke;

namespace {

constexpr u8 kExtended = hv::keyboard::kE0;
constexpr u8 kLeftShift = 0x2a;

/// Scan codes of the keys that write characters, row by row.
struct Row {
    u8 first;
    std::string_view plain, shifted;
};
constexpr Row kRows[] = {{0x02, "1234567890-=", "!@#$%^&*()_+"},
                         {0x10, "qwertyuiop[]", "QWERTYUIOP{}"},
                         {0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
                         {0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"}};

struct Named {
    std::string_view name;
    u8 code, flags = 0;
};
constexpr Named kNamed[] = {{"esc", 0x01},
                            {"backspace", 0x0e},
                            {"tab", 0x0f},
                            {"enter", 0x1c},
                            {"ctrl", 0x1d},
                            {"shift", kLeftShift},
                            {"rshift", 0x36},
                            {"alt", 0x38},
                            {"space", 0x39},
                            {"capslock", 0x3a},
                            {"f1", 0x3b},
                            {"f2", 0x3c},
                            {"f3", 0x3d},
                            {"f4", 0x3e},
                            {"f5", 0x3f},
                            {"f6", 0x40},
                            {"f7", 0x41},
                            {"f8", 0x42},
                            {"f9", 0x43},
                            {"f10", 0x44},
                            {"f11", 0x57},
                            {"f12", 0x58},
                            {"numlock", 0x45},
                            {"scrolllock", 0x46},
                            {"rctrl", 0x1d, kExtended},
                            {"sysrq", 0x37, kExtended},
                            {"ralt", 0x38, kExtended},
                            {"home", 0x47, kExtended},
                            {"up", 0x48, kExtended},
                            {"pageup", 0x49, kExtended},
                            {"left", 0x4b, kExtended},
                            {"right", 0x4d, kExtended},
                            {"end", 0x4f, kExtended},
                            {"down", 0x50, kExtended},
                            {"pagedown", 0x51, kExtended},
                            {"insert", 0x52, kExtended},
                            {"delete", 0x53, kExtended},
                            {"meta", 0x5b, kExtended},
                            {"menu", 0x5d, kExtended}};

struct Written {
    u8 code;
    bool shift;
};

std::optional<Written> key_of(char c) {
    switch (c) {
        case '\n':
        case '\r':
            return Written{0x1c, false};
        case '\t':
            return Written{0x0f, false};
        case '\b':
        case '\x7f':
            return Written{0x0e, false};
        case '\x1b':
            return Written{0x01, false};
        case ' ':
            return Written{0x39, false};
        default:
            break;
    }
    for (const Row& row : kRows) {
        for (const bool shift : {false, true}) {
            const std::size_t at = (shift ? row.shifted : row.plain).find(c);
            if (at != std::string_view::npos) return Written{static_cast<u8>(row.first + at), shift};
        }
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::vector<Keystroke>> keys_of_text(std::string_view text) {
    std::vector<Keystroke> keys;
    for (const char c : text) {
        const auto key = key_of(c);
        if (!key) return std::nullopt;
        if (key->shift) keys.push_back({kLeftShift, 0});
        keys.push_back({key->code, 0});
        keys.push_back({key->code, hv::keyboard::kBreak});
        if (key->shift) keys.push_back({kLeftShift, hv::keyboard::kBreak});
    }
    return keys;
}

std::optional<std::vector<Keystroke>> keys_of_chord(std::string_view chord) {
    std::vector<Keystroke> down;
    while (true) {
        const std::size_t plus = chord.find('+', 1);  // "+" itself is a key
        std::string name(chord.substr(0, plus));
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const auto* const named = std::ranges::find(kNamed, name, &Named::name);
        const auto written = name.size() == 1 ? key_of(name[0]) : std::nullopt;
        if (named != std::end(kNamed)) {
            down.push_back({named->code, named->flags});
        } else if (written) {
            if (written->shift) down.push_back({kLeftShift, 0});
            down.push_back({written->code, 0});
        } else {
            return std::nullopt;
        }
        if (plus == std::string_view::npos) break;
        chord.remove_prefix(plus + 1);
        if (chord.empty()) return std::nullopt;
    }
    std::vector<Keystroke> keys = down;
    for (auto key = down.rbegin(); key != down.rend(); ++key)
        keys.push_back({key->code, static_cast<u8>(key->flags | hv::keyboard::kBreak)});
    return keys;
}

std::vector<std::string> key_names() {
    std::vector<std::string> names;
    for (const Named& each : kNamed) names.emplace_back(each.name);
    return names;
}

}  // namespace vg::model
