// String instructions as translated code: overlaps, page ends, faults, directions and slices, against the interpreter.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <random>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

class StringProgram {
  public:
    explicit StringProgram(u64 seed) : random_(seed) {}

    /// Groups of: pointers and count, now and then the direction, one string instruction. Then round again.
    std::vector<u8> code(unsigned groups) {
        for (unsigned k = 0; k < groups; ++k) {
            load(6, pointer());
            load(7, below(3) == 0 ? last_ + below(40) - 20 : pointer());
            load(1, count());
            if (below(3) == 0) load(0, below(2) == 0 ? 0 : below(256) * 0x0101010101010101);
            if (below(12) == 0) code_.push_back(static_cast<u8>(0xfc + below(2)));
            if (below(4) == 0) code_.insert(code_.end(), {0x48, 0x39, 0xd8});  // cmp rax, rbx: flags to keep
            instruction();
        }
        code_.push_back(0xfc);
        code_.push_back(0xe9);
        const u32 back = static_cast<u32>(-static_cast<s64>(code_.size() + 4));
        for (unsigned k = 0; k < 4; ++k) code_.push_back(static_cast<u8>(back >> (8 * k)));
        return code_;
    }

  private:
    u64 below(u64 n) { return random_() % n; }
    u64 pointer() {
        const u64 page = kData + below(8) * 0x1000;  // one is read-only, one not present
        last_ = below(2) == 0 ? page + below(0x1000) : page + 0x1000 - below(64);
        if (below(40) == 0) last_ = kCode + 0x3000 + below(0x1000);
        return last_;
    }
    u64 count() {
        switch (below(8)) {
            case 0:
                return 0;
            case 1:
                return below(3000);
            case 2:
                return below(300);
            default:
                return below(20);
        }
    }
    void load(unsigned reg, u64 value) {
        code_.push_back(0x48);
        code_.push_back(static_cast<u8>(0xb8 | reg));
        for (unsigned k = 0; k < 8; ++k) code_.push_back(static_cast<u8>(value >> (8 * k)));
    }
    void instruction() {
        static constexpr u8 kOpcodes[] = {0xa4, 0xaa, 0xa6, 0xae, 0xac};
        const u64 size = below(4);
        if (below(30) == 0) code_.push_back(0x67);
        if (below(30) == 0) code_.push_back(0x65);
        if (size == 1) code_.push_back(0x66);
        if (below(4) != 0) code_.push_back(below(3) == 0 ? 0xf2 : 0xf3);
        if (size == 3) code_.push_back(0x48);
        code_.push_back(static_cast<u8>(kOpcodes[below(5)] | (size == 0 ? 0 : 1)));
    }

    std::mt19937_64 random_;
    std::vector<u8> code_;
    u64 last_ = kData;
};

struct Variant {
    u64 slice;
    u32 tlb_entries;
    unsigned block_limit;
};

void prepare(JitMachine& m, u64 seed, const Variant& v) {
    m.load(kCodePhysical, StringProgram(seed).code(40));
    std::mt19937_64 random(seed);
    std::vector<u8> data(0x8000);
    const u64 alphabet = 1 + seed % 3;  // so that comparisons run on for a while
    for (u8& b : data) b = static_cast<u8>(random() % alphabet);
    m.load(kDataPhysical, data);
    m.vp->tlb().set_stress_entries(v.tlb_entries);
}

u64 run(u64 seed, u64 count, const Variant& v, bool translate) {
    JitMachine m;
    prepare(m, seed, v);
    std::unique_ptr<cpu::Engine> engine;
    if (translate) {
        auto made = jit::JitEngine::create(m.memory, {.code_bytes = 1u << 20, .block_limit = v.block_limit});
        REQUIRE(made.has_value());
        engine = std::move(*made);
    } else {
        engine = std::make_unique<cpu::StepEngine>();
    }
    run_for(m, *engine, count, v.slice);
    const u64 hash = m.hash();
    return hash;
}

}  // namespace

TEST_CASE("jit: string instructions leave the interpreter's state", "[jit]") {
    static constexpr Variant kVariants[] = {{~u64{0} >> 2, mmu::kTlbEntries, 32}, {~u64{0} >> 2, 1, 32}, {97, mmu::kTlbEntries, 32},
                                            {5, mmu::kTlbEntries, 4},            {1, mmu::kTlbEntries, 1}};
    const char* text = std::getenv("VG_JIT_FIRST");
    const u64 first = text != nullptr ? std::strtoull(text, nullptr, 0) : 1;
    text = std::getenv("VG_JIT_SEEDS");
    const u64 seeds = text != nullptr ? std::strtoull(text, nullptr, 0) : 40;
    for (u64 seed = first; seed < first + seeds; ++seed) {
        for (const Variant& v : kVariants) {
            for (const u64 count : {u64{60 + seed * 7}, u64{20000}}) {
                INFO("seed " << seed << ", slice " << v.slice << ", TLB " << v.tlb_entries << ", count " << count);
                REQUIRE(run(seed, count, v, true) == run(seed, count, v, false));
            }
        }
    }
}

TEST_CASE("jit: repeated string instructions run without the interpreter", "[jit]") {
    // loop: mov ecx, 100; mov esi, data; mov edi, data + page; rep movsb; dec r14; jnz loop; hlt
    JitMachine m;
    m.load(kCodePhysical, {0xb9, 100,  0,    0,    0,    0xbe, 0x00, 0x00, 0x60, 0x00, 0xbf, 0x00, 0x10,
                           0x60, 0x00, 0xf3, 0xa4, 0x49, 0xff, 0xce, 0x75, 0xea, 0xf4});
    m.s().gpr[cpu::R14] = 1000;
    auto engine = jit::JitEngine::create(m.memory, {});
    REQUIRE(engine.has_value());
    m.vp->begin_slice(0, 10'000'000);
    REQUIRE((*engine)->run(*m.vp) == cpu::Stop::Halt);
    CHECK(m.vp->now() == 1000 * (3 + 100 + 2) + 1);
    CHECK((*engine)->stats().helpers < 5);
    CHECK((*engine)->stats().slow_accesses < 5);
}
