#include "ui/cli/gdb_packets.h"

#include <fmt/format.h>

namespace vg::cli {
namespace {

constexpr char kEscape = '}', kEscapeBit = 0x20, kInterrupt = 3;

std::string unescaped(std::string_view body) {
    std::string out;
    for (std::size_t i = 0; i < body.size(); ++i) {
        if (body[i] == kEscape && i + 1 < body.size()) out += static_cast<char>(body[++i] ^ kEscapeBit);
        else out += body[i];
    }
    return out;
}

int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

std::vector<GdbPackets::Item> GdbPackets::feed(std::string_view bytes) {
    std::vector<Item> items;
    for (const char c : bytes) {
        switch (state_) {
            case State::Outside:
                if (c == '$') {
                    body_.clear();
                    sum_ = 0;
                    too_long_ = false;
                    state_ = State::Body;
                } else if (c == kInterrupt) {
                    items.push_back({Item::Kind::Interrupt, {}});
                } else if (c == '+') {
                    items.push_back({Item::Kind::Ack, {}});
                } else if (c == '-') {
                    items.push_back({Item::Kind::Again, {}});
                }
                break;
            case State::Body:
                if (c == '#') {
                    state_ = State::First;
                    break;
                }
                sum_ = static_cast<u8>(sum_ + static_cast<u8>(c));
                too_long_ |= body_.size() >= kMaxPacket;
                if (!too_long_) body_ += c;
                break;
            case State::First:
                first_ = c;
                state_ = State::Second;
                break;
            case State::Second:
                state_ = State::Outside;
                items.push_back(finish(c));
                break;
        }
    }
    return items;
}

GdbPackets::Item GdbPackets::finish(char second) {
    const int high = digit(first_), low = digit(second);
    if (too_long_ || high < 0 || low < 0 || (high << 4 | low) != sum_) return {Item::Kind::Damaged, {}};
    return {Item::Kind::Packet, unescaped(body_)};
}

std::string GdbPackets::packet(std::string_view body) {
    std::string out = "$";
    u8 sum = 0;
    const auto put = [&](char c) {
        out += c;
        sum = static_cast<u8>(sum + static_cast<u8>(c));
    };
    for (const char c : body) {
        // '*' begins a run length in what a stub sends.
        if (c == '#' || c == '$' || c == kEscape || c == '*') {
            put(kEscape);
            put(static_cast<char>(c ^ kEscapeBit));
        } else {
            put(c);
        }
    }
    return out + fmt::format("#{:02x}", sum);
}

}  // namespace vg::cli
