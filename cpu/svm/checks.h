// The checks of VMRUN, in the manual's order: each a row with what it demands in words, so that tools can say which
// failed. AMD APM 2 "Canonicalization and Consistency Checks", "Event Injection", "Nested Paging and VMRUN/#VMEXIT".
#pragma once

#include <optional>
#include <string_view>

#include "cpu/svm/vmcb.h"
#include "cpu/vp.h"

namespace vg::cpu::svm {

/// What the checks look at.
struct EntryContext {
    const Vmcb& v;
    const Vp& vp;
    bool pdptes_valid = true;  ///< of a PAE guest without nested paging, in memory
    [[nodiscard]] u64 operator[](Field field) const { return v[field]; }
};

/// One demand. `field` is the one to show.
struct Rule {
    std::string_view text;
    Field field;
    bool (*holds)(const EntryContext&);
};

/// A rule that does not hold, with its field's value at that time.
struct Violation {
    std::string_view text;
    Field field;
    u64 value = 0;
};

/// The first rule that is broken: VMEXIT_INVALID.
[[nodiscard]] std::optional<Violation> check(const EntryContext& e);
/// The rules themselves, for tests and tools.
[[nodiscard]] std::span<const Rule> rules();

}  // namespace vg::cpu::svm
