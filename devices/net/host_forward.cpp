#include "devices/net/host_forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace vg::devices {

namespace {

constexpr u32 kLoopback = 0x7f000001;

std::optional<u32> number(std::string_view text, u32 most, int base = 10) {
    u32 value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (text.empty() || status != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
    return value;
}

/// Takes what is in front of the separator, or everything.
std::string_view take(std::string_view& text, char separator) {
    const auto at = text.find(separator);
    const std::string_view part = text.substr(0, at);
    text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
    return part;
}

std::optional<u32> ipv4(std::string_view text) {
    if (std::count(text.begin(), text.end(), '.') != 3) return std::nullopt;
    u32 address = 0;
    for (int i = 0; i < 4; ++i) {
        const auto byte = number(take(text, '.'), 255);
        if (!byte) return std::nullopt;
        address = address << 8 | *byte;
    }
    return address;
}

/// "ADDRESS:PORT", ":PORT" or "PORT".
bool end_point(std::string_view text, u32& address, u16& port) {
    const auto colon = text.rfind(':');
    if (colon != std::string_view::npos) {
        if (colon != 0) {
            const auto parsed = ipv4(text.substr(0, colon));
            if (!parsed) return false;
            address = *parsed;
        }
        text = text.substr(colon + 1);
    }
    const auto parsed = number(text, 0xffff);
    if (!parsed || *parsed == 0) return false;
    port = static_cast<u16>(*parsed);
    return true;
}

}  // namespace

Result<HostForward> parse_host_forward(std::string_view text) {
    HostForward forward;
    forward.host_address = kLoopback;
    std::string_view rest = text;
    const std::string_view protocol = take(rest, ':'), host = take(rest, '-');
    forward.udp = protocol == "udp";
    if ((protocol == "tcp" || protocol == "udp") && end_point(host, forward.host_address, forward.host_port) &&
        end_point(rest, forward.guest_address, forward.guest_port)) {
        return forward;
    }
    return fail(Error::Code::Usage, fmt::format("\"{}\" does not forward a port; write for example "
                                                "\"tcp:127.0.0.1:2222-10.0.2.15:22\" or \"tcp:2222-22\"",
                                                text));
}

Result<MacAddress> parse_mac_address(std::string_view text) {
    MacAddress address{};
    std::string_view rest = text;
    bool good = text.size() == 17;
    for (u8& byte : address) {
        const auto parsed = number(take(rest, ':'), 255, 16);
        good = good && parsed.has_value();
        byte = static_cast<u8>(parsed.value_or(0));
    }
    const bool zero = std::all_of(address.begin(), address.end(), [](u8 byte) { return byte == 0; });
    if (good && !zero && (address[0] & 1) == 0) return address;
    return fail(Error::Code::Usage, fmt::format("\"{}\" is not the address of one network card; write for example "
                                                "\"52:54:00:12:34:56\"",
                                                text));
}

}  // namespace vg::devices
