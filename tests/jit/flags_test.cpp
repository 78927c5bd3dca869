#include "jit/flags.h"

#include <catch2/catch.hpp>
#include <initializer_list>

using namespace vg;
using jit::FlagRecipe;
using jit::RecipeOperand;

namespace {

bool same(const RecipeOperand& a, const RecipeOperand& b) {
    const bool names_register = a.kind == RecipeOperand::Kind::Register;
    return a.kind == b.kind && a.constant == b.constant && (!names_register || a.reg == b.reg);
}

}  // namespace

TEST_CASE("flag recipes: what fits a number comes out of it unchanged", "[jit]") {
    constexpr s64 kConstants[] = {0, 1, -1, 127, 2047, -2048, 2048, -2049, s64{1} << 40};
    unsigned packed = 0, refused = 0;
    for (unsigned kind = 0; kind <= static_cast<unsigned>(FlagRecipe::Kind::Sar); ++kind)
        for (const u8 size : std::initializer_list<u8>{1, 2, 4, 8})
            for (unsigned form = 0; form < 16; ++form)
                for (const s64 first : kConstants)
                    for (const s64 second : kConstants) {
                        FlagRecipe recipe{.kind = static_cast<FlagRecipe::Kind>(kind), .size = size, .a = {}, .b = {}};
                        recipe.a = {static_cast<RecipeOperand::Kind>(form & 3), static_cast<u8>(kind), first};
                        recipe.b = {static_cast<RecipeOperand::Kind>(form >> 2), 15, second};
                        const u32 number = recipe.packed();
                        const bool fits = (first == 0 || second == 0) && first >= -2048 && first <= 2047 &&
                                          second >= -2048 && second <= 2047;
                        REQUIRE((number != 0) == fits);
                        (fits ? packed : refused) += 1;
                        if (!fits) continue;
                        REQUIRE((number & FlagRecipe::kPacked) != 0);
                        const FlagRecipe back = FlagRecipe::unpacked(number);
                        REQUIRE(back.kind == recipe.kind);
                        REQUIRE(back.size == recipe.size);
                        REQUIRE(same(recipe.a, back.a));
                        REQUIRE(same(recipe.b, back.b));
                    }
    CHECK(packed > 0);
    CHECK(refused > 0);
}
