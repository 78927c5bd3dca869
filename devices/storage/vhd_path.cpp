#include "devices/storage/vhd_path.h"

#include <fmt/format.h>

#include <algorithm>

namespace vg::devices::vhd {

namespace {

void append_utf8(std::string& out, u32 code) {
    if (code < 0x80) {
        out.push_back(static_cast<char>(code));
    } else if (code < 0x800) {
        out.push_back(static_cast<char>(0xc0 | code >> 6));
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        out.push_back(static_cast<char>(0xe0 | code >> 12));
        out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    } else {
        out.push_back(static_cast<char>(0xf0 | code >> 18));
        out.push_back(static_cast<char>(0x80 | (code >> 12 & 0x3f)));
        out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    }
}

/// Decodes one code point at `at` and advances; false if the bytes are not the shortest form of a scalar value.
bool next_code(std::string_view text, std::size_t& at, u32& code) {
    const u8 lead = static_cast<u8>(text[at++]);
    if (lead < 0x80) {
        code = lead;
        return true;
    }
    const unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - at < more) return false;
    code = lead & (0x3fu >> more);
    for (unsigned i = 0; i < more; ++i) {
        const u8 byte = static_cast<u8>(text[at++]);
        if ((byte & 0xc0) != 0x80) return false;
        code = code << 6 | (byte & 0x3f);
    }
    constexpr u32 kSmallest[] = {0, 0x80, 0x800, 0x10000};
    return code >= kSmallest[more] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

std::string decode_locator(Platform platform, std::span<const u8> bytes) {
    if (platform == Platform::AnsiRelative || platform == Platform::AnsiAbsolute) {
        const auto end = std::find(bytes.begin(), bytes.end(), u8{0});
        return {bytes.begin(), end};
    }
    std::vector<u16> units;
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
        units.push_back(static_cast<u16>(bytes[i] | bytes[i + 1] << 8));
    }
    return to_utf8(units);
}

}  // namespace

Result<std::vector<u16>> to_utf16(std::string_view text) {
    std::vector<u16> out;
    for (std::size_t at = 0; at < text.size();) {
        u32 code = 0;
        if (!next_code(text, at, code)) {
            return fail(Error::Code::Usage, fmt::format("{}: the name is not UTF-8; rename the file", text));
        }
        if (code >= 0x10000) {
            out.push_back(static_cast<u16>(0xd800 + ((code - 0x10000) >> 10)));
            out.push_back(static_cast<u16>(0xdc00 + ((code - 0x10000) & 0x3ff)));
        } else {
            out.push_back(static_cast<u16>(code));
        }
    }
    return out;
}

std::string to_utf8(std::span<const u16> units) {
    std::string out;
    for (std::size_t i = 0; i < units.size() && units[i] != 0; ++i) {
        u32 code = units[i];
        if (code >= 0xd800 && code <= 0xdfff) {
            const bool pair = code < 0xdc00 && i + 1 < units.size() && units[i + 1] >= 0xdc00 && units[i + 1] <= 0xdfff;
            code = pair ? 0x10000 + ((code - 0xd800) << 10) + (units[i + 1] - 0xdc00u) : 0xfffd;
            if (pair) ++i;
        }
        append_utf8(out, code);
    }
    return out;
}

std::string to_windows(const std::string& relative_path) {
    std::string out = relative_path.starts_with("../") ? relative_path : "./" + relative_path;
    std::replace(out.begin(), out.end(), '/', '\\');
    return out;
}

std::string from_windows(const std::string& path) {
    std::string out = path;
    std::replace(out.begin(), out.end(), '\\', '/');
    const bool foreign = (out.size() > 1 && out[1] == ':') || out.starts_with("//");
    if (foreign) return out.substr(out.find_last_of("/:") + 1);
    while (out.starts_with("./")) out.erase(0, 2);
    return out;
}

Result<std::vector<std::string>> parent_candidates(BlockFile& file, const Layout& layout) {
    std::vector<std::string> out;
    const auto add = [&](const std::string& path) {
        const std::string local = from_windows(path);
        if (!local.empty() && std::find(out.begin(), out.end(), local) == out.end()) out.push_back(local);
    };
    static constexpr Platform kOrder[] = {Platform::Utf16Relative, Platform::AnsiRelative, Platform::Utf16Absolute,
                                          Platform::AnsiAbsolute};
    for (const Platform wanted : kOrder) {
        for (const Locator& locator : layout.header.locators) {
            if (locator.platform != wanted || locator.data_length == 0) continue;
            std::vector<u8> bytes(locator.data_length);
            if (auto done = file.read(locator.data_offset, bytes); !done) return Unexpected{done.error()};
            add(decode_locator(wanted, bytes));
        }
    }
    add(to_utf8(layout.header.parent_name));
    return out;
}

}  // namespace vg::devices::vhd
