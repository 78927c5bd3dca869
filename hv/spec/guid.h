// GUIDs in wire order: the first three fields little-endian, the last eight bytes as written.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/types.h"

namespace vg::hv {

using Guid = std::array<u8, 16>;

namespace detail {
/// Where the n-th pair of hexadecimal digits of a GUID's text form goes on the wire.
inline constexpr std::array<u8, 16> kGuidWireIndex = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

constexpr u8 hex_digit(char c) {
    if (c >= '0' && c <= '9') return static_cast<u8>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<u8>(c - 'a' + 10);
    if (c >= 'A' && c <= 'F') return static_cast<u8>(c - 'A' + 10);
    return 0xff;
}
}  // namespace detail

/// Parses "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f". False if it is not 32 digits in that shape.
constexpr bool parse_guid(std::string_view text, Guid& out) {
    if (text.size() != 36) return false;
    std::size_t pair = 0;
    for (std::size_t i = 0; i < text.size();) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i++] != '-') return false;
            continue;
        }
        const u8 high = detail::hex_digit(text[i]);
        const u8 low = detail::hex_digit(text[i + 1]);
        if (high > 15 || low > 15) return false;
        out[detail::kGuidWireIndex[pair++]] = static_cast<u8>(high << 4 | low);
        i += 2;
    }
    return true;
}

namespace detail {
void malformed_guid();  // not constexpr, and nowhere defined
}

/// A GUID known at compile time; a malformed one does not compile.
consteval Guid guid(std::string_view text) {
    Guid result{};
    if (!parse_guid(text, result)) detail::malformed_guid();
    return result;
}

inline std::string to_string(const Guid& id) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (std::size_t pair = 0; pair < id.size(); ++pair) {
        if (pair == 4 || pair == 6 || pair == 8 || pair == 10) text += '-';
        const u8 byte = id[detail::kGuidWireIndex[pair]];
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

// Class GUIDs of synthetic devices (D-01..D-14).
inline constexpr Guid kScsiControllerClass = guid("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
inline constexpr Guid kIdeAcceleratorClass = guid("32412632-86cb-44a2-9b5c-50d1417354f5");
inline constexpr Guid kNetworkClass = guid("f8615163-df3e-46c5-913f-f2d2f965ed0e");
inline constexpr Guid kKeyboardClass = guid("f912ad6d-2b17-48ea-bd65-f927a61c7684");
inline constexpr Guid kMouseClass = guid("cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a");
inline constexpr Guid kVideoClass = guid("da0a7802-e377-4aac-8e77-0558eb1073f8");
inline constexpr Guid kHeartbeatClass = guid("57164f39-9115-4e78-ab55-382f3bd5422d");
inline constexpr Guid kShutdownClass = guid("0e0b6031-5213-4934-818b-38d90ced39db");
inline constexpr Guid kTimeSyncClass = guid("9527e630-d0ae-497b-adce-e80ab0175caf");
inline constexpr Guid kKvpClass = guid("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6");
inline constexpr Guid kVssClass = guid("35fa2e29-ea23-4236-96ae-3a6ebacba440");
inline constexpr Guid kDynamicMemoryClass = guid("525074dc-8985-46e2-8057-a307dc18a502");

}  // namespace vg::hv
