// Guests that thrash: code that rewrites itself, aliased code pages, page tables rewritten under execution, instructions
// across a page that vanishes, jumps into the middle of instructions, millions of tiny blocks. Each leaves the
// interpreter's state at every point of comparison, whatever the cache, and the translator keeps its limits.
#ifdef VG_GUEST_IMAGES
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

/// As in tests/jit/guest/world.inc.
constexpr u64 kTable = 0x500000, kTableAlias = 0x501000, kField = 0x900000, kFieldSize = 0x180000, kFieldPhysical = 0x240000;

std::vector<u8> read_image(const std::string& name) {
    std::ifstream file(std::string(VG_GUEST_IMAGES) + "/" + name + ".bin", std::ios::binary);
    REQUIRE(file.good());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct ThrashMachine : JitMachine {
    explicit ThrashMachine(const std::vector<u8>& image) {
        const auto table_of = [](u64 va) { return kTables + 0x3000 + (va >> 21) * 0x1000; };
        const auto map = [&](u64 va, u64 pa) {
            memory.write<u64>(Spa(kTables + 0x2000 + (va >> 21) * 8), table_of(va) | 7);
            memory.write<u64>(Spa(table_of(va) + ((va >> 12) & 511) * 8), pa | 0x63);
        };
        map(kTable, table_of(kCode));
        map(kTableAlias, table_of(kCodeAlias));
        for (u64 at = 0; at < kFieldSize; at += kPageSize) map(kField + at, kFieldPhysical + at);
        load(kCodePhysical, image);
        s().gpr[cpu::RSP] = kStackTop - 0x100;
    }
    /// Runs `count` instructions or to the program's end.
    void run(cpu::Engine& engine, u64 count) {
        vp->begin_slice(vp->now(), vp->now() + count);
        (void)engine.run(*vp);
    }
    [[nodiscard]] bool ended() const { return vp->activity() == cpu::Activity::Halted; }
    [[nodiscard]] bool failed() { return s().rip >= kHandlers && s().rip < kHandlers + 0x200; }
};

struct Variant {
    const char* name;
    jit::Options options;
    u32 tlb_entries;
};
const Variant kVariants[] = {
    {"as always", {}, mmu::kTlbEntries},
    {"cache of 64 KiB", {.code_bytes = 64u << 10}, mmu::kTlbEntries},
    {"cache of 64 KiB, one TLB entry", {.code_bytes = 64u << 10}, 1},
    {"blocks of one, cache of 64 KiB", {.code_bytes = 64u << 10, .block_limit = 1}, mmu::kTlbEntries},
    {"flush at every third dispatch", {.flush_every = 3}, mmu::kTlbEntries},
    {"memos at once", {.sample_every = 256, .hot_samples = 1, .profile_runs = 2}, mmu::kTlbEntries},
    {"memos at once, cache of 64 KiB, one TLB entry",
     {.code_bytes = 64u << 10, .sample_every = 256, .hot_samples = 1, .profile_runs = 2}, 1},
    {"no links, no TLB", {.link_blocks = false}, 0},
};

bool within_limits(const jit::JitEngine& engine, const jit::Options& options) {
    const jit::JitEngine::Footprint now = engine.footprint(), most = jit::JitEngine::kLimits;
    constexpr std::size_t kBlock = 1024;  // what one block may add
    return now.blocks <= most.blocks + 1 && now.insns <= most.insns + kBlock && now.sites <= most.sites + kBlock &&
           now.recipes <= most.recipes + kBlock && now.code_bytes <= options.code_bytes;
}

/// Both engines side by side, compared every `interval` instructions. Returns how many were executed.
u64 compare(const std::string& name, const Variant& variant, u64 interval, u64 most) {
    INFO(name << ", " << variant.name);
    const std::vector<u8> image = read_image(name);
    ThrashMachine a(image), b(image);
    b.vp->tlb().set_stress_entries(variant.tlb_entries);
    cpu::StepEngine stepper;
    auto translator = jit::JitEngine::create(b.memory, variant.options);
    REQUIRE(translator.has_value());
    while (!a.ended() && a.vp->now() < most) {
        a.run(stepper, interval);
        b.run(**translator, interval);
        INFO("after " << a.vp->now() << " instructions, rip " << fmt::format("{:#x} and {:#x}", a.s().rip, b.s().rip));
        REQUIRE(a.hash() == b.hash());
        REQUIRE(a.vp->now() == b.vp->now());
        REQUIRE(within_limits(**translator, variant.options));
    }
    REQUIRE(a.ended());
    REQUIRE_FALSE(a.failed());
    return a.vp->now();
}

void compare_all(const std::string& name, u64 interval, u64 least) {
    constexpr u64 kMost = 20'000'000;
    for (const Variant& variant : kVariants) CHECK(compare(name, variant, interval, kMost) > least);
}

}  // namespace

TEST_CASE("jit: loops that write their own instructions leave the interpreter's state", "[jit][thrash]") {
    compare_all("self_modifying", 7919, 300'000);
}

TEST_CASE("jit: jumps into the middle of instructions leave the interpreter's state", "[jit][thrash]") {
    compare_all("middle", 1009, 50'000);
}

TEST_CASE("jit: an instruction across a page that vanishes leaves the interpreter's state", "[jit][thrash]") {
    compare_all("straddle", 211, 10'000);
}

TEST_CASE("jit: page tables rewritten under execution leave the interpreter's state", "[jit][thrash]") {
    compare_all("remap", 1511, 50'000);
}

TEST_CASE("jit: millions of tiny blocks leave the interpreter's state and keep within the limits", "[jit][thrash][slow]") {
    for (const Variant& variant : {kVariants[0], kVariants[1]}) CHECK(compare("tiny_blocks", variant, 500'009, 20'000'000) > 5'000'000);
}

#endif
