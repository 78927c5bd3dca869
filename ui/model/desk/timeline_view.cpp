#include "ui/model/desk/timeline_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace vg::desk {

namespace {
constexpr double kLeast_ns = 10;  // of a window
constexpr std::size_t kMaxLanes = 256;

/// As a time: what is out of range is the nearest that is not.
u64 whole(double time_ns) { return time_ns > 0 ? static_cast<u64>(std::min(time_ns, 1.8e19)) : 0; }
}  // namespace

void TimelineView::update(Session& session) {
    log_->want(kinds_);
    now_ = session.now().time_ns;
    const auto history = session.history();
    begin_ = history ? static_cast<double>(history->first.time_ns) : 0;
    double end = static_cast<double>(now_);
    if (history) end = std::max(end, static_cast<double>(history->second.time_ns));
    if (session.end()) end = std::max(end, static_cast<double>(session.end()->time_ns));
    if (log_->size() != 0) end = std::max(end, static_cast<double>(log_->row(log_->size() - 1).time_ns));
    end_ = std::max(end, begin_ + 1000);
    if (all_) {
        first_ = begin_;
        last_ = end_ + (end_ - begin_) * 0.01;
    }
    if (wanted_ && !session.running()) {
        const u64 target = *wanted_;
        wanted_.reset();
        if (target != now_)
            session.move({{"op", "goto"}, {"time", target}}, fmt::format("going to {} s", time_text(target)));
    }
    bin();
}

void TimelineView::show(double first, double last) {
    if (!std::isfinite(first) || !std::isfinite(last)) return;
    all_ = false;
    const double width = std::clamp(last - first, kLeast_ns, std::max(kLeast_ns, (end_ - begin_) * 1.1));
    first_ = std::clamp(first, begin_ - width * 0.5, std::max(begin_, end_ - width * 0.5));
    last_ = first_ + width;
}
void TimelineView::zoom(double factor, double place) {
    const double at = first_ + (last_ - first_) * std::clamp(place, 0.0, 1.0);
    show(at - (at - first_) * factor, at + (last_ - at) * factor);
}
void TimelineView::pan(double part) {
    const double by = (last_ - first_) * part;
    show(first_ + by, last_ + by);
}

bool TimelineView::drag_to(Session& session, double time_ns) {
    if (!session.reverse()) return false;
    wanted_ = whole(std::clamp(time_ns, begin_, end_));
    return true;
}

void TimelineView::bin() {
    const Binned wanted{log_->version(), first_, last_, bins_, kinds_};
    if (wanted == binned_) return;
    binned_ = wanted;
    lanes_.clear();
    const double width = (last_ - first_) / static_cast<double>(bins_);
    for (const auto& [id, indexes] : log_->lanes()) {
        if ((kinds_ & tap_bit(id.kind)) == 0 || lanes_.size() >= kMaxLanes) continue;
        const std::string who = place_text(id.partition, id.vp);
        TimelineLane lane{id, fmt::format("{}{}{}", who, who.empty() ? "" : " ", tap_row(id.kind).name),
                          std::vector<u16>(bins_)};
        std::size_t at = log_->first_at(indexes, whole(first_));
        for (std::size_t i = 0; i < bins_ && at < indexes.size(); ++i) {
            const double edge = first_ + width * static_cast<double>(i + 1);
            if (edge <= 0) continue;
            // A bin of a crowded lane is counted by a search, not row by row.
            const auto rest = indexes.begin() + static_cast<std::ptrdiff_t>(at);
            const auto next = std::partition_point(
                rest, indexes.end(), [&](u32 row) { return static_cast<double>(log_->row(row).time_ns) < edge; });
            lane.counts[i] = static_cast<u16>(std::min<std::ptrdiff_t>(next - rest, 65535));
            at = static_cast<std::size_t>(next - indexes.begin());
        }
        lanes_.push_back(std::move(lane));
    }
}

const EventRow* TimelineView::nearest(std::size_t lane, double time_ns) const {
    if (lane >= lanes_.size()) return nullptr;
    const auto found = log_->lanes().find(lanes_[lane].id);
    if (found == log_->lanes().end() || found->second.empty()) return nullptr;
    const auto& indexes = found->second;
    std::size_t at = log_->first_at(indexes, whole(time_ns));
    if (at == indexes.size()) --at;
    const auto gap = [&](std::size_t i) {
        return std::abs(static_cast<double>(log_->row(indexes[i]).time_ns) - time_ns);
    };
    if (at > 0 && gap(at - 1) < gap(at)) --at;
    return &log_->row(indexes[at]);
}

std::vector<std::string> TimelineView::text() const {
    std::vector<std::string> lines{
        fmt::format("now {} s, shown {} .. {} s", time_text(now_), time_text(whole(first_)), time_text(whole(last_)))};
    for (const TimelineLane& lane : lanes_) {
        u64 count = 0;
        for (const u16 bin : lane.counts) count += bin;
        lines.push_back(fmt::format("{}: {} events", lane.title, count));
    }
    return lines;
}

}  // namespace vg::desk
