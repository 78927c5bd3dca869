// The translator against the host processor, on random user-mode instructions: each is a block of its own.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "jit/engine.h"
#include "tests/support/differential.h"

using namespace vg;
using namespace vg::test;

namespace {

/// @param block_limit  1: blocks of one instruction, so that a slice of one instruction runs translated code
std::unique_ptr<cpu::Engine> make_engine(mmu::PhysicalMemory& memory, unsigned block_limit) {
    jit::Options options;
    options.block_limit = block_limit;
    options.code_bytes = 4u << 20;
    auto engine = jit::JitEngine::create(memory, options);
    REQUIRE(engine);
    return std::move(*engine);
}

void compare_with_host(u64 first_seed, u64 seeds, u64 count, u64 least_completed) {
    jit::JitEngine* engine = nullptr;
    Differential differential([&](mmu::PhysicalMemory& memory) {
        auto made = make_engine(memory, 1);
        engine = static_cast<jit::JitEngine*>(made.get());
        return made;
    });
    for (u64 seed = first_seed; seed < first_seed + seeds; ++seed) {
        INFO("seed " << seed);  // what a crash leaves
        const std::string report = differential.run(seed, count);
        INFO(report);
        REQUIRE(report.empty());
    }
    CHECK(differential.statistics().completed > least_completed);
    // Most cases really ran as translated code, and most of them without the interpreter's help.
    CHECK(engine->stats().dispatches > seeds * count / 2);
}

void compare_sequences(u64 seed, u64 count, unsigned block_limit) {
    jit::JitEngine* engine = nullptr;
    Differential differential([&](mmu::PhysicalMemory& memory) {
        auto made = make_engine(memory, block_limit);
        engine = static_cast<jit::JitEngine*>(made.get());
        return made;
    });
    INFO("seed " << seed << " block limit " << block_limit);
    const std::string report = differential.run_sequences(seed, count);
    INFO(report);
    REQUIRE(report.empty());
    const Differential::Statistics& s = differential.statistics();
    CHECK(s.endless < count / 100);
    CHECK(s.completed > count / 4);
    CHECK(s.faults[cpu::kPageFault] > count / 10);
    CHECK(engine->stats().translated_instructions > 2 * count);
}

}  // namespace

TEST_CASE("jit: random instructions do what the host does", "[jit][diff]") { compare_with_host(1, 1, 50'000, 25'000); }

/// For long hunts: VG_JIT_FIRST is the first seed, VG_JIT_SEEDS how many, of a hundred thousand cases each.
TEST_CASE("jit: a hunt for random instructions that differ from the host", "[.hunt]") {
    const auto setting = [](const char* name, u64 otherwise) {
        const char* const text = std::getenv(name);
        return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
    };
    compare_with_host(setting("VG_JIT_FIRST", 1000), setting("VG_JIT_SEEDS", 10), 100'000, 0);
}

TEST_CASE("jit: half a million random instructions do what the host does", "[jit][diff][slow]") {
    compare_with_host(200, 5, 100'000, 250'000);
}

TEST_CASE("jit: random sequences, with a fault at every access, do what the host does", "[jit][diff]") {
    compare_sequences(1, 20'000, 32);
}

TEST_CASE("jit: half a million random sequences do what the host does", "[jit][diff][slow]") {
    for (const unsigned block_limit : {2u, 7u, 32u, 64u}) compare_sequences(300 + block_limit, 125'000, block_limit);
}
