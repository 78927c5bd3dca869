// Guest block to host code: block formation, flag tracking, emission.
#pragma once

#include <array>
#include <vector>

#include "cpu/isa/isa.h"
#include "cpu/model.h"
#include "jit/assembler.h"
#include "jit/block.h"
#include "jit/classify.h"
#include "jit/code_cache.h"
#include "jit/layout.h"
#include "jit/mode_key.h"
#include "jit/thunks.h"

namespace vg::jit {

/// Translates one block at a time into the arena.
///
/// Flags: the host's are the guest's while nothing between producer and consumer disturbs them. Before anything that
/// does (a memory check, a helper, the end of the block) they are saved in the flags slot, from which they come back
/// when read. So the slot is complete wherever an instruction can fault or leave, and all six status flags are exact
/// there, dead or not.
class Translator {
  public:
    Translator(CodeArena& arena, BlockMap& blocks, const Thunks& thunks);

    /// Room that one block may take at most.
    static constexpr u32 kMaxCode = 32768;

    /// Translates the code at `spa`, whose page's bytes are at `page`. At least one instruction is taken: one that
    /// crosses the page's end is left to the interpreter, which fetches it. nullptr: the bytes are no instruction.
    Block* translate(Spa spa, const u8* page, ModeKey key, const cpu::CpuModel& model, unsigned max_count);

  private:
    /// A guest address: what a memory operand or the stack names.
    struct Address {
        u8 base = cpu::kNoReg, index = cpu::kNoReg, scale = 1, size = 8;
        cpu::Seg seg = cpu::Seg::None;  ///< FS or GS if its base counts
        s64 disp = 0;
    };
    /// Out-of-line code of this block: `from` jumps to it (rel32); it goes to a thunk with a site.
    struct Cold {
        u32 from;
        u32 thunk;
        u32 site;
    };
    struct FlagState {
        bool hardware = false;  ///< the host's flags are the guest's
        bool slot = true;       ///< the slot is
    };

    // ---- block formation (translator.cpp)
    unsigned decode(Spa spa, const u8* page, unsigned max_count, bool& straddles);
    void emit_prologue(u16 page_offset, bool uses_vectors);
    void emit_instruction(unsigned index);
    [[nodiscard]] bool emit_native();
    void emit_helper(const cpu::Insn* insn, bool last);
    void emit_cold();
    [[nodiscard]] u32 new_site();

    // ---- flags
    void save_flags();
    /// Brings the flags back into the hardware; `park` is a free register.
    void restore_flags(u8 park);
    /// The current instruction has executed natively: what it did to the flags.
    void wrote_flags();
    [[nodiscard]] bool needs_flags() const;

    // ---- memory (emit_memory.cpp)
    [[nodiscard]] Address operand_address() const;
    [[nodiscard]] static bool resident(const Address& a);
    void load_address(const Address& a);
    /// Emits the check of an access; returns the host operand. Clobbers flags (saved before), T0 and T1; the one that
    /// the operand does not name is free.
    HostMem check(const Address& a, unsigned size, bool write, unsigned alignment = 1);
    [[nodiscard]] static u8 free_scratch(const HostMem& m) { return m.base == kT1 ? kT0 : kT1; }
    void load_gpr(u8 host, unsigned guest) { a_.mov(host, {.base = kBank, .disp = gpr_disp(guest)}); }
    void store_gpr(unsigned guest, u8 host) { a_.mov({.base = kBank, .disp = gpr_disp(guest)}, host); }
    void lea_stack(s32 by) { a_.lea(kGuestRsp, {.base = kGuestRsp, .disp = by}); }

    // ---- instructions by family. False: nothing usable was emitted, call the helper.
    [[nodiscard]] bool emit_modrm(const Class& c);
    [[nodiscard]] bool emit_plain();
    [[nodiscard]] bool emit_mov_imm();
    [[nodiscard]] bool emit_mov_abs();
    [[nodiscard]] bool emit_xchg_acc();
    [[nodiscard]] bool emit_bswap();
    [[nodiscard]] bool emit_lea();
    [[nodiscard]] bool emit_vex_gpr();
    [[nodiscard]] bool emit_divide();
    [[nodiscard]] bool emit_vector();
    [[nodiscard]] bool emit_cli();
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
    void link(u32 rel32_at, s64 target);
    void emit_goto(s64 target);
    void emit_fallthrough(s64 target);
    void load_code_address(s64 target);
    u32 emit_index();
    void emit_lookup(u32 site);
    void emit_transfer();
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
    const bool host_is_zen_;  ///< the host's undefined flags are ours
    Assembler a_;

    static constexpr unsigned kMaxInsns = 64;
    std::array<cpu::Insn, kMaxInsns> insns_;
    std::vector<Cold> cold_;
    Block* block_ = nullptr;
    ModeKey key_;
    const cpu::CpuModel* model_ = nullptr;
    FlagState flags_;
    // the current instruction
    const cpu::Insn* cur_ = nullptr;
    const cpu::Row* row_ = nullptr;
    unsigned index_ = 0;
    s32 start_ = 0, end_ = 0;  ///< offsets in the code page
    bool ended_ = false;       ///< the block's last instruction left by itself
};

}  // namespace vg::jit
