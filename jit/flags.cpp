#include "jit/flags.h"

#include "base/assert.h"
#include "cpu/ops/flags.h"
#include "jit/layout.h"

namespace vg::jit {

namespace {

u64 value_of(const RecipeOperand& operand, const cpu::VpState& state) {
    switch (operand.kind) {
        case RecipeOperand::Kind::Register:
            return state.gpr[operand.reg] + static_cast<u64>(operand.constant);
        case RecipeOperand::Kind::Constant:
            return static_cast<u64>(operand.constant);
        case RecipeOperand::Kind::Saved:
            return state.jit_far[0] + static_cast<u64>(operand.constant);
        case RecipeOperand::Kind::SavedToo:
            return state.jit_far[4] + static_cast<u64>(operand.constant);
    }
    VG_UNREACHABLE();
}

template <class T>
u64 flags_of(FlagRecipe::Kind kind, T a, T b) {
    namespace ops = cpu::ops;
    u64 flags = 0;
    switch (kind) {
        case FlagRecipe::Kind::Add:
            ops::add<T>(static_cast<T>(a - b), b, false, flags);
            break;
        case FlagRecipe::Kind::Sub:
            ops::sub<T>(static_cast<T>(a + b), b, false, flags);
            break;
        case FlagRecipe::Kind::Cmp:
            ops::sub<T>(a, b, false, flags);
            break;
        case FlagRecipe::Kind::Logic:
            ops::logic<T>(a, flags);
            break;
        case FlagRecipe::Kind::Test:
            ops::logic<T>(static_cast<T>(a & b), flags);
            break;
        case FlagRecipe::Kind::Neg:
            ops::sub<T>(0, static_cast<T>(-a), false, flags);
            break;
        case FlagRecipe::Kind::Shl:
            ops::shl<T>(a, static_cast<unsigned>(b), flags);
            break;
        case FlagRecipe::Kind::Shr:
            ops::shr<T>(a, static_cast<unsigned>(b), flags);
            break;
        case FlagRecipe::Kind::Sar:
            ops::sar<T>(a, static_cast<unsigned>(b), flags);
            break;
    }
    return flags & kStatusFlags;
}

}  // namespace

u64 evaluate(const FlagRecipe& recipe, const cpu::VpState& state) {
    const u64 a = value_of(recipe.a, state), b = value_of(recipe.b, state);
    switch (recipe.size) {
        case 1:
            return flags_of<u8>(recipe.kind, static_cast<u8>(a), static_cast<u8>(b));
        case 2:
            return flags_of<u16>(recipe.kind, static_cast<u16>(a), static_cast<u16>(b));
        case 4:
            return flags_of<u32>(recipe.kind, static_cast<u32>(a), static_cast<u32>(b));
        default:
            return flags_of<u64>(recipe.kind, a, b);
    }
}

}  // namespace vg::jit
