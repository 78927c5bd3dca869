// The translator against the interpreter on random programs: equal state after every number of instructions.
#include <catch2/catch.hpp>

#include <cstdio>
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
};

void prepare(JitMachine& m, const Case& c) {
    ProgramGenerator generator(c.seed, m.model, c.weights);
    m.load(kCodePhysical, generator.program(c.instructions));
    generator.initial_state(m);
    m.vp->tlb().set_stress_entries(c.tlb_entries);
}

struct Outcome {
    u64 hash = 0;
    cpu::Stop stop{};
    cpu::VpState state;
};

Outcome run_step(const Case& c, u64 count) {
    JitMachine m;
    prepare(m, c);
    cpu::StepEngine engine;
    Outcome o;
    o.stop = run_for(m, engine, count, c.slice);
    o.hash = m.hash();
    std::memcpy(static_cast<void*>(&o.state), &m.s(), sizeof o.state);
    return o;
}

Outcome run_jit(const Case& c, u64 count) {
    JitMachine m;
    prepare(m, c);
    auto engine = jit::JitEngine::create(m.memory, c.options);
    REQUIRE(engine.has_value());
    Outcome o;
    o.stop = run_for(m, **engine, count, c.slice);
    o.hash = m.hash();
    std::memcpy(static_cast<void*>(&o.state), &m.s(), sizeof o.state);
    return o;
}

bool equal(const Outcome& a, const Outcome& b) { return a.hash == b.hash && a.stop == b.stop; }

std::string describe(const cpu::VpState& a, const cpu::VpState& b) {
    std::string out;
    char line[160];
    const auto show = [&](const char* name, u64 x, u64 y) {
        if (x == y) return;
        std::snprintf(line, sizeof line, "  %-8s step %016lx  jit %016lx\n", name, x, y);
        out += line;
    };
    static constexpr const char* kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned r = 0; r < 16; ++r) show(kNames[r], a.gpr[r], b.gpr[r]);
    show("rip", a.rip, b.rip);
    show("rflags", a.rflags, b.rflags);
    show("budget", static_cast<u64>(a.budget), static_cast<u64>(b.budget));
    show("mxcsr", a.mxcsr, b.mxcsr);
    show("cr2", a.cr2, b.cr2);
    for (unsigned v = 0; v < 16; ++v) {
        if (std::memcmp(a.ymm[v], b.ymm[v], 32) == 0) continue;
        std::snprintf(line, sizeof line, "  ymm%u differs\n", v);
        out += line;
    }
    return out.empty() ? "  memory or cold state\n" : out;
}

/// Finds the first instruction count at which the engines differ, and says what that instruction is.
std::string first_difference(const Case& c, u64 count) {
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
    std::string text = "seed " + std::to_string(c.seed) + ", instruction " + std::to_string(bad) + ":";
    if (cpu::fetch_decode(*m.vp, insn)) {
        char hex[8];
        for (unsigned k = 0; k < insn.length; ++k) {
            std::snprintf(hex, sizeof hex, " %02x", insn.bytes[k]);
            text += hex;
        }
        text += " " + std::string(cpu::mnemonic(insn.op));
    }
    const Outcome a = run_step(c, bad), b = run_jit(c, bad);
    return text + " stops " + std::to_string(static_cast<int>(a.stop)) + "/" +
           std::to_string(static_cast<int>(b.stop)) + "\n" + describe(a.state, b.state);
}

void compare(const Case& c, u64 count) {
    if (equal(run_step(c, count), run_jit(c, count))) {
        SUCCEED();
        return;
    }
    FAIL(first_difference(c, count));
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

TEST_CASE("jit: programs that write over themselves leave the interpreter's state", "[jit]") {
    for_seeds(200, [](u64 seed) {
        Case c{.seed = seed + 40000};
        c.weights = {.vectors = false, .branches = true, .faults = true, .self_modifying = true};
        compare(c, 600);
    });
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
    };
    for (const Variant& variant : kVariants) {
        INFO(variant.name);
        for_seeds(12, [&](u64 seed) {
            Case c{.seed = seed + 30000};
            c.weights.faults = true;
            variant.apply(c);
            compare(c, 1200);
        });
    }
}
