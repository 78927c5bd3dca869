// Registers of the VP that is looked at, by groups, with named bits and marks for what changed.
#pragma once

#include "ui/model/desk/live.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

/// A named part of a register.
struct BitField {
    std::string_view name, meaning;
    unsigned high = 0, low = 0;
    u64 value = 0;
};
struct RegisterRow {
    std::string name;
    std::string text;      ///< as the protocol gives it
    u64 value = 0;         ///< the low 64 bits
    bool changed = false;  ///< since the last stop
};
struct RegisterGroup {
    std::string_view title;
    std::vector<RegisterRow> rows;
};

/// Named parts of a register's value, high bits first; none if it has no parts. `cs.attributes` and its like share
/// theirs.
[[nodiscard]] std::vector<BitField> bit_fields(std::string_view name, u64 value);
/// The parts that are set, for a line: "PF ZF IF IOPL=3".
[[nodiscard]] std::string bit_summary(std::string_view name, u64 value);

class RegistersView final : public View {
  public:
    RegistersView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }

    [[nodiscard]] const std::vector<RegisterGroup>& groups() const { return groups_; }
    /// Nothing: not known (yet).
    [[nodiscard]] std::optional<u64> value(std::string_view name) const;

  private:
    using Values = std::vector<std::pair<std::string, std::string>>;
    void regroup();

    Live<Values> live_;
    Values current_, at_stop_, previous_;  ///< previous_: what at_stop_ was at the stop before
    u64 taken_ = 0, stops_ = 0;
    VpId vp_;
    std::vector<RegisterGroup> groups_;
};

}  // namespace vg::desk
