// A debugger's breakpoints: whichever way leads to the instruction, both engines stop before it, and nothing else
// changes.
#include "cpu/breakpoints.h"

#include <catch2/catch.hpp>

#include <set>

#include "tests/jit/program_generator.h"

using namespace vg;
using namespace vg::test;

namespace {

/// Where and when.
using Place = std::pair<u64, u64>;

/// Stops once at each place.
class Recorder final : public cpu::Breakpoints {
  public:
    explicit Recorder(std::vector<u64> addresses = {}) { set(std::move(addresses)); }
    void set(std::vector<u64> addresses) { set_addresses(std::move(addresses)); }
    bool stops(cpu::Vp& vp) override {
        const Place here{vp.linear_rip(), vp.now()};
        if (!places.empty() && places.back() == here) return false;
        places.push_back(here);
        return true;
    }
    std::vector<Place> places;
};

/// Runs to instruction `count`, through every stop. Returns how many there were.
u64 run_through(JitMachine& m, cpu::Engine& engine, u64 count) {
    u64 stops = 0;
    while (m.vp->now() < count) {
        m.vp->begin_slice(m.vp->now(), count);
        const cpu::Stop stop = engine.run(*m.vp);
        stops += stop == cpu::Stop::Breakpoint ? 1 : 0;
        if (stop == cpu::Stop::Halt && m.s().activity == cpu::Activity::Halted)
            recover(m);
        else if (stop != cpu::Stop::Budget && stop != cpu::Stop::Breakpoint)
            break;
    }
    m.vp->end_slice();
    return stops;
}

/// Every instruction that is begun until `count` are executed, told by the interpreter one by one.
std::vector<Place> trace(JitMachine& m, u64 count) {
    cpu::StepEngine engine;
    std::vector<Place> places;
    m.vp->begin_slice(0, count);
    while (m.s().budget > 0) {
        if (m.s().activity == cpu::Activity::Active && !m.vp->event_pending())
            places.emplace_back(m.vp->linear_rip(), m.vp->now());
        const cpu::Stop stop = engine.step(*m.vp);
        if (m.s().activity == cpu::Activity::Halted)
            recover(m);
        else if (stop != cpu::Stop::Budget)
            break;
    }
    return places;
}

std::vector<Place> chosen(const std::vector<Place>& all, const std::set<u64>& addresses, u64 from = 0) {
    std::vector<Place> list;
    for (const Place& each : all)
        if (each.second >= from && addresses.count(each.first) != 0) list.push_back(each);
    return list;
}

struct Program {
    u64 seed;
    ProgramGenerator::Weights weights;
    void prepare(JitMachine& m) const {
        ProgramGenerator generator(seed, m.model, weights);
        m.load(kCodePhysical, generator.program(60));
        generator.initial_state(m);
    }
};

constexpr u64 kCount = 4000;

/// Some of the addresses that the program comes by, and one that it does not.
std::set<u64> some(const std::vector<Place>& all, u64 seed, unsigned count) {
    std::set<u64> addresses{kCode + 0x1fff};
    std::mt19937_64 random(seed);
    for (unsigned k = 0; k < count && !all.empty(); ++k) addresses.insert(all[random() % all.size()].first);
    return addresses;
}

}  // namespace

TEST_CASE("breakpoints: random programs stop where the interpreter comes by, and end as if they had not",
          "[jit][debug]") {
    const u64 seed = GENERATE(range(1, 60));
    const Program program{seed, {.branches = true, .faults = seed % 3 == 0, .self_modifying = seed % 5 == 0}};
    JitMachine traced;
    program.prepare(traced);
    const std::vector<Place> all = trace(traced, kCount);
    const std::set<u64> addresses = some(all, seed, static_cast<unsigned>(1 + seed % 7));
    const std::vector<Place> expected = chosen(all, addresses);
    CAPTURE(seed, addresses, expected.size());
    JitMachine plain;
    program.prepare(plain);
    const auto undebugged = *jit::JitEngine::create(plain.memory, {});
    run_through(plain, *undebugged, kCount);
    jit::Options options;
    if (seed % 4 == 1) options.block_limit = 3;
    if (seed % 4 == 2) options.flush_every = 5;
    if (seed % 4 == 3) options.sample_every = 256, options.hot_samples = 1, options.profile_runs = 2;
    for (const bool translated : {false, true}) {
        JitMachine m;
        program.prepare(m);
        cpu::StepEngine step;
        const auto jit = *jit::JitEngine::create(m.memory, options);
        cpu::Engine& engine = translated ? static_cast<cpu::Engine&>(*jit) : step;
        Recorder recorder({addresses.begin(), addresses.end()});
        engine.set_breakpoints(&recorder);
        CHECK(run_through(m, engine, kCount) == expected.size());
        CHECK(recorder.places == expected);
        CHECK(m.hash() == plain.hash());
    }
}

TEST_CASE("breakpoints: they come and go while translations are warm", "[jit][debug]") {
    const u64 seed = GENERATE(range(100, 130));
    const Program program{seed, {.branches = true}};
    JitMachine traced;
    program.prepare(traced);
    const std::vector<Place> all = trace(traced, 3 * kCount);
    const std::set<u64> first = some(all, seed, 3), second = some(all, seed + 1, 3);
    JitMachine m;
    program.prepare(m);
    const auto jit = *jit::JitEngine::create(m.memory, {});
    Recorder recorder;
    run_through(m, *jit, kCount);
    recorder.set({first.begin(), first.end()});
    jit->set_breakpoints(&recorder);
    run_through(m, *jit, 2 * kCount);
    recorder.set({second.begin(), second.end()});
    jit->set_breakpoints(&recorder);
    run_through(m, *jit, 5 * kCount / 2);
    const std::size_t until_then = recorder.places.size();
    jit->set_breakpoints(nullptr);
    run_through(m, *jit, 3 * kCount);
    std::vector<Place> expected;
    for (const Place& each : chosen(all, first, kCount))
        if (each.second < 2 * kCount) expected.push_back(each);
    for (const Place& each : chosen(all, second, 2 * kCount))
        if (each.second < 5 * kCount / 2) expected.push_back(each);
    CHECK(recorder.places == expected);
    CHECK(recorder.places.size() == until_then);
    CHECK(m.hash() == traced.hash());
}

TEST_CASE("breakpoints: they are for linear addresses, not for what is mapped there", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    const u64 home = GENERATE(u64{kCode}, u64{kCodeAlias});
    constexpr u64 kFunction = 0x1100;  // in the second page, and in the function's page: inc eax; ret
    std::vector<u8> code(0x2000, 0x90);
    // mov rsi, kCode + f; mov rdi, kCodeAlias + f; mov ecx, 50; l: call rsi; call rdi; call rsi; dec ecx; jnz l; hlt
    const auto put64 = [&](std::size_t at, u64 value) { std::memcpy(code.data() + at, &value, 8); };
    code[0] = 0x48, code[1] = 0xbe, put64(2, kCode + kFunction);
    code[10] = 0x48, code[11] = 0xbf, put64(12, kCodeAlias + kFunction);
    const u8 loop[] = {0xb9, 50, 0, 0, 0, 0xff, 0xd6, 0xff, 0xd7, 0xff, 0xd6, 0xff, 0xc9, 0x75, 0xf6, 0xf4};
    std::memcpy(code.data() + 20, loop, sizeof loop);
    const u8 function[] = {0x31, 0xd2, 0x83, 0xc0, 0x01, 0xc3};  // xor edx, edx; add eax, 1; ret
    std::memcpy(code.data() + kFunction, function, sizeof function);
    EngineMachine m(translated);
    REQUIRE(m.run(code, 100'000) == cpu::Stop::Halt);  // everything is translated
    REQUIRE(m.faulted() == -1);
    Recorder recorder({home + kFunction + 2});
    m.engine().set_breakpoints(&recorder);
    m.s().rip = kCode;
    m.s().gpr[cpu::RAX] = 0;
    unsigned stops = 0;
    cpu::Stop stop;
    while ((stop = m.go_on(100'000)) == cpu::Stop::Breakpoint) {
        ++stops;
        CHECK(m.s().rip == home + kFunction + 2);
    }
    CHECK(stop == cpu::Stop::Halt);
    CHECK(stops == (home == kCode ? 100 : 50));
    CHECK(m.s().gpr[cpu::RAX] == 150);
}

TEST_CASE("breakpoints: behind STI and MOV SS the shadow is still there when the run stops", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    const std::vector<u8> code =
        GENERATE(std::vector<u8>{0xfb, 0x90, 0x90, 0xf4},               // sti; nop; nop; hlt
                 std::vector<u8>{0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0xf4});  // mov eax, ss; mov ss, eax; nop
    const u64 behind = kCode + (code[0] == 0xfb ? 1 : 4);
    EngineMachine m(translated);
    REQUIRE(m.run(code) == cpu::Stop::Halt);
    Recorder recorder({behind});
    m.engine().set_breakpoints(&recorder);
    m.s().rip = kCode;
    m.s().rflags = 2;
    REQUIRE(m.go_on() == cpu::Stop::Breakpoint);
    CHECK(m.s().rip == behind);
    CHECK(m.s().interrupt_shadow == (code[0] == 0xfb ? cpu::shadow::Sti : cpu::shadow::MovSs));
    // An interrupt that comes now waits for one instruction, as it does on a processor.
    m.vp->request_nmi();
    REQUIRE(m.go_on() == cpu::Stop::Halt);
    CHECK(m.faulted() == cpu::kNmi);
    CHECK(m.return_rip() == behind + 1);
}

TEST_CASE("breakpoints: code that crosses a page, 32-bit code and pages that are not there stop too", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    EngineMachine m(translated);
    std::vector<u8> code(0x1010, 0x90);
    const u8 crossing[] = {0xb8, 1, 2, 3, 4};  // mov eax, 0x04030201
    std::memcpy(code.data() + 0xffe, crossing, sizeof crossing);
    code[0x1004] = 0xf4;
    REQUIRE(m.run(code, 10'000) == cpu::Stop::Halt);
    Recorder recorder({kCode + 0xffe, kCode + 0x1003, kData + 0x6000});
    m.engine().set_breakpoints(&recorder);
    m.s().rip = kCode;
    REQUIRE(m.go_on(10'000) == cpu::Stop::Breakpoint);
    CHECK(m.s().rip == kCode + 0xffe);
    REQUIRE(m.go_on(10'000) == cpu::Stop::Breakpoint);
    CHECK(m.s().rip == kCode + 0x1003);
    REQUIRE(m.go_on(10'000) == cpu::Stop::Halt);
    // The page is not present: the stop comes before the fetch that faults.
    m.s().rip = kData + 0x6000;
    m.s().cr2 = 0;
    REQUIRE(m.go_on() == cpu::Stop::Breakpoint);
    CHECK(m.s().cr2 == 0);
    REQUIRE(m.go_on() == cpu::Stop::Halt);
    CHECK(m.s().cr2 == kData + 0x6000);
}
