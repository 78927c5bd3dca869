// Stopping a machine at what happens in it, exactly there and without changing it: breakpoints, watchpoints, events,
// steps.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/tap.h"
#include "machine/machine.h"

namespace vg::machine {

/// What a machine is to stop at. Conditions that are left open match everything.
struct StopRule {
    enum class Kind : u8 {
        Address,  ///< before the instruction at linear address `address` executes
        Watch,    ///< behind the instruction (or transfer) that reads or writes [address, address + size)
        Event     ///< behind the instruction in which an event of `event` with these values happened
    };
    Kind kind = Kind::Address;
    std::optional<u64> partition;  ///< id, 0: the bare PC. For a watch, whose space `address` lies in
    std::optional<u32> vp;         ///< index; not for a watch: it hears of whoever makes the access
    std::optional<u64> cr3;        ///< Address: only with this value of CR3 (bits 51:12)
    u64 address = 0;
    u64 size = 1;  ///< Watch: 1..kMaxWatchBytes
    /// Watch: `address` is guest-physical; else linear, translated when the rule is set with the tables of `vp` (or VP
    /// 0).
    bool physical = false;
    bool on_read = false, on_write = true;
    TapKind event = TapKind::Count;
    std::optional<u64> values[4];  ///< Event: as base/tap_kinds.def names them
    bool enabled = true;
    u64 ignore = 0;  ///< so many matches pass before it stops

    static constexpr u64 kMaxWatchBytes = 1 << 20;
};

/// Why the machine stopped.
struct DebugStop {
    enum class Reason : u8 { Limit, Idle, Hang, Ended, Asked, Step, Rule };
    Reason reason = Reason::Limit;
    u32 rule = 0;           ///< Rule: its number
    u64 partition = 0;      ///< where it happened
    std::optional<u32> vp;  ///< none: not by a VP
    std::string who;        ///< Watch: "VP 1 of partition 2", "device 00:1f.2", "hypervisor"
    u64 address = 0;        ///< Watch: first byte touched; Address: rip
    bool write = false;     ///< Watch
    std::string text;       ///< one sentence for people
};

/// One debugger of one machine. The machine's thread only. While it has no rules, the machine runs at full speed; rules
/// of kind Address cost little wherever they are, watches only where their pages are touched.
///
/// Runs pause exactly as Scheduler says, so a debugged run is the same run: state_hash() at its end is that of one that
/// was never stopped.
class Debugger {
  public:
    explicit Debugger(Machine& machine);
    ~Debugger();
    Debugger(const Debugger&) = delete;
    Debugger& operator=(const Debugger&) = delete;

    /// Returns its number, from 1. Error (Usage): the partition or VP does not exist, the watched address is not mapped
    /// or not RAM, the size is out of range.
    Result<u32> add(const StopRule& rule);
    /// False: there is no such rule.
    bool remove(u32 number);
    bool enable(u32 number, bool enabled);
    void clear();
    struct Row {
        u32 number;
        StopRule rule;
        u64 hits;
    };
    [[nodiscard]] std::vector<Row> rules() const;

    /// Runs until virtual time `limit`, until so many instructions are executed in all (Machine::instructions), or a
    /// rule matches. An Address rule at the very instruction where the last stop was does not match again there.
    DebugStop run(VTime limit, u64 instructions = Scheduler::kNoCount);
    /// One instruction (or delivered event) of this VP; the others run as far as the machine's order asks for. Rules of
    /// other VPs can stop it earlier. @param limit  virtual time to give up at, for a VP that waits
    /// @param instructions  in all, to give up at
    DebugStop step(cpu::Vp& vp, VTime limit, u64 instructions = Scheduler::kNoCount);

    /// As if the last stop had been here: Address rules do not match for the instructions that the VPs are at, and what
    /// matched while the machine was run by somebody else is forgotten.
    void pass_here();

    /// The VP that the last stop was in, or that runs next; null: none.
    [[nodiscard]] cpu::Vp* focus() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg::machine
