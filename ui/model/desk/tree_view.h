// The generic inspector: any part of the machine's state tree as rows that open and close, with marks for what changed.
#pragma once

#include <set>
#include <unordered_map>

#include "ui/model/desk/live.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

struct TreeRow {
    std::string path;   ///< "child/linux/com1/lcr"
    std::string name;   ///< its last part
    std::string value;  ///< empty for inner rows
    unsigned depth = 0;
    bool inner = false, open = false, changed = false;
};

class TreeView final : public View {
  public:
    /// @param path  the part of the tree that is shown; "": all
    explicit TreeView(std::string path);
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }

    /// Rows that are visible: inner rows that are closed hide what is below; with a filter, what matches and what is
    /// above it.
    [[nodiscard]] const std::vector<TreeRow>& rows() const { return rows_; }
    void toggle(const std::string& path);
    void open_all(bool open);
    void set_filter(std::string text);
    [[nodiscard]] const std::string& filter() const { return filter_; }

  private:
    struct Node {
        std::string path, name, value;
        unsigned depth = 0;
        bool inner = false;
    };
    static std::vector<Node> parse(const Json& reply);
    void lay_out();

    std::string path_, filter_;
    Live<std::vector<Node>> live_;
    std::vector<Node> nodes_;
    std::unordered_map<std::string, std::string> values_, at_stop_, before_;
    std::set<std::string> open_;
    bool all_open_ = false;
    u64 taken_ = 0, stops_ = 0;
    std::vector<TreeRow> rows_;
};

}  // namespace vg::desk
