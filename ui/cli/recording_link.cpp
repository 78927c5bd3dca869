#include "ui/cli/recording_link.h"

#include <fmt/format.h>

#include <algorithm>

#include "ui/model/vmbus_channels.h"

namespace vg::cli {

using model::Json;

namespace {

/// Between two looks of whoever reads: what a guest can say in it stays far from what is kept.
constexpr VTime kStretch = 5'000'000;
constexpr std::size_t kMaxRows = 1'000'000;

}  // namespace

RecordingLink::RecordingLink(std::shared_ptr<const machine::Recording> recording)
    : recording_(std::move(recording)), feed_(std::make_unique<machine::Replay>(recording_)) {}

RecordingLink::~RecordingLink() {
    if (listener_ != 0) machine_->log().tap().remove(listener_);
}

Result<std::unique_ptr<RecordingLink>> RecordingLink::open(const std::string& path) {
    auto recording = machine::Recording::open(path);
    if (!recording) return Unexpected{recording.error()};
    std::unique_ptr<RecordingLink> link(new RecordingLink(*recording));
    auto machine = machine::Machine::create((*recording)->config(), {});
    if (!machine) return Unexpected{machine.error()};
    link->machine_ = std::move(*machine);
    link->feed_->attach(*link->machine_);
    return link;
}

void RecordingLink::watch(const Json& request) {
    TapMask kinds = 0;
    for (const Json& name : request.value("kinds", Json::array())) {
        const TapKind kind = name.is_string() ? tap_kind(name.get_ref<const std::string&>()) : TapKind::Count;
        if (kind != TapKind::Count) kinds |= tap_bit(kind);
    }
    Tap& tap = machine_->log().tap();
    if (listener_ != 0) tap.remove(listener_);
    listener_ = 0;
    if (kinds == 0) return;
    listener_ = tap.listen(kinds, [this](const TapEvent& event) {
        rows_.push_back(model::event_from_tap(event, next_seq_++, machine_->now(), machine_->instructions()));
        if (rows_.size() > kMaxRows) rows_.pop_front();
    });
}

Result<Json> RecordingLink::events(const Json& request) {
    const u64 asked = request.value("after", u64{0}), limit = request.value("limit", u64{1000});
    const u64 after = std::min(asked, next_seq_ - 1);
    const u64 first = rows_.empty() ? next_seq_ : rows_.front().seq;
    const u64 lost = first > after + 1 ? first - after - 1 : 0;
    while (!rows_.empty() && rows_.front().seq <= after) rows_.pop_front();
    Json list = Json::array();
    u64 next = after + lost;
    for (const model::EventRecord& row : rows_) {
        if (list.size() >= limit) break;
        next = row.seq;
        list.push_back(model::event_to_json(row));
    }
    return Json{{"rows", std::move(list)}, {"next", next}, {"lost", lost}};
}

Result<Json> RecordingLink::call(const Json& request) {
    const std::string op = request.value("op", std::string());
    if (op == "hello") return Json{{"protocol", 1}, {"version", VG_VERSION}, {"kind", "replay"}, {"reverse", false}};
    if (op == "vmbus") return model::vmbus_request(*machine_);
    if (op == "events") return events(request);
    if (op == "watch_events") {
        watch(request);
        return Json::object();
    }
    if (op == "continue") {
        running_ = true;
        return Json::object();
    }
    return fail(Error::Code::Usage, fmt::format("a recording that is read for its events does not answer '{}'", op));
}

std::optional<Json> RecordingLink::notice(int) {
    if (!running_) return std::nullopt;
    const machine::Position last = recording_->last();
    machine::Position part = last;
    // In the middle of a round the instructions decide; up to there the time does.
    if (machine_->now() + kStretch < last.time) part = {machine_->now() + kStretch, ~u64{0}, false};
    const bool reached = run_to(*machine_, part);
    if (feed_->difference().empty() && reached && part.time != last.time) return std::nullopt;
    running_ = false;
    const bool whole = feed_->difference().empty() && reached;
    return Json{{"event", "stopped"},
                {"stop", {{"reason", whole ? "limit" : "ended"}, {"difference", feed_->difference()}}},
                {"status", {{"time", machine_->now()}, {"instructions", machine_->instructions()}}}};
}

}  // namespace vg::cli
