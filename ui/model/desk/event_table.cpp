#include "ui/model/desk/event_table.h"

#include <algorithm>

namespace vg::desk {

namespace {

constexpr std::size_t kRowsAnUpdate = 20'000;  // bounds what a frame spends on filtering

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

Tone tone_of(const EventRow& row) {
    if (row.kind == TapKind::Hypercall && (row.values[3] & 0xffff) != 0) return Tone::Warning;
    if (row.kind == TapKind::Exception) return Tone::Warning;
    return Tone::Plain;
}

}  // namespace

bool contains_text(std::string_view text, std::string_view part) {
    const auto found = std::search(text.begin(), text.end(), part.begin(), part.end(),
                                   [](char a, char b) { return lower(a) == lower(b); });
    return part.empty() || found != text.end();
}

EventTable::EventTable(EventLog& log, TapMask kinds)
    : log_(&log),
      kinds_(kinds),
      one_kind_((kinds & (kinds - 1)) == 0),
      columns_{{"time, s", 13}, {"who", 7}, {"kind", 14}, {"what", 0}, {"instruction", 12}} {
    if (one_kind_) columns_.erase(columns_.begin() + 2);
}

void EventTable::restart() {
    rows_.clear();
    seen_ = 0;
    generation_ = log_->generation();
}
void EventTable::set_filter(std::string text) {
    if (text == filter_) return;
    filter_ = std::move(text);
    restart();
}

bool EventTable::passes(const EventRow& row) const {
    if ((kinds_ & tap_bit(row.kind)) == 0) return false;
    if (filter_.empty()) return true;
    return contains_text(event_text(row), filter_) || contains_text(place_text(row.partition, row.vp), filter_) ||
           contains_text(tap_row(row.kind).name, filter_);
}

void EventTable::update() {
    if (generation_ != log_->generation()) restart();
    const std::size_t end = std::min(log_->size(), seen_ + kRowsAnUpdate);
    for (; seen_ < end; ++seen_)
        if (passes(log_->row(seen_))) rows_.push_back(static_cast<u32>(seen_));
}

const EventRow* EventTable::event(u64 row) const {
    return row < rows_.size() && rows_[row] < log_->size() ? &log_->row(rows_[row]) : nullptr;
}

Cell EventTable::cell(u64 row, std::size_t column) const {
    const EventRow* event_row = event(row);
    if (!event_row) return {};
    switch (one_kind_ && column >= 2 ? column + 1 : column) {
        case 0:
            return {time_text(event_row->time_ns), Tone::Quiet};
        case 1:
            return {place_text(event_row->partition, event_row->vp), Tone::Quiet};
        case 2:
            return {std::string(tap_row(event_row->kind).name), Tone::Accent};
        case 3:
            return {event_text(*event_row), tone_of(*event_row)};
        default:
            return {std::to_string(event_row->instructions), Tone::Quiet};
    }
}

void EventsView::update(Session&) {
    log_->want(table_.kinds());
    table_.update();
}

}  // namespace vg::desk
