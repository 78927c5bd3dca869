// Instructions that read and write system registers, and switches of tasks, on both processors.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "system_cpu.h"
#include "tests/support/random.h"

namespace vg::test {

class RegisterComparison {
  public:
    RegisterComparison() : image_(system_memory::kSize) {}
    /// `count` cases from `seed`: a report of the first difference that Unicorn's known departures do not explain.
    [[nodiscard]] std::string run(u64 seed, u64 count);
    /// All of them, one of each instruction.
    [[nodiscard]] std::string survey(u64 seed, u64 count);

    struct Statistics {
        u64 cases = 0, completed = 0, faulted = 0, explained = 0, unmodelled = 0, switches = 0;
    };
    [[nodiscard]] const Statistics& statistics() const { return statistics_; }

  private:
    void build(Random& random, SystemCase& c);
    void build_tables(const SystemCase& c);
    void build_task(Random& random, const SystemCase& c);
    [[nodiscard]] std::string check(const SystemCase& c);
    [[nodiscard]] std::string differences(const SystemCase& c, const SystemOutcome& ours, const SystemOutcome& theirs);
    bool correct(const SystemCase& c, const SystemOutcome& ours, SystemOutcome& theirs);
    SystemUnicorn& oracle(Width width) { return width == Width::Bits64 ? *unicorn64_ : *unicorn32_; }
    void restore(u8* memory) const;

    SystemEngine engine_;
    std::unique_ptr<SystemUnicorn> unicorn32_, unicorn64_;
    std::vector<u8> image_;  ///< what both start from
    Statistics statistics_;
};

}  // namespace vg::test
