// Saved state as a map of paths: what tests save into and load from.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/state.h"

namespace vg::test {

using StateTree = std::map<std::string, std::vector<u8>>;

/// Saves into, or loads from, a tree. A missing field leaves its value and is remembered.
class TreeVisitor final : public StateVisitor {
  public:
    TreeVisitor(StateTree& tree, bool load) : tree_(tree), load_(load) {}
    [[nodiscard]] bool loading() const override { return load_; }
    void bytes(std::string_view name, std::span<u8> data) override {
        std::vector<u8> value(data.begin(), data.end());
        visit(name, value);
        if (value.size() == data.size()) std::copy(value.begin(), value.end(), data.begin());
    }
    void text(std::string_view name, std::string& field) override {
        std::vector<u8> value(field.begin(), field.end());
        visit(name, value);
        field.assign(value.begin(), value.end());
    }
    void enter(std::string_view name) override { path_.emplace_back(name); }
    void leave() override { path_.pop_back(); }
    std::vector<std::string> missing;

  protected:
    void number(std::string_view name, u64& value, unsigned, Fmt) override {
        std::vector<u8> raw(8);
        for (unsigned i = 0; i < 8; ++i) raw[i] = static_cast<u8>(value >> (8 * i));
        visit(name, raw);
        value = 0;
        for (unsigned i = 0; i < 8 && i < raw.size(); ++i) value |= u64{raw[i]} << (8 * i);
    }

  private:
    void visit(std::string_view name, std::vector<u8>& value) {
        std::string path;
        for (const std::string& part : path_) path += part + "/";
        path += name;
        if (!load_) {
            tree_[path] = value;
        } else if (const auto it = tree_.find(path); it != tree_.end()) {
            value = it->second;
        } else {
            missing.push_back(path);
        }
    }
    StateTree& tree_;
    bool load_;
    std::vector<std::string> path_;
};

/// The state of anything with fields().
template <class... Things>
StateTree save(Things&... things) {
    StateTree tree;
    TreeVisitor visitor(tree, false);
    u32 number = 0;
    const auto each = [&](auto& thing) {
        const VisitScope scope(visitor, std::to_string(number++));
        thing.fields(visitor);
    };
    (each(things), ...);
    return tree;
}

/// Loads it; returns the paths that were missing.
template <class... Things>
std::vector<std::string> load(StateTree tree, Things&... things) {
    TreeVisitor visitor(tree, true);
    u32 number = 0;
    const auto each = [&](auto& thing) {
        const VisitScope scope(visitor, std::to_string(number++));
        thing.fields(visitor);
    };
    (each(things), ...);
    return visitor.missing;
}

}  // namespace vg::test
