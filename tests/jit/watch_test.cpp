// Watched memory: both engines tell of the same accesses at the same instructions, stop behind them, and end as if
// nobody had watched.
#include <catch2/catch.hpp>

#include "tests/jit/program_generator.h"

using namespace vg;
using namespace vg::test;

namespace {

/// Physical address, size, direction; when and where the VP was.
using Told = std::tuple<u64, u32, bool, u64, u64>;

class Watcher final : public mmu::AccessObserver {
  public:
    Watcher(JitMachine& machine, u64 first, u64 size, bool reads, bool writes)
        : m_(machine), first_(first), size_(size), reads_(reads), writes_(writes) {
        m_.memory.set_access_observer(this);
        set(true);
    }
    ~Watcher() override {
        set(false);
        m_.memory.set_access_observer(nullptr);
    }
    void accessed(Spa spa, u32 size, bool write, mmu::Accessor by) override {
        CHECK(by.kind == mmu::Accessor::Kind::Processor);
        if (!(write ? writes_ : reads_) || spa.value >= first_ + size_ || first_ >= spa.value + size) return;
        accesses.emplace_back(spa.value, size, write, m_.vp->now(), m_.s().rip);
        m_.vp->request_stop();
    }
    void set(bool on) {
        for (u64 page = first_ & ~kPageMask; page < first_ + size_; page += kPageSize)
            m_.memory.set_watched(Spa(page), on && reads_, on && writes_);
    }

    std::vector<Told> accesses;
    std::vector<std::pair<u64, u64>> stops;  ///< rip and time

  private:
    JitMachine& m_;
    const u64 first_, size_;
    const bool reads_, writes_;
};

void run_through(JitMachine& m, cpu::Engine& engine, u64 count, Watcher* watcher) {
    while (m.vp->now() < count) {
        m.vp->begin_slice(m.vp->now(), count);
        const cpu::Stop stop = engine.run(*m.vp);
        m.s().request = 0;
        if (stop == cpu::Stop::Request && watcher != nullptr) watcher->stops.emplace_back(m.s().rip, m.vp->now());
        if (stop == cpu::Stop::Halt && m.s().activity == cpu::Activity::Halted)
            recover(m);
        else if (stop != cpu::Stop::Budget && stop != cpu::Stop::Request)
            break;
    }
    m.vp->end_slice();
}

constexpr u64 kCount = 4000;

struct Case {
    u64 seed;
    u64 first, size;
    bool reads, writes;

    void prepare(JitMachine& m) const {
        ProgramGenerator generator(seed, m.model,
                                   {.branches = true, .faults = seed % 3 == 0, .self_modifying = seed % 5 == 0});
        m.load(kCodePhysical, generator.program(60));
        generator.initial_state(m);
        // Walks have something to set.
        for (u64 table = kTables; table < kTables + 0x8000; table += 8) {
            const u64 entry = m.memory.read<u64>(Spa(table));
            if (entry != 0) m.memory.write<u64>(Spa(table), entry & ~u64{0x60});
        }
        m.vp->tlb().flush_all();
    }
};

u64 plain_hash(const Case& c) {
    JitMachine m;
    c.prepare(m);
    cpu::StepEngine engine;
    run_through(m, engine, kCount, nullptr);
    return m.hash();
}

struct Run {
    std::vector<Told> accesses;
    std::vector<std::pair<u64, u64>> stops;
    u64 hash = 0;
};

Run watched(const Case& c, bool translated, const jit::Options& options, u64 warm = 0) {
    JitMachine m;
    c.prepare(m);
    cpu::StepEngine step;
    const auto jit = *jit::JitEngine::create(m.memory, options);
    cpu::Engine& engine = translated ? static_cast<cpu::Engine&>(*jit) : step;
    run_through(m, engine, warm, nullptr);
    Run run;
    {
        Watcher watcher(m, c.first, c.size, c.reads, c.writes);
        run_through(m, engine, kCount, &watcher);
        run.accesses = watcher.accesses;
        run.stops = watcher.stops;
    }
    run.hash = m.hash();
    return run;
}

}  // namespace

TEST_CASE("watch: both engines tell of the same accesses at the same instructions", "[jit][mmu]") {
    const u64 seed = GENERATE(range(1, 60));
    Case c{seed, kDataPhysical + 0x400 + seed * 8, 64, seed % 2 == 0, seed % 4 != 0};
    if (seed % 6 == 0) c = {seed, kStackPhysical + 0x3000, 0x2000, true, true};
    if (seed % 6 == 1) c = {seed, kDataPhysical, 0x3000, false, true};
    if (seed % 6 == 2) c = {seed, kTables, 0x8000, false, true};
    CAPTURE(seed, c.first, c.size, c.reads, c.writes);
    jit::Options options;
    if (seed % 4 == 1) options.block_limit = 3;
    if (seed % 4 == 3) options.sample_every = 256, options.hot_samples = 1, options.profile_runs = 2;
    const u64 expected = plain_hash(c), warm = seed % 3 == 1 ? kCount / 2 : 0;
    const Run step = watched(c, false, options, warm), jit = watched(c, true, options, warm);
    CHECK(step.hash == expected);
    CHECK(jit.hash == expected);
    CHECK(step.accesses == jit.accesses);
    CHECK(step.stops == jit.stops);
}

TEST_CASE("watch: what walks set is told once, at the instruction that walks", "[jit][mmu]") {
    const bool translated = GENERATE(false, true);
    EngineMachine m(translated);
    // nop; mov rax, [rbx]; nop; mov [rbx], rax; nop; hlt
    m.load(kCodePhysical, {0x90, 0x48, 0x8b, 0x03, 0x90, 0x48, 0x89, 0x03, 0x90, 0xf4});
    constexpr u64 kEntry = kTables + 0x3000 + (kData >> 21) * 0x1000 + ((kData >> 12) & 511) * 8;
    m.memory.write<u64>(Spa(kEntry), m.memory.read<u64>(Spa(kEntry)) & ~u64{0x60});
    m.vp->tlb().flush_all();
    m.s().gpr[cpu::RBX] = kData;
    Watcher watcher(m, kEntry, 8, false, true);
    run_through(m, m.engine(), 5, &watcher);
    CHECK(watcher.accesses == std::vector<Told>{{kEntry, 8, true, 1, kCode + 1}, {kEntry, 8, true, 3, kCode + 5}});
    CHECK(watcher.stops == std::vector<std::pair<u64, u64>>{{kCode + 4, 2}, {kCode + 8, 4}});
}

TEST_CASE("watch: a repeated string instruction stops behind the iteration", "[jit][mmu]") {
    const bool translated = GENERATE(false, true);
    const u8 opcode = GENERATE(as<u8>{}, 0xa4, 0xaa);  // movsb, stosb
    EngineMachine m(translated);
    m.load(kCodePhysical, {0xf3, opcode, 0x90, 0xf4});
    m.s().gpr[cpu::RSI] = kData;
    m.s().gpr[cpu::RDI] = kData + 0xf00;  // into the watched page
    m.s().gpr[cpu::RCX] = 0x300;
    Watcher watcher(m, kDataPhysical + 0x1010, 1, false, true);
    run_through(m, m.engine(), 0x300, &watcher);
    REQUIRE(watcher.stops.size() == 1);
    CHECK(watcher.stops[0] == std::pair<u64, u64>{kCode, 0x111});
    CHECK(m.s().gpr[cpu::RCX] == 0);
}
