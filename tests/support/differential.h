// Runs the same case on the host processor and on an engine, and compares everything.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "cpu/engine.h"
#include "tests/support/random_insn.h"
#include "tests/support/random_sequence.h"
#include "tests/support/test_vp.h"

namespace vg::test {

/// Differential test of an engine against the host. The VP runs at CPL 3 with the runner's code and data pages mapped.
class Differential {
  public:
    explicit Differential(cpu::Engine& engine, const char* model = "verdigris-v3-amd");
    /// For engines that are made for one memory.
    using MakeEngine = std::function<std::unique_ptr<cpu::Engine>(mmu::PhysicalMemory&)>;
    explicit Differential(const MakeEngine& make);

    /// One case on both. Empty if they agree, else a report: bytes, mnemonic, both states.
    [[nodiscard]] std::string check(const Case& c);
    /// `count` random cases; stops at the first difference, whose report it returns.
    [[nodiscard]] std::string run(u64 seed, u64 count, const char* only = "");

    /// One sequence on both, `slice` instructions at a time, `runs` times on the engine. Empty if they agree.
    [[nodiscard]] std::string check(const Sequence& sequence, u64 slice = ~u64{0}, unsigned runs = 1);
    /// At least `count` cases, which are sequences; stops at the first difference, whose report it returns.
    [[nodiscard]] std::string run_sequences(u64 seed, u64 count);

    struct Statistics {
        u64 cases = 0, completed = 0, faults[32] = {};
        u64 endless = 0;       ///< sequences left out because the engine did not come to their end, or they asked the host's kernel
        u64 instructions = 0;  ///< executed by the engine
        u64 disturbed = 0;     ///< differences that a repetition did not show
    };
    [[nodiscard]] const Statistics& statistics() const { return statistics_; }
    [[nodiscard]] TestVp& machine() { return machine_; }

  private:
    /// Counts a difference that was not there again. False: there are too many to be the host's.
    [[nodiscard]] bool disturbed();
    struct EngineOutcome {
        int vector = -1;
        u64 error_code = 0, address = 0;  ///< of a page fault, as the host's
        UserState state;
    };
    /// Puts memory and registers of a case where the engine finds them.
    void start_engine(const UserState& state, std::span<const u8> bytes);
    EngineOutcome finish_engine(const UserState& start, std::size_t bytes);
    EngineOutcome run_engine(const Case& c);
    NativeOutcome run_host(const UserState& start, std::span<const u8> bytes);
    /// What differs. @param insn  the instruction that faulted, or the only one; nullptr: none did
    [[nodiscard]] std::string differences(const UserState& start, NativeOutcome host, EngineOutcome ours, const cpu::Insn* insn);
    void count(const NativeOutcome& host);
    void load_vp(const UserState& s);
    void store_vp(UserState& s);
    void map_pages();

    TestVp machine_;
    std::unique_ptr<cpu::Engine> owned_;  // goes before the memory
    cpu::Engine& engine_;
    NativeRunner native_;
    bool all_flags_;  ///< the host is of the family whose undefined flags are ours (cpu/ops/flags.h)
    u8 pristine_[NativeRunner::kDataSize];
    Statistics statistics_;
};

}  // namespace vg::test
