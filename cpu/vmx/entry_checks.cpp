// Which of the checks of an entry have to be made.
#include <algorithm>

#include "cpu/vmx/checks.h"

namespace vg::cpu::vmx {

namespace {

constexpr std::size_t kRulesPerPart = 10;
/// Parts whose inputs change with every entry are gone through without noting those, which costs more than the rules; now and
/// then they are given another try.
constexpr u32 kTries = 4, kNextTry = 256;

}  // namespace

EntryChecks::EntryChecks() {
    const std::span<const Rule> tables[] = {control_rules(), host_rules(), guest_rules()};
    for (unsigned n = 0; n < std::size(tables); ++n) {
        for (std::size_t at = 0; at < tables[n].size(); at += kRulesPerPart)
            parts_.emplace_back().rules = tables[n].subspan(at, std::min(kRulesPerPart, tables[n].size() - at));
        first_[n + 1] = static_cast<u32>(parts_.size());
    }
}

void EntryChecks::begin(const FieldSet& changed, const EntryContext& e) {
    const bool v8086 = e.v8086(), long_mode = e.long_mode();
    const bool other_v8086 = v8086_ != v8086, other_long_mode = long_mode_ != long_mode;
    v8086_ = v8086;
    long_mode_ = long_mode;
    for (Part& part : parts_) {
        const Inputs& inputs = part.inputs;
        const bool same = !inputs.fields.meets(changed) && !inputs.memory && !(inputs.v8086 && other_v8086) &&
                          !(inputs.long_mode && other_long_mode);
        part.holds = part.holds && same;
    }
}

std::optional<Violation> EntryChecks::check(unsigned table, EntryContext& e) {
    for (u32 n = first_[table]; n < first_[table + 1]; ++n) {
        if (parts_[n].holds) {
            parts_[n].misses = 0;
        } else if (std::optional<Violation> found = check(parts_[n], e)) {
            return found;
        }
    }
    return std::nullopt;
}

std::optional<Violation> EntryChecks::check(Part& part, EntryContext& e) {
    const bool noting = part.misses < kTries || part.misses % kNextTry == 0;
    ++part.misses;
    Inputs inputs;
    e.inputs = noting ? &inputs : nullptr;
    const std::optional<Violation> found = first_violation(part.rules, e);
    e.inputs = nullptr;
    if (found) return found;
    part.inputs = inputs;
    part.holds = noting;
    return std::nullopt;
}

}  // namespace vg::cpu::vmx
