// Guest block to host code: block formation, flag tracking, emission.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "cpu/isa/isa.h"
#include "cpu/model.h"
#include "jit/assembler.h"
#include "jit/block.h"
#include "jit/classify.h"
#include "jit/code_cache.h"
#include "jit/layout.h"
#include "jit/mode_key.h"
#include "jit/plan.h"
#include "jit/statistics.h"
#include "jit/thunks.h"
#include "jit/tier.h"
#include "jit/watcher.h"

namespace vg::jit {

class BlockTrace;

/// Translates one block at a time into the arena.
///
/// Blocks go on behind conditional jumps forward, which leave them on the side.
///
/// Flags: the host's are the guest's while nothing between producer and consumer disturbs them. Something that does (a
/// memory check, a helper) finds them saved in the flags slot, or, if nobody reads them before they are written again,
/// described by a recipe (flags.h), so that all six status flags are exact wherever an instruction can fault or leave,
/// dead or not. Jumps within the page may pass a recipe on to the next block (kPending), if that block's contract
/// (Block::needs_flags, changed_while_pending) allows; all other ways out have the flags in the slot.
class Translator {
  public:
    Translator(CodeArena& arena, BlockMap& blocks, const Thunks& thunks, MemoSlots& memos, Counters& counters,
               const std::vector<TranslationWatcher*>& watchers, Stats& stats);

    /// Conditional jumps that a block may go on behind.
    static constexpr unsigned kMaxSideExits = 6;
    /// Room that one block of `max_count` instructions may take at most, in the arena's hot and cold part.
    static constexpr u32 most_code(unsigned max_count) { return 2048 + 480 * max_count; }
    /// The same in its warm part: the side exits, and the last jump's other way.
    static constexpr u32 kMostWarmCode = (kMaxSideExits + 1) * 256;

    /// The page that follows in the address space.
    struct Rest {
        Spa page{0};
        const u8* bytes = nullptr;
    };

    struct Limits {
        unsigned instructions = 32;  ///< of a block, 1..64
        u32 profile_runs = 0;        ///< as in Options
        s64 budget = INT32_MAX;      ///< a block that needs more is not made
        u32 end = kPageSize;         ///< no instruction at this offset of the page, or behind it, is taken
    };

    /// Translates the code at `spa`, whose page's bytes are at `page`. At least one instruction is taken: one that
    /// crosses the page's end is left to the interpreter, which fetches it. nullptr: the bytes are no instruction, or the budget does not
    /// suffice.
    /// @param rest  what lies behind the page in the address space, if that is known: then such an instruction is
    ///              translated too, and checks where its rest is each time
    /// @param groups  whether accesses may share checks
    Block* translate(Spa spa, const u8* page, ModeKey key, const cpu::CpuModel& model, const Limits& limits,
                     const Rest& rest, bool groups, const Tuning& tuning);

    /// Code that is made from now on tells what it executes; null: it does not.
    void set_trace(BlockTrace* trace) { trace_ = trace; }
    /// Code keeps to cpu::kBudgetMark from now on.
    void set_gated(bool gated) { gated_ = gated; }

  private:
    /// A guest address: what a memory operand or the stack names.
    struct Address {
        u8 base = cpu::kNoReg, index = cpu::kNoReg, scale = 1, size = 8;
        cpu::Seg seg = cpu::Seg::None;  ///< FS or GS if its base counts
        s64 disp = 0;
    };
    struct FlagState {
        enum class Source : u8 {
            Slot,      ///< in the slot; kPending is 0
            Pending,   ///< in the slot, or as kPending says
            Recipe,    ///< computable; perhaps in the hardware too
            Hardware,  ///< nowhere else
            Nothing    ///< nobody asks for them once they have left the hardware
        };
        bool hardware = false;  ///< the host's flags are the guest's
        Source source = Source::Slot;
        u32 number = 0;  ///< of the recipe as it is now; 0: not recorded yet
        FlagRecipe recipe;
    };
    /// Out-of-line code of this block: `from` jumps to it (rel32).
    struct Cold {
        enum class Kind : u8 { Thunk, LoadUnit, SideExit, ReturnMiss, StackLimit, JumpMiss, MemoMiss, GroupMiss };
        Kind kind = Kind::Thunk;
        u8 index = 0;  ///< instruction
        u32 from = 0;
        u32 thunk = 0;  ///< Thunk, JumpMiss: where to, with `site`; LoadUnit: what is called
        u32 site = 0;
        u32 back = 0;    ///< where the main line goes on
        s64 target = 0;  ///< SideExit: guest offset; ReturnMiss: what the stack pointer is to be raised by
        FlagState flags;
    };
    /// How an access' TLB entry is found: by the address, or in the place's memo.
    struct EntryRef {
        bool write = false;
        u32 memo = kNoMemo;
    };

    // ---- block formation (translator.cpp)
    unsigned decode(Spa spa, const u8* page, unsigned max_count, bool& straddles);
    [[nodiscard]] bool native(const cpu::Row& row) const;
    [[nodiscard]] Class class_of(const cpu::Insn& insn, const cpu::Row& row) const;
    [[nodiscard]] bool decode_crossing(Spa spa, const u8* page, const Rest& rest);
    void emit_guard();
    void emit_prologue(u16 page_offset, unsigned count, bool uses_vectors);
    void emit_trace_entry(unsigned count);  // emit_trace.cpp
    void emit_trace_store(u8 value);
    void emit_trace_access(u8 base, cpu::Seg seg, unsigned size, bool write);
    void emit_trace_repeated(unsigned size);
    void emit_unit_check(int loaded, u32 load);
    void emit_instruction(unsigned index);
    [[nodiscard]] bool emit_native();
    void emit_body(unsigned count, bool uses_vectors, std::span<const u8> guest);
    void emit_helper(const cpu::Insn* insn, bool last);
    void emit_side_exits();
    void emit_cold();
    void emit_thunk_stub(const Cold& c);
    [[nodiscard]] u32 new_site();
    void emit_counters(std::span<const u8> guest);  // emit_watch.cpp
    void emit_exit_counters();
    void count_return_miss();
    void report_instruction(u32 code, bool native);
    void cold_thunk(u32 from, u32 thunk, u32 site) {
        cold_.push_back({.from = from, .thunk = thunk, .site = site, .flags = {}});
    }

    // ---- flags
    /// Before the host's flags are lost: saves the guest's if they are nowhere else. Clobbers T0.
    void keep_flags();
    /// Leaves the flags so that code anywhere finds them: in the slot, or as a recipe that depends on no register.
    /// Clobbers T0.
    void settle_flags();
    void save_flags();
    void freeze_recipe();
    /// Brings the flags back into the hardware; `park` is a free register.
    void restore_flags(u8 park);
    /// The current instruction has executed natively: what it did to the flags.
    void wrote_flags();
    /// Behind the current instruction: whether the recipe still holds.
    void follow_recipe();
    /// The flags are in the slot from here on.
    void flags_in_slot() { flags_ = {}; }
    void flags_pending() {
        flags_ = {};
        flags_.source = FlagState::Source::Pending;
    }
    void set_pending(u32 recipe);
    /// Number of the recipe for the flags where the code is now; 0: the slot, or kPending.
    [[nodiscard]] u32 recipe_here();
    /// Whether the current instruction needs the flags in the hardware.
    [[nodiscard]] bool needs_flags() const { return plan_now().reads_flags; }
    [[nodiscard]] const InsnPlan& plan_now() const { return plan_.insns[index_]; }
    [[nodiscard]] bool saves_value() const { return flags_wanted_as_recipe() && plan_now().recipe.uses_saved_value(); }
    [[nodiscard]] bool flags_wanted_as_recipe() const {
        return plan_now().writes_flags && plan_now().keep == Keep::Recipe;
    }
    [[nodiscard]] bool emit_with_saved_result(const Encoding& e, u8 reg, bool scratch, const HostMem& m, unsigned size);
    void save_recipe_value(u8 host) { a_.mov({.base = kBank, .disp = kRecipeValue}, host); }

    // ---- memory (emit_memory.cpp)
    [[nodiscard]] Address operand_address() const;
    [[nodiscard]] static bool resident(const Address& a);
    void load_address(const Address& a);
    /// Emits the check of an access; returns the host operand. Clobbers flags (saved before), T0 and T1; the one that
    /// the operand does not name is free.
    HostMem check(const Address& a, unsigned size, bool write, unsigned alignment = 1);
    /// The check of an access at T0, which becomes the host address. The flags have been kept. T1 is free behind it.
    HostMem check_here(unsigned size, bool write);
    HostMem check_in_group(const Address& a, unsigned size, bool write, unsigned alignment);
    /// Compares T0's page with its TLB entry and leaves the table offset in T1. @param span  bytes from T0 on
    u32 emit_tag_check(unsigned span, bool write);
    /// The whole check of `span` bytes from `first` on, for `site`; T1 is not to be relied on where there is a memo.
    EntryRef emit_check(const Address& first, unsigned span, bool write, u32 site);
    [[nodiscard]] u32 take_memo(bool write, Site& site);
    void emit_memo_miss(const Cold& c);
    void emit_group_miss(const Cold& c);
    /// Where a tag check that failed for good goes.
    void miss(u32 from, u32 site, const FlagState& flags);
    void emit_count_down(u32* counter);
    void emit_entry_counter();
    [[nodiscard]] static HostMem tag_of(const EntryRef& entry);
    [[nodiscard]] static HostMem addend_of(const EntryRef& entry);
    void emit_alignment_check(unsigned alignment, u32 site);
    [[nodiscard]] static u8 free_scratch(const HostMem& m) { return m.base == kT1 ? kT0 : kT1; }
    void load_gpr(u8 host, unsigned guest) { a_.mov(host, {.base = kBank, .disp = gpr_disp(guest)}); }
    void store_gpr(unsigned guest, u8 host) { a_.mov({.base = kBank, .disp = gpr_disp(guest)}, host); }
    void lea_stack(s32 by) { a_.lea(kGuestRsp, {.base = kGuestRsp, .disp = by}); }

    // ---- instructions by family. False: nothing usable was emitted, call the helper.
    [[nodiscard]] bool emit_modrm(const Class& c);
    [[nodiscard]] bool emit_with_saved_operand(const Encoding& e, u8 reg, bool scratch, bool load, bool store,
                                               const HostMem& m, unsigned size);
    [[nodiscard]] bool emit_bit_string();
    [[nodiscard]] bool emit_with_high_byte(Encoding e, unsigned reg, HostMem m);
    [[nodiscard]] bool emit_plain();
    [[nodiscard]] bool emit_mov_imm();
    [[nodiscard]] bool emit_mov_abs();
    [[nodiscard]] bool emit_xchg_acc();
    [[nodiscard]] bool emit_bswap();
    [[nodiscard]] bool emit_lea();
    [[nodiscard]] bool emit_vex_gpr();
    [[nodiscard]] bool emit_divide();
    [[nodiscard]] bool emit_vector();
    [[nodiscard]] bool emit_x87();
    [[nodiscard]] bool emit_fldcw();
    [[nodiscard]] bool emit_cli();
    [[nodiscard]] bool emit_sti();
    [[nodiscard]] bool emit_read_time();
    [[nodiscard]] bool emit_read_cr();
    [[nodiscard]] bool emit_direction_flag();
    [[nodiscard]] bool emit_pushf();
    [[nodiscard]] bool emit_swapgs();
    [[nodiscard]] bool emit_string();
    [[nodiscard]] bool emit_repeated(unsigned log_size);
    void vector_encoding(Encoding& e) const;
    [[nodiscard]] bool emit_push(unsigned reg);
    [[nodiscard]] bool emit_push_imm();
    [[nodiscard]] bool emit_push_rm();
    [[nodiscard]] bool emit_pop(unsigned reg);
    [[nodiscard]] bool emit_leave();
    [[nodiscard]] bool emit_jcc();
    [[nodiscard]] bool emit_jmp();
    [[nodiscard]] bool emit_call();
    [[nodiscard]] bool emit_ret();
    [[nodiscard]] bool emit_jmp_rm();
    [[nodiscard]] bool emit_call_rm();

    // ---- leaving (emit_branch.cpp)
    /// What a jump within the page takes along.
    struct EdgeFlags {
        u32 recipe = 0;        ///< for the registers as they are; the flags are in the hardware too
        bool pending = false;  ///< or: as kPending says, independent of registers
    };
    [[nodiscard]] u32 exit_site(s64 target);
    void link(u32 rel32_at, s64 target, EdgeFlags flags);
    /// @param target, other  where the ways lead that are prepared together, in this page
    [[nodiscard]] EdgeFlags prepare_edge(s64 target, s64 other);
    [[nodiscard]] bool outlives_registers(s64 target) const;
    void emit_edge(s64 target);
    void emit_far_edge(s64 target);
    void emit_fallthrough(s64 target);
    void load_code_address(s64 target);
    void emit_index(u32 thunk, u32 site);
    void emit_jump_miss(const Cold& c);
    void emit_lookup(u32 site);
    void emit_transfer();
    /// Looks a jump to code offset `target` up in the edge table, by T0, which holds code offset `key`. The site gets an entry of its own when it is
    /// taken for the first time: most never are.
    void emit_edge_check(s64 target, s64 key, u32 site);
    void note_edge_jump(Site& site);
    void emit_stack_limit();
    void emit_return_site();
    void emit_side_exit(const Cold& c);
    void emit_return_miss(const Cold& c);
    [[nodiscard]] bool load_target();
    [[nodiscard]] static bool in_page(s64 target) { return target >= 0 && target < static_cast<s64>(kPageSize); }

    // ---- fields of the current instruction
    [[nodiscard]] unsigned reg_field() const { return ((cur_->modrm >> 3) & 7u) | ((cur_->rex & 4u) << 1); }
    [[nodiscard]] unsigned rm_field() const { return (cur_->modrm & 7u) | ((cur_->rex & 1u) << 3); }
    [[nodiscard]] unsigned opcode_reg() const { return (opcode() & 7u) | ((cur_->rex & 1u) << 3); }
    [[nodiscard]] u8 opcode() const { return cur_->bytes[cur_->opcode_offset]; }
    [[nodiscard]] bool memory_form() const { return cur_->has_modrm && (cur_->modrm >> 6) != 3; }
    void copy_immediate();

    CodeArena& arena_;
    BlockMap& blocks_;
    const Thunks& thunks_;
    MemoSlots& memos_;
    Counters& counters_;
    const std::vector<TranslationWatcher*>& watchers_;
    Stats& stats_;
    const bool host_is_zen_;  ///< the host's undefined flags are ours
    Assembler a_;

    static constexpr unsigned kMaxInsns = BlockPlan::kMaxInsns;
    std::array<cpu::Insn, kMaxInsns> insns_;
    BlockPlan plan_;
    u64 forced_helpers_ = 0;  ///< bit k: instruction k turned out to have no native form here
    std::vector<Cold> cold_;
    Block* block_ = nullptr;
    ModeKey key_;
    const cpu::CpuModel* model_ = nullptr;
    FlagState flags_;
    // the current instruction
    const cpu::Insn* cur_ = nullptr;
    const cpu::Row* row_ = nullptr;
    unsigned index_ = 0;
    u8 t1_slot_ = 0;           ///< T1 is the address in this group slot unless Assembler::t1_named
    s32 start_ = 0, end_ = 0;  ///< offsets in the code page
    bool groups_ = true;
    Tuning tuning_;
    bool tunable_ = false;  ///< may get memos, now or later
    Limits limits_;
    bool crossing_ = false;  ///< the block is one instruction that ends in the next page
    bool ended_ = false;     ///< the block's last instruction left by itself
    BlockTrace* trace_ = nullptr;
    bool gated_ = false;
    u32 traced_ = 0;                         ///< the block's number there
    u32 trace_slot_ = 0, trace_slots_ = 0;  ///< places for addresses in its records: the next, and all
};

}  // namespace vg::jit
