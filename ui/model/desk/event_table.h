// A list of events of some kinds, narrowed by a text.
#pragma once

#include "ui/model/desk/event_log.h"

namespace vg::desk {

class EventTable final : public Table {
  public:
    EventTable(EventLog& log, TapMask kinds);
    /// Takes rows that are new; a filter over many rows takes several calls.
    void update();
    [[nodiscard]] const std::vector<Column>& columns() const override { return columns_; }
    [[nodiscard]] u64 rows() const override { return rows_.size(); }
    [[nodiscard]] Cell cell(u64 row, std::size_t column) const override;

    [[nodiscard]] TapMask kinds() const { return kinds_; }
    /// Only events whose line contains this, without regard to case.
    void set_filter(std::string text);
    [[nodiscard]] const std::string& filter() const { return filter_; }
    [[nodiscard]] bool filtering() const { return seen_ < log_->size(); }
    /// Null: there is no such row.
    [[nodiscard]] const EventRow* event(u64 row) const;

  private:
    [[nodiscard]] bool passes(const EventRow& row) const;
    void restart();

    EventLog* log_;
    TapMask kinds_;
    bool one_kind_;  ///< needs no column for it
    std::vector<Column> columns_;
    std::string filter_;
    std::vector<u32> rows_;
    std::size_t seen_ = 0;
    u64 generation_ = 0;
};

/// Whether `text` contains `part`, ASCII letters without regard to case.
[[nodiscard]] bool contains_text(std::string_view text, std::string_view part);

/// A panel that is a list of events.
class EventsView final : public View {
  public:
    EventsView(EventLog& log, TapMask kinds) : table_(log, kinds), log_(&log) {}
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override { return table_text(table_); }
    [[nodiscard]] bool waiting() const override { return log_->waiting() || table_.filtering(); }
    [[nodiscard]] EventTable& table() { return table_; }
    [[nodiscard]] u64 lost() const { return log_->lost(); }
    std::optional<u64> selected;

  private:
    EventTable table_;
    EventLog* log_;
};

}  // namespace vg::desk
