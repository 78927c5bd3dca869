// Recipes for status flags: how the flags that an instruction left are computed later from what is still there.
//
// Flags that nobody reads before they are written again are still visible if an instruction in between faults or the
// slice ends there. Saving them each time costs more than the instructions themselves; a recipe costs nothing unless it
// is needed.
#pragma once

#include <bit>

#include "base/types.h"
#include "cpu/vp_state.h"

namespace vg::jit {

/// The value of an operand: a general register (plus a constant, if the code added constants to it since), a constant,
/// or one of the values in the state page's recipe fields.
struct RecipeOperand {
    enum class Kind : u8 { Register, Constant, Saved, SavedToo };
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
    /// The same with the registers' values in the recipe fields, where they stay good whatever happens to the registers.
    [[nodiscard]] FlagRecipe frozen() const {
        FlagRecipe r = *this;
        freeze(r.a, r.b);
        freeze(r.b, r.a);
        return r;
    }
    /// Most recipes fit the number that stands for them, so that nobody has to fetch them from far memory: all but those
    /// with a large constant or two. Such a number has kPacked set. 0: this one does not fit.
    static constexpr u32 kPacked = u32{1} << 31;
    [[nodiscard]] u32 packed() const {
        const bool second = a.constant == 0;
        const s64 constant = second ? b.constant : a.constant;
        if ((!second && b.constant != 0) || constant != sign_extend12(constant)) return 0;
        return kPacked | static_cast<u32>(kind) << 27 | static_cast<u32>(std::countr_zero(size)) << 25 | pack(a) << 19 |
               pack(b) << 13 | u32{second} << 12 | (static_cast<u32>(constant) & 0xfff);
    }
    [[nodiscard]] static FlagRecipe unpacked(u32 number) {
        FlagRecipe r{.kind = static_cast<Kind>(number >> 27 & 15), .size = static_cast<u8>(1u << (number >> 25 & 3)), .a = {}, .b = {}};
        r.a = unpack(number >> 19);
        r.b = unpack(number >> 13);
        ((number >> 12 & 1) != 0 ? r.b : r.a).constant = sign_extend12(number);
        return r;
    }
    /// The code added `by` to register `reg`, which keeps the recipe good.
    void adjust(u8 reg, s64 by) {
        adjust_operand(reg, by, a);
        adjust_operand(reg, by, b);
    }

  private:
    static constexpr s64 sign_extend12(s64 value) { return static_cast<s64>(static_cast<u64>(value) << 52) >> 52; }
    static u32 pack(const RecipeOperand& operand) { return static_cast<u32>(operand.kind) << 4 | (operand.reg & 15u); }
    static RecipeOperand unpack(u32 bits) {
        return {.kind = static_cast<RecipeOperand::Kind>(bits >> 4 & 3), .reg = static_cast<u8>(bits & 15), .constant = 0};
    }
    static void freeze(RecipeOperand& operand, const RecipeOperand& other) {
        using Kind = RecipeOperand::Kind;
        if (operand.kind == Kind::Register) operand.kind = other.kind == Kind::Saved ? Kind::SavedToo : Kind::Saved;
    }
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
