// The run as lanes of events over time, one for each VP and kind; a moment of it can be gone to.
#pragma once

#include "ui/model/desk/event_log.h"

namespace vg::desk {

struct TimelineLane {
    EventLog::LaneId id;
    std::string title;
    std::vector<u16> counts;  ///< events in each bin, at most 65535
};

class TimelineView final : public View {
  public:
    explicit TimelineView(EventLog& log) : log_(&log) {}
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return log_->waiting(); }

    /// The shown part of the run, ns.
    [[nodiscard]] double first_ns() const { return first_; }
    [[nodiscard]] double last_ns() const { return last_; }
    void show(double first, double last);
    /// Everything, now and as the run goes on.
    void show_all() { all_ = true; }
    /// Zooms around a place (0..1 of the width); factor < 1 shows less.
    void zoom(double factor, double place);
    /// Moves by a part of the width.
    void pan(double part);
    /// How many bins the panel has room for.
    void set_bins(std::size_t bins) { bins_ = std::clamp<std::size_t>(bins, 1, 8192); }

    [[nodiscard]] const std::vector<TimelineLane>& lanes() const { return lanes_; }
    [[nodiscard]] u64 now_ns() const { return now_; }
    /// The whole run's bounds, ns: what can be shown.
    [[nodiscard]] std::pair<double, double> bounds() const { return {begin_, end_}; }
    /// Asks to go to a moment while the mouse drags; one request at a time, the newest wins. False: the link cannot go
    /// back.
    bool drag_to(Session& session, double time_ns);
    /// Names the kinds that have lanes; all by default.
    void set_kinds(TapMask kinds) { kinds_ = kinds; }
    [[nodiscard]] TapMask kinds() const { return kinds_; }
    /// The event that lies nearest to a time in a lane; null: the lane is empty.
    [[nodiscard]] const EventRow* nearest(std::size_t lane, double time_ns) const;

  private:
    void bin();

    EventLog* log_;
    TapMask kinds_ = kAllTaps;
    double first_ = 0, last_ = 1e9, begin_ = 0, end_ = 1e9;
    bool all_ = true;
    std::size_t bins_ = 512;
    u64 now_ = 0;
    std::optional<u64> wanted_;
    std::vector<TimelineLane> lanes_;
    struct Binned {
        u64 version = 0;
        double first = -1, last = -1;
        std::size_t bins = 0;
        TapMask kinds = 0;
        friend bool operator==(const Binned&, const Binned&) = default;
    } binned_;
};

}  // namespace vg::desk
