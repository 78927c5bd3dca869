// Random user-mode instructions, made from the rows of cpu/isa, with states in which they do something.
#pragma once

#include <vector>

#include "cpu/insn.h"
#include "cpu/model.h"
#include "tests/support/native_runner.h"
#include "tests/support/random.h"

namespace vg::test {

/// One case: an instruction at state.rip and the state it starts from.
struct Case {
    cpu::Insn insn;
    UserState state;
};

class CaseGenerator {
  public:
    /// All rows that a user program can execute and whose result does not depend on the operating system, as far as
    /// the model has them. An empty `only` selects all mnemonics.
    CaseGenerator(const cpu::CpuModel& model, u64 seed, const char* only = "");

    /// The next case. Memory operands mostly lie in `data` (NativeRunner::kData), whose content is taken into account.
    [[nodiscard]] Case next(const u8* data);
    /// Fills memory with values that instructions find interesting.
    void fill(u8* data, std::size_t size);
    [[nodiscard]] const std::vector<u16>& rows() const { return rows_; }

    // ---- parts of a case, for those who make longer ones
    [[nodiscard]] Random& random() { return random_; }
    /// An instruction of the row, its operands anywhere; false: the bytes became another one.
    bool encode(u16 row, cpu::Insn& out);
    /// Registers of all kinds. The stack pointer mostly points to stack.
    void random_state(UserState& s);
    [[nodiscard]] u64 random_value();
    /// Where an access of `size` bytes goes: aligned as often as not, often across two pages of the data, which may be of
    /// different kinds, sometimes where there is nothing or nothing may be written, rarely to no canonical address.
    [[nodiscard]] u64 random_target(unsigned size);
    /// An address at which an access of `size` bytes is likely to fault.
    [[nodiscard]] u64 bad_target(unsigned size);

  private:
    void random_x87(UserState& s);
    void random_element(u8* at, unsigned size);
    bool aim(Case& c, std::vector<u8>& bytes);
    void aim_implicit(Case& c);
    void prepare_operands(Case& c, const u8* data);
    void random_segment_bases(UserState& s, const cpu::Insn& i);
    bool aim_vector_index(Case& c);

    Random random_;
    std::vector<u16> rows_;
};

}  // namespace vg::test
