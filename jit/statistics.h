// What the engine did. Counted where C++ runs anyway: translated code itself counts nothing.
#pragma once

#include <array>
#include <iterator>
#include <vector>

#include "cpu/isa/isa.h"

namespace vg::jit {

/// Why a memory check led to the interpreter instead of a TLB refill.
enum class SlowAccess : u8 { Misaligned, CrossesPage, NonCanonical, Fault, NoRam, Count };

/// Counters only grow.
struct Stats {
    u64 blocks = 0;  ///< translated
    u64 translated_instructions = 0;
    u64 translate_ns = 0;
    u64 code_bytes = 0;
    u64 dispatches = 0;      ///< entries into translated code
    u64 redispatches = 0;    ///< changes of mode, faults and returns that went on without the dispatcher
    u64 lookups_failed = 0;  ///< dispatches that had to translate
    u64 links = 0;           ///< jumps patched
    u64 steps = 0;           ///< instructions that the interpreter executed for the dispatcher
    u64 helpers = 0;         ///< instructions that translated code gave to the interpreter's bodies
    u64 refills = 0;         ///< memory checks that failed and found a translation
    u64 slow_accesses = 0;   ///< memory checks whose instruction the interpreter executed
    u64 slow_executes = 0;   ///< other instructions that it executed for a check that failed
    u64 slow_jumps = 0;      ///< indirect and cross-page jumps that the jump cache did not know
    u64 jump_fills = 0;      ///< those of them that led to a translation: the jump cache knows now
    u64 return_misses = 0;   ///< returns that were not to where the last call came from
    u64 code_writes = 0;     ///< stores to translated code that dropped a block
    u64 invalidations = 0;   ///< blocks dropped because their bytes were written
    u64 samples = 0;         ///< times a slice was cut to see where time is spent
    u64 profiled = 0;        ///< blocks translated again because much of it was spent there
    u64 tuned = 0;           ///< blocks translated with the memos that had hit
    u64 profiled_again = 0;  ///< blocks translated again because a memo had missed often
    u64 flushes = 0;         ///< times the whole cache was emptied
    std::array<u64, static_cast<unsigned>(SlowAccess::Count)> slow_access_reasons{};
    std::vector<u64> helper_rows = std::vector<u64>(cpu::row_count());  ///< helpers by row; 0: crosses a page

    Stats& operator+=(const Stats& other) {
        static constexpr u64 Stats::*kCounters[] = {
            &Stats::blocks, &Stats::translated_instructions, &Stats::translate_ns, &Stats::code_bytes, &Stats::dispatches,
            &Stats::redispatches, &Stats::lookups_failed, &Stats::links, &Stats::steps, &Stats::helpers, &Stats::refills,
            &Stats::slow_accesses, &Stats::slow_executes, &Stats::slow_jumps, &Stats::jump_fills, &Stats::return_misses,
            &Stats::code_writes, &Stats::invalidations, &Stats::samples, &Stats::profiled, &Stats::tuned,
            &Stats::profiled_again, &Stats::flushes};
        static_assert(std::size(kCounters) * sizeof(u64) + sizeof slow_access_reasons + sizeof helper_rows == sizeof(Stats));
        for (const auto counter : kCounters) this->*counter += other.*counter;
        for (std::size_t k = 0; k < slow_access_reasons.size(); ++k) slow_access_reasons[k] += other.slow_access_reasons[k];
        for (std::size_t row = 0; row < helper_rows.size(); ++row) helper_rows[row] += other.helper_rows[row];
        return *this;
    }
    void count_slow_access(SlowAccess why) {
        ++slow_accesses;
        ++slow_access_reasons[static_cast<unsigned>(why)];
    }
};

}  // namespace vg::jit
