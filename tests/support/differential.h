// Runs the same case on the host processor and on an engine, and compares everything.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cpu/engine.h"
#include "tests/support/random_insn.h"
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

    struct Statistics {
        u64 cases = 0, completed = 0, faults[32] = {};
    };
    [[nodiscard]] const Statistics& statistics() const { return statistics_; }
    [[nodiscard]] TestVp& machine() { return machine_; }

  private:
    struct EngineOutcome {
        int vector = -1;
        UserState state;
    };
    EngineOutcome run_engine(const Case& c);
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
