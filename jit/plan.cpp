#include "jit/plan.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "jit/layout.h"

namespace vg::jit {

using cpu::Insn;
using cpu::kNoReg;
using cpu::kRipBase;
using cpu::Op;
using cpu::OperandKind;

namespace {

constexpr u16 bit(unsigned reg) { return static_cast<u16>(1u << reg); }
constexpr u16 kAllRegisters = 0xffff;

unsigned opcode_number(const Insn& i) { return (i.bytes[i.opcode_offset] & 7u) | (i.rex & 1u) << 3; }
bool memory_form(const Insn& i) { return i.has_modrm && (i.modrm >> 6) != 3; }

u64 touched_flags(const cpu::Row& row) {
    return static_cast<u64>(row.flags_written | row.flags_undefined) & kStatusFlags;
}

// ---- registers

u16 operand_writes(const Insn& i, const cpu::Row& row) {
    u16 mask = 0;
    const auto add = [&](unsigned k) {
        if (k < i.operand_count && i[k].kind == OperandKind::Gpr) mask |= bit(i[k].high ? i[k].reg & 3u : i[k].reg);
    };
    if (!row.has(cpu::attr::NoWriteDest)) add(0);
    switch (i.op) {
        case Op::XCHG:
        case Op::XADD:
        case Op::MULX:
            add(1);
            break;
        case Op::CMPXCHG:
            mask |= bit(cpu::RAX);
            break;
        case Op::CMPXCHG8B:
        case Op::CMPXCHG16B:
        case Op::DIV:
        case Op::IDIV:
        case Op::MUL:
            mask = static_cast<u16>(mask | bit(cpu::RAX) | bit(cpu::RDX));
            break;
        case Op::IMUL:
            if (i.operand_count == 1) mask = static_cast<u16>(mask | bit(cpu::RAX) | bit(cpu::RDX));
            break;
        case Op::CBW:
        case Op::CWDE:
        case Op::CDQE:
            mask |= bit(cpu::RAX);
            break;
        case Op::CWD:
        case Op::CDQ:
        case Op::CQO:
            mask |= bit(cpu::RDX);
            break;
        case Op::PCMPESTRI:
        case Op::PCMPISTRI:
        case Op::VPCMPESTRI:
        case Op::VPCMPISTRI:
            mask |= bit(cpu::RCX);
            break;
        default:
            break;
    }
    return mask;
}

/// `reg` gets `by` added and nothing else happens to it.
void adjusts(InsnPlan& p, unsigned reg, s64 by) {
    p.adjusted = static_cast<u8>(reg);
    p.adjustment = by;
    p.writes = static_cast<u16>(p.writes & ~bit(reg));
}

u16 string_writes(const Insn& i) {
    u16 mask = i.rep != cpu::Rep::None ? bit(cpu::RCX) : u16{0};
    if (i.op != Op::LODS) mask |= bit(cpu::RDI);
    if (i.op == Op::LODS || i.op == Op::MOVS || i.op == Op::CMPS) mask |= bit(cpu::RSI);
    if (i.op == Op::LODS) mask |= bit(cpu::RAX);
    return mask;
}

void find_writes(InsnPlan& p, const Insn& i, const cpu::Row& row) {
    switch (p.how.emit) {
        case Emit::Nothing:
        case Emit::Jcc:
        case Emit::Jmp:
        case Emit::JmpRm:
        case Emit::Cli:
        case Emit::Sti:
        case Emit::DirectionFlag:
        case Emit::Swapgs:
        case Emit::Pause:
            return;
        case Emit::ReadTime:
            p.writes = static_cast<u16>(bit(cpu::RAX) | bit(cpu::RDX) | (i.op == Op::RDTSCP ? bit(cpu::RCX) : 0));
            return;
        case Emit::Push:
        case Emit::PushImm:
        case Emit::PushRm:
        case Emit::Pushf:
        case Emit::Call:
        case Emit::CallRm:
            adjusts(p, cpu::RSP, -8);
            return;
        case Emit::Ret:
            adjusts(p, cpu::RSP, 8 + (i.bytes[i.opcode_offset] == 0xc2 ? static_cast<s64>(i.imm & 0xffff) : 0));
            return;
        case Emit::Pop:
            p.writes = bit(opcode_number(i));
            if (opcode_number(i) != cpu::RSP) adjusts(p, cpu::RSP, 8);
            return;
        case Emit::Leave:
            p.writes = bit(cpu::RSP) | bit(cpu::RBP);
            return;
        case Emit::XchgAcc:
            p.writes = static_cast<u16>(bit(cpu::RAX) | bit(opcode_number(i)));
            return;
        case Emit::String:
            p.writes = string_writes(i);
            return;
        case Emit::ModRm:
        case Emit::Plain:
        case Emit::MovImm:
        case Emit::MovAbs:
        case Emit::Bswap:
        case Emit::Lea:
        case Emit::Divide:
        case Emit::VexGpr:
        case Emit::Vector:
        case Emit::X87:
        case Emit::ReadCr:
            p.writes = operand_writes(i, row);
            break;
        default:
            p.writes = kAllRegisters;
            return;
    }
    if (i.operand_count == 0 || i[0].kind != OperandKind::Gpr || i[0].size != 8) return;
    const unsigned reg = i[0].reg;
    if ((i.op == Op::ADD || i.op == Op::SUB) && i[1].kind == OperandKind::Imm)
        adjusts(p, reg, i.op == Op::ADD ? static_cast<s64>(i.imm) : -static_cast<s64>(i.imm));
    else if (i.op == Op::LEA && i.addr_size == 8 && i.base == reg && i.index == kNoReg)
        adjusts(p, reg, i.disp);
}

// ---- flags

std::optional<RecipeOperand> recipe_operand(const Insn& i, const cpu::Operand& operand) {
    using Kind = RecipeOperand::Kind;
    switch (operand.kind) {
        case OperandKind::Gpr:
            if (operand.high) return std::nullopt;
            return RecipeOperand{.kind = Kind::Register, .reg = operand.reg};
        case OperandKind::Imm:
            return RecipeOperand{.kind = Kind::Constant, .constant = static_cast<s64>(i.imm)};
        case OperandKind::Implicit1:
            return RecipeOperand{.kind = Kind::Constant, .constant = 1};
        case OperandKind::Mem:
            return RecipeOperand{.kind = Kind::Saved};
        default:
            return std::nullopt;
    }
}

std::optional<FlagRecipe::Kind> recipe_kind(Op op) {
    using Kind = FlagRecipe::Kind;
    switch (op) {
        case Op::ADD:
            return Kind::Add;
        case Op::SUB:
            return Kind::Sub;
        case Op::CMP:
            return Kind::Cmp;
        case Op::AND:
        case Op::OR:
        case Op::XOR:
            return Kind::Logic;
        case Op::TEST:
            return Kind::Test;
        case Op::NEG:
            return Kind::Neg;
        case Op::SHL:
            return Kind::Shl;
        case Op::SHR:
            return Kind::Shr;
        case Op::SAR:
            return Kind::Sar;
        default:
            return std::nullopt;
    }
}

void find_recipe(InsnPlan& p, const Insn& i) {
    using Kind = FlagRecipe::Kind;
    const auto kind = recipe_kind(i.op);
    if (!kind || (p.how.emit != Emit::ModRm && p.how.emit != Emit::Plain)) return;
    FlagRecipe r;
    r.kind = *kind;
    r.size = i[0].size;
    const bool shift = *kind == Kind::Shl || *kind == Kind::Shr || *kind == Kind::Sar;
    if (i[0].kind == OperandKind::Mem && (i.lock || shift || *kind == Kind::Neg)) return;
    const auto a = recipe_operand(i, i[0]);
    if (!a) return;
    r.a = *a;
    if (shift) {
        if (i[1].kind == OperandKind::Gpr) return;  // by CL
        const auto count = recipe_operand(i, i[1]);
        if (!count) return;
        r.a.kind = RecipeOperand::Kind::Saved;
        r.b = *count;
        r.b.constant &= r.size == 8 ? 63 : 31;
        if (r.b.constant == 0) return;
    } else if (*kind != Kind::Logic && *kind != Kind::Neg) {
        const auto b = recipe_operand(i, i[1]);
        if (!b) return;
        r.b = *b;
        // The sum of a register and itself does not tell what was carried.
        if (*kind == Kind::Add && i[1].kind == OperandKind::Gpr && i[1].reg == i[0].reg) return;
    }
    p.recipe = r;
    p.has_recipe = true;
}

void find_flags(InsnPlan& p, const Insn& i, const cpu::Row& row, bool last) {
    switch (p.how.emit) {
        case Emit::Helper:
            // The interpreter asks for the flags and leaves them in the slot.
            p.asks = p.clobbers = p.writes_flags = true;
            return;
        case Emit::Jcc:
            p.side_exit = !last;
            p.reads_flags = true;
            return;
        case Emit::Cli:
        case Emit::DirectionFlag:
            p.clobbers = true;
            return;
        case Emit::Sti:
            p.asks = p.clobbers = true;
            return;
        case Emit::Divide:
        case Emit::Pushf:
            p.asks = p.clobbers = p.reads_flags = p.wants_slot = true;
            p.writes_flags = p.how.emit == Emit::Divide;
            return;
        case Emit::String:
            p.asks = p.clobbers = true;
            p.reads_flags = p.wants_slot = i.rep != cpu::Rep::None;
            p.writes_flags = touched_flags(row) != 0;
            return;
        case Emit::Push:
        case Emit::PushImm:
        case Emit::PushRm:
        case Emit::Pop:
        case Emit::Leave:
        case Emit::MovAbs:
        case Emit::Call:
        case Emit::Ret:
        case Emit::CallRm:
        case Emit::JmpRm:
            p.asks = p.clobbers = true;
            return;
        case Emit::Nothing:
        case Emit::Jmp:
        case Emit::Lea:
        case Emit::Swapgs:
        case Emit::Pause:
        case Emit::ReadTime:
        case Emit::ReadCr:
            return;
        default:
            break;
    }
    if (memory_form(i)) p.asks = p.clobbers = true;
    p.reads_flags = depends_on_flags(i, row, p.how);
    p.writes_flags = touched_flags(row) != 0;
    if (p.writes_flags && !p.reads_flags) find_recipe(p, i);
}

// ---- memory

void find_access(InsnPlan& p, const Insn& i, const cpu::Row& row, s32 end_offset) {
    const auto stack = [&](bool write, s64 displacement) {
        if (i.op_size != 8) return;
        p.access = true;
        p.write = write;
        p.size = 8;
        p.base = cpu::RSP;
        p.displacement = displacement;
    };
    switch (p.how.emit) {
        case Emit::Push:
        case Emit::PushImm:
        case Emit::Call:
            stack(true, -8);
            return;
        case Emit::PushRm:
            if (!memory_form(i)) stack(true, -8);
            return;
        case Emit::Pop:
        case Emit::Ret:
            stack(false, 0);
            return;
        case Emit::Leave:
            stack(false, 0);
            p.base = cpu::RBP;
            return;
        case Emit::ModRm:
            p.write = p.how.rm != Role::Read;
            p.size = p.how.rm_size != 0 ? p.how.rm_size : i.op_size;
            p.alignment = p.size == 16 ? 16 : 1;  // CMPXCHG16B
            break;
        case Emit::VexGpr:
            p.size = (i.rex & 8) != 0 ? 8 : 4;
            break;
        case Emit::X87:
            if (i.op == Op::FLDCW) return;  // looks at what it loads, which takes the flags
            [[fallthrough]];
        case Emit::Vector: {
            const cpu::Operand* operand = i.memory_operand();
            if (operand == nullptr || operand->size == 0) return;
            p.write = operand == &i.operands[0] && !row.has(cpu::attr::NoWriteDest);
            p.size = operand->size;
            p.alignment = static_cast<u8>(vector_alignment(i));
            break;
        }
        default:
            return;
    }
    const bool plain = memory_form(i) && i.addr_size == 8 && i.index == kNoReg && i.base != kNoReg &&
                       i.seg != cpu::Seg::FS && i.seg != cpu::Seg::GS && !p.how.bit_string;
    if (!plain) return;
    p.access = true;
    p.base = i.base;
    p.displacement = i.base == kRipBase ? i.disp + end_offset : i.disp;
    if (p.displacement != static_cast<s32>(p.displacement)) p.access = false;
}

/// Puts accesses together while their base register holds one value, constants added to it apart.
class Grouping {
  public:
    explicit Grouping(BlockPlan& plan) : plan_(plan) {}

    void visit(unsigned k, InsnPlan& p) {
        if (p.access) find(k, p);
        for (unsigned writes = p.writes; writes != 0; writes &= writes - 1)
            ++version_[static_cast<unsigned>(std::countr_zero(writes))];
        if (p.adjusted != kNoReg) added_[p.adjusted] += p.adjustment;
    }
    /// Leaves the groups that are worth it in the plan, each with a slot of its own while it is in use.
    void finish(unsigned count);

  private:
    struct Open {
        u8 base;
        bool write;
        u32 version;
        s64 at_leader;  ///< constants added to the base before the leader
        s64 low, high;  ///< relative to the base at the leader
        u8 first, last, members;
    };
    static constexpr s64 kMaxSpan = 128;

    void find(unsigned k, InsnPlan& p) {
        const bool rip = p.base == kRipBase;
        const u32 version = rip ? 0 : version_[p.base];
        const s64 added = rip ? 0 : added_[p.base];
        for (unsigned g = 0; g < count_; ++g) {
            Open& open = open_[g];
            if (open.base != p.base || open.version != version || (p.write && !open.write)) continue;
            const s64 at = p.displacement + added - open.at_leader;
            const s64 low = std::min(open.low, at), high = std::max(open.high, at + p.size);
            if (high - low > kMaxSpan || (rip && (low >> 12) != ((high - 1) >> 12))) continue;
            open.low = low;
            open.high = high;
            open.last = static_cast<u8>(k);
            ++open.members;
            p.group = static_cast<s8>(g);
            p.displacement = at;
            return;
        }
        if (count_ == BlockPlan::kMaxGroups) return;
        const u8 index = static_cast<u8>(k);
        open_[count_] = {p.base, p.write, version, added, p.displacement, p.displacement + p.size, index, index, 1};
        p.group = static_cast<s8>(count_++);
        p.leader = true;
    }

    BlockPlan& plan_;
    std::array<u32, 16> version_{};
    std::array<s64, 16> added_{};
    std::array<Open, BlockPlan::kMaxGroups> open_;
    unsigned count_ = 0;
};

void Grouping::finish(unsigned count) {
    std::array<s8, BlockPlan::kMaxGroups> number;
    std::array<s16, kGroupSlots> busy_until;
    busy_until.fill(-1);
    plan_.group_count = 0;
    for (unsigned g = 0; g < count_; ++g) {
        number[g] = -1;
        const Open& open = open_[g];
        if (open.members < 2) continue;
        for (unsigned slot = 0; slot < kGroupSlots; ++slot) {
            if (busy_until[slot] >= open.first) continue;
            busy_until[slot] = open.last;
            number[g] = static_cast<s8>(plan_.group_count);
            plan_.groups[plan_.group_count++] = {open.low, open.high, static_cast<u8>(slot)};
            break;
        }
    }
    for (unsigned k = 0; k < count; ++k) {
        InsnPlan& p = plan_.insns[k];
        if (p.group < 0) continue;
        p.group = number[static_cast<unsigned>(p.group)];
        // Behind the leader nothing can fail but the operand's alignment.
        if (p.group >= 0 && !p.leader && p.alignment == 1) p.asks = p.clobbers = false;
    }
}

// ---- what becomes of the flags

/// Whether the flags of instruction k reach everybody who asks for them as a recipe, or have to be saved. `used`: whether
/// anybody sees them at all.
Keep keep_of(BlockPlan& plan, unsigned k, unsigned count, bool& used) {
    const InsnPlan& producer = plan.insns[k];
    bool in_hardware = true, asked = false;
    const bool good = producer.has_recipe;
    used = true;
    bool read = false;
    const u16 needed = producer.recipe.registers();
    unsigned changed = count;  // the first instruction that changes an operand
    for (unsigned j = k + 1; j < count; ++j) {
        const InsnPlan& p = plan.insns[j];
        if (p.clobbers) in_hardware = false;
        if (p.reads_flags && !in_hardware) return Keep::Slot;
        read = read || p.reads_flags;
        if (p.asks) {
            if (!good) return Keep::Slot;
            asked = true;
            if (changed < j) plan.insns[changed].freeze = true;
        }
        if (p.writes_flags) {
            used = asked || read;
            return asked ? Keep::Recipe : Keep::Nothing;
        }
        if (changed == count && (p.writes & needed) != 0) changed = j;
    }
    if (good && changed < count) plan.insns[changed].freeze = true;
    return good ? Keep::Recipe : Keep::Slot;
}

void find_entry_contract(BlockPlan& plan, unsigned count) {
    u16 changed = 0;
    plan.needs_flags = plan.passes_flags = false;
    plan.changed_while_pending = 0;
    for (unsigned k = 0; k < count; ++k) {
        const InsnPlan& p = plan.insns[k];
        if (p.asks) plan.changed_while_pending |= changed;
        plan.needs_flags = p.reads_flags;
        if (p.reads_flags || p.writes_flags) return;
        changed = static_cast<u16>(changed | p.writes | (p.adjusted != kNoReg ? bit(p.adjusted) : 0));
    }
    plan.passes_flags = true;
}

}  // namespace

bool depends_on_flags(const Insn& i, const cpu::Row& row, const Class& how) {
    // Flags that the manuals call undefined but that stay as they are (the rule is in cpu/ops/flags.h).
    switch (i.op) {
        case Op::MUL:
        case Op::IMUL:
        case Op::DIV:
        case Op::IDIV:
        case Op::BT:
        case Op::BTS:
        case Op::BTR:
        case Op::BTC:
        case Op::TZCNT:
        case Op::LZCNT:
            return true;
        default:
            break;
    }
    if (how.reads_flags_if_cl) return true;
    if (row.has(cpu::attr::MayKeepFlags)) {
        // A shift by zero leaves them as they were.
        const cpu::Operand& count = i.operands[i.operand_count - 1];
        const u64 mask = i.operands[0].size == 8 ? 63 : 31;
        if (count.kind != OperandKind::Implicit1 && (count.kind != OperandKind::Imm || (i.imm & mask) == 0)) return true;
    }
    const u64 touched = touched_flags(row);
    return (row.flags_read & kStatusFlags) != 0 || (touched != 0 && touched != kStatusFlags);
}

void make_plan(BlockPlan& plan, std::span<const Insn> insns, u32 start_offset, bool groups) {
    Grouping grouping(plan);
    const unsigned count = static_cast<unsigned>(insns.size());
    s32 end_offset = static_cast<s32>(start_offset);
    for (unsigned k = 0; k < count; ++k) {
        const Insn& i = insns[k];
        InsnPlan& p = plan.insns[k];
        const cpu::Row& row = *p.row;
        end_offset += i.length;
        const Class how = p.how;
        p = {};
        p.how = how;
        p.row = &row;
        find_writes(p, i, row);
        find_flags(p, i, row, k + 1 == count);
        if (groups) {
            find_access(p, i, row, end_offset);
            grouping.visit(k, p);
        }
    }
    plan.group_count = 0;
    if (groups) grouping.finish(count);
    for (unsigned k = count; k-- > 0;) {
        InsnPlan& p = plan.insns[k];
        if (!p.writes_flags) continue;
        bool used;
        p.keep = keep_of(plan, k, count, used);
        // What only leaves some of them as they were need not know them if nobody sees the outcome.
        if (!used && !p.wants_slot && (p.row->flags_read & kStatusFlags) == 0)
            p.reads_flags = false;
    }
    find_entry_contract(plan, count);
}

}  // namespace vg::jit
