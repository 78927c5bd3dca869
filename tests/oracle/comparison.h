// Runs the same case on both processors and compares everything.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "engine_cpu.h"
#include "unicorn_cpu.h"

namespace vg::test {

class Comparison {
  public:
    Comparison();
    /// `count` cases from `seed`: a report of the first unexplained difference, or nothing.
    [[nodiscard]] std::string run(u64 seed, u64 count, const char* only = "");
    /// All differences of `count` cases, by operation, one example each.
    [[nodiscard]] std::string survey(u64 seed, u64 count, const char* only);

    struct Statistics {
        u64 cases = 0, completed = 0, faulted = 0, explained = 0, unmodelled = 0;
        std::vector<u64> by_deviation;  ///< of those explained, in the order of deviations()
    };
    [[nodiscard]] const Statistics& statistics() const { return statistics_; }

  private:
    [[nodiscard]] std::string check(const LegacyCase& c);
    [[nodiscard]] std::string differences(const LegacyCase& c, const LegacyOutcome& ours, const LegacyOutcome& theirs) const;
    [[nodiscard]] bool explain(const LegacyCase& c, const LegacyOutcome& ours, LegacyOutcome theirs);
    void start(u64 n, LegacyGenerator& generator);
    void restore(UnicornCpu& oracle);

    EngineCpu engine_;
    std::array<std::unique_ptr<UnicornCpu>, static_cast<unsigned>(Legacy::Count)> oracles_;
    std::vector<u8> image_[2];  ///< pristine memory: protected modes, real mode
    Legacy loaded_ = Legacy::Count;
    Statistics statistics_;
};

}  // namespace vg::test
