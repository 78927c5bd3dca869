// What traced code does besides: jit/block_trace.h.
#include "jit/block_trace.h"
#include "jit/translator.h"

namespace vg::jit {

using cpu::TracedCode;

namespace {

/// Addresses that an instruction's native form stores at most.
u32 most_slots(const cpu::Insn& insn, const Class& how) {
    const u32 operand = insn.memory_operand() != nullptr ? 1 : 0;
    switch (how.emit) {
        case Emit::Helper:
        case Emit::Nothing:
        case Emit::Lea:
            return 0;
        case Emit::Push:
        case Emit::PushImm:
        case Emit::PushRm:
        case Emit::Pop:
        case Emit::Leave:
        case Emit::Call:
        case Emit::CallRm:
        case Emit::Ret:
        case Emit::Pushf:
            return operand + 1;
        case Emit::String:
            return 3;  // two, and RCX of a repeated one
        default:
            return operand;
    }
}

}  // namespace

/// In the prologue, where the scratch registers and the flags are free: takes a record for the block's `count`
/// instructions.
void Translator::emit_trace_entry(unsigned count) {
    u32 slots = 0;
    for (unsigned k = 0; k < count; ++k) {
        const Class& how = plan_.insns[k].how;
        slots += trace_->wants_addresses() ? most_slots(insns_[k], how) : how.emit == Emit::String ? 1 : 0;
    }
    const std::span<const cpu::Insn> insns(insns_.data(), count);
    traced_ = trace_->make(insns, block_->spa.offset(), slots);
    if (count == 0) trace_->code(traced_).lengths.assign(1, 0);  // of the interpreter's instruction
    trace_slot_ = 0;
    trace_slots_ = slots;
    const u32 site = new_site();
    blocks_.site(site).access = a_.offset();
    const s32 size = static_cast<s32>(trace_->record_bytes(traced_));
    a_.mov(kT0, {.base = kBank, .disp = BlockTrace::kEnd});
    a_.cmp(kT0, {.base = kBank, .disp = BlockTrace::kLimit});
    cold_thunk(a_.jcc_later(kA), thunks_.trace_full, site);
    a_.modrm({.opcode = 0xc7}, 0, HostMem{.base = kT0, .disp = offsetof(BlockTrace::Record, code)});
    a_.dword(traced_);
    a_.mov(kT1, {.base = kBank, .disp = kCodePage});
    a_.modrm({.opcode = 0x89}, kBudget, HostMem{.base = kT0, .disp = offsetof(BlockTrace::Record, budget)});
    a_.mov({.base = kT0, .disp = offsetof(BlockTrace::Record, page_rip)}, kT1);
    a_.lea(kT0, {.base = kT0, .disp = size});
    a_.mov({.base = kBank, .disp = BlockTrace::kEnd}, kT0);
}

/// `value` goes to the record's next place. Clobbers T1.
void Translator::emit_trace_store(u8 value) {
    VG_ASSERT(trace_slot_ < trace_slots_);
    a_.mov(kT1, {.base = kBank, .disp = BlockTrace::kEnd});
    a_.mov({.base = kT1, .disp = -8 * static_cast<s32>(trace_slots_ - trace_slot_)}, value);
    ++trace_slot_;
}

/// T0 is the address of an access that is about to be checked. Clobbers T1.
void Translator::emit_trace_access(u8 base, cpu::Seg seg, unsigned size, bool write) {
    if (trace_ == nullptr || !trace_->wants_addresses()) return;
    TracedCode::Access access{.insn = static_cast<u8>(index_), .size = static_cast<u8>(size), .write = write};
    access.base = seg != cpu::Seg::None ? TracedCode::kSegmentBase : base < 16 ? base : TracedCode::kNoBase;
    trace_->code(traced_).accesses.push_back(access);
    emit_trace_store(kT0);
}

/// Before a repeated string instruction, the last of its block.
void Translator::emit_trace_repeated(unsigned size) {
    if (trace_ == nullptr) return;
    TracedCode& code = trace_->code(traced_);
    const auto operand = [&](cpu::Gpr reg, bool write) {
        code.accesses.push_back({.insn = static_cast<u8>(index_),
                                 .size = static_cast<u8>(size),
                                 .write = write,
                                 .repeated = true,
                                 .base = reg});
        emit_trace_store(kHostOf[reg]);
    };
    const cpu::Op op = cur_->op;
    const bool stores = op == cpu::Op::MOVS || op == cpu::Op::STOS;
    if (trace_->wants_addresses()) {
        if (op == cpu::Op::MOVS || op == cpu::Op::CMPS) operand(cpu::RSI, false);
        operand(cpu::RDI, stores);
    }
    code.repeats = true;
    emit_trace_store(kRcx);
}

}  // namespace vg::jit
