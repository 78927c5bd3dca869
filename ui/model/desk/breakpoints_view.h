// Breakpoints of every kind, and the text that people write for them.
#pragma once

#include "base/tap.h"
#include "ui/model/desk/live.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

/// A rule of docs/control.md from words:
///   ADDRESS                           an address or a symbol
///   watch ADDRESS [SIZE] [r|w|rw] [physical]
///   EVENT [FIELD=VALUE]...            an event of base/tap_kinds.def: hypercall code=0x5c, port port=0x3f8, msr
///   index=0x40000000, exception vector=14
/// and with each: partition=N vp=N ignore=N, with addresses also cr3=X. What is not a number becomes `resolve`: such
/// addresses are texts that the session resolves first.
struct RuleText {
    Json rule;
    std::string resolve;  ///< not empty: `address` is to be what this resolves to
};
[[nodiscard]] Result<RuleText> parse_rule(std::string_view text);
/// A rule as people write it.
[[nodiscard]] std::string rule_text(const Json& rule);

struct BreakRow {
    u32 number = 0;
    Json rule;
    std::string text, kind;
    bool enabled = true;
    u64 hits = 0;
};

class BreakpointsView final : public View {
  public:
    BreakpointsView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }

    [[nodiscard]] const std::vector<BreakRow>& breaks() const { return rows_; }
    /// The enabled or disabled rule at this address of code; null: none.
    [[nodiscard]] const BreakRow* at(u64 address) const;
    /// Error (Usage): the text is no rule. What the machine says of it comes as a message.
    [[nodiscard]] Result<void> add(Session& session, std::string_view text);
    void remove(Session& session, u32 number);
    void enable(Session& session, u32 number, bool enabled);
    /// Sets a breakpoint at an address, or removes it.
    void toggle(Session& session, u64 address);

  private:
    Live<std::vector<BreakRow>> live_;
    std::vector<BreakRow> rows_;
    u64 taken_ = 0;
};

}  // namespace vg::desk
