// Ways of running that must change nothing, and the comparison of two machines side by side.
#include "machine/stress.h"

#include <catch2/catch.hpp>

#include "tests/machine/small_kernel.h"
#include "tests/support/lockstep.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

/// Sums what it writes through memory, calls and divides for a few hundred thousand instructions, then asks CPUID, stores
/// the answer and halts for good.
const std::vector<u8> kProgram = {
    0xb9, 0x20, 0x4e, 0x00, 0x00,        // mov ecx, 20000
    0xbf, 0x00, 0x00, 0x30, 0x00,        // mov edi, 0x300000
    0x89, 0x0f,                          // l: mov [edi], ecx
    0x01, 0xc8,                          // add eax, ecx
    0x33, 0x07,                          // xor eax, [edi]
    0xd1, 0xc0,                          // rol eax, 1
    0x89, 0x87, 0x00, 0x10, 0x00, 0x00,  // mov [edi+0x1000], eax
    0x50, 0x5b,                          // push eax; pop ebx
    0x83, 0xc7, 0x04,                    // add edi, 4
    0x81, 0xe7, 0xff, 0x0f, 0x30, 0x00,  // and edi, 0x300fff
    0xe2, 0xe5,                          // loop l
    0xb8, 0x01, 0x00, 0x00, 0x00,        // mov eax, 1
    0x0f, 0xa2,                          // cpuid
    0x89, 0x0f,                          // mov [edi], ecx
    0xfa, 0xf4, 0xeb, 0xfc               // cli; hlt; jmp
};

struct World {
    test::TempDir dir;
    World() {
        std::vector<u8> code = {0xbc, 0x00, 0x00, 0x40, 0x00};  // mov esp, 0x400000
        code.insert(code.end(), kProgram.begin(), kProgram.end());
        test::write_file(dir / "kernel", test::image_with(code, {0xf4}, 0));
    }
    std::unique_ptr<Machine> make(MachineOptions::EngineKind engine, const std::string& stress, const std::string& cpu = "verdigris-v2") {
        const std::string text = "[machine]\nmemory = \"16 MiB\"\ncpu = \"" + cpu + "\"\nstress = \"" + stress + "\"\n[boot]\nkernel = \"kernel\"\n";
        auto config = parse_config(text, "m.toml", dir / ".", {});
        REQUIRE(config);
        MachineOptions options;
        options.engine = engine;
        auto made = Machine::create(*config, std::move(options));
        INFO((made ? "" : made.error().text));
        REQUIRE(made);
        return std::move(*made);
    }
};

constexpr auto kStep = MachineOptions::EngineKind::Step, kJit = MachineOptions::EngineKind::Jit;

}  // namespace

TEST_CASE("stress: every mode is understood", "[machine][stress]") {
    const auto none = parse_stress("");
    REQUIRE(none);
    CHECK(none->tlb_entries == mmu::kTlbEntries);
    CHECK(none->budget == 0);
    const auto all = parse_stress("tlb=1, budget=3,cache=64 KiB,flush=7,blocks=2,unlinked,helpers");
    REQUIRE(all);
    CHECK(all->tlb_entries == 1);
    CHECK(all->budget == 3);
    CHECK(all->translator.code_bytes == 65536);
    CHECK(all->translator.flush_every == 7);
    CHECK(all->translator.block_limit == 2);
    CHECK_FALSE(all->translator.link_blocks);
    CHECK_FALSE(all->translator.native);
    CHECK(parse_stress("slow")->tlb_entries == 0);
    CHECK(parse_stress("tiers=off")->translator.sample_every == 0);
    const auto tiers = parse_stress("tiers=random:7");
    REQUIRE(tiers);
    CHECK(tiers->translator.sample_every < jit::Options{}.sample_every);
    CHECK(tiers->translator.hot_samples < jit::Options{}.hot_samples);
    CHECK(tiers->translator.profile_runs < jit::Options{}.profile_runs);
}

TEST_CASE("stress: a mistake is told with a remedy", "[machine][stress]") {
    const auto told = [](const char* text, const char* part) {
        const auto made = parse_stress(text);
        REQUIRE_FALSE(made);
        INFO(made.error().text);
        CHECK(made.error().text.find(part) != std::string::npos);
    };
    told("budet=1", "did you mean \"budget\"?");
    told("budget", "is written \"budget=NUMBER\"");
    told("slow=1", "is written \"slow\"");
    told("budget=0", "not a number from 1 to");
    told("tlb=1x", "not a number");
    told("blocks=65", "not a number from 1 to 64");
    told("cache=63 KiB", "from 64 KiB to 1 GiB");
    told("tiers=often", "neither \"off\" nor \"random:SEED\"");
    told("tiers=random:x", "tiers=random:1");
    told("cache=1", "write for example");
    told("tlb=1,,slow", "unknown stress mode \"\"");
    const auto config = parse_config("[machine]\nstress = \"fluch=1\"\n[boot]\nkernel = \"/dev/null\"\n", "m.toml", ".", {});
    REQUIRE(config);
    const auto checked = check_config(*config);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().text == "m.toml:2:10: unknown stress mode \"fluch\"; did you mean \"flush\"?");
}

TEST_CASE("stress: no mode changes the state that a machine ends in", "[machine][stress]") {
    World world;
    const auto hash = [&](MachineOptions::EngineKind engine, const std::string& stress) {
        const auto machine = world.make(engine, stress);
        CHECK(machine->run_until(10'000'000) == Pause::Hang);
        CHECK(machine->instructions() > 200'000);
        return machine->state_hash();
    };
    const u64 expected = hash(kStep, "");
    CHECK(hash(kJit, "") == expected);
    for (const char* stress : {"tlb=1", "slow", "budget=1", "budget=3", "cache=64 KiB", "flush=1", "flush=7", "blocks=1", "blocks=3", "tiers=random:1", "tiers=random:2",
                               "tiers=off", "unlinked", "helpers", "tiers=random:3,tlb=1,budget=300", "tlb=1,budget=5,cache=64 KiB,flush=3,blocks=2,unlinked"}) {
        INFO(stress);
        CHECK(hash(kJit, stress) == expected);
    }
    CHECK(hash(kStep, "slow,budget=1") == expected);
}

TEST_CASE("lockstep: equal machines are equal to the end", "[machine][lockstep]") {
    World world;
    const test::LockstepResult result = test::run_lockstep(
        [&](unsigned which) { return world.make(which == 0 ? kStep : kJit, which == 0 ? "" : "cache=64 KiB"); },
        {.interval = 997, .memory_every = 10});
    INFO(result.report);
    CHECK(result.equal);
    CHECK(result.instructions > 200'000);
    CHECK(result.comparisons > 200);
    CHECK(result.memory_comparisons > 20);
    CHECK(result.end == "every processor waits");
}

TEST_CASE("lockstep: the first instruction after which machines differ is found", "[machine][lockstep]") {
    World world;
    const test::LockstepResult result = test::run_lockstep(
        [&](unsigned which) { return world.make(kJit, "", which == 0 ? "verdigris-v2" : "verdigris-v2,-pcid"); },
        {.interval = 997, .memory_every = 10});
    INFO(result.report);
    CHECK_FALSE(result.equal);
    CHECK(result.report.find("0f a2 CPUID") != std::string::npos);
    CHECK(result.report.find("rcx") != std::string::npos);
}

TEST_CASE("stress: memory that goes back to the host in the middle of a run changes nothing", "[machine][stress]") {
    World world;
    const auto whole = world.make(kJit, "");
    (void)whole->run_until(kNever);
    for (const VTime slice : {50, 1'000, 30'011}) {
        CAPTURE(slice);
        const auto machine = world.make(kJit, "");
        Pause pause = Pause::Reached;
        for (unsigned i = 0; pause == Pause::Reached && i < 300; ++i) {
            pause = machine->run_until(machine->now() + slice);
            machine->engine().release_memory();
            for (const mmu::Region& region : machine->memory().regions())
                if (region.kind == mmu::RegionKind::Ram) (void)machine->memory().release_zero_pages(region, 0, region.size);
        }
        (void)machine->run_until(kNever);
        CHECK(machine->now() == whole->now());
        CHECK(machine->instructions() == whole->instructions());
        CHECK(machine->state_hash() == whole->state_hash());
    }
}
