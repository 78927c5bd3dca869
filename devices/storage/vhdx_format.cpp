#include "devices/storage/vhdx_format.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cctype>

#include "base/assert.h"

namespace vg::devices::vhdx {

namespace {

/// Tables for eight bytes at a time.
constexpr auto kCrcTables = [] {
    std::array<std::array<u32, 256>, 8> tables{};
    for (u32 i = 0; i < 256; ++i) {
        u32 crc = i;
        for (int step = 0; step < 8; ++step) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
        tables[0][i] = crc;
    }
    for (u32 i = 0; i < 256; ++i) {
        for (std::size_t t = 1; t < 8; ++t) tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 0xff];
    }
    return tables;
}();

constexpr std::array<std::size_t, 16> kTextOrder = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

}  // namespace

u32 crc32c(std::span<const u8> bytes, u32 crc) {
    crc = ~crc;
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
        const u64 word = load<u64>(bytes) ^ crc;
        crc = 0;
        for (std::size_t i = 0; i < 8; ++i) crc ^= kCrcTables[7 - i][word >> (8 * i) & 0xff];
    }
    for (const u8 byte : bytes) crc = crc >> 8 ^ kCrcTables[0][(crc ^ byte) & 0xff];
    return ~crc;
}

u32 checksum(std::span<const u8> bytes, std::size_t field) {
    static constexpr std::array<u8, 4> kZero{};
    return crc32c(bytes.subspan(field + 4), crc32c(kZero, crc32c(bytes.first(field))));
}

std::string to_string(const Guid& guid) {
    std::string out = "{";
    for (std::size_t i = 0; i < guid.size(); ++i) {
        out += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", guid[kTextOrder[i]]);
    }
    return out + "}";
}

std::optional<Guid> parse_guid(std::string_view text) {
    if (text.size() == 38 && text.front() == '{' && text.back() == '}') text = text.substr(1, 36);
    if (text.size() != 36) return std::nullopt;
    std::string lower(text);
    for (std::size_t i = 0; i < lower.size(); ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        const auto c = static_cast<unsigned char>(lower[i]);
        if (dash ? c != '-' : std::isxdigit(c) == 0) return std::nullopt;
        lower[i] = static_cast<char>(std::tolower(c));
    }
    return guid(lower);
}

Guid random_guid() {
    Guid out{};
    VG_ASSERT(::getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
    out[7] = static_cast<u8>((out[7] & 0x0f) | 0x40);  // RFC 4122 §4.4: random; the third group is stored reversed
    out[8] = static_cast<u8>((out[8] & 0x3f) | 0x80);
    return out;
}

}  // namespace vg::devices::vhdx
