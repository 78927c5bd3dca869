// The translator against the interpreter on random programs: equal state after every number of instructions.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <cstdlib>
#include <string>

#include "tests/jit/program_generator.h"

using namespace vg;
using namespace vg::test;

namespace {

struct Case {
    u64 seed = 0;
    unsigned instructions = 60;
    ProgramGenerator::Weights weights{};
    jit::Options options{};
    u32 tlb_entries = mmu::kTlbEntries;
    u64 slice = ~u64{0} >> 2;
    bool hole = false;  ///< one page of the data is where no memory is
};

void prepare(JitMachine& m, const Case& c) {
    ProgramGenerator generator(c.seed, m.model, c.weights);
    m.load(kCodePhysical, generator.program(c.instructions));
    generator.initial_state(m);
    m.vp->tlb().set_stress_entries(c.tlb_entries);
    constexpr u64 kDataEntries = kTables + 0x3000 + (kData >> 21) * 0x1000 + ((kData >> 12) & 511) * 8;
    if (c.hole) m.memory.write<u64>(Spa(kDataEntries + 2 * 8), 0x10000000 | 0x63);
}

struct Outcome {
    u64 hash = 0;
    cpu::Stop stop{};
    cpu::VpState state;
    std::vector<u8> memory;  ///< of code, data and stack
};

constexpr u64 kMemoryFirst = kCodePhysical, kMemoryLast = kStackPhysical + 0x8000;

Outcome outcome_of(JitMachine& m, cpu::Stop stop) {
    Outcome o;
    o.stop = stop;
    o.hash = m.hash();
    std::memcpy(static_cast<void*>(&o.state), &m.s(), sizeof o.state);
    o.memory.resize(kMemoryLast - kMemoryFirst);
    m.memory.read(Spa(kMemoryFirst), o.memory.data(), o.memory.size());
    return o;
}

Outcome run_step(const Case& c, u64 count) {
    JitMachine m;
    prepare(m, c);
    cpu::StepEngine engine;
    const cpu::Stop stop = run_for(m, engine, count, c.slice);
    return outcome_of(m, stop);
}

Outcome run_jit(const Case& c, u64 count) {
    JitMachine m;
    prepare(m, c);
    auto engine = jit::JitEngine::create(m.memory, c.options);
    REQUIRE(engine.has_value());
    const cpu::Stop stop = run_for(m, **engine, count, c.slice);
    return outcome_of(m, stop);
}

bool equal(const Outcome& a, const Outcome& b) { return a.hash == b.hash && a.stop == b.stop; }

std::string describe(const Outcome& one, const Outcome& other) {
    const cpu::VpState &a = one.state, &b = other.state;
    std::string out;
    const auto show = [&](std::string_view name, u64 x, u64 y) {
        if (x != y) out += fmt::format("  {:8} step {:016x}  jit {:016x}\n", name, x, y);
    };
    static constexpr const char* kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    show("stop", static_cast<u64>(one.stop), static_cast<u64>(other.stop));
    for (unsigned r = 0; r < 16; ++r) show(kNames[r], a.gpr[r], b.gpr[r]);
    show("rip", a.rip, b.rip);
    show("rflags", a.rflags, b.rflags);
    show("budget", static_cast<u64>(a.budget), static_cast<u64>(b.budget));
    show("mxcsr", a.mxcsr, b.mxcsr);
    show("cr2", a.cr2, b.cr2);
    for (unsigned v = 0; v < 16; ++v)
        for (unsigned half = 0; half < 4; ++half) {
            u64 x, y;
            std::memcpy(&x, a.ymm[v] + half * 8, 8);
            std::memcpy(&y, b.ymm[v] + half * 8, 8);
            show(fmt::format("ymm{}.{}", v, half), x, y);
        }
    // What has no line above, by its place in the state: everything before the scratch of emitted code.
    const auto *x = reinterpret_cast<const u8*>(&a), *y = reinterpret_cast<const u8*>(&b);
    for (std::size_t at = sizeof a.ymm; at < offsetof(cpu::VpState, seg); ++at)
        show(fmt::format("[{:#x}]", at), x[at], y[at]);
    unsigned listed = 0;
    for (std::size_t at = 0; at < one.memory.size() && listed < 32; ++at)
        if (one.memory[at] != other.memory[at]) {
            show(fmt::format("+{:#x}", kMemoryFirst + at), one.memory[at], other.memory[at]);
            ++listed;
        }
    return out.empty() ? "  memory elsewhere\n" : out;
}

std::string settings(const Case& c) {
    return fmt::format("seed {}: {} instructions, {}{}{}{}{}tlb {} slice {} native {} links {} flush {} block {} code {:#x}", c.seed,
                       c.instructions, c.weights.vectors ? "vectors " : "", c.weights.branches ? "branches " : "",
                       c.weights.faults ? "faults " : "", c.weights.self_modifying ? "self-modifying " : "",
                       c.weights.x87 ? "x87 " : "", c.tlb_entries, c.slice,
                       c.options.native, c.options.link_blocks, c.options.flush_every, c.options.block_limit, c.options.code_bytes);
}

/// Finds the first instruction count at which the engines differ, and says what that instruction is. A difference that
/// does not come back is said to be one: then only `step` and `jit`, the outcomes that differed, tell about it.
std::string first_difference(const Case& c, u64 count, const Outcome& step, const Outcome& jit) {
    u64 good = 0, bad = count;
    while (bad - good > 1) {
        const u64 middle = good + (bad - good) / 2;
        (equal(run_step(c, middle), run_jit(c, middle)) ? good : bad) = middle;
    }
    JitMachine m;
    prepare(m, c);
    cpu::StepEngine engine;
    run_for(m, engine, good, ~u64{0} >> 2);
    cpu::Insn insn;
    std::string text = fmt::format("{}, instruction {}:", settings(c), bad);
    if (cpu::fetch_decode(*m.vp, insn)) {
        for (unsigned k = 0; k < insn.length; ++k) text += fmt::format(" {:02x}", insn.bytes[k]);
        text += fmt::format(" {}", cpu::mnemonic(insn.op));
    }
    const Outcome a = run_step(c, bad), b = run_jit(c, bad);
    text += "\n";
    if (!equal(a, b)) return text + describe(a, b);
    const bool step_again = equal(run_step(c, count), step), jit_again = equal(run_jit(c, count), jit);
    return text + fmt::format("not repeatable (interpreter {}, translator {}); after {} instructions it was\n",
                              step_again ? "as before" : "differs", jit_again ? "as before" : "differs", count) +
           describe(step, jit);
}

void compare(const Case& c, u64 count) {
    INFO(settings(c));  // what a crash leaves
    const Outcome step = run_step(c, count), jit = run_jit(c, count);
    if (equal(step, jit)) {
        SUCCEED();
        return;
    }
    FAIL(first_difference(c, count, step, jit));
}

/// VG_JIT_SEEDS and VG_JIT_FIRST in the environment choose others, for long hunts.
u64 setting(const char* name, u64 otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

template <class F>
void for_seeds(u64 count, F f) {
    const u64 first = setting("VG_JIT_FIRST", 1);
    const u64 seeds = setting("VG_JIT_SEEDS", count);
    for (u64 seed = first; seed < first + seeds; ++seed) f(seed);
}

}  // namespace

TEST_CASE("jit: integer programs leave the interpreter's state", "[jit]") {
    for_seeds(150, [](u64 seed) {
        Case c{.seed = seed};
        c.weights.vectors = false;
        compare(c, 1500);
    });
}

TEST_CASE("jit: straight integer code with faulting accesses is precise", "[jit]") {
    for_seeds(150, [](u64 seed) {
        Case c{.seed = seed + 10000};
        c.weights = {.vectors = false, .branches = false, .faults = true};
        compare(c, 400);
    });
}

TEST_CASE("jit: vector programs leave the interpreter's state", "[jit]") {
    for_seeds(150, [](u64 seed) {
        Case c{.seed = seed + 20000};
        compare(c, 1000);
    });
}

TEST_CASE("jit: x87 and MMX programs leave the interpreter's state", "[jit][x87]") {
    for_seeds(150, [](u64 seed) {
        Case c{.seed = seed + 50000};
        c.weights.x87 = true;
        compare(c, 1000);
    });
}

TEST_CASE("jit: x87 and MMX code with faulting and memory-mapped accesses is precise", "[jit][x87]") {
    for_seeds(100, [](u64 seed) {
        Case c{.seed = seed + 60000};
        c.weights = {.vectors = seed % 2 == 0, .branches = seed % 3 == 0, .faults = true, .x87 = true};
        c.hole = true;
        compare(c, 600);
    });
}

TEST_CASE("jit: programs that write over themselves leave the interpreter's state", "[jit]") {
    for_seeds(200, [](u64 seed) {
        Case c{.seed = seed + 40000};
        c.weights = {.vectors = false, .branches = true, .faults = true, .self_modifying = true};
        compare(c, 600);
    });
}

void memos_at_once(Case& c) {
    c.options.sample_every = 256;
    c.options.hot_samples = 1;
    c.options.profile_runs = 2;
}

TEST_CASE("jit: results do not depend on slices, cache and TLB size", "[jit]") {
    struct Variant {
        const char* name;
        void (*apply)(Case&);
    };
    static constexpr Variant kVariants[] = {
        {"slice of one", [](Case& c) { c.slice = 1; }},
        {"slice of three", [](Case& c) { c.slice = 3; }},
        {"TLB of one entry", [](Case& c) { c.tlb_entries = 1; }},
        {"flush at every dispatch", [](Case& c) { c.options.flush_every = 1; }},
        {"flush at every fifth dispatch", [](Case& c) { c.options.flush_every = 5; }},
        {"small cache", [](Case& c) { c.options.code_bytes = 128u << 10; }},
        {"no links", [](Case& c) { c.options.link_blocks = false; }},
        {"helpers only", [](Case& c) { c.options.native = false; }},
        {"self-modifying, slice of seven",
         [](Case& c) {
             c.weights.self_modifying = true;
             c.slice = 7;
         }},
        {"self-modifying, TLB of one entry",
         [](Case& c) {
             c.weights.self_modifying = true;
             c.tlb_entries = 1;
         }},
        {"blocks of one", [](Case& c) { c.options.block_limit = 1; }},
        {"memos at once", memos_at_once},
        {"memos at once, TLB of one entry",
         [](Case& c) {
             memos_at_once(c);
             c.tlb_entries = 1;
         }},
        {"memos at once, self-modifying, slice of 300",
         [](Case& c) {
             memos_at_once(c);
             c.weights.self_modifying = true;
             c.slice = 300;
         }},
    };
    for (const Variant& variant : kVariants) {
        INFO(variant.name);
        for_seeds(12, [&](u64 seed) {
            Case c{.seed = seed + 30000};
            c.weights.faults = true;
            c.weights.x87 = seed % 3 == 0;
            variant.apply(c);
            compare(c, 1200);
        });
    }
}
