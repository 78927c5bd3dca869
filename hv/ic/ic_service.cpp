#include "hv/ic/ic_service.h"

#include <algorithm>

namespace vg::hv::ic {

using vmbus::kPipeData;
using vmbus::PipeHeader;

void IcService::opened() {
    state_ = State::Negotiating;
    waiting_ = false;
    framework_ = version_ = {};
}

void IcService::closed() {
    state_ = State::Closed;
    waiting_ = false;
    lost();
}

/// D-101: counts, frameworks, messages.
u32 IcService::negotiation(std::span<u8> body) const {
    vsp::put_message(body, Negotiate{static_cast<u16>(frameworks_.size()), static_cast<u16>(versions_.size()), 0});
    u32 at = sizeof(Negotiate);
    for (const auto list : {frameworks_, versions_}) {
        for (const Version& version : list) {
            vsp::put_message(body, version, at);
            at += sizeof version;
        }
    }
    return at;
}

vsp::MessageCore::Outgoing IcService::next(std::span<u8> out) {
    if (waiting_ || state_ == State::Closed || state_ == State::Refused) return {};
    const std::span<u8> body = out.subspan(kHeaderBytes, kMaxBody);
    std::ranges::fill(out.first(kMaxMessage), u8{0});
    const bool negotiating = state_ == State::Negotiating;
    const u32 size = negotiating ? negotiation(body) : request(body);
    if (size == 0) return {};
    IcHeader header{};
    header.framework = framework_;
    header.type = static_cast<u16>(negotiating ? MessageType::Negotiate : type_);
    header.message = version_;
    header.size = static_cast<u16>(size);
    header.transaction = static_cast<u8>(transaction_ + 1);
    header.flags = kFlagTransaction | kFlagRequest;
    vsp::put_message(out, PipeHeader{kPipeData, static_cast<u32>(sizeof header) + size});
    vsp::put_message(out, header, sizeof(PipeHeader));
    return {kHeaderBytes + size, transaction_id_ + 1};
}

void IcService::sent() {
    ++transaction_;
    ++transaction_id_;
    waiting_ = true;
    if (state_ == State::Ready) requested();
}

/// The guest answers in the buffer of the request: same transaction, response flag (D-100, D-101). Anything else is no
/// answer, and the request stays open.
void IcService::receive(std::span<const u8> message, u64 transaction_id) {
    bool whole = false;
    const auto pipe = vsp::read_message<PipeHeader>(message, whole);
    const bool headed = whole && pipe.type == kPipeData && pipe.size <= message.size() - sizeof pipe;
    const std::span<const u8> inner = headed ? message.subspan(sizeof pipe, pipe.size) : std::span<const u8>();
    const auto header = vsp::read_message<IcHeader>(inner, whole);
    const MessageType expected = state_ == State::Negotiating ? MessageType::Negotiate : type_;
    if (!headed || !whole || !waiting_ || header.type != static_cast<u16>(expected) ||
        (header.flags & kFlagResponse) == 0 || header.transaction != transaction_ ||
        transaction_id != transaction_id_ || header.size > inner.size() - sizeof header) {
        ++invalid_;
        return;
    }
    waiting_ = false;
    ++answers_;
    const std::span<const u8> body = inner.subspan(sizeof header, header.size);
    if (state_ == State::Negotiating)
        agree(body);
    else
        answered(header.status, body);
}

/// One of each, chosen from what was offered; none of either is a refusal, and so is nonsense.
void IcService::agree(std::span<const u8> body) {
    struct Answer {
        Negotiate counts;
        Version framework, version;
    };
    bool whole = false;
    const auto answer = vsp::read_message<Answer>(body, whole);
    const auto offered = [](std::span<const Version> list, Version version) {
        return std::ranges::find(list, version) != list.end();
    };
    if (whole && answer.counts.framework_count == 1 && answer.counts.message_count == 1 &&
        offered(frameworks_, answer.framework) && offered(versions_, answer.version)) {
        state_ = State::Ready;
        framework_ = answer.framework;
        version_ = answer.version;
        return ready();
    }
    state_ = State::Refused;
    lost();
}

}  // namespace vg::hv::ic
