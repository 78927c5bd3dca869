#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "generator.h"
#include "invariants.h"

namespace vg::cpu {

TEST_CASE("decode: invariants hold and every part of an instruction is Truncated", "[isa]") {
    Random random(42);
    for (u32 round = 0; round < 200'000; ++round) {
        const auto mode = static_cast<CodeMode>(random.below(3));
        const Sample s = generate(random, mode, random.below(kGeneratedMaps), static_cast<u8>(random.below(256)));
        const std::string_view broken = broken_invariant(s.bytes, mode);
        if (!broken.empty()) FAIL(broken << " in round " << round);
    }
}

TEST_CASE("decode: the longest instruction has 15 bytes", "[isa]") {
    Insn i;
    std::vector<u8> bytes(14, 0x66);
    CHECK(decode(bytes, CodeMode::Bits64, i) == DecodeStatus::Truncated);
    bytes.push_back(0x90);
    CHECK(decode(bytes, CodeMode::Bits64, i) == DecodeStatus::Ok);
    CHECK(i.length == 15);
    bytes.insert(bytes.begin(), 0x66);
    CHECK(decode(bytes, CodeMode::Bits64, i) == DecodeStatus::TooLong);
    CHECK(i.length == 15);
    bytes.pop_back();  // 15 prefixes and nothing else
    CHECK(decode(bytes, CodeMode::Bits64, i) == DecodeStatus::TooLong);
}

TEST_CASE("decode: an immediate that crosses the 15th byte makes it too long", "[isa]") {
    Insn i;
    // 67 66 81 84 58 disp32 imm16 has 11 bytes: four more prefixes fit.
    std::vector<u8> bytes = {0x67, 0x66, 0x81, 0x84, 0x58, 1, 2, 3, 4, 5, 6};
    for (unsigned n = 0; n < 4; ++n) bytes.insert(bytes.begin(), 0x2e);
    CHECK(decode(bytes, CodeMode::Bits64, i) == DecodeStatus::Ok);
    bytes.insert(bytes.begin(), 0x2e);
    CHECK(decode(bytes, CodeMode::Bits64, i) == DecodeStatus::TooLong);
}

TEST_CASE("decode: no bytes are Truncated", "[isa]") {
    Insn i;
    CHECK(decode({}, CodeMode::Bits64, i) == DecodeStatus::Truncated);
    CHECK(i.length == 0);
}

}  // namespace vg::cpu
