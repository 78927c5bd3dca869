#include "hv/ic/command_service.h"

#include <algorithm>

namespace vg::hv::ic {

namespace {

constexpr Version kFrameworks[] = {{1, 0}, {3, 0}};
constexpr Version kVssFrameworks[] = {{3, 0}};
constexpr Version kShutdown[] = {{1, 0}, {3, 0}, {3, 1}, {3, 2}};
constexpr Version kKvp[] = {{1, 0}, {3, 0}, {4, 0}};
constexpr Version kVss[] = {{5, 0}};

std::span<const Version> versions(MessageType type) {
    return type == MessageType::Shutdown ? std::span<const Version>(kShutdown)
           : type == MessageType::Kvp    ? std::span<const Version>(kKvp)
                                         : std::span<const Version>(kVss);
}

}  // namespace

CommandService::CommandService(MessageType type, CommandClient& client)
    : IcService(type, type == MessageType::Vss ? std::span<const Version>(kVssFrameworks) : kFrameworks,
                versions(type)),
      type_(type),
      client_(client) {}

bool CommandService::submit(u64 number, std::span<const u8> body) {
    if (busy() || state() == State::Refused || body.empty() || body.size() > kMaxBody) return false;
    std::ranges::copy(body, body_.begin());
    number_ = number;
    size_ = static_cast<u32>(body.size());
    asked_ = false;
    return true;
}

u32 CommandService::request(std::span<u8> body) {
    std::ranges::copy(std::span(body_).first(size_), body.begin());
    return size_;
}

void CommandService::answered(u32 status, std::span<const u8> body) {
    finish(CommandClient::End::Answered, status, body);
}

/// A command that the guest has not seen waits for the next one to connect.
void CommandService::lost() {
    if (asked_ || (busy() && state() == State::Refused)) finish(CommandClient::End::Gone, kStatusFail, {});
}

void CommandService::finish(CommandClient::End end, u32 status, std::span<const u8> body) {
    size_ = 0;
    asked_ = false;
    client_.finished(type_, number_, end, status, body);
}

}  // namespace vg::hv::ic
