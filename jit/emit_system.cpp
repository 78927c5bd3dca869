// System instructions that kernels execute often enough to be worth emitting. Their faults and intercepts are excluded
// by the mode key, or the helper is called.
#include "cpu/spec/bits.h"
#include "jit/translator.h"

namespace vg::jit {

namespace {

constexpr HostMem state(int disp) { return {.base = kBank, .disp = disp}; }
constexpr int kRflags = VG_STATE_DISP(rflags);

}  // namespace

bool Translator::emit_cli() {
    if (key_.has(ModeKey::kUser)) return false;  // depends on IOPL
    keep_flags();
    a_.modrm({.opcode = 0x81}, 4, state(kRflags));
    a_.dword(static_cast<u32>(~cpu::flag::IF));
    flags_.hardware = false;
    return true;
}

/// Nothing waits for the flag: then the shadow is over at the next boundary, unseen. There has to be one, because behind
/// the block's last instruction an event may come before the next.
bool Translator::emit_sti() {
    if (key_.has(ModeKey::kUser) || index_ + 1u == block_->count) return false;
    keep_flags();
    flags_.hardware = false;
    a_.modrm({.opcode = 0x80}, 7, state(kInterruptWaits));
    a_.byte(0);
    cold_thunk(a_.jcc_later(kNe), thunks_.execute, new_site());
    a_.modrm({.opcode = 0x81}, 1, state(kRflags));
    a_.dword(static_cast<u32>(cpu::flag::IF));
    return true;
}

/// The time is the slice's end less what is left of the budget, of which the whole block has been charged. No flags are
/// touched.
bool Translator::emit_read_time() {
    if (!key_.has(ModeKey::kPlainTime)) return false;
    constexpr Encoding kNot{.opcode = 0xf7, .w = true};
    const s32 not_executed = static_cast<s32>(block_->count) - static_cast<s32>(index_);
    gated_ ? a_.mov32(kT0, kBudget) : a_.mov(kT0, kBudget);  // a mark is in the high half (cpu::kBudgetMark)
    a_.modrm(kNot, 2, kT0);  // -budget - 1
    a_.mov(kRax, state(VG_STATE_DISP(deadline)));
    a_.lea(kRax, {.base = kRax, .index = kT0, .disp = 1 - not_executed});
    a_.mov(kT0, state(VG_STATE_DISP(tsc_offset)));
    a_.lea(kT0, {.base = kT0, .index = kRax});
    a_.rorx(kRdx, kT0, 32);
    a_.mov32(kRdx, kRdx);
    a_.mov32(kRax, kT0);
    if (cur_->op == cpu::Op::RDTSCP) a_.mov32(kRcx, state(VG_STATE_DISP(tsc_aux)));
    return true;
}

bool Translator::emit_read_cr() {
    if (key_.has(ModeKey::kUser)) return false;
    if (!key_.has(ModeKey::kPlainCr) && (*cur_)[1].reg != 2) return false;
    int disp = 0;
    switch ((*cur_)[1].reg) {
        case 0:
            disp = VG_STATE_DISP(cr0);
            break;
        case 2:
            disp = VG_STATE_DISP(cr2);
            break;
        case 3:
            disp = VG_STATE_DISP(cr3);
            break;
        case 4:
            disp = VG_STATE_DISP(cr4);
            break;
        default:
            return false;
    }
    const unsigned reg = (*cur_)[0].reg;
    const u8 host = kHostOf[reg] == kInMemory ? kT0 : kHostOf[reg];
    a_.mov(host, state(disp));
    if (host == kT0) store_gpr(reg, host);
    return true;
}

bool Translator::emit_direction_flag() {
    keep_flags();
    const bool set = cur_->op == cpu::Op::STD;
    a_.modrm({.opcode = 0x81}, set ? 1 : 4, state(kRflags));
    a_.dword(static_cast<u32>(set ? cpu::flag::DF : ~cpu::flag::DF));
    flags_.hardware = false;
    return true;
}

/// The image is put together on the stack: the system flags from the state, the status flags from the slot.
bool Translator::emit_pushf() {
    if (cur_->op_size != 8) return false;
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    constexpr u64 kDropped = kStatusFlags | cpu::flag::RF | cpu::flag::VM;
    const Encoding or_memory{.opcode = 0x09, .w = true}, load_byte{.map = 1, .opcode = 0xb6};
    a_.mov(kT0, state(kRflags));
    a_.alu_imm(4, kT0, static_cast<s32>(~kDropped), true);
    a_.mov(m, kT0);
    a_.modrm(load_byte, kT0, state(kFlagsSlot + 1));
    a_.alu_imm(4, kT0, 0xd5, false);
    a_.modrm(or_memory, kT0, m);
    a_.modrm(load_byte, kT0, state(kFlagsSlot));
    a_.shl32(kT0, 11);
    a_.modrm(or_memory, kT0, m);
    lea_stack(-8);
    return true;
}

bool Translator::emit_swapgs() {
    if (key_.has(ModeKey::kUser)) return false;
    constexpr int kGs =
        VG_STATE_DISP(seg) + static_cast<int>(static_cast<unsigned>(cpu::Seg::GS) * sizeof(cpu::SegmentReg) +
                                              offsetof(cpu::SegmentReg, base));
    constexpr int kOther = VG_STATE_DISP(kernel_gs_base);
    a_.mov(kT0, state(kGs));
    a_.mov(kT1, state(kOther));
    a_.mov(state(kGs), kT1);
    a_.mov(state(kOther), kT0);
    return true;
}

}  // namespace vg::jit
