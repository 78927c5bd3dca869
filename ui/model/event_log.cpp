#include "ui/model/event_log.h"

#include <algorithm>

namespace vg::model {

void EventLog::listen(TapMask kinds) {
    if (kinds_ != 0) machine_.log().tap().remove(listener_);
    kinds_ = kinds;
    if (kinds_ != 0) listener_ = machine_.log().tap().listen(kinds_, [this](const TapEvent& event) { keep(event); });
}

void EventLog::watch(TapMask kinds, std::size_t capacity) {
    capacity_ = std::clamp<std::size_t>(capacity, 1, kMaxRows);
    trim();
    listen(kinds);
}

void EventLog::trim() {
    while (rows_.size() > capacity_ || payload_bytes_ > kPayloadsBytes) {
        payload_bytes_ -= rows_.front().payload.size();
        rows_.pop_front();
    }
}

void EventLog::keep(const TapEvent& event) {
    Row row{next_seq_++, machine_.now(), machine_.instructions(), event.kind, event.partition, event.vp, {}, 0, {}};
    std::copy(std::begin(event.values), std::end(event.values), row.values);
    row.payload_size = static_cast<u32>(event.payload.size());
    const std::size_t size = std::min(event.payload.size(), kPayloadBytes);
    row.payload.assign(reinterpret_cast<const char*>(event.payload.data()), size);
    payload_bytes_ += size;
    rows_.push_back(std::move(row));
    trim();
}

Json EventLog::json(const Row& row) {
    const TapRow& meaning = tap_row(row.kind);
    Json out = {{"seq", row.seq},   {"time", row.time}, {"instructions", row.instructions},
                {"kind", std::string(meaning.name)}, {"partition", row.partition}};
    if (row.vp != TapEvent::kNoVp) out["vp"] = row.vp;
    Json values = Json::object();
    for (unsigned i = 0; i < 4; ++i)
        if (!meaning.fields[i].empty()) values[std::string(meaning.fields[i])] = hex(row.values[i]);
    out["values"] = std::move(values);
    if (!meaning.payload.empty()) {
        out["payload"] = hex_bytes(row.payload);
        if (row.payload_size > row.payload.size()) out["payload_size"] = row.payload_size;
    }
    return out;
}

Json EventLog::rows(u64 after, std::size_t limit) const {
    const u64 first = rows_.empty() ? next_seq_ : rows_.front().seq;  // numbers have no gaps
    const u64 wanted = after + 1 == 0 ? next_seq_ : after + 1;
    const u64 from = std::min(std::max(first, wanted), next_seq_);
    Json list = Json::array();
    for (std::size_t i = static_cast<std::size_t>(from - first); i < rows_.size() && list.size() < limit; ++i)
        list.push_back(json(rows_[i]));
    const u64 last = from + list.size() - 1;
    return {{"rows", std::move(list)}, {"next", last}, {"lost", first > wanted ? first - wanted : 0}};
}

}  // namespace vg::model
