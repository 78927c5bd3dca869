// The translator against the host processor, on random user-mode instructions: each is a block of its own.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "jit/engine.h"
#include "tests/support/differential.h"

using namespace vg;
using namespace vg::test;

namespace {

/// Blocks of one instruction, so that a slice of one instruction runs translated code.
std::unique_ptr<cpu::Engine> make_engine(mmu::PhysicalMemory& memory) {
    jit::Options options;
    options.block_limit = 1;
    options.code_bytes = 4u << 20;
    auto engine = jit::JitEngine::create(memory, options);
    REQUIRE(engine);
    return std::move(*engine);
}

void compare_with_host(u64 first_seed, u64 seeds, u64 count, u64 least_completed) {
    jit::JitEngine* engine = nullptr;
    Differential differential([&](mmu::PhysicalMemory& memory) {
        auto made = make_engine(memory);
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

}  // namespace

TEST_CASE("jit: random instructions do what the host does", "[jit][diff]") { compare_with_host(1, 1, 50'000, 30'000); }

/// For long hunts: VG_JIT_FIRST is the first seed, VG_JIT_SEEDS how many, of a hundred thousand cases each.
TEST_CASE("jit: a hunt for random instructions that differ from the host", "[.hunt]") {
    const auto setting = [](const char* name, u64 otherwise) {
        const char* const text = std::getenv(name);
        return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
    };
    compare_with_host(setting("VG_JIT_FIRST", 1000), setting("VG_JIT_SEEDS", 10), 100'000, 0);
}

TEST_CASE("jit: a million random instructions do what the host does", "[jit][diff][slow]") {
    compare_with_host(200, 10, 100'000, 600'000);
}
