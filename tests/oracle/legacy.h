// Processors in real mode and in 16- and 32-bit protected mode, as a differential test sees them: one state and one
// memory that are loaded into our engine and into Unicorn (QEMU's CPU, which we did not write).
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "base/types.h"
#include "cpu/insn.h"
#include "tests/support/random.h"

namespace vg::test {

/// The mode a case starts in.
enum class Legacy : u8 { Real, Protected16, Kernel32, User32, Count };
[[nodiscard]] std::string_view legacy_name(Legacy mode);

/// One memory for all modes. The image is what cases touch and what is compared after each.
///
/// kGdt, kLdt, kIdt, kTss system tables; kStacks the stacks that a change of privilege goes to; kData data and stack;
/// kCode code; kHandlers one HLT per vector, where faults go.
namespace legacy_memory {
inline constexpr u32 kSize = 0x42000, kImage = 0, kImageEnd = 0x40000;
inline constexpr u32 kGdt = 0x8000, kLdt = 0x8800, kIdt = 0x9000, kTss = 0xa000, kStacks = 0xc000, kStackTop = 0xe000;
inline constexpr u32 kData = 0x10000, kDataEnd = 0x30000, kCode = 0x30000, kHandlers = 0x40000;
inline constexpr u16 kGdtLimit = 0xff, kLdtLimit = 0x27, kTssLimit = 0x87;
}  // namespace legacy_memory

/// Selectors of the descriptor table (legacy.cpp); each is also reachable with other RPLs.
namespace selector {
inline constexpr u16 Code32 = 0x08, Data32 = 0x10, UserCode = 0x1b, UserData = 0x23, Code16 = 0x28, Data16 = 0x30,
                     Tss = 0xd0, Ldt = 0x70, LateCode = 0x90;
}

/// What both sides start from and end with. Segments: ES CS SS DS FS GS.
struct LegacyState {
    std::array<u32, 8> gpr{};
    u32 eip = 0, eflags = 2;
    std::array<u16, 6> selector{};
    u32 fs_base = 0;  ///< the only base that the oracle shows
    u32 cr2 = 0;
};

struct PortAccess {
    u32 port, size, value;
    bool write;
    bool operator==(const PortAccess&) const = default;
};

struct LegacyOutcome {
    int vector = -1;         ///< exception or software interrupt, or -1: completed
    u32 error = 0;           ///< error code, where the exception has one in this mode
    bool unmodelled = false; ///< an access outside the memory, or an emulator's own error: says nothing
    LegacyState state;       ///< before delivery if there is a vector
    std::vector<PortAccess> ports;
};

/// Whether the exception pushes an error code (in real mode none does). SDM 3A "Exception and Interrupt Vectors".
[[nodiscard]] constexpr bool has_error_code(int vector) { return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17; }

struct LegacyCase {
    Legacy mode = Legacy::Real;
    cpu::Insn insn;
    LegacyState state;
    u32 code_base = 0;  ///< of CS
};

/// What ports answer.
[[nodiscard]] constexpr u32 port_value(u32 port, u32 size) {
    const u32 value = port * 0x9e3779b1 ^ 0x5a17c3e9;
    return size == 4 ? value : value & ((1u << 8 * size) - 1);
}

/// Base of the segment that `selector` names in `mode`: from the tables of `write_tables`, by the manual's layout.
[[nodiscard]] u32 segment_base(Legacy mode, u16 selector);
/// Access byte (P DPL S type) of the descriptor that `selector` names; 0 for a null selector or none.
[[nodiscard]] u8 segment_access(u16 selector);
/// Last byte of the segment; for an expand-down segment the last one below it.
[[nodiscard]] u32 segment_limit(Legacy mode, u16 selector);
/// Fills low memory, from address 0 to kData and the handlers.
void write_tables(u8* memory, bool real);

/// Makes cases: rows of cpu/isa whose semantics is integer or system, with prefixes, operands inside the data area,
/// and selectors of the table.
class LegacyGenerator {
  public:
    explicit LegacyGenerator(u64 seed, const char* only = "");
    /// The next case; `memory_of` names the memory of a mode, where stack frames are laid.
    [[nodiscard]] LegacyCase next(const std::function<u8*(Legacy)>& memory_of);
    /// Fills the data area with values that are numbers, selectors and pointers.
    void fill(u8* memory);

  private:
    bool encode(LegacyCase& c);
    void random_state(LegacyCase& c);
    void aim(LegacyCase& c);
    void prepare(LegacyCase& c, u8* memory);
    void stack_frame(const LegacyCase& c, u8* memory);
    [[nodiscard]] u32 value();
    [[nodiscard]] u16 any_selector(Legacy mode);
    [[nodiscard]] u32 target();

    Random random_;
    std::vector<u16> rows_;
};

}  // namespace vg::test
