// A guest's page walk, entry by entry, for people.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "ui/model/places.h"

namespace vg::model {

/// One entry that a walk goes through.
struct GuestStep {
    unsigned level = 0;  ///< 4 (PML4E) to 1 (PTE); a PDPTE of PAE paging is at 3
    Gpa place;           ///< of the entry
    u64 entry = 0;
    std::string flags;  ///< "P W U A D PS G NX", those that are set
    u64 next = 0;       ///< the table or page that it points to
};
struct GuestWalk {
    std::string mode;  ///< "none", "32-bit", "PAE", "4-level"
    std::vector<GuestStep> steps;
    std::optional<Gpa> physical;
    std::string fault;  ///< why there is no physical address; "": there is one
};
/// How the VP's tables translate a linear address now, permissions aside. Sets no bit.
[[nodiscard]] GuestWalk guest_walk(const FoundVp& at, u64 address);

}  // namespace vg::model
