// Recipes for status flags: how the flags that an instruction left are computed later from what is still there.
//
// Flags that nobody reads before they are written again are still visible if an instruction in between faults or the
// slice ends there. Saving them each time costs more than the instructions themselves; a recipe costs nothing unless it
// is needed.
#pragma once

#include "base/types.h"
#include "cpu/vp_state.h"

namespace vg::jit {

/// The value of an operand: a general register (plus a constant, if the code added constants to it since), a constant,
/// or the value in the state page's recipe field.
struct RecipeOperand {
    enum class Kind : u8 { Register, Constant, Saved };
    Kind kind = Kind::Constant;
    u8 reg = 0;
    s64 constant = 0;
};

/// The operation whose flags are meant. `a` is its result where it has one that is kept, else its first operand.
struct FlagRecipe {
    enum class Kind : u8 {
        Add,    ///< a = x + b
        Sub,    ///< a = x - b
        Cmp,    ///< a - b, not kept
        Logic,  ///< a = result of AND, OR, XOR
        Test,   ///< a & b, not kept
        Neg,    ///< a = -x
        Shl,    ///< x << count, a = x as it was, b = count
        Shr,
        Sar
    };
    Kind kind = Kind::Logic;
    u8 size = 8;  ///< operand size in bytes
    RecipeOperand a, b;

    /// The general registers that must be as the operation left them (constants added apart).
    [[nodiscard]] u16 registers() const { return static_cast<u16>(bit_of(a) | bit_of(b)); }
    [[nodiscard]] bool uses_saved_value() const {
        return a.kind == RecipeOperand::Kind::Saved || b.kind == RecipeOperand::Kind::Saved;
    }
    /// The code added `by` to register `reg`, which keeps the recipe good.
    void adjust(u8 reg, s64 by) {
        adjust_operand(reg, by, a);
        adjust_operand(reg, by, b);
    }

  private:
    static u16 bit_of(const RecipeOperand& operand) {
        return operand.kind == RecipeOperand::Kind::Register ? static_cast<u16>(1u << operand.reg) : u16{0};
    }
    static void adjust_operand(u8 reg, s64 by, RecipeOperand& operand) {
        if (operand.kind == RecipeOperand::Kind::Register && operand.reg == reg) operand.constant -= by;
    }
};

/// The six status flags as bits of RFLAGS, from the registers in the state page.
[[nodiscard]] u64 evaluate(const FlagRecipe& recipe, const cpu::VpState& state);

}  // namespace vg::jit
