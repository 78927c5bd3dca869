#include "ui/model/desk/json_read.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/utf8.h"

namespace vg::desk {

namespace {

const Json kNull;

/// The code point that starts here in valid UTF-8, and its length.
std::pair<u32, std::size_t> decode(std::string_view text) {
    const auto at = [&](std::size_t i) { return static_cast<u32>(static_cast<unsigned char>(text[i])); };
    const u32 first = at(0);
    if (first < 0x80) return {first, 1};
    if (first < 0xe0) return {(first & 0x1f) << 6 | (at(1) & 0x3f), 2};
    if (first < 0xf0) return {(first & 0xf) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f), 3};
    return {(first & 7) << 18 | (at(1) & 0x3f) << 12 | (at(2) & 0x3f) << 6 | (at(3) & 0x3f), 4};
}

/// Controls, separators, direction marks, zero widths: what a guest could use to make a panel lie.
bool deceives(u32 c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff0 && c < 0xfffd) || c == 0xad || c >= 0xe0000;
}

}  // namespace

const Json& member(const Json& object, std::string_view key) {
    if (!object.is_object()) return kNull;
    const auto found = object.find(std::string(key));
    return found == object.end() ? kNull : *found;
}

std::optional<u64> parse_number(std::string_view text, bool hexadecimal) {
    int base = hexadecimal ? 16 : 10;
    if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        text.remove_prefix(2);
        base = 16;
    }
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
    return value;
}

u64 number_of(const Json& value, u64 otherwise) {
    if (value.is_number_unsigned()) return value.get<u64>();
    if (value.is_number_integer()) return value.get<s64>() < 0 ? otherwise : static_cast<u64>(value.get<s64>());
    if (value.is_number_float()) {
        const double number = value.get<double>();
        return number >= 0 && number < 1.8e19 ? static_cast<u64>(number) : otherwise;
    }
    if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
    if (!value.is_string()) return otherwise;
    return parse_number(value.get_ref<const std::string&>(), false).value_or(otherwise);
}
u64 number(const Json& object, std::string_view key, u64 otherwise) {
    return number_of(member(object, key), otherwise);
}
bool has_number(const Json& object, std::string_view key) {
    return number_of(member(object, key), 0) == number_of(member(object, key), 1);
}

bool truth(const Json& object, std::string_view key, bool otherwise) {
    const Json& value = member(object, key);
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_string()) return value.get_ref<const std::string&>() == "true";
    return value.is_number() ? number_of(value) != 0 : otherwise;
}

std::string words_of(const Json& value, std::size_t limit) {
    if (value.is_string()) return shown(value.get_ref<const std::string&>(), limit);
    if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
    if (value.is_number_unsigned()) return std::to_string(value.get<u64>());
    if (value.is_number_integer()) return std::to_string(value.get<s64>());
    if (value.is_number_float()) return fmt::format("{}", value.get<double>());
    return "";
}
std::string words(const Json& object, std::string_view key, std::size_t limit) {
    return words_of(member(object, key), limit);
}

std::vector<const Json*> items(const Json& list, std::size_t limit) {
    std::vector<const Json*> found;
    if (!list.is_array()) return found;
    found.reserve(std::min(limit, list.size()));
    for (const Json& item : list) {
        if (found.size() >= limit) break;
        found.push_back(&item);
    }
    return found;
}

std::string shown(std::string_view text, std::size_t limit) {
    std::string result;
    result.reserve(std::min(text.size(), limit + 4));
    std::size_t valid = utf8_prefix(text.substr(0, limit + 8));
    std::size_t at = 0;
    const auto escape = [&](unsigned char byte) { result += fmt::format("\\x{:02x}", byte); };
    while (at < text.size()) {
        if (result.size() >= limit) return result + "\u2026";
        if (at >= valid) {  // not UTF-8 here: one byte as an escape, and look again
            escape(static_cast<unsigned char>(text[at++]));
            valid = at + utf8_prefix(text.substr(at, limit + 8));
            continue;
        }
        const auto [point, length] = decode(text.substr(at));
        if (!deceives(point))
            result += text.substr(at, length);
        else if (point == '\t')
            result += ' ';
        else if (point < 0x100)
            escape(static_cast<unsigned char>(point));
        else
            result += fmt::format("\\u{:04x}", point);
        at += length;
    }
    return result;
}

std::vector<int> parse_hex(std::string_view text, std::size_t limit) {
    std::vector<int> bytes;
    const auto digit = [](char c) {
        return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    };
    for (std::size_t at = 0; at + 1 < text.size() && bytes.size() < limit; at += 2) {
        while (at + 1 < text.size() && text[at] == ' ') ++at;
        if (at + 1 >= text.size()) break;
        const int high = digit(text[at]), low = digit(text[at + 1]);
        if (text[at] == '?' && text[at + 1] == '?')
            bytes.push_back(-1);
        else if (high < 0 || low < 0)
            break;
        else
            bytes.push_back(high << 4 | low);
    }
    return bytes;
}

std::string hex(u64 value) { return fmt::format("{:#x}", value); }

}  // namespace vg::desk
