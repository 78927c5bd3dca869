// The machine's events (base/tap_kinds.def) as they come over the link: kept in order, found by kind, by lane and by
// time.
#pragma once

#include <array>

#include "base/tap.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

struct EventRow {
    u64 seq = 0, time_ns = 0, instructions = 0;
    TapKind kind = TapKind::Count;
    u64 partition = 0;
    u32 vp = TapEvent::kNoVp;
    std::array<u64, 4> values{};
    std::vector<u8> payload;  ///< its first kMaxPayload bytes
};

class EventLog {
  public:
    static constexpr std::size_t kMaxRows = 1'000'000, kMaxPayload = 512;

    /// Which kinds to hear of from now on: a panel that is shown asks each frame, and what nobody asked for in the last
    /// frame is not watched.
    void want(TapMask kinds) { wanted_ |= kinds; }
    /// Sends what changed, fetches what is new. Once a frame, behind the panels' want().
    void update(Session& session);
    /// Everything, as if from a new machine.
    void clear();

    [[nodiscard]] std::size_t size() const { return rows_.size(); }
    [[nodiscard]] const EventRow& row(std::size_t index) const { return rows_[index]; }
    /// Indexes of one kind's rows, in order.
    [[nodiscard]] const std::vector<u32>& of_kind(TapKind kind) const {
        return by_kind_[static_cast<std::size_t>(kind)];
    }
    /// Where rows of this kind and VP are; lanes of the timeline.
    struct LaneId {
        u64 partition = 0;
        u32 vp = TapEvent::kNoVp;
        TapKind kind = TapKind::Count;
        friend auto operator<=>(const LaneId&, const LaneId&) = default;
    };
    [[nodiscard]] const std::map<LaneId, std::vector<u32>>& lanes() const { return lanes_; }
    /// The first row at or behind this time, among these indexes.
    [[nodiscard]] std::size_t first_at(const std::vector<u32>& indexes, u64 time_ns) const;
    /// Grows with every change of the rows.
    [[nodiscard]] u64 version() const { return version_; }
    /// Grows when indexes of rows change their meaning: rows at the front were forgotten.
    [[nodiscard]] u64 generation() const { return generation_; }
    /// Events that the other side dropped before they were fetched.
    [[nodiscard]] u64 lost() const { return *lost_; }
    [[nodiscard]] bool waiting() const { return *asking_; }

    /// For tests, and for rows from elsewhere. Rows out of order are refused.
    bool add(EventRow row);

  private:
    void fetch(Session& session);
    void take(const Json& reply);
    void forget_oldest();
    void index(std::size_t at);

    TapMask wanted_ = 0, watched_ = 0;
    u64 version_ = 1, generation_ = 1, after_ = 0, epoch_ = 0;
    std::shared_ptr<bool> asking_ = std::make_shared<bool>(false);
    std::shared_ptr<u64> lost_ = std::make_shared<u64>(0);
    bool more_ = false;
    std::vector<EventRow> rows_;
    std::array<std::vector<u32>, static_cast<std::size_t>(TapKind::Count)> by_kind_;
    std::map<LaneId, std::vector<u32>> lanes_;
};

/// Nothing: no event (an unknown kind, say).
[[nodiscard]] std::optional<EventRow> parse_event(const Json& row);

/// Name of a hypercall by the control word's low 16 bits; "" if unknown.
[[nodiscard]] std::string_view hypercall_name(u16 code);
/// Name of an HV_STATUS; its number otherwise.
[[nodiscard]] std::string status_text(u16 status);
/// Name of a channel message by its number (hv/vmbus/messages.def).
[[nodiscard]] std::string_view channel_message_name(u32 number);
/// What an event says, in one line: names instead of numbers where they are known.
[[nodiscard]] std::string event_text(const EventRow& row);
/// "1.234567890": seconds with nanoseconds.
[[nodiscard]] std::string time_text(u64 time_ns);
/// "12.3 us": a duration.
[[nodiscard]] std::string duration_text(u64 time_ns);
/// "partition 2 VP 0"
[[nodiscard]] std::string place_text(u64 partition, u32 vp);

}  // namespace vg::desk
