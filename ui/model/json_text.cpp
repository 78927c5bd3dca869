#include "ui/model/json_text.h"

#include <fmt/format.h>

#include <charconv>

namespace vg::model {
namespace {

/// How deep brackets nest outside strings. What is no JSON is found by the parser.
unsigned nesting(std::string_view text) {
    unsigned depth = 0, deepest = 0;
    bool in_string = false, escaped = false;
    for (const char c : text) {
        if (in_string) {
            if (escaped) escaped = false;
            else if (c == '\\') escaped = true;
            else if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            deepest = std::max(deepest, ++depth);
        } else if ((c == ']' || c == '}') && depth > 0) {
            --depth;
        }
    }
    return deepest;
}

int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
    if (nesting(text) > kMaxJsonDepth) {
        return fail(Error::Code::Usage, fmt::format("arrays and objects nest deeper than {}", kMaxJsonDepth));
    }
    Json value = Json::parse(text, nullptr, false);
    if (value.is_discarded()) return fail(Error::Code::Usage, "this is not JSON");
    return value;
}

std::string json_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }
std::string json_text(const Json& value) { return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

const Json& member(const Json& object, const char* key) {
    static const Json kNothing;
    if (!object.is_object()) return kNothing;
    const auto found = object.find(key);
    return found == object.end() ? kNothing : *found;
}

std::string hex(u64 value) { return fmt::format("0x{:x}", value); }

std::optional<u64> parse_number(std::string_view text) {
    const bool is_hex = text.substr(0, 2) == "0x";
    if (is_hex) text.remove_prefix(2);
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, is_hex ? 16 : 10);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string hex_bytes(std::string_view bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        out += kDigits[static_cast<u8>(c) >> 4];
        out += kDigits[static_cast<u8>(c) & 15];
    }
    return out;
}

std::optional<std::string> parse_hex_bytes(std::string_view text) {
    if (text.size() % 2 != 0) return std::nullopt;
    std::string out;
    out.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = digit(text[i]), low = digit(text[i + 1]);
        if (high < 0 || low < 0) return std::nullopt;
        out += static_cast<char>(high << 4 | low);
    }
    return out;
}

}  // namespace vg::model
