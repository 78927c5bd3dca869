// Sentences about a machine that stands still: why a VP is where it is, why an interrupt waits, why a walk faults.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/machine.h"
#include "mmu/walk.h"
#include "ui/model/symbol_source.h"
#include "ui/model/vp_linear.h"

namespace vg::model {

/// The name of an address, or "".
using NameOf = std::function<std::string(u64 address)>;

/// @param what  "" or "where": why the VP is where it is; "interrupts": what waits, and for what; "exception": the last
/// one;
///              "virtualization": VMX or SVM, its last exit, and why its last entry failed; "registers", or the name of one: what its bits say; "walk ADDRESS" or an address, with " write" or "
///              fetch" behind it: how it is translated; "all": everything but a walk
/// Error (Usage): no such VP, or nothing is known about `what`.
[[nodiscard]] Result<std::string> explain(machine::Machine& machine, SymbolPlace place, std::string_view what,
                                          const NameOf& name_of);

/// Why a VP is where it is, a sentence each.
[[nodiscard]] std::vector<std::string> explain_where(machine::Machine& machine, const PlacedVp& vp,
                                                     const NameOf& name_of);
/// Each interrupt that was asked for and did not happen yet, and what it waits for; what is masked at its source.
[[nodiscard]] std::vector<std::string> explain_interrupts(machine::Machine& machine, const PlacedVp& vp);
/// The last exception that the VP's instructions raised.
[[nodiscard]] std::vector<std::string> explain_exception(const PlacedVp& vp);
/// VMX or SVM of the VP: where it is, its last exit and the entry of the second level that was behind it, and the rule that its
/// last VM entry broke. Nothing if its model has neither.
[[nodiscard]] std::vector<std::string> explain_virtualization(const PlacedVp& vp);
/// What keeps the interrupt that a hypervisor asked for from its guest, and what the guest's hypervisor does with those of the
/// machine. Nothing unless a guest of VMX or SVM runs.
[[nodiscard]] std::vector<std::string> explain_guest_interrupts(cpu::Vp& vp);
/// How the second level translates a guest-physical address, a line for each entry, and a verdict for this access; nothing
/// without a second level.
[[nodiscard]] std::vector<std::string> explain_second_level(mmu::PhysicalMemory& memory, const mmu::SlatMode& slat, u64 gpa,
                                                            mmu::Access access);
/// What the VP's own timers will do.
[[nodiscard]] std::vector<std::string> explain_timers(machine::Machine& machine, const PlacedVp& vp);

/// One entry that a walk read.
struct ToldStep {
    unsigned level = 0;     ///< 4 the top, 1 the last
    u64 entry_address = 0;  ///< guest-physical; 0 for a PDPTE, which is a register
    u64 entry = 0;
    std::string meaning;
};
struct ToldWalk {
    std::vector<ToldStep> steps;
    std::optional<u64> physical;  ///< guest-physical, where the walk ends well
    std::string verdict;          ///< one sentence
    std::vector<std::string> second_level;  ///< of the address where the walk ends, or that it could not read
    bool faults = false;
};
/// The walk of one address, as the VP would make it for this access at its CPL, told entry by entry.
[[nodiscard]] ToldWalk explain_walk(cpu::Vp& vp, u64 address, mmu::Access access);

}  // namespace vg::model
