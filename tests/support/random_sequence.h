// Random user-mode sequences of instructions, and each of them once more with a fault at every access.
#pragma once

#include <string>
#include <vector>

#include "tests/support/random_insn.h"

namespace vg::test {

/// A few instructions at state.rip, behind which there is INT3. Every path through them ends, unless a return address is
/// made of one of their own addresses.
struct Sequence {
    UserState state;
    std::vector<u8> bytes;
    struct At {
        u32 offset;
        cpu::Insn insn;
    };
    std::vector<At> insns;  ///< in the order of their bytes
    std::string what;       ///< for reports

    /// The instruction at an address, or nullptr.
    [[nodiscard]] const cpu::Insn* find(u64 rip) const;
};

/// Makes sequences: mostly integer instructions, with accesses relative to a few pointers, jumps, a loop, subroutines.
class SequenceGenerator {
  public:
    /// @param all_flags  also instructions that leave a flag undefined: the host's value is the engine's
    SequenceGenerator(CaseGenerator& parts, bool all_flags) : parts_(parts), random_(parts.random()), all_flags_(all_flags) {}

    /// A sequence as it is, then the same with each of its accesses in turn where it is likely to fault.
    [[nodiscard]] std::vector<Sequence> next();

  private:
    /// An instruction that is not yet at an address.
    struct Item {
        cpu::Insn insn;
        int target = -1;       ///< direct jump: index of the item that it leads to
        bool placed = false;   ///< its ModRM names memory that was chosen: `sum` + displacement, or RIP-relative
        u64 sum = 0;           ///< segment base, base and scaled index
        u64 address = 0;       ///< RIP-relative: what it is to address, without the segment base
        int pointer = -1;      ///< else the register that decides where it accesses memory, if there is one
        bool ends = false;     ///< INT3 follows
    };
    using Items = std::vector<Item>;

    bool make(Items& items);
    bool plain(Item& item);
    bool acceptable(const cpu::Insn& insn);
    bool place(Item& item, u64 target);
    bool address(Item& item, unsigned mod, unsigned base, unsigned index, unsigned scale, u32 disp);
    bool move(Item& item, u64 target);
    void branch(Items& items, std::size_t length);
    bool raw(Item& item, std::initializer_list<u8> bytes);
    [[nodiscard]] bool assemble(const Items& items, Sequence& out);
    void choose_registers();

    CaseGenerator& parts_;
    Random& random_;
    bool all_flags_;
    UserState state_;
    std::vector<unsigned> pointers_;
    unsigned index_ = 0, counter_ = 0;
};

}  // namespace vg::test
