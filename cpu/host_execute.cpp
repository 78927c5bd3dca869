// One x87, MMX, SSE or AVX instruction: guest state into a stub's frame, the stub, results and exceptions back.
#include "cpu/interp.h"
#include "cpu/native_stub.h"
#include "cpu/ops/fpu.h"
#include "cpu/spec/bits.h"

namespace vg::cpu {

namespace {

constexpr u32 kMxcsrFlags = 0x3f, kMxcsrMasks = 0x1f80, kFlushToZero = 0x8000;
constexpr unsigned kMaskShift = 7;
constexpr u32 kUnderflow = 1 << 4, kPrecision = 1 << 5;
constexpr u32 kBeforeComputation = 7;  // invalid, denormal operand, divide by zero

bool underflow_unmasked(u32 mxcsr) { return (mxcsr & kUnderflow << kMaskShift) == 0; }

/// MXCSR to run with: the guest's rounding, DAZ and FTZ, all exceptions masked, flags clear, so that the flags found
/// afterwards are this instruction's. An unmasked underflow exception reports every tiny result, a masked one only an
/// inexact one; but FTZ flags every tiny result, and it has no other effect where underflow is unmasked.
u32 host_mxcsr(u32 guest) {
    const u32 value = (guest & ops::kMxcsrMask & ~kMxcsrFlags) | kMxcsrMasks;
    return underflow_unmasked(guest) ? value | kFlushToZero : value;
}

/// Merges an instruction's exception flags. True if one is unmasked: the instruction has no result.
/// Exceptions found before computing suppress those found after. SDM 1 "SIMD Floating-Point Exceptions".
bool raise_simd_exceptions(VpState& s, u32 flags) {
    const u32 unmasked = flags & ~(s.mxcsr >> kMaskShift);
    if ((unmasked & kBeforeComputation) != 0) flags &= kBeforeComputation;
    s.mxcsr |= flags;
    return unmasked != 0;
}

/// An x87 store does not happen if it raised an unmasked exception other than precision.
bool x87_store_suppressed(const VpState& s, const StubFrame& frame) {
    X87State after;
    std::memcpy(&after, frame.fx, ops::kFxControlSize);
    return (after.fsw & ~s.x87.fcw & 0x1f) != 0;
}

void load_fx(StubFrame& frame, const VpState& s) {
    std::memcpy(frame.fx, &s.x87, ops::kFxLegacySize);
    std::memcpy(frame.fx + offsetof(X87State, mxcsr_unused), &frame.guest_mxcsr, sizeof frame.guest_mxcsr);
    std::memset(frame.fx + offsetof(X87State, fop), 0, 2 + 8 + 8);
}

/// x87 state from the frame. The pointers are kept for unmasked exceptions only (cpu/vp_state.h).
void store_fx(Interp& in, const Insn& i, const StubFrame& frame) {
    X87State& x = in.s.x87;
    X87State after;
    std::memcpy(&after, frame.fx, ops::kFxLegacySize);
    x.fcw = after.fcw;
    x.fsw = after.fsw;
    x.ftw = after.ftw;
    for (unsigned n = 0; n < 8; ++n) std::memcpy(x.st[n], after.st[n], 10);
    x.fop = 0;
    x.fip = x.fdp = 0;
    if (ops::x87_exception_pending(x)) {
        x.fop = static_cast<u16>((i.bytes[i.opcode_offset] & 7) << 8 | i.modrm);
        x.fip = in.s.rip;
        if (i.memory_operand() != nullptr) x.fdp = in.effective_address(i);
    }
}

struct MemoryUse {
    bool read = false, write = false;
    u32 size = 0;
    u64 address = 0;
};

/// Address, alignment and input of the memory operand. False: fault recorded.
bool load_memory(Interp& in, const Insn& i, const Row& r, StubFrame& frame, MemoryUse& use) {
    const Operand* m = i.memory_operand();
    if (m == nullptr) return true;
    const bool destination = m == &i.operands[0];
    use.size = m->size;
    use.write = destination && !r.has(attr::NoWriteDest);
    use.read = !use.write || r.has(attr::ReadsDest);
    const bool stack = i.seg == Seg::SS;
    if (use.size == 0 || use.size > sizeof frame.memory) {
        in.vp.raise(kInvalidOpcode);
        return false;
    }
    if (!in.memory_address(i, use.size, use.write, use.address)) return false;
    if (r.has(attr::AlignedMem) && (use.address & (use.size - 1)) != 0) {
        in.vp.raise(kGeneralProtection, 0);
        return false;
    }
    if (use.write && !in.probe(use.address, use.size, stack)) return false;
    return !use.read || in.load(use.address, frame.memory, use.size, stack);
}

void load_registers(const Interp& in, const Insn& i, const HostStub& stub, StubFrame& frame) {
    const VpState& s = in.s;
    frame.guest_vectors = s.ymm[0];
    frame.memory_pointer = frame.memory;
    frame.guest_mxcsr = host_mxcsr(s.mxcsr);
    frame.flags = s.rflags & flag::Status;
    frame.rax = s.gpr[RAX];
    frame.rcx = s.gpr[stub.reg_operand >= 0 ? i[static_cast<unsigned>(stub.reg_operand)].reg : u8{RCX}];
    frame.rdx = s.gpr[stub.rm_operand >= 0 ? i[static_cast<unsigned>(stub.rm_operand)].reg : u8{RDX}];
    if (stub.fx) load_fx(frame, s);
}

void store_registers(Interp& in, const Insn& i, const Row& r, const HostStub& stub, const StubFrame& frame) {
    VpState& s = in.s;
    for (unsigned n = 0; n < 16; ++n)
        if ((stub.stores >> n & 1) != 0) std::memcpy(s.ymm[n], frame.vectors[n], sizeof s.ymm[n]);
    if (stub.reg_operand == 0)
        s.gpr[i[0].reg] = frame.rcx;
    else if (stub.rm_operand == 0)
        s.gpr[i[0].reg] = frame.rdx;
    else if (i.op == Op::PCMPESTRI || i.op == Op::PCMPISTRI || i.op == Op::VPCMPESTRI || i.op == Op::VPCMPISTRI)
        s.gpr[RCX] = frame.rcx;
    if ((r.flags_written | r.flags_undefined) != 0)
        s.rflags = (s.rflags & ~flag::Status) | (frame.flags & flag::Status);
    if (stub.fx) store_fx(in, i, frame);
}

/// With FTZ a tiny result also counts as inexact: asks again without whether it is.
/// DEVIATION: unmasked underflow and overflow round with unbounded exponent, and are inexact less often than the masked
/// responses from which PE is taken here; MXCSR.PE may be set beside a reported UE or OE.
void find_precision(const Interp& in, const Insn& i, const HostStub& stub, StubFrame& frame) {
    const u32 flags = frame.result_mxcsr;
    StubFrame again;
    std::memcpy(again.memory, frame.memory, sizeof again.memory);
    load_registers(in, i, stub, again);
    again.guest_mxcsr &= ~kFlushToZero;
    stub.run(&again);
    frame.result_mxcsr = (flags & ~kPrecision) | (again.result_mxcsr & kPrecision);
}

/// VCVTPS2PH ignores FTZ, so it is the results that tell which of them are tiny: those that are denormal numbers. (A tiny
/// one that became zero was inexact, and has been reported.)
bool has_denormal_half(const u8* results, unsigned bytes) {
    constexpr u16 kExponent = 0x7c00, kFraction = 0x3ff;
    for (unsigned at = 0; at < bytes; at += 2) {
        u16 half;
        std::memcpy(&half, results + at, sizeof half);
        if ((half & kExponent) == 0 && (half & kFraction) != 0) return true;
    }
    return false;
}

}  // namespace

Exec execute_on_host(Interp& in, const Insn& i) {
    // 8087 and 287 leftovers: no operation, also with an exception pending.
    if (i.op == Op::FENI8087_NOP || i.op == Op::FDISI8087_NOP || i.op == Op::FSETPM287_NOP) return Exec::Next;
    const Row& r = row(i.row);
    StubFrame frame;
    MemoryUse use;
    if (!load_memory(in, i, r, frame, use)) return in.vp.failed();
    const HostStub& stub = in.host_stubs().find(i, r);
    load_registers(in, i, stub, frame);
    stub.run(&frame);
    if (i.op == Op::VCVTPS2PH && underflow_unmasked(in.s.mxcsr)) {
        constexpr unsigned kXmmBytes = 16;  // the upper part of a shorter result is zero
        const bool tiny = use.write ? has_denormal_half(frame.memory, use.size) : has_denormal_half(frame.vectors[i[0].reg], kXmmBytes);
        if (tiny) frame.result_mxcsr |= kUnderflow;
    }
    if (stub.vector && underflow_unmasked(in.s.mxcsr) && (frame.result_mxcsr & kUnderflow) != 0)
        find_precision(in, i, stub, frame);
    if (stub.vector && raise_simd_exceptions(in.s, frame.result_mxcsr & kMxcsrFlags))
        return in.vp.raise((in.s.cr4 & cr4::OSXMMEXCPT) != 0 ? kSimdError : kInvalidOpcode);
    const bool suppressed = stub.fx && x87_store_suppressed(in.s, frame);
    if (use.write && !suppressed && !in.store(use.address, frame.memory, use.size, i.seg == Seg::SS))
        return in.vp.failed();
    store_registers(in, i, r, stub, frame);
    return Exec::Next;
}

}  // namespace vg::cpu
