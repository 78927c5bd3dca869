#include "jit/translator.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/assert.h"
#include "base/bits.h"
#include "cpu/decode.h"

namespace vg::jit {

using cpu::Insn;
using cpu::Op;

namespace {

/// Instructions after which the next one may have another mode key although they return Next. (x87 and MMX instructions
/// may, too: blocks that are made of them are the rule, so they do not end there.)
bool may_change_key(const Insn& i) {
    switch (i.op) {
        case Op::LDMXCSR:
        case Op::VLDMXCSR:
        case Op::FXRSTOR:
        case Op::FXRSTOR64:
        case Op::XRSTOR:
        case Op::XRSTOR64:
        case Op::XRSTORS:
        case Op::XRSTORS64:
        case Op::POPF:
        case Op::POPFD:
        case Op::POPFQ:
        case Op::CLAC:
        case Op::STAC:
            return true;
        default:
            return false;
    }
}

/// Whether the flags that the manuals leave undefined, for which our rule is what Zen does (cpu/ops/flags.h), may come
/// out otherwise on another host.
bool undefined_flags_differ(const cpu::Row& row) {
    switch (row.op) {
        case Op::AND:
        case Op::OR:
        case Op::XOR:
        case Op::TEST:
        case Op::DIV:
        case Op::IDIV:
            return false;
        default:
            return row.flags_undefined != 0;
    }
}

bool host_is_zen() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    __get_cpuid(0, &eax, &ebx, &ecx, &edx);
    const bool amd = ebx == signature_AMD_ebx && ecx == signature_AMD_ecx && edx == signature_AMD_edx;
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    const unsigned family = ((eax >> 8) & 15) + ((eax >> 20) & 255);
    constexpr unsigned kFirstZen = 0x17;
    return amd && family >= kFirstZen;
}

bool ends_block(const Insn& i, const cpu::Row& row) {
    // They change nothing that the code behind depends on.
    if (i.op == Op::CLI || i.op == Op::STI || i.op == Op::SWAPGS) return false;
    return row.has(cpu::attr::Branch | cpu::attr::System) || may_change_key(i);
}

}  // namespace

Translator::Translator(CodeArena& arena, BlockMap& blocks, const Thunks& thunks, MemoSlots& memos, Counters& counters,
                       const std::vector<TranslationWatcher*>& watchers, Stats& stats)
    : arena_(arena),
      blocks_(blocks),
      thunks_(thunks),
      memos_(memos),
      counters_(counters),
      watchers_(watchers),
      stats_(stats),
      host_is_zen_(host_is_zen()) {}

unsigned Translator::decode(Spa spa, const u8* page, unsigned max_count, bool& straddles) {
    u32 offset = spa.offset();
    unsigned count = 0, side_exits = 0;
    const bool extend = key_.has(ModeKey::kFlat);
    straddles = false;
    while (count < max_count && offset < limits_.end) {
        Insn& insn = insns_[count];
        const u32 readable = std::min<u32>(cpu::kMaxInsnLength, static_cast<u32>(kPageSize) - offset);
        const cpu::DecodeStatus status = cpu::decode(std::span(page + offset, readable), key_.code_mode(), insn);
        if (status != cpu::DecodeStatus::Ok) {
            straddles = status == cpu::DecodeStatus::Truncated;
            break;
        }
        const cpu::Row& row = cpu::row(insn.row);
        const Class how = class_of(insn, row);
        plan_.insns[count].how = how;
        plan_.insns[count].row = &row;
        ++count;
        offset += insn.length;
        // Jumps backward close loops and are mostly taken; forward, the code behind them is likely to be next.
        const bool forward = how.emit == Emit::Jcc && static_cast<s64>(insn.imm) >= 0;
        if (extend && forward && ++side_exits <= kMaxSideExits) continue;
        if (trace_ != nullptr && how.emit == Emit::String && insn.rep != cpu::Rep::None) break;  // its count is what is left
        if (ends_block(insn, row)) break;
    }
    return count;
}

bool Translator::native(const cpu::Row& row) const {
    if (!key_.has(ModeKey::kFlat) || key_.has(ModeKey::kAligned)) return false;
    if (row.feature != cpu::Feature::Base && !model_->has(row.feature)) return false;
    return host_is_zen_ || !undefined_flags_differ(row);
}

/// How an instruction is emitted in the present mode.
Class Translator::class_of(const Insn& insn, const cpu::Row& row) const {
    if (!native(row)) return {};
    const Class how = classify(insn, row);
    u32 units = how.uses_x87 ? ModeKey::kX87 : 0;
    if (how.uses_vectors) units |= insn.vex != 0 ? ModeKey::kSse | ModeKey::kAvx : ModeKey::kSse;
    return key_.has(units) ? how : Class{};
}

/// The one instruction that begins at `spa` and ends in the next page.
bool Translator::decode_crossing(Spa spa, const u8* page, const Rest& rest) {
    if (rest.bytes == nullptr || !key_.has(ModeKey::kFlat)) return false;
    const u32 here = static_cast<u32>(kPageSize) - spa.offset();
    u8 bytes[2 * cpu::kMaxInsnLength];
    std::memcpy(bytes, page + spa.offset(), here);
    std::memcpy(bytes + here, rest.bytes, cpu::kMaxInsnLength);
    Insn& insn = insns_[0];
    if (cpu::decode(std::span<const u8>(bytes, cpu::kMaxInsnLength), key_.code_mode(), insn) != cpu::DecodeStatus::Ok)
        return false;
    const cpu::Row& row = cpu::row(insn.row);
    plan_.insns[0].how = class_of(insn, row);
    plan_.insns[0].row = &row;
    return true;
}

Block* Translator::translate(Spa spa, const u8* page, ModeKey key, const cpu::CpuModel& model, const Limits& limits,
                             const Rest& rest, bool groups, const Tuning& tuning) {
    key_ = key;
    groups_ = groups;
    limits_ = limits;
    tuning_ = tuning;
    model_ = &model;
    bool straddles = false;
    // One more than the budget allows says enough.
    const auto most = std::min<s64>(std::min(limits.instructions, kMaxInsns), std::max<s64>(limits.budget, 0) + 1);
    unsigned count = decode(spa, page, static_cast<unsigned>(most), straddles);
    if ((count == 0 && !straddles) || std::max(count, 1u) > limits.budget) return nullptr;
    crossing_ = count == 0 && decode_crossing(spa, page, rest);
    if (crossing_) count = 1;
    tunable_ = !crossing_ && key.has(ModeKey::kFlat);
    if (!tunable_) tuning_ = {};

    a_.attach(arena_.writable(), static_cast<u32>(align_up(arena_.hot.used, 16)));
    block_ = &blocks_.add(spa, key.value);
    block_->entry = a_.offset();
    block_->first_site = blocks_.site_count();
    // An instruction that crosses the page ends the block before it: it gets a block of its own, because its second
    // half may come to lie elsewhere.
    block_->count = static_cast<u8>(count == 0 ? 1 : count);
    u32 size = 0;
    bool uses_vectors = false;
    for (unsigned k = 0; k < count; ++k) {
        size += insns_[k].length;
        const Class& how = plan_.insns[k].how;
        uses_vectors = uses_vectors || how.uses_vectors;
        block_->uses_x87 = block_->uses_x87 || (how.uses_x87 && how.emit != Emit::Nothing);
    }
    block_->size = static_cast<u16>(count == 0 || crossing_ ? kPageSize - spa.offset() : size);
    if (crossing_) blocks_.add_rest(*block_, rest.page, static_cast<u16>(size - block_->size));
    forced_helpers_ = 0;
    emit_body(count, uses_vectors, {page + spa.offset(), block_->size});
    block_->site_end = blocks_.site_count();
    return block_;
}

/// Emits the block; again and with less if an instruction turns out to have no native form.
void Translator::emit_body(unsigned count, bool uses_vectors, std::span<const u8> guest) {
    const u32 counters = counters_.used();
    while (true) {
        const u64 forced = forced_helpers_;
        for (u32 number = block_->first_site; number < blocks_.site_count(); ++number)
            if (const u32 memo = blocks_.site(number).memo_place(); memo != kNoMemo) memos_.give_back(memo);
        counters_.rewind(counters);
        block_->memo_checks = 0;
        const s32 first = static_cast<s32>(block_->spa.offset());
        a_.attach(arena_.writable(), block_->entry);
        blocks_.truncate_sites(block_->first_site);
        cold_.clear();
        ended_ = false;
        index_ = 0;
        start_ = end_ = first;
        if (count != 0) {
            for (unsigned k = 0; k < count; ++k)
                if ((forced >> k & 1) != 0) plan_.insns[k].how = {};
            make_plan(plan_, std::span(insns_).first(count), static_cast<u32>(first), groups_);
        } else {
            plan_.needs_flags = plan_.passes_flags = false;
            plan_.changed_while_pending = 0;
        }
        block_->needs_flags = plan_.needs_flags;
        block_->changed_while_pending = plan_.changed_while_pending;
        block_->passes_flags = plan_.passes_flags;
        flags_ = {};
        if (!plan_.needs_flags) flags_.source = FlagState::Source::Pending;
        a_.lose_t1();
        emit_prologue(static_cast<u16>(first), count, uses_vectors);
        if (crossing_) emit_guard();
        if (!watchers_.empty()) emit_counters(guest);
        if (count == 0) {
            emit_helper(nullptr, true);
            ended_ = true;
        }
        for (unsigned k = 0; k < count && forced_helpers_ == forced; ++k) emit_instruction(k);
        if (forced_helpers_ != forced) continue;
        if (!ended_) emit_fallthrough(end_);
        arena_.hot.used = a_.offset();
        a_.attach(arena_.writable(), arena_.warm.used);
        emit_side_exits();
        arena_.warm.used = a_.offset();
        a_.attach(arena_.writable(), arena_.cold.used);
        emit_cold();
        arena_.cold.used = a_.offset();
        return;
    }
}

u32 Translator::new_site() {
    Site site;
    site.block = block_;
    site.rip_offset = start_;
    site.index = static_cast<u8>(index_);
    site.recipe = recipe_here();
    return blocks_.add_site(site);
}

void Translator::emit_prologue(u16 page_offset, unsigned count, bool uses_vectors) {
    a_.alu_imm(5, kBudget, block_->count, true);
    index_ = 0;
    const u32 site = new_site();
    blocks_.site(site).rip_offset = page_offset;
    // The dispatcher is to find this block again, too long for what is left, not one that only leads back here.
    blocks_.site(site).separate = key_.has(ModeKey::kSeparate);
    cold_thunk(a_.jcc_later(kS), thunks_.leave, site);
    emit_entry_counter();
    if (trace_ != nullptr && key_.has(ModeKey::kFlat)) emit_trace_entry(count);
    if (uses_vectors) emit_unit_check(kVectorsLoaded, thunks_.load_vectors);
    if (block_->uses_x87) emit_unit_check(kX87Loaded, thunks_.load_x87);
}

/// @param loaded  byte of the state page: whether the unit has the guest's registers; @param load  thunk that sees to it
void Translator::emit_unit_check(int loaded, u32 load) {
    a_.modrm({.opcode = 0x80}, 7, HostMem{.base = kBank, .disp = loaded});
    a_.byte(0);
    const u32 from = a_.jcc_later(kE);
    cold_.push_back({.kind = Cold::Kind::LoadUnit, .from = from, .thunk = load, .back = a_.offset(), .flags = {}});
}

/// Before an instruction that crosses the page: its rest must be where it was. The slow path finds out once for each
/// address space, or has the instruction interpreted.
void Translator::emit_guard() {
    const u32 number = new_site();
    load_code_address(0);
    emit_edge_check(static_cast<s64>(kPageSize), 0, number);
    blocks_.site(number).guard = true;
}

void Translator::emit_instruction(unsigned index) {
    index_ = index;
    cur_ = &insns_[index];
    row_ = plan_now().row;
    start_ = end_;
    end_ += cur_->length;
    const u32 code = a_.offset(), site = blocks_.site_count();
    const InsnPlan& plan = plan_now();
    if (plan.freeze && flags_.source == FlagState::Source::Recipe) freeze_recipe();
    if (plan.how.emit == Emit::Helper) {
        emit_helper(blocks_.keep(*cur_), false);
    } else if (!emit_native()) {
        forced_helpers_ |= u64{1} << index;
        return;
    }
    if (!watchers_.empty()) report_instruction(code, plan.how.emit != Emit::Helper);
    follow_recipe();
    if (ended_) return;
    // The interpreter leaves neither the value for a recipe nor the group's address: behind it the block is over.
    if (saves_value() || (plan.group >= 0 && plan.leader)) return;
    for (u32 k = site; k < blocks_.site_count(); ++k) {
        Site& each = blocks_.site(k);
        if (!each.edge && each.patch == 0) each.next = a_.offset();
        if (plan.how.uses_x87) each.check_key = true;  // FLDCW, if the interpreter executes it
    }
}

bool Translator::emit_native() {
    if (cur_->base == cpu::kRipBase && cur_->disp + end_ > INT32_MAX) return false;
    const Class c = plan_now().how;
    switch (c.emit) {
        case Emit::Helper:
            return false;
        case Emit::Nothing:
            return true;
        case Emit::ModRm:
            return emit_modrm(c);
        case Emit::Plain:
            return emit_plain();
        case Emit::MovImm:
            return emit_mov_imm();
        case Emit::MovAbs:
            return emit_mov_abs();
        case Emit::XchgAcc:
            return emit_xchg_acc();
        case Emit::Bswap:
            return emit_bswap();
        case Emit::Lea:
            return emit_lea();
        case Emit::Push:
            return emit_push(opcode_reg());
        case Emit::PushImm:
            return emit_push_imm();
        case Emit::PushRm:
            return emit_push_rm();
        case Emit::Pop:
            return emit_pop(opcode_reg());
        case Emit::Leave:
            return emit_leave();
        case Emit::Jcc:
            return emit_jcc();
        case Emit::Jmp:
            return emit_jmp();
        case Emit::Call:
            return emit_call();
        case Emit::Ret:
            return emit_ret();
        case Emit::JmpRm:
            return emit_jmp_rm();
        case Emit::CallRm:
            return emit_call_rm();
        case Emit::Divide:
            return emit_divide();
        case Emit::Cli:
            return emit_cli();
        case Emit::Sti:
            return emit_sti();
        case Emit::Pause:
            return key_.has(ModeKey::kPlainPause);
        case Emit::ReadTime:
            return emit_read_time();
        case Emit::ReadCr:
            return emit_read_cr();
        case Emit::DirectionFlag:
            return emit_direction_flag();
        case Emit::Pushf:
            return key_.has(ModeKey::kPlainFlags) && emit_pushf();
        case Emit::Swapgs:
            return emit_swapgs();
        case Emit::String:
            return emit_string();
        case Emit::VexGpr:
            return emit_vex_gpr();
        case Emit::Vector:
            return emit_vector();
        case Emit::X87:
            return emit_x87();
    }
    return false;
}

void Translator::emit_helper(const Insn* insn, bool last) {
    keep_flags();
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.insn = insn;
    site.check_key = insn != nullptr && (may_change_key(*insn) || insn->mode != cpu::CodeMode::Bits64 ||
                                         cpu::row(insn->row).has(cpu::attr::X87 | cpu::attr::Mmx));
    a_.mov_imm(kT0, number);
    a_.call(thunks_.helper);
    site.next = last ? 0 : a_.offset();
    flags_in_slot();
}

void Translator::emit_side_exits() {
    // The list grows, by entries of other kinds.
    for (std::size_t k = 0, end = cold_.size(); k < end; ++k) {
        const Cold c = cold_[k];
        if (c.kind != Cold::Kind::SideExit) continue;
        a_.patch_here(c.from);
        emit_side_exit(c);
    }
}

void Translator::emit_cold() {
    // The list grows while it is worked off.
    for (std::size_t k = 0; k < cold_.size(); ++k) {
        const Cold c = cold_[k];
        if (c.kind == Cold::Kind::SideExit) continue;
        if (c.from != 0) a_.patch_here(c.from);
        switch (c.kind) {
            case Cold::Kind::Thunk:
                emit_thunk_stub(c);
                break;
            case Cold::Kind::LoadUnit:
                a_.call(c.thunk);
                a_.jmp(c.back);
                break;
            case Cold::Kind::SideExit:
                break;
            case Cold::Kind::ReturnMiss:
                emit_return_miss(c);
                break;
            case Cold::Kind::GroupMiss:
                emit_group_miss(c);
                break;
            case Cold::Kind::JumpMiss:
                emit_jump_miss(c);
                break;
            case Cold::Kind::MemoMiss:
                emit_memo_miss(c);
                break;
            case Cold::Kind::StackLimit:
                a_.mov(kHostStack, {.base = kBank, .disp = kStackBase});
                a_.jmp(c.back);
                break;
        }
    }
}

/// Out of the main line with the number of a site; a memory check's thunk returns here if it found the entry.
void Translator::emit_thunk_stub(const Cold& c) {
    Site& site = blocks_.site(c.site);
    if (c.thunk == thunks_.miss_read || c.thunk == thunks_.miss_write) {
        VG_ASSERT(site.misalignment == 0 || site.misalignment + 1 == site.size);
        VG_ASSERT(site.size >= 1 && site.size <= MissWord::kSizeMask + 1);
        a_.push_imm(MissWord::pack(c.site, site.size, site.sum, site.misalignment != 0));
        a_.call(c.thunk);
        a_.jmp(site.access);
        return;
    }
    if (site.patch != 0) site.stub = a_.offset();
    a_.push_imm(c.site);
    a_.jmp(c.thunk);
}

// ---- flags

void Translator::save_flags() {
    emit_save_flags(a_);
    flags_.source = FlagState::Source::Slot;
}

void Translator::keep_flags() {
    if (flags_.source == FlagState::Source::Hardware) save_flags();
}

void Translator::set_pending(u32 recipe) {
    a_.modrm({.opcode = 0xc7}, 0, HostMem{.base = kBank, .disp = kPending});
    a_.dword(recipe);
}

void Translator::settle_flags() {
    if (flags_.source == FlagState::Source::Slot || flags_.source == FlagState::Source::Pending) return;
    if (flags_.source != FlagState::Source::Recipe) {
        VG_ASSERT(flags_.hardware);  // or the plan had said Keep::Slot
        save_flags();
        return;
    }
    freeze_recipe();
    set_pending(recipe_here());
    flags_.source = FlagState::Source::Pending;
}

/// The recipe's registers are about to change, or to be out of reach: their values go where they stay. Clobbers T0.
void Translator::freeze_recipe() {
    using Kind = RecipeOperand::Kind;
    const FlagRecipe frozen = flags_.recipe.frozen();
    const auto store = [&](const RecipeOperand& from, const RecipeOperand& to) {
        if (from.kind != Kind::Register) return;
        u8 host = kHostOf[from.reg];
        if (host == kInMemory) load_gpr(host = kT0, from.reg);
        a_.mov({.base = kBank, .disp = to.kind == Kind::Saved ? kRecipeValue : kRecipeValueToo}, host);
    };
    if (flags_.recipe.registers() != 0) flags_.number = 0;
    store(flags_.recipe.a, frozen.a);
    store(flags_.recipe.b, frozen.b);
    flags_.recipe = frozen;
}

void Translator::restore_flags(u8 park) {
    if (flags_.hardware) return;
    VG_ASSERT(flags_.source == FlagState::Source::Slot);
    a_.mov(park, kRax);
    a_.modrm({.map = 1, .opcode = 0xb7}, kRax, HostMem{.base = kBank, .disp = kFlagsSlot});
    a_.byte(0x04);  // add al, 0x7f: overflow if the saved OF was 1
    a_.byte(0x7f);
    a_.sahf();
    a_.mov(kRax, park);
    flags_.hardware = true;
}

void Translator::wrote_flags() {
    const InsnPlan& plan = plan_now();
    if (!plan.writes_flags) return;
    flags_ = {};
    flags_.hardware = true;
    switch (plan.keep) {
        case Keep::Nothing:
            flags_.source = FlagState::Source::Nothing;
            break;
        case Keep::Recipe:
            flags_.source = FlagState::Source::Recipe;
            flags_.recipe = plan.recipe;
            break;
        case Keep::Slot:
            flags_.source = FlagState::Source::Hardware;
            break;
    }
}

void Translator::follow_recipe() {
    const InsnPlan& plan = plan_now();
    if (flags_.source != FlagState::Source::Recipe || plan.writes_flags) return;
    const u16 registers = flags_.recipe.registers();
    if ((plan.writes & registers) != 0) {
        flags_.source = FlagState::Source::Nothing;  // the plan says that nobody asks from here on
    } else if (plan.adjusted != cpu::kNoReg && (registers >> plan.adjusted & 1) != 0) {
        flags_.recipe.adjust(plan.adjusted, plan.adjustment);
        flags_.number = 0;
    }
}

u32 Translator::recipe_here() {
    VG_ASSERT(flags_.source != FlagState::Source::Hardware || flags_.hardware);
    if (flags_.source != FlagState::Source::Recipe) return 0;
    if (flags_.number == 0) flags_.number = blocks_.add_recipe(flags_.recipe);
    return flags_.number;
}

}  // namespace vg::jit
