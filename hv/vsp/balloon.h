// Protocol core of dynamic memory: balloon and hot-add. Rows D-13, D-110..D-113. No I/O, no heap.
#pragma once

#include <array>

#include "hv/spec/balloon.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::vsp {

/// Pages of the guest's memory.
struct PageSpan {
    u64 first = 0, count = 0;
};

enum class BalloonOperation : u8 { None, Inflate, Deflate, HotAdd };

/// What the core asks of the world around it.
class BalloonHost {
  public:
    virtual ~BalloonHost() = default;
    /// The guest gives pages back: they lose their content and are no memory any more. False, and nothing has been
    /// done: some of them are no memory of the guest.
    [[nodiscard]] virtual bool take(PageSpan pages) = 0;
    /// Pages become memory, zeroed. False: there is none left.
    [[nodiscard]] virtual bool give(PageSpan pages) = 0;
    virtual void finished(BalloonOperation operation, u64 pages) = 0;
};

/// One operation at a time. The core knows which pages the guest has given back; only those are returned to it.
class Balloon final : public MessageCore {
  public:
    enum class State : u8 { Closed, AwaitVersion, AwaitCapabilities, Ready };
    static constexpr u32 kMaxSpans = 8192;  ///< of pages that were given back; more are left with the guest
    static constexpr u32 kRangesPerMessage = 256;

    explicit Balloon(BalloonHost& host) : host_(host) {}

    void opened() override;
    void closed() override;
    void receive(std::span<const u8> message, u64 transaction_id) override;
    [[nodiscard]] Outgoing next(std::span<u8> out) override;
    void sent() override;
    void fields(StateVisitor& v) override;

    /// True: another operation can begin.
    [[nodiscard]] bool idle() const { return state_ == State::Ready && operation_ == BalloonOperation::None; }
    /// Asks the guest for pages; it gives as many as it can. False: not idle, nothing to do, or not in its
    /// capabilities.
    bool inflate(u32 pages);
    /// Returns pages to the guest, at most what it has given back.
    bool deflate(u64 pages);
    /// Adds memory behind what the guest has. Whole multiples of hot_add_alignment_pages().
    bool hot_add(PageSpan pages);

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u32 version() const { return version_; }
    [[nodiscard]] BalloonOperation operation() const { return operation_; }
    [[nodiscard]] u64 ballooned_pages() const { return ballooned_; }
    [[nodiscard]] u64 added_pages() const { return added_; }
    [[nodiscard]] bool can_balloon() const { return (capabilities_ & balloon::kCapBalloon) != 0; }
    [[nodiscard]] bool can_hot_add() const { return (capabilities_ & balloon::kCapHotAdd) != 0; }
    [[nodiscard]] u64 hot_add_alignment_pages() const { return u64{256} << (capabilities_ >> 2 & 0xf); }
    /// What the guest reported last; all zero before.
    [[nodiscard]] const balloon::Status& pressure() const { return pressure_; }
    [[nodiscard]] u64 invalid() const { return invalid_; }

  private:
    enum class Reply : u8 { None, Version, Capabilities };
    [[nodiscard]] bool take_version(std::span<const u8> message);
    [[nodiscard]] bool take_capabilities(std::span<const u8> message);
    [[nodiscard]] bool take_pages(std::span<const u8> message);
    [[nodiscard]] bool end_hot_add(std::span<const u8> message);
    bool begin(BalloonOperation operation, u64 pages);
    void end(u64 pages);
    bool insert(PageSpan pages);
    u32 put_ranges(std::span<u8> out);
    void give_back();

    BalloonHost& host_;
    State state_ = State::Closed;
    Reply reply_ = Reply::None;
    bool accepted_ = false;
    u32 version_ = 0;
    u32 transaction_ = 0;
    u64 capabilities_ = 0, min_pages_ = 0;
    balloon::Status pressure_{};
    BalloonOperation operation_ = BalloonOperation::None;
    bool request_due_ = false;  ///< the operation's next message is to be sent
    u64 wanted_ = 0;            ///< pages that the operation is still about
    u64 done_ = 0;              ///< pages that it has moved
    PageSpan adding_;
    u64 ballooned_ = 0, added_ = 0;
    u64 reports_ = 0, invalid_ = 0;
    std::array<PageSpan, kMaxSpans> spans_{};  ///< ascending, apart from each other
    u32 span_count_ = 0;
};

}  // namespace vg::hv::vsp
