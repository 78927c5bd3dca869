#include "machine/guest_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "hv/spec/ic.h"
#include "machine/recording_file.h"

namespace vg::machine {

namespace ic = hv::ic;

namespace {

constexpr u64 kFormat = 1;

/// UTF-16, little endian, with its end. False: it does not fit. What is no UTF-8 becomes U+FFFD.
bool put_utf16(std::span<u8> out, std::string_view text, u32* bytes = nullptr) {
    std::size_t at = 0;
    const auto put = [&](u32 unit) {
        if (at + 4 > out.size()) return false;  // the end comes behind it
        out[at++] = static_cast<u8>(unit);
        out[at++] = static_cast<u8>(unit >> 8);
        return true;
    };
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = static_cast<u8>(text[i]);
        const std::size_t size = byte < 0x80                   ? 1
                                 : byte >= 0xc2 && byte < 0xe0 ? 2
                                 : byte >= 0xe0 && byte < 0xf0 ? 3
                                 : byte >= 0xf0 && byte < 0xf5 ? 4
                                                               : 0;
        u32 code = size == 1 ? byte : byte & (0x7fu >> size);
        bool good = size != 0 && i + size <= text.size();
        for (std::size_t k = 1; good && k < size; ++k) {
            const auto next = static_cast<u8>(text[i + k]);
            good = (next & 0xc0) == 0x80;
            code = code << 6 | (next & 0x3f);
        }
        if (!good || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) code = 0xfffd;
        i += good ? size : 1;
        if (code < 0x10000) {
            if (!put(code)) return false;
        } else if (!put(0xd800 + ((code - 0x10000) >> 10)) || !put(0xdc00 + (code & 0x3ff))) {
            return false;
        }
    }
    if (bytes != nullptr) *bytes = static_cast<u32>(at + 2);
    return true;
}

/// Up to a NUL or the end.
std::string from_utf16(std::span<const u8> in) {
    std::string text;
    const auto unit = [&](std::size_t at) { return static_cast<u32>(in[at] | in[at + 1] << 8); };
    for (std::size_t at = 0; at + 2 <= in.size(); at += 2) {
        u32 code = unit(at);
        if (code == 0) break;
        if (code >= 0xd800 && code < 0xdc00 && at + 4 <= in.size() && (unit(at + 2) & 0xfc00) == 0xdc00) {
            code = 0x10000 + ((code & 0x3ff) << 10) + (unit(at + 2) & 0x3ff);
            at += 2;
        } else if (code >= 0xd800 && code < 0xe000) {
            code = 0xfffd;
        }
        if (code < 0x80) {
            text += static_cast<char>(code);
        } else {
            const unsigned more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
            text += static_cast<char>((more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0) | code >> (6 * more));
            for (unsigned k = more; k-- != 0;) text += static_cast<char>(0x80 | (code >> (6 * k) & 0x3f));
        }
    }
    return text;
}

template <class Message>
std::vector<u8> bytes_of(const Message& message) {
    const auto* begin = reinterpret_cast<const u8*>(&message);
    return {begin, begin + sizeof message};
}

/// The whole struct, zero where the body ends early.
template <class Message>
Message message_of(std::span<const u8> body) {
    Message message{};
    if (!body.empty()) std::memcpy(&message, body.data(), std::min(body.size(), sizeof message));
    return message;
}

bool put_value(ic::KvpValue& out, const GuestCommand& command, bool value) {
    out.type = command.value_type;
    u32 key_bytes = 0, value_bytes = 0;
    if (!put_utf16(out.key, command.key, &key_bytes)) return false;
    out.key_bytes = key_bytes;
    if (!value) {
        out.type = ic::kRegSz;
        return true;
    }
    if (command.value_type == ic::kRegSz) {
        if (!put_utf16(out.value, command.value, &value_bytes)) return false;
    } else {
        u64 number = 0;
        const char* const end = command.value.data() + command.value.size();
        const auto [stop, error] = std::from_chars(command.value.data(), end, number);
        value_bytes = command.value_type == ic::kRegU32 ? 4 : 8;
        if (error != std::errc() || stop != end || (value_bytes == 4 && number >> 32 != 0)) return false;
        std::memcpy(out.value, &number, value_bytes);
    }
    out.value_bytes = value_bytes;
    return true;
}

std::vector<u8> kvp_body(const GuestCommand& command) {
    using Kind = GuestCommand::Kind;
    const auto header = [&](ic::KvpOperation operation) {
        return ic::KvpHeader{static_cast<u8>(operation), static_cast<u8>(command.pool), 0};
    };
    switch (command.kind) {
        case Kind::KvpGet:
        case Kind::KvpSet: {
            const bool set = command.kind == Kind::KvpSet;
            ic::KvpExchange message{header(set ? ic::KvpOperation::Set : ic::KvpOperation::Get), {}};
            ic::KvpValue data{};
            if (!put_value(data, command, set)) return {};
            message.data = data;
            return bytes_of(message);
        }
        case Kind::KvpDelete: {
            ic::KvpDelete message{header(ic::KvpOperation::Delete), 0, {}};
            u32 bytes = 0;
            if (!put_utf16(message.key, command.key, &bytes)) return {};
            message.key_bytes = bytes;
            return bytes_of(message);
        }
        default:
            return bytes_of(ic::KvpEnumerate{header(ic::KvpOperation::Enumerate), command.index, {}});
    }
}

std::vector<u8> ip_body(const GuestCommand& command) {
    const bool set = command.kind == GuestCommand::Kind::IpSet;
    ic::KvpIp message{};
    message.operation = static_cast<u8>(set ? ic::KvpOperation::SetIp : ic::KvpOperation::GetIp);
    const bool v6 = command.ip.addresses.find(':') != std::string::npos;
    const bool v4 = command.ip.addresses.find('.') != std::string::npos;
    message.family = static_cast<u8>((v6 ? ic::kFamilyIpv6 : 0) | (v4 || !v6 ? ic::kFamilyIpv4 : 0));
    message.dhcp = command.ip.dhcp ? 1 : 0;
    if (!put_utf16(message.adapter, command.ip.adapter)) return {};
    if (set && (!put_utf16(message.addresses, command.ip.addresses) ||
                !put_utf16(message.subnets, command.ip.subnets) || !put_utf16(message.gateways, command.ip.gateways) ||
                !put_utf16(message.name_servers, command.ip.name_servers))) {
        return {};
    }
    return bytes_of(message);
}

}  // namespace

std::vector<u8> encode_command(const GuestCommand& command) {
    ByteWriter out;
    out.number(kFormat);
    out.number(static_cast<u64>(command.kind));
    out.number((command.force ? 1u : 0u) | (command.ip.dhcp ? 2u : 0u));
    for (const u64 number : {u64{command.pool}, u64{command.index}, u64{command.value_type}, command.bytes})
        out.number(number);
    for (const std::string* text : {&command.key, &command.value, &command.ip.adapter, &command.ip.addresses,
                                    &command.ip.subnets, &command.ip.gateways, &command.ip.name_servers}) {
        out.text(std::string_view(*text).substr(0, kMaxCommandText));
    }
    const std::size_t keys = std::min<std::size_t>(command.keys.size(), hv::vsp::Keyboard::kMaxQueued);
    out.number(keys);
    for (std::size_t i = 0; i < keys; ++i) {
        const u8 key[] = {command.keys[i].code, command.keys[i].flags};
        out.bytes(key);
    }
    for (const u64 number : {u64{command.mouse.buttons}, u64{command.mouse.x}, u64{command.mouse.y},
                             u64{static_cast<u16>(command.mouse.wheel)}}) {
        out.number(number);
    }
    return out.data();
}

std::optional<GuestCommand> decode_command(std::span<const u8> bytes) {
    ByteReader in(bytes);
    GuestCommand command;
    if (in.number() != kFormat) return std::nullopt;
    const auto narrow = [&](auto& out, u64 limit) {
        const u64 value = in.number();
        if (value > limit) in.fail();
        out = static_cast<std::remove_reference_t<decltype(out)>>(value);
    };
    narrow(command.kind, static_cast<u64>(GuestCommand::Kind::Mouse));
    u8 flags = 0;
    narrow(flags, 3);
    command.force = (flags & 1) != 0;
    command.ip.dhcp = (flags & 2) != 0;
    narrow(command.pool, 0xff);
    narrow(command.index, 0xffff'ffff);
    narrow(command.value_type, 0xffff'ffff);
    command.bytes = in.number();
    for (std::string* text : {&command.key, &command.value, &command.ip.adapter, &command.ip.addresses,
                              &command.ip.subnets, &command.ip.gateways, &command.ip.name_servers}) {
        *text = in.text(kMaxCommandText);
    }
    u32 keys = 0;
    narrow(keys, hv::vsp::Keyboard::kMaxQueued);
    const auto raw = in.bytes(u64{keys} * 2);
    for (std::size_t at = 0; at + 1 < raw.size(); at += 2) command.keys.push_back({raw[at], raw[at + 1]});
    narrow(command.mouse.buttons, 0xff);
    narrow(command.mouse.x, 0xffff);
    narrow(command.mouse.y, 0xffff);
    u16 wheel = 0;
    narrow(wheel, 0xffff);
    command.mouse.wheel = static_cast<s16>(wheel);
    if (in.failed() || !in.done() || command.kind < GuestCommand::Kind::Shutdown) return std::nullopt;
    return command;
}

std::vector<u8> command_body(const GuestCommand& command) {
    using Kind = GuestCommand::Kind;
    switch (command.kind) {
        case Kind::Shutdown:
        case Kind::Reboot:
        case Kind::Hibernate: {
            ic::Shutdown message{};
            message.flags =
                (command.force ? ic::kShutdownForce : 0) | (command.kind == Kind::Reboot      ? ic::kShutdownRestart
                                                            : command.kind == Kind::Hibernate ? ic::kShutdownHibernate
                                                                                              : 0);
            message.timeout_s = 300;
            if (!put_utf16(message.text, command.value)) return {};
            return bytes_of(message);
        }
        case Kind::KvpGet:
        case Kind::KvpSet:
        case Kind::KvpDelete:
        case Kind::KvpList:
        case Kind::IpGet:
        case Kind::IpSet: {
            std::vector<u8> body;
            if (command.kind >= Kind::IpGet)
                body = ip_body(command);
            else if (command.pool < ic::kPools)
                body = kvp_body(command);
            if (!body.empty()) body.resize(ic::kKvpBytes);
            return body;
        }
        case Kind::Freeze:
        case Kind::Thaw:
        case Kind::HotBackup: {
            const ic::VssOperation operation = command.kind == Kind::Freeze ? ic::VssOperation::Freeze
                                               : command.kind == Kind::Thaw ? ic::VssOperation::Thaw
                                                                            : ic::VssOperation::HotBackup;
            return bytes_of(ic::Vss{static_cast<u8>(operation), {}, 0});
        }
        case Kind::TimeSync:
        case Kind::Memory:
        case Kind::Keys:
        case Kind::Mouse:
            break;
    }
    return {};
}

KvpAnswer parse_kvp_answer(GuestCommand::Kind kind, std::span<const u8> body) {
    using Kind = GuestCommand::Kind;
    KvpAnswer answer;
    const auto take = [&](const ic::KvpValue& data) {
        const auto part = [](std::span<const u8> field, u32 bytes) {
            return field.first(std::min<std::size_t>(field.size(), bytes));
        };
        answer.key = from_utf16(part(data.key, data.key_bytes));
        if (data.type == ic::kRegU32 || data.type == ic::kRegU64) {
            u64 number = 0;
            std::memcpy(&number, data.value, data.type == ic::kRegU32 ? 4 : 8);
            answer.value = fmt::format("{}", number);
        } else {
            answer.value = from_utf16(part(data.value, data.value_bytes));
        }
    };
    if (kind == Kind::KvpGet) take(message_of<ic::KvpExchange>(body).data);
    if (kind == Kind::KvpList) take(message_of<ic::KvpEnumerate>(body).data);
    if (kind == Kind::IpGet) {
        const auto ip = message_of<ic::KvpIp>(body);
        answer.ip = {from_utf16(ip.adapter),  from_utf16(ip.addresses),    from_utf16(ip.subnets),
                     from_utf16(ip.gateways), from_utf16(ip.name_servers), ip.dhcp != 0};
    }
    return answer;
}

}  // namespace vg::machine
