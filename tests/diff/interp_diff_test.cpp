// The interpreter against the host processor, on random user-mode instructions.
#include <catch2/catch.hpp>

#include "cpu/decode.h"
#include "cpu/ops/fpu.h"
#include "tests/support/differential.h"

using namespace vg;
using namespace vg::test;

TEST_CASE("interpreter: random instructions do what the host does", "[diff][interp]") {
    cpu::StepEngine engine;
    Differential differential(engine);
    const std::string report = differential.run(1, 50'000);
    INFO(report);
    CHECK(report.empty());
    CHECK(differential.statistics().completed > 25'000);
}

TEST_CASE("interpreter: half a million random instructions do what the host does", "[diff][interp][slow]") {
    cpu::StepEngine engine;
    Differential differential(engine);
    for (u64 seed = 100; seed < 105; ++seed) {
        const std::string report = differential.run(seed, 100'000);
        INFO(report);
        REQUIRE(report.empty());
    }
    CHECK(differential.statistics().completed > 250'000);
}

namespace {

void compare_sequences(u64 seed, u64 count) {
    cpu::StepEngine engine;
    Differential differential(engine);
    const std::string report = differential.run_sequences(seed, count);
    INFO(report);
    REQUIRE(report.empty());
    CHECK(differential.statistics().endless < count / 100);
    CHECK(differential.statistics().completed > count / 4);
    CHECK(differential.statistics().faults[cpu::kPageFault] > count / 10);
}

}  // namespace

TEST_CASE("interpreter: random sequences, with a fault at every access, do what the host does", "[diff][interp]") {
    compare_sequences(1, 20'000);
}

TEST_CASE("interpreter: half a million random sequences do what the host does", "[diff][interp][slow]") {
    compare_sequences(300, 500'000);
}

TEST_CASE("interpreter: a pending x87 exception stops conversions from MMX registers, not those from memory", "[diff][interp]") {
    cpu::StepEngine engine;
    Differential differential(engine);
    for (const bool doubles : {false, true})
        for (const bool memory : {true, false}) {
            std::vector<u8> bytes = {0x0f, 0x2a, static_cast<u8>(memory ? 0x03 : 0xc3)};  // cvtpi2ps xmm0, [rbx] or mm3
            if (doubles) bytes.insert(bytes.begin(), 0x66);
            bytes.resize(cpu::kMaxInsnLength, 0x90);
            Case c;
            REQUIRE(cpu::decode(bytes, cpu::CodeMode::Bits64, c.insn) == cpu::DecodeStatus::Ok);
            c.state.rip = NativeRunner::kCode + 0x400;
            c.state.gpr[cpu::RSP] = NativeRunner::kData + 0x1800;
            c.state.gpr[cpu::RBX] = NativeRunner::kData;
            c.state.x87.ftw = 0xff;
            cpu::ops::set_x87_control(c.state.x87, 0x37a, 0x3801);  // invalid operation, unmasked and there
            const std::string report = differential.check(c);
            INFO(report);
            CHECK(report.empty());
            CHECK(differential.statistics().faults[cpu::kX87Error] == (memory ? 0u : 1u) + (doubles ? 1u : 0u));
        }
}

TEST_CASE("interpreter: SSE4A does what the host does", "[diff][interp]") {
    if (!__builtin_cpu_supports("sse4a")) {
        WARN("this host has no SSE4A");
        return;
    }
    cpu::StepEngine engine;
    Differential differential(engine, "verdigris-v3-amd,+sse4a");
    for (const char* op : {"EXTRQ", "INSERTQ", "MOVNTSD", "MOVNTSS"}) {
        const std::string report = differential.run(1, 2'000, op);
        INFO(report);
        CHECK(report.empty());
    }
    CHECK(differential.statistics().completed > 5'000);
}
