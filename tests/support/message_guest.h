// The guest's side of the small providers: takes what a core says, answers as Linux does.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>
#include <span>
#include <vector>

#include "base/state.h"
#include "hv/ic/ic_service.h"
#include "hv/spec/vmbus.h"
#include "hv/vsp/message_core.h"

namespace vg::test {

using Bytes = std::vector<u8>;

struct Said {
    Bytes bytes;
    u64 transaction_id = 0;
};

/// Everything that the core has to say now. `most` bounds a core that would never end.
inline std::vector<Said> listen(hv::vsp::MessageCore& core, std::size_t most = 10'000) {
    std::vector<Said> all;
    std::vector<u8> buffer(hv::vsp::MessageCore::kMaxMessage);
    while (all.size() < most) {
        const auto out = core.next(buffer);
        if (out.size == 0) return all;
        REQUIRE(out.size <= buffer.size());
        const auto again = core.next(buffer);  // the same until sent()
        REQUIRE(again.size == out.size);
        all.push_back({{buffer.begin(), buffer.begin() + out.size}, out.transaction_id});
        core.sent();
    }
    FAIL("the core does not end");
    return all;
}

template <class Message>
Message as(const Bytes& bytes, std::size_t at = 0) {
    Message message{};
    REQUIRE(bytes.size() >= at + sizeof message);
    std::memcpy(&message, bytes.data() + at, sizeof message);
    return message;
}

template <class Message>
Bytes bytes_of(const Message& message) {
    const auto* begin = reinterpret_cast<const u8*>(&message);
    return {begin, begin + sizeof message};
}

inline void append(Bytes& bytes, const Bytes& more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

/// A message behind a pipe header.
template <class Message>
Bytes piped(const Message& message, const Bytes& tail = {}) {
    Bytes bytes = bytes_of(hv::vmbus::PipeHeader{hv::vmbus::kPipeData, static_cast<u32>(sizeof message + tail.size())});
    append(bytes, bytes_of(message));
    append(bytes, tail);
    return bytes;
}

/// D-101: the request's buffer with one framework and one message version.
inline Bytes agree(Bytes request, hv::ic::Version framework, hv::ic::Version version) {
    auto header = as<hv::ic::IcHeader>(request, 8);
    header.size = 16;
    header.flags = hv::ic::kFlagTransaction | hv::ic::kFlagResponse;
    std::memcpy(request.data() + 8, &header, sizeof header);
    const hv::ic::Negotiate counts{1, 1, 0};
    std::memcpy(request.data() + 28, &counts, sizeof counts);
    std::memcpy(request.data() + 36, &framework, sizeof framework);
    std::memcpy(request.data() + 40, &version, sizeof version);
    return request;
}

/// The request's buffer as an answer with this status.
inline Bytes reply(Bytes request, u32 status = 0) {
    auto header = as<hv::ic::IcHeader>(request, 8);
    header.flags = hv::ic::kFlagTransaction | hv::ic::kFlagResponse;
    header.status = status;
    std::memcpy(request.data() + 8, &header, sizeof header);
    return request;
}

/// Every prefix, and every prefix with each byte changed, must leave the core able to go on.
inline void torment(hv::vsp::MessageCore& core, const Bytes& message, u64 transaction_id, std::size_t step = 1) {
    for (std::size_t size = 0; size < message.size(); size += step) {
        core.receive(std::span(message).first(size), transaction_id);
        (void)listen(core);
    }
}

inline u64 hash_of(hv::vsp::MessageCore& core) {
    StateHasher hasher;
    core.fields(hasher);
    return hasher.digest();
}

}  // namespace vg::test
