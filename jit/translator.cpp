#include "jit/translator.h"

#include <cpuid.h>

#include <algorithm>
#include <span>

#include "base/bits.h"
#include "cpu/decode.h"

namespace vg::jit {

using cpu::Insn;
using cpu::Op;

namespace {

/// Instructions after which the next one may have another mode key although they return Next.
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

bool ends_block(const Insn& i) {
    if (i.op == Op::CLI || i.op == Op::SWAPGS) return false;  // they change nothing that the code behind depends on
    return (cpu::row(i.row).attributes & (cpu::attr::Branch | cpu::attr::System)) != 0 || may_change_key(i);
}

}  // namespace

Translator::Translator(CodeArena& arena, BlockMap& blocks, const Thunks& thunks)
    : arena_(arena), blocks_(blocks), thunks_(thunks), host_is_zen_(host_is_zen()) {}

unsigned Translator::decode(Spa spa, const u8* page, unsigned max_count, bool& straddles) {
    u32 offset = spa.offset();
    unsigned count = 0;
    straddles = false;
    while (count < max_count && offset < kPageSize) {
        Insn& insn = insns_[count];
        const u32 readable = std::min<u32>(cpu::kMaxInsnLength, static_cast<u32>(kPageSize) - offset);
        const cpu::DecodeStatus status = cpu::decode(std::span(page + offset, readable), key_.code_mode(), insn);
        if (status != cpu::DecodeStatus::Ok) {
            straddles = status == cpu::DecodeStatus::Truncated;
            break;
        }
        ++count;
        offset += insn.length;
        if (ends_block(insn)) break;
    }
    return count;
}

Block* Translator::translate(Spa spa, const u8* page, ModeKey key, const cpu::CpuModel& model, unsigned max_count) {
    key_ = key;
    model_ = &model;
    bool straddles = false;
    const unsigned count = decode(spa, page, std::min(max_count, kMaxInsns), straddles);
    if (count == 0 && !straddles) return nullptr;

    a_.attach(arena_.writable(), static_cast<u32>(align_up(arena_.used(), 16)));
    cold_.clear();
    flags_ = {};
    ended_ = false;
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
        uses_vectors = uses_vectors || classify(insns_[k]).emit == Emit::Vector;
    }
    block_->size = static_cast<u16>(count == 0 ? kPageSize - spa.offset() : size);
    start_ = end_ = static_cast<s32>(spa.offset());
    emit_prologue(static_cast<u16>(spa.offset()), uses_vectors && key.has(ModeKey::kSse));
    if (count == 0) {
        index_ = 0;
        emit_helper(nullptr, true);
        ended_ = true;
    }
    for (unsigned k = 0; k < count; ++k) emit_instruction(k);
    if (!ended_) emit_fallthrough(end_);
    emit_cold();
    block_->site_end = blocks_.site_count();
    arena_.set_used(a_.offset());
    return block_;
}

u32 Translator::new_site() {
    Site site;
    site.block = block_;
    site.rip_offset = start_;
    site.index = static_cast<u8>(index_);
    return blocks_.add_site(site);
}

void Translator::emit_prologue(u16 page_offset, bool uses_vectors) {
    a_.alu_imm(5, kBudget, block_->count, true);
    index_ = 0;
    const u32 site = new_site();
    blocks_.site(site).rip_offset = page_offset;
    cold_.push_back({a_.jcc_later(kS), thunks_.leave, site});
    if (uses_vectors) {
        a_.modrm({.opcode = 0x80}, 7, HostMem{.base = kBank, .disp = kVectorsLoaded});
        a_.byte(0);
        cold_.push_back({a_.jcc_later(kE), thunks_.load_vectors, a_.offset()});
    }
}

void Translator::emit_instruction(unsigned index) {
    index_ = index;
    cur_ = &insns_[index];
    row_ = &cpu::row(cur_->row);
    start_ = end_;
    end_ += cur_->length;
    const u32 code = a_.offset(), site = blocks_.site_count();
    const std::size_t cold = cold_.size();
    const FlagState flags = flags_;
    if (!emit_native()) {
        a_.rewind(code);
        blocks_.truncate_sites(site);
        cold_.resize(cold);
        flags_ = flags;
        ended_ = false;
        emit_helper(blocks_.keep(*cur_), false);
    }
    if (ended_) return;
    for (u32 k = site; k < blocks_.site_count(); ++k) blocks_.site(k).next = a_.offset();
}

bool Translator::emit_native() {
    if (!key_.has(ModeKey::kFlat) || key_.has(ModeKey::kAligned)) return false;
    if (row_->feature != cpu::Feature::Base && !model_->has(row_->feature)) return false;
    if (!host_is_zen_ && undefined_flags_differ(*row_)) return false;
    if (cur_->base == cpu::kRipBase && cur_->disp + end_ > INT32_MAX) return false;
    const Class c = classify(*cur_);
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
        case Emit::DirectionFlag:
            return emit_direction_flag();
        case Emit::Pushf:
            return emit_pushf();
        case Emit::Swapgs:
            return emit_swapgs();
        case Emit::String:
            return emit_string();
        case Emit::VexGpr:
            return emit_vex_gpr();
        case Emit::Vector:
            return emit_vector();
    }
    return false;
}

void Translator::emit_helper(const Insn* insn, bool last) {
    save_flags();
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.insn = insn;
    site.check_key = insn != nullptr && (may_change_key(*insn) || insn->mode != cpu::CodeMode::Bits64);
    a_.mov_imm(kT0, number);
    a_.call(thunks_.helper);
    site.next = last ? 0 : a_.offset();
    flags_.hardware = false;
}

void Translator::emit_cold() {
    for (const Cold& c : cold_) {
        a_.patch_here(c.from);
        if (c.thunk == thunks_.load_vectors) {
            a_.call(c.thunk);
            a_.jmp(c.site);
            continue;
        }
        blocks_.site(c.site).stub = a_.offset();
        a_.push_imm(c.site);
        a_.jmp(c.thunk);
    }
}

// ---- flags

void Translator::save_flags() {
    if (flags_.slot || !flags_.hardware) return;
    a_.mov(kT0, kRax);
    a_.seto_al();
    a_.lahf();
    a_.modrm({.opcode = 0x89, .size16 = true}, kRax, HostMem{.base = kBank, .disp = kFlagsSlot});
    a_.mov(kRax, kT0);
    flags_.slot = true;
}

void Translator::restore_flags(u8 park) {
    if (flags_.hardware) return;
    a_.mov(park, kRax);
    a_.modrm({.map = 1, .opcode = 0xb7}, kRax, HostMem{.base = kBank, .disp = kFlagsSlot});
    a_.byte(0x04);  // add al, 0x7f: overflow if the saved OF was 1
    a_.byte(0x7f);
    a_.sahf();
    a_.mov(kRax, park);
    flags_.hardware = true;
}

bool Translator::needs_flags() const {
    // Flags that the manuals call undefined but that stay as they are (the rule is in cpu/ops/flags.h).
    switch (cur_->op) {
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
    if (row_->has(cpu::attr::MayKeepFlags)) {
        // A shift by zero leaves them as they were.
        const cpu::Operand& count = cur_->operands[cur_->operand_count - 1];
        const u64 mask = cur_->operands[0].size == 8 ? 63 : 31;
        if (count.kind != cpu::OperandKind::Implicit1 && (count.kind != cpu::OperandKind::Imm || (cur_->imm & mask) == 0)) {
            return true;
        }
    }
    const u64 touched = (row_->flags_written | row_->flags_undefined) & kStatusFlags;
    return (row_->flags_read & kStatusFlags) != 0 || (touched != 0 && touched != kStatusFlags);
}

void Translator::wrote_flags() {
    if (((row_->flags_written | row_->flags_undefined) & kStatusFlags) == 0) return;
    flags_ = {.hardware = true, .slot = false};
}

}  // namespace vg::jit
