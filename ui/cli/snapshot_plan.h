// When `run --snapshot-at EVENT=FILE` saves the machine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/console_script.h"
#include "machine/machine.h"

namespace vg::cli {

/// The snapshots that a run was asked for. Each is written once, between two instructions, when its event has come:
/// `time:2s` and `instructions:N` as the guest counts, `console:REGEX` when the console has shown it, `end` with the
/// verdict.
class SnapshotPlan {
  public:
    /// Error (Usage): a text is not EVENT=FILE, the expression is none, or the file is there already.
    static Result<std::unique_ptr<SnapshotPlan>> create(const std::vector<std::string>& texts);

    /// A byte that the guest sent. True: a snapshot is due at the next instruction boundary.
    [[nodiscard]] bool on_console(u8 byte);
    /// Where the run has to pause next: virtual time, instructions; kNever and Scheduler::kNoCount if nowhere.
    [[nodiscard]] VTime next_time() const;
    [[nodiscard]] u64 next_instructions() const;
    /// Between instructions: writes what is due. @param ended  the run has its verdict
    void look(machine::Machine& machine, bool ended);
    /// The first that could not be written, or whose event did not come.
    [[nodiscard]] Result<void> status() const;

  private:
    struct Item {
        std::string text, file;
        VTime time = kNever;
        u64 instructions = machine::Scheduler::kNoCount;
        std::optional<machine::ConsoleScript> script;
        bool at_end = false, done = false;
    };
    static Result<Item> parse(const std::string& text);
    std::vector<Item> items_;
    std::optional<Error> failure_;
};

}  // namespace vg::cli
