#include "ui/model/desk/event_log.h"

#include <algorithm>

namespace vg::desk {

namespace {
constexpr u64 kFetch = 4096;  // rows a request
}

std::optional<EventRow> parse_event(const Json& json) {
    const Json& name = member(json, "kind");
    if (!name.is_string()) return {};
    EventRow row;
    row.kind = tap_kind(name.get_ref<const std::string&>());
    if (row.kind == TapKind::Count) return {};
    row.seq = number(json, "seq");
    row.time_ns = number(json, "time");
    row.instructions = number(json, "instructions");
    row.partition = number(json, "partition");
    const u64 vp = number(json, "vp", TapEvent::kNoVp);
    row.vp = vp < TapEvent::kNoVp ? static_cast<u32>(vp) : TapEvent::kNoVp;
    const TapRow& kind = tap_row(row.kind);
    const Json& values = member(json, "values");
    for (std::size_t i = 0; i < row.values.size(); ++i)
        if (!kind.fields[i].empty()) row.values[i] = number(values, kind.fields[i]);
    const Json& payload = member(json, "payload");
    if (payload.is_string())
        for (const int byte : parse_hex(payload.get_ref<const std::string&>(), EventLog::kMaxPayload))
            row.payload.push_back(static_cast<u8>(byte < 0 ? 0 : byte));
    return row;
}

void EventLog::clear() {
    const u64 version = version_, generation = generation_;
    *this = EventLog();
    version_ = version + 1;
    generation_ = generation + 1;
}

void EventLog::update(Session& session) {
    if (!session.ready()) return;
    if (wanted_ != 0 && (wanted_ & ~watched_) != 0) {
        watched_ |= wanted_;
        Json kinds = Json::array();
        for (std::size_t i = 0; i < static_cast<std::size_t>(TapKind::Count); ++i)
            if ((watched_ & tap_bit(static_cast<TapKind>(i))) != 0)
                kinds.push_back(std::string(tap_row(static_cast<TapKind>(i)).name));
        session.ask({{"op", "watch_events"}, {"kinds", kinds}, {"capacity", kMaxRows}},
                    [&session](Result<Json> answer) {
                        if (!answer) session.say("events: " + shown(answer.error().text), Tone::Bad);
                    });
        epoch_ = 0;
    }
    wanted_ = 0;
    if (watched_ == 0 || *asking_ || (epoch_ == session.epoch() && !more_)) return;
    epoch_ = session.epoch();
    fetch(session);
}

void EventLog::fetch(Session& session) {
    *asking_ = true;
    session.ask({{"op", "events"}, {"after", after_}, {"limit", kFetch}},
                [this, weak = std::weak_ptr(asking_)](Result<Json> answer) {
                    const auto asking = weak.lock();
                    if (!asking) return;  // cleared since
                    *asking = false;
                    more_ = false;
                    if (answer) take(*answer);
                });
}

void EventLog::take(const Json& reply) {
    const auto rows = items(member(reply, "rows"), kFetch);
    for (const Json* row : rows)
        if (auto event = parse_event(*row)) add(std::move(*event));
    const u64 next = number(reply, "next", after_);
    more_ = next > after_ && rows.size() == kFetch;
    after_ = std::max(after_, next);
    *lost_ += number(reply, "lost");
}

bool EventLog::add(EventRow row) {
    if (!rows_.empty() && (row.time_ns < rows_.back().time_ns || row.seq <= rows_.back().seq)) return false;
    if (rows_.size() >= kMaxRows) forget_oldest();
    rows_.push_back(std::move(row));
    index(rows_.size() - 1);
    ++version_;
    return true;
}

void EventLog::index(std::size_t at) {
    const EventRow& row = rows_[at];
    by_kind_[static_cast<std::size_t>(row.kind)].push_back(static_cast<u32>(at));
    lanes_[{row.partition, row.vp, row.kind}].push_back(static_cast<u32>(at));
}

void EventLog::forget_oldest() {
    rows_.erase(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(kMaxRows / 4));
    *lost_ += kMaxRows / 4;
    ++generation_;
    for (auto& indexes : by_kind_) indexes.clear();
    lanes_.clear();
    for (std::size_t i = 0; i < rows_.size(); ++i) index(i);
}

std::size_t EventLog::first_at(const std::vector<u32>& indexes, u64 time_ns) const {
    const auto found = std::lower_bound(indexes.begin(), indexes.end(), time_ns,
                                        [this](u32 i, u64 time) { return rows_[i].time_ns < time; });
    return static_cast<std::size_t>(found - indexes.begin());
}

}  // namespace vg::desk
