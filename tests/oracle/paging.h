// Random page tables and one access through them, on both processors: fault, error code, CR2, accessed and dirty bits.
#pragma once

#include <string>

#include "system_cpu.h"
#include "tests/support/random.h"

namespace vg::test {

class PagingComparison {
  public:
    PagingComparison();
    /// `count` cases from `seed`: a report of the first difference that Unicorn's known departures do not explain.
    [[nodiscard]] std::string run(u64 seed, u64 count);

    struct Statistics {
        u64 cases = 0, completed = 0, faulted = 0, reserved = 0, explained = 0, unmodelled = 0;
    };
    [[nodiscard]] const Statistics& statistics() const { return statistics_; }

  private:
    enum class Tables : u8 { Bits32, Pae, Level4, Count };
    struct Access {
        std::string_view name;
        std::vector<u8> code;
        bool fetch = false, writes = false, reads_first = false, segment = false;
        u8 size = 4;
    };
    /// Where the tables of this case are, and what was chosen.
    struct Plan {
        Tables tables = Tables::Bits32;
        u64 address = 0;  ///< linear
        const Access* access = nullptr;
    };

    static const std::vector<Access>& accesses();
    [[nodiscard]] u8* oracle_memory() { return oracle(plan_.tables).memory(); }
    SystemUnicorn& oracle(Tables tables) { return tables == Tables::Level4 ? *unicorn64_ : *unicorn32_; }
    void build(Random& random, SystemCase& c);
    void build_code(SystemCase& c);
    void build_data(Random& random, const SystemCase& c);
    u64 entry(Random& random, const SystemCase& c, u64 address, bool leaf);
    void put(u64 at, u64 value);
    [[nodiscard]] u64 get(u64 at) const;
    [[nodiscard]] unsigned entry_size() const { return plan_.tables == Tables::Bits32 ? 4 : 8; }
    [[nodiscard]] std::string differences(const SystemCase& c, const SystemOutcome& ours, const SystemOutcome& theirs);
    [[nodiscard]] SystemOutcome run_unicorn(const SystemCase& c);
    void restore(u8* memory) const;
    void renew();
    bool correct(const SystemCase& c, const SystemOutcome& ours, SystemOutcome& theirs);
    [[nodiscard]] std::string describe(const SystemCase& c) const;

    SystemEngine engine_;
    std::unique_ptr<SystemUnicorn> unicorn32_, unicorn64_;
    std::vector<u8> image_;  ///< what both start from
    Plan plan_;
    Statistics statistics_;
};

}  // namespace vg::test
