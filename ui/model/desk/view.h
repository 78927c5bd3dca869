// What a panel shows, derived without a window: every panel has a view, scripts and tests read the same.
#pragma once

#include <string>
#include <vector>

#include "ui/model/desk/session.h"

namespace vg::desk {

/// A column: width in characters, 0 takes what is left.
struct Column {
    std::string title;
    float width = 0;
};
struct Cell {
    std::string text;
    Tone tone = Tone::Plain;
};

/// Rows and columns; cells are made when they are looked at, so there may be millions.
class Table {
  public:
    virtual ~Table() = default;
    [[nodiscard]] virtual const std::vector<Column>& columns() const = 0;
    [[nodiscard]] virtual u64 rows() const = 0;
    [[nodiscard]] virtual Cell cell(u64 row, std::size_t column) const = 0;
};

/// A small table that is held whole.
class Grid final : public Table {
  public:
    explicit Grid(std::vector<Column> columns = {}) : columns_(std::move(columns)) {}
    [[nodiscard]] const std::vector<Column>& columns() const override { return columns_; }
    [[nodiscard]] u64 rows() const override { return rows_.size(); }
    [[nodiscard]] Cell cell(u64 row, std::size_t column) const override {
        return row < rows_.size() && column < rows_[row].size() ? rows_[row][column] : Cell{};
    }
    void clear() { rows_.clear(); }
    void set_columns(std::vector<Column> columns) { columns_ = std::move(columns); }
    void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<Cell>> rows_;
};

/// A table as lines, cells separated by two blanks; at most `limit` rows.
[[nodiscard]] std::vector<std::string> table_text(const Table& table, std::size_t limit = 2000);

/// One panel's content.
class View {
  public:
    virtual ~View() = default;
    /// Call once a frame while the panel is shown: takes what came, asks for what is missing.
    virtual void update(Session& session) = 0;
    /// What is shown, as lines.
    [[nodiscard]] virtual std::vector<std::string> text() const = 0;
    /// Newer content is on its way.
    [[nodiscard]] virtual bool waiting() const { return false; }
    /// Why there is no content; empty: there is.
    [[nodiscard]] virtual std::string problem() const { return {}; }
};

/// `request` with partition and vp of the focus.
[[nodiscard]] Json for_focus(const Session& session, Json request);

}  // namespace vg::desk
