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
