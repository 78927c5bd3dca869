#include "hv/vsp/balloon.h"

#include <algorithm>

namespace vg::hv::vsp {

using balloon::MessageType;

void Balloon::opened() {
    state_ = State::AwaitVersion;
    reply_ = Reply::None;
    capabilities_ = 0;
    pressure_ = {};
    operation_ = BalloonOperation::None;
    request_due_ = false;
}

/// Nobody is left who knows what was given back, or will make use of what was being added.
void Balloon::closed() {
    state_ = State::Closed;
    reply_ = Reply::None;
    for (u32 i = 0; i < span_count_; ++i) {
        if (!host_.give(spans_[i])) ++invalid_;
    }
    span_count_ = 0;
    ballooned_ = 0;
    if (operation_ == BalloonOperation::HotAdd && !request_due_) (void)host_.take(adding_);
    if (operation_ != BalloonOperation::None) end(done_);
}

bool Balloon::begin(BalloonOperation operation, u64 pages) {
    if (!idle() || pages == 0) return false;
    operation_ = operation;
    wanted_ = pages;
    done_ = 0;
    request_due_ = true;
    return true;
}

void Balloon::end(u64 pages) {
    const BalloonOperation ended = operation_;
    operation_ = BalloonOperation::None;
    request_due_ = false;
    host_.finished(ended, pages);
}

bool Balloon::inflate(u32 pages) { return can_balloon() && begin(BalloonOperation::Inflate, pages); }

bool Balloon::deflate(u64 pages) { return begin(BalloonOperation::Deflate, std::min(pages, ballooned_)); }

bool Balloon::hot_add(PageSpan pages) {
    const u64 unit = hot_add_alignment_pages();
    if (!can_hot_add() || pages.first % unit != 0 || pages.count % unit != 0 || pages.count > balloon::kMaxRangePages ||
        !begin(BalloonOperation::HotAdd, pages.count)) {
        return false;
    }
    adding_ = pages;
    return true;
}

void Balloon::receive(std::span<const u8> message, u64) {
    bool whole = false;
    const auto header = read_message<balloon::Header>(message, whole);
    bool good = whole && header.size >= sizeof header && header.size <= message.size() && state_ != State::Closed;
    if (good) {
        message = message.first(header.size);
        switch (static_cast<MessageType>(header.type)) {
            case MessageType::VersionRequest:
                good = take_version(message);
                break;
            case MessageType::Capabilities:
                good = take_capabilities(message);
                break;
            case MessageType::Status: {
                const auto status = read_message<balloon::Status>(message, whole);
                good = whole && state_ == State::Ready;
                if (good) pressure_ = status;
                reports_ += good ? 1 : 0;
                break;
            }
            case MessageType::BalloonResponse:
                good = take_pages(message);
                break;
            case MessageType::UnballoonResponse:
                good = operation_ == BalloonOperation::Deflate && !request_due_;
                if (good) end(done_);
                break;
            case MessageType::HotAddResponse:
                good = end_hot_add(message);
                break;
            case MessageType::VersionResponse:
            case MessageType::CapabilitiesResponse:
            case MessageType::BalloonRequest:
            case MessageType::UnballoonRequest:
            case MessageType::HotAddRequest:
            case MessageType::Info:
            default:
                good = false;
        }
    }
    if (!good) ++invalid_;
}

bool Balloon::take_version(std::span<const u8> message) {
    bool whole = false;
    const auto request = read_message<balloon::VersionRequest>(message, whole);
    if (!whole) return false;
    version_ = request.version;
    accepted_ =
        version_ == balloon::kVersion2_0 || version_ == balloon::kVersion1_0 || version_ == balloon::kVersion0_3;
    transaction_ = request.header.transaction;
    state_ = accepted_ ? State::AwaitCapabilities : State::AwaitVersion;
    reply_ = Reply::Version;
    return true;
}

bool Balloon::take_capabilities(std::span<const u8> message) {
    bool whole = false;
    const auto report = read_message<balloon::Capabilities>(message, whole);
    if (!whole || state_ != State::AwaitCapabilities) return false;
    capabilities_ = report.capabilities;
    min_pages_ = report.min_pages;
    transaction_ = report.header.transaction;
    state_ = State::Ready;
    reply_ = Reply::Capabilities;
    return true;
}

/// D-113: ranges that are no memory of the guest, or were given back already, are left alone.
bool Balloon::take_pages(std::span<const u8> message) {
    bool whole = false;
    const auto response = read_message<balloon::BalloonResponse>(message, whole);
    if (!whole || operation_ != BalloonOperation::Inflate || request_due_) return false;
    const u32 count = response.more_and_count >> 1;
    const std::span<const u8> list = message.subspan(sizeof response);
    bool good = list.size() / sizeof(u64) >= count;
    for (u32 i = 0; good && i < count; ++i) {
        const u64 range = read_message<u64>(list.subspan(i * sizeof(u64)), whole);
        const PageSpan pages{balloon::range_first(range), balloon::range_count(range)};
        if (!insert(pages)) ++invalid_;
    }
    if ((response.more_and_count & 1) == 0) end(done_);
    return good;
}

/// Takes pages and remembers them. False: nothing has been done.
bool Balloon::insert(PageSpan pages) {
    if (pages.count == 0) return false;
    const auto end_of_list = spans_.begin() + span_count_;
    const auto next = std::lower_bound(spans_.begin(), end_of_list, pages.first,
                                       [](const PageSpan& each, u64 first) { return each.first < first; });
    const u64 end = pages.first + pages.count;
    if (next != end_of_list && next->first < end) return false;
    const auto before = next == spans_.begin() ? end_of_list : next - 1;
    if (before != end_of_list && before->first + before->count > pages.first) return false;
    const bool joins = before != end_of_list && before->first + before->count == pages.first;
    if (!joins && span_count_ == kMaxSpans) return false;
    if (!host_.take(pages)) return false;
    ballooned_ += pages.count;
    done_ += pages.count;
    if (joins) {
        before->count += pages.count;
        return true;
    }
    std::move_backward(next, end_of_list, end_of_list + 1);
    *next = pages;
    ++span_count_;
    return true;
}

bool Balloon::end_hot_add(std::span<const u8> message) {
    bool whole = false;
    const auto response = read_message<balloon::HotAddResponse>(message, whole);
    if (!whole || operation_ != BalloonOperation::HotAdd || request_due_) return false;
    const u64 pages = (response.result & 1) != 0 ? std::min<u64>(response.pages, adding_.count) : 0;
    // What the guest did not take is no memory.
    const PageSpan rest{adding_.first + pages, adding_.count - pages};
    if (rest.count != 0) (void)host_.take(rest);
    added_ += pages;
    end(pages);
    return response.pages <= adding_.count;
}

/// The ranges of the next message that returns pages, from the end of the list.
u32 Balloon::put_ranges(std::span<u8> out) {
    u64 left = wanted_;
    u32 count = 0;
    for (u32 i = span_count_; i != 0 && left != 0 && count < kRangesPerMessage; ++count) {
        const PageSpan& span = spans_[i - 1];
        const u64 pages = std::min({left, span.count, balloon::kMaxRangePages});
        put_message(out, balloon::range(span.first + span.count - pages, pages), count * sizeof(u64));
        left -= pages;
        if (pages != span.count) {  // the rest goes with the next message
            ++count;
            break;
        }
        --i;
    }
    return count;
}

/// What put_ranges has named becomes memory again.
void Balloon::give_back() {
    for (u32 count = 0; span_count_ != 0 && wanted_ != 0 && count < kRangesPerMessage; ++count) {
        PageSpan& span = spans_[span_count_ - 1];
        const u64 pages = std::min({wanted_, span.count, balloon::kMaxRangePages});
        const bool given = host_.give({span.first + span.count - pages, pages});
        if (!given) ++invalid_;
        wanted_ -= pages;
        done_ += pages;
        ballooned_ -= pages;
        span.count -= pages;
        if (span.count != 0) break;
        --span_count_;
    }
}

MessageCore::Outgoing Balloon::next(std::span<u8> out) {
    const auto header = [this](MessageType type, std::size_t size) {
        return balloon::Header{static_cast<u16>(type), static_cast<u16>(size), transaction_};
    };
    if (reply_ != Reply::None) {
        const MessageType type =
            reply_ == Reply::Version ? MessageType::VersionResponse : MessageType::CapabilitiesResponse;
        const bool yes = reply_ == Reply::Capabilities || accepted_;
        put_message(out, balloon::Response{header(type, sizeof(balloon::Response)), yes ? u64{1} : 0});
        return {sizeof(balloon::Response), 0};
    }
    if (!request_due_) return {};
    switch (operation_) {
        case BalloonOperation::None:
            return {};
        case BalloonOperation::Inflate:
            put_message(out,
                        balloon::BalloonRequest{header(MessageType::BalloonRequest, sizeof(balloon::BalloonRequest)),
                                                static_cast<u32>(wanted_), 0});
            return {sizeof(balloon::BalloonRequest), 0};
        case BalloonOperation::Deflate: {
            const u32 count = put_ranges(out.subspan(sizeof(balloon::UnballoonRequest)));
            u64 named = 0;
            bool whole = false;
            for (u32 i = 0; i < count; ++i)
                named += balloon::range_count(
                    read_message<u64>(out.subspan(sizeof(balloon::UnballoonRequest) + i * sizeof(u64)), whole));
            const u32 size = static_cast<u32>(sizeof(balloon::UnballoonRequest) + count * sizeof(u64));
            put_message(out, balloon::UnballoonRequest{header(MessageType::UnballoonRequest, size),
                                                       named < wanted_ ? 1u : 0u, count});
            return {size, 0};
        }
        case BalloonOperation::HotAdd:
            put_message(out, balloon::HotAddRequest{header(MessageType::HotAddRequest, sizeof(balloon::HotAddRequest)),
                                                    balloon::range(adding_.first, adding_.count)});
            return {sizeof(balloon::HotAddRequest), 0};
    }
    return {};
}

void Balloon::sent() {
    if (reply_ != Reply::None) {
        reply_ = Reply::None;
        return;
    }
    ++transaction_;
    if (operation_ == BalloonOperation::Deflate) {
        give_back();
        request_due_ = wanted_ != 0;
        return;
    }
    if (operation_ == BalloonOperation::HotAdd && !host_.give(adding_)) ++invalid_;
    request_due_ = false;
}

}  // namespace vg::hv::vsp
