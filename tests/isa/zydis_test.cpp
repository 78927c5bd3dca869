#include <catch2/catch.hpp>
#include <map>

#include "generator.h"
#include "zydis_compare.h"

namespace vg::cpu {

namespace {

constexpr CodeMode kModes[] = {CodeMode::Bits16, CodeMode::Bits32, CodeMode::Bits64};

/// Compares `rounds` random instructions of every opcode of every map in every mode; reports the first difference of
/// each kind.
void compare_all(u64 seed, u32 rounds) {
    Random random(seed);
    std::map<std::string, std::string> differences;
    for (u32 map = 0; map < kGeneratedMaps; ++map)
        for (u32 opcode = 0; opcode < 256; ++opcode)
            for (const CodeMode mode : kModes)
                for (u32 round = 0; round < rounds; ++round) {
                    const Sample s = generate(random, mode, map, static_cast<u8>(opcode));
                    Difference d = compare_with_zydis(s.bytes, mode);
                    if (d.any()) differences.try_emplace(std::move(d.what), std::move(d.details));
                }
    for (const auto& [what, details] : differences) FAIL_CHECK(what << ": " << details);
}

}  // namespace

TEST_CASE("decode: agrees with Zydis on every opcode", "[isa]") { compare_all(1, 30); }

TEST_CASE("decode: agrees with Zydis on many encodings of every opcode", "[isa][slow]") {
    for (u64 seed = 100; seed < 116; ++seed) compare_all(seed, 200);
}

TEST_CASE("decode: agrees with Zydis on every ModRM, prefix and REX.W", "[isa]") {
    Random random(7);
    std::map<std::string, std::string> differences;
    constexpr u8 kMandatory[] = {0, 0x66, 0xf3, 0xf2};
    for (const CodeMode mode : kModes)
        for (u32 map = 0; map < 4; ++map)
            for (const u8 prefix : kMandatory)
                for (u32 w = 0; w < (mode == CodeMode::Bits64 ? 2u : 1u); ++w)
                    for (u32 opcode = 0; opcode < 256; ++opcode)
                        for (u32 modrm = 0; modrm < 256; ++modrm) {
                            // The memory forms differ only in addressing, which the random tests cover.
                            if (modrm < 0xc0 && (modrm & 7) != (opcode & 7)) continue;
                            std::array<u8, 24> bytes{};
                            unsigned n = 0;
                            if (prefix != 0) bytes[n++] = prefix;
                            if (w != 0) bytes[n++] = 0x48;
                            if (map != 0) bytes[n++] = 0x0f;
                            if (map >= 2) bytes[n++] = map == 2 ? 0x38 : 0x3a;
                            bytes[n++] = static_cast<u8>(opcode);
                            bytes[n++] = static_cast<u8>(modrm);
                            bytes[n++] = static_cast<u8>(random.below(256));
                            Difference d = compare_with_zydis(bytes, mode);
                            if (d.any()) differences.try_emplace(std::move(d.what), std::move(d.details));
                        }
    for (const auto& [what, details] : differences) FAIL_CHECK(what << ": " << details);
}

}  // namespace vg::cpu
