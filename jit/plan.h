// What the translator knows about all instructions of a block before it emits the first: what each does to registers and
// status flags, which memory accesses share one check, and what becomes of the flags that each leaves.
#pragma once

#include <array>
#include <span>

#include "cpu/insn.h"
#include "cpu/isa/isa.h"
#include "jit/classify.h"
#include "jit/flags.h"

namespace vg::jit {

/// What happens to the flags that an instruction leaves, if nothing rewrites them at once.
enum class Keep : u8 {
    Nothing,  ///< nobody can ask for them once they have left the hardware
    Recipe,   ///< they can be computed wherever they may be asked for
    Slot      ///< they are saved when they leave the hardware
};

struct InsnPlan {
    Class how;                      ///< Emit::Helper if the interpreter executes it
    const cpu::Row* row = nullptr;  ///< the instruction's
    // ---- registers
    u16 writes = 0;             ///< general registers that it may change
    u8 adjusted = cpu::kNoReg;  ///< register that only has a constant added (not in `writes`)
    s64 adjustment = 0;
    // ---- status flags
    bool reads_flags = false;   ///< needs what was there before: tests it, or leaves some bits as they were
    bool wants_slot = false;    ///< reads_flags, and not only for what it leaves: they are to be complete before it
    bool writes_flags = false;  ///< leaves new ones (all six, together with what it read)
    bool clobbers = false;      ///< the host's flags are lost before it reads or writes any
    bool asks = false;          ///< at its start it may fault or leave, and the flags are asked for
    bool freeze = false;        ///< changes a register that the recipe names: its value goes to the recipe fields before
    bool side_exit = false;     ///< a conditional jump whose other way is the next instruction of the block
    bool has_recipe = false;
    Keep keep = Keep::Slot;
    FlagRecipe recipe;
    // ---- its memory access, if it has one that can share a check
    s8 group = -1;
    bool leader = false;   ///< makes the check for the group
    bool access = false;   ///< the fields below say something
    bool write = false;
    u8 size = 0;
    u8 alignment = 1;
    u8 base = cpu::kNoReg;  ///< general register or kRipBase
    s64 displacement = 0;   ///< as in the instruction (RIP: offset from the code page)
};

/// Accesses relative to one value of a base register, all behind one check of the leader's.
struct AccessGroup {
    s64 low = 0, high = 0;  ///< bytes covered, relative to the base register at the leader
    u8 slot = 0;            ///< where the host address is kept
};

struct BlockPlan {
    static constexpr unsigned kMaxInsns = 64, kMaxGroups = 16;
    std::array<InsnPlan, kMaxInsns> insns;
    std::array<AccessGroup, kMaxGroups> groups;
    unsigned group_count = 0;
    /// The block must be entered with the flags in the slot.
    bool needs_flags = false;
    /// Else: registers that have changed when the block may still ask for the flags it was entered with.
    u16 changed_while_pending = 0;
    /// And: the block may leave them to the next one.
    bool passes_flags = false;
};

/// Fills `plan` for `insns`; `plan.insns[k].how` and `.row` must be there already, `start_offset` is the first one's place in its
/// page. @param groups  whether accesses may share checks
void make_plan(BlockPlan& plan, std::span<const cpu::Insn> insns, u32 start_offset, bool groups);

/// Whether the status flags before the instruction matter to what it leaves (other than at a fault).
[[nodiscard]] bool depends_on_flags(const cpu::Insn& insn, const cpu::Row& row, const Class& how);

}  // namespace vg::jit
