// What VM exits and entries cost the host: a guest executes CPUID again and again, and its hypervisor, a dozen instructions,
// steps behind it and goes back. All of it translated, on the stages of tests/cpu. Processor time of one round, and of a round of
// the same instructions without a guest.
#pragma once

#include <catch2/catch.hpp>

#include <ctime>

#include <fmt/format.h>

#include "jit/engine.h"

namespace vg::bench {

inline constexpr u64 kRounds = 1'000'000;

inline double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Runs from `rip` until the processor halts, `rounds` in R15. Nanoseconds a round.
template <class Stage>
double run(Stage& t, jit::JitEngine& engine, u64 rip, u64 rounds) {
    cpu::VpState& s = t.s();
    s.rip = rip;
    s.gpr[cpu::R15] = rounds;
    s.activity = cpu::Activity::Active;
    s.rflags = cpu::flag::Always1;
    t.vp().update_context();
    const double begin = processor_seconds();
    while (s.activity == cpu::Activity::Active) {
        t.vp().begin_slice(t.vp().now(), t.vp().now() + 1'000'000);
        (void)engine.run(t.vp());
        t.vp().end_slice();
    }
    REQUIRE(s.gpr[cpu::R15] == 0);
    REQUIRE_FALSE(t.vp().guest_mode());
    return (processor_seconds() - begin) * 1e9 / static_cast<double>(rounds);
}

inline void report(const char* name, double round, double without) {
    fmt::print("{}: {:.0f} ns a round, {:.0f} ns of it without exit and entry\n", name, round, without);
}

inline constexpr u64 kCodeWithout = 0x6000;
inline const std::vector<u8> kGuest = {0x0f, 0xa2, 0xeb, 0xfc};  // cpuid; jmp

}  // namespace vg::bench
