#include "ui/model/pcapng.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::model {

namespace {

constexpr u32 kSectionHeader = 0x0a0d0d0a, kInterfaceDescription = 1, kEnhancedPacket = 6;
constexpr u32 kByteOrderMagic = 0x1a2b3c4d;
constexpr u16 kEndOfOptions = 0, kComment = 1;
constexpr u16 kShbUserApplication = 4, kIfName = 2, kIfDescription = 3, kIfTimeResolution = 9, kIfTimeOffset = 14;
constexpr u16 kEpbFlags = 2;

template <class T>
void put(std::string& out, T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    out.append(bytes, sizeof value);
}

void pad(std::string& out) { out.resize(align_up(out.size(), 4)); }

void option(std::string& out, u16 code, std::string_view value) {
    value = value.substr(0, 0xffff);
    put<u16>(out, code);
    put<u16>(out, static_cast<u16>(value.size()));
    out += value;
    pad(out);
}

template <class T>
void option_value(std::string& out, u16 code, T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    option(out, code, {bytes, sizeof value});
}

/// Type and length around a body of 32-bit words.
std::string block(u32 type, const std::string& body) {
    VG_ASSERT(body.size() % 4 == 0);
    std::string out;
    const u32 length = static_cast<u32>(12 + body.size());
    put(out, type);
    put(out, length);
    out += body;
    put(out, length);
    return out;
}

}  // namespace

std::string Pcapng::begin(std::string_view application) {
    std::string body;
    put(body, kByteOrderMagic);
    put<u16>(body, 1);
    put<u16>(body, 0);
    put<s64>(body, -1);  // the section's length: unknown
    option(body, kShbUserApplication, application);
    option(body, kEndOfOptions, {});
    return block(kSectionHeader, body);
}

std::string Pcapng::interface(u16 link_type, std::string_view name, std::string_view description, s64 offset_seconds) {
    std::string body;
    put(body, link_type);
    put<u16>(body, 0);
    put<u32>(body, 0);  // no limit of captured bytes
    option(body, kIfName, name);
    option(body, kIfDescription, description);
    option_value<u8>(body, kIfTimeResolution, 9);
    option_value<s64>(body, kIfTimeOffset, offset_seconds);
    option(body, kEndOfOptions, {});
    return block(kInterfaceDescription, body);
}

std::string Pcapng::packet(u32 interface, u64 time_ns, std::span<const u8> head, std::span<const u8> body, u64 original,
                           bool outbound, std::string_view comment) {
    std::string out;
    const u64 captured = head.size() + body.size();
    VG_ASSERT(captured <= 0xffff'ffff);
    put(out, interface);
    put(out, static_cast<u32>(time_ns >> 32));
    put(out, static_cast<u32>(time_ns));
    put(out, static_cast<u32>(captured));
    put(out, static_cast<u32>(std::clamp<u64>(original, captured, 0xffff'ffff)));
    out.append(reinterpret_cast<const char*>(head.data()), head.size());
    out.append(reinterpret_cast<const char*>(body.data()), body.size());
    pad(out);
    option_value<u32>(out, kEpbFlags, outbound ? 2 : 1);
    if (!comment.empty()) option(out, kComment, comment);
    option(out, kEndOfOptions, {});
    return block(kEnhancedPacket, out);
}

}  // namespace vg::model
