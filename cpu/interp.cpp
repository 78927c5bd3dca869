#include "cpu/interp.h"

#include "base/bits.h"
#include "cpu/decode_cache.h"
#include "cpu/native_stub.h"
#include "cpu/ops/fpu.h"
#include "cpu/segments.h"
#include "cpu/spec/bits.h"

namespace vg::cpu {

Interp::Interp(Vp& v)
    : vp(v), s(v.state()), host_stubs_(std::make_unique<HostStubs>()), decode_cache_(std::make_unique<DecodeCache>()) {}

Interp::~Interp() = default;

Interp& Vp::interp() {
    if (!interp_) interp_ = std::make_unique<Interp>(*this);
    return *interp_;
}

// ---- memory operands ---------------------------------------------------------------------------------------------

u64 Interp::effective_address(const Insn& i) const {
    u64 address = static_cast<u64>(i.disp);
    if (i.base == kRipBase)
        address += next_rip(i);
    else if (i.base != kNoReg)
        address += s.gpr[i.base];
    if (i.index != kNoReg && !row(i.row).has(attr::Vsib)) address += s.gpr[i.index] * i.scale;
    switch (i.addr_size) {
        case 2: return static_cast<u16>(address);
        case 4: return static_cast<u32>(address);
        default: return address;
    }
}

bool Interp::segment_fault(Seg seg) {
    vp.raise(seg == Seg::SS ? kStackFault : kGeneralProtection, 0);
    return false;
}

bool Interp::linear(Seg seg, u64 offset, u32 size, bool write, u64& out) {
    const SegmentReg& r = s.segment(seg);
    if (vp.code_mode() == CodeMode::Bits64) {
        out = seg == Seg::FS || seg == Seg::GS ? r.base + offset : offset;
        return true;  // LinearMemory checks that it is canonical
    }
    out = static_cast<u32>(r.base + offset);
    const bool checks_type = vp.protected_mode() && !vp.v8086();
    if (checks_type) {
        constexpr unsigned kCode = 8, kReadableOrWritable = 2;
        if (!r.usable()) return segment_fault(seg);
        const bool code = (r.type() & kCode) != 0, second = (r.type() & kReadableOrWritable) != 0;
        if (write ? code || !second : code && !second) return segment_fault(seg);
    }
    return within_limit(r, offset, size) || segment_fault(seg);
}

bool Interp::load_wrapped(u64 address, void* out, u32 size, bool stack) {
    const u32 below = static_cast<u32>((u64{1} << 32) - address);
    return vp.memory().read(address, out, below, As::Current, stack) &&
           vp.memory().read(0, static_cast<u8*>(out) + below, size - below, As::Current, stack);
}

bool Interp::store_wrapped(u64 address, const void* data, u32 size, bool stack) {
    const u32 below = static_cast<u32>((u64{1} << 32) - address);
    return probe(address, size, stack) && vp.memory().write(address, data, below, As::Current, stack) &&
           vp.memory().write(0, static_cast<const u8*>(data) + below, size - below, As::Current, stack);
}

bool Interp::probe(u64 address, u32 size, bool stack) {
    if (!wraps(address, size)) return vp.memory().probe_write(address, size, As::Current, stack);
    const u32 below = static_cast<u32>((u64{1} << 32) - address);
    return vp.memory().probe_write(address, below, As::Current, stack) &&
           vp.memory().probe_write(0, size - below, As::Current, stack);
}

// ---- operands ----------------------------------------------------------------------------------------------------

bool Interp::read_other(const Insn& i, const Operand& o, u64& out) {
    switch (o.kind) {
        case OperandKind::Seg: out = s.segment(static_cast<Seg>(o.reg)).selector; break;
        case OperandKind::Imm2: out = i.imm2; break;
        case OperandKind::Implicit1: out = 1; break;
        case OperandKind::Mm: std::memcpy(&out, ops::mmx_register(s.x87, o.reg), sizeof out); break;
        default: out = i.imm; break;
    }
    return true;
}

bool Interp::write(const Insn& i, const Operand& o, u64 value) {
    if (o.kind == OperandKind::Mem) return store_operand(i, &value, o.size);
    set_gpr(o, value);
    return true;
}

// ---- stack -------------------------------------------------------------------------------------------------------

bool Interp::push(u64 value, unsigned size) {
    const u64 sp = (s.gpr[RSP] - size) & stack_mask();
    u64 address;
    if (!linear(Seg::SS, sp, size, true, address) || !store(address, &value, size, true)) return false;
    set_stack_pointer(sp);
    return true;
}

bool Interp::peek_stack(u64& value, unsigned size, u64 skip) {
    const u64 sp = (s.gpr[RSP] + skip) & stack_mask();
    u64 address, data = 0;
    if (!linear(Seg::SS, sp, size, false, address) || !load(address, &data, size, true)) return false;
    value = data;
    return true;
}

bool Interp::pop(u64& value, unsigned size) {
    if (!peek_stack(value, size)) return false;
    set_stack_pointer(s.gpr[RSP] + size);
    return true;
}

// ---- control transfer --------------------------------------------------------------------------------------------

bool Interp::check_target(u64& target, unsigned op_size) {
    target &= low_mask(op_size * 8);
    const bool ok = vp.code_mode() == CodeMode::Bits64 ? canonical(target)
                                                       : target <= s.segment(Seg::CS).limit;
    if (!ok) vp.raise(kGeneralProtection, 0);
    return ok;
}

Exec Interp::branch(u64 target, unsigned op_size) {
    if (!check_target(target, op_size)) return Exec::Fault;
    s.rip = target;
    return Exec::Branch;
}

bool Interp::condition(unsigned cc) const {
    const u64 f = s.rflags;
    const bool cf = (f & flag::CF) != 0, zf = (f & flag::ZF) != 0, sf = (f & flag::SF) != 0, of = (f & flag::OF) != 0;
    bool result = false;
    switch ((cc >> 1) & 7) {
        case 0: result = of; break;
        case 1: result = cf; break;
        case 2: result = zf; break;
        case 3: result = cf || zf; break;
        case 4: result = sf; break;
        case 5: result = (f & flag::PF) != 0; break;
        case 6: result = sf != of; break;
        default: result = zf || sf != of; break;
    }
    return result != ((cc & 1) != 0);
}

// ---- execution ---------------------------------------------------------------------------------------------------

namespace {

constexpr u32 kCheckedAttributes = attr::Privileged | attr::X87 | attr::Mmx | attr::Sse | attr::Avx;

/// x87 instructions that do not report a pending exception. SDM 1 "Waiting vs. Non-waiting Instructions".
bool non_waiting(Op op) {
    switch (op) {
        case Op::FNINIT: case Op::FNCLEX: case Op::FNSTSW: case Op::FNSTCW: case Op::FNSTENV: case Op::FNSAVE:
        case Op::FENI8087_NOP: case Op::FDISI8087_NOP: case Op::FSETPM287_NOP: return true;
        default: return false;
    }
}

/// MMX instructions that leave the x87 unit alone: the memory forms of two conversions. "For operands xmm, m64: the
/// instruction does not cause a transition to MMX technology and does not take x87 FPU exceptions" (SDM 2A "CVTPI2PD"); Zen
/// does the same for CVTPI2PS, of which the manual does not say so.
bool without_x87(const Insn& i) {
    return (i.op == Op::CVTPI2PD || i.op == Op::CVTPI2PS) && i.memory_operand() != nullptr;
}

/// An unmasked x87 exception meets a waiting instruction. SDM 1 "Native Mode", "MS-DOS Compatibility Sub-mode".
Exec numeric_error(Interp& in) {
    VpState& s = in.s;
    if ((s.cr0 & cr0::NE) != 0) return in.vp.raise(kX87Error);
    s.ferr = 1;
    switch (in.vp.platform().ferr(in.vp, true)) {
        case FerrAnswer::Exception: return in.vp.raise(kX87Error);
        case FerrAnswer::Ignore: return Exec::Next;
        case FerrAnswer::Freeze: break;
    }
    // The instruction begins again behind whatever interrupt comes, and waits again if nobody cleared the error.
    s.activity = Activity::Halted;
    in.vp.cancel_single_step();
    --s.budget;
    return Exec::Repeat;
}

/// Whether the x87 and vector units may be used at all. SDM 3A "Emulation of FPU Instructions", SDM 2A "Exception
/// Conditions of Instructions".
Exec check_units(Interp& in, const Insn& i, const Row& r) {
    const VpState& s = in.s;
    const bool em = (s.cr0 & cr0::EM) != 0, ts = (s.cr0 & cr0::TS) != 0;
    if (r.has(attr::Avx)) {
        constexpr u64 kSseAndAvx = 6;
        if ((s.cr4 & cr4::OSXSAVE) == 0 || (s.xcr0 & kSseAndAvx) != kSseAndAvx) return in.vp.raise(kInvalidOpcode);
    } else if (r.has(attr::Sse)) {
        if (em || (s.cr4 & cr4::OSFXSR) == 0) return in.vp.raise(kInvalidOpcode);
    } else if (r.has(attr::Mmx)) {
        if (em) return in.vp.raise(kInvalidOpcode);
    } else if (i.op == Op::FWAIT) {
        if (!ts || (s.cr0 & cr0::MP) == 0) goto pending;
    } else if (em) {
        return in.vp.raise(kDeviceNotAvailable);
    }
    if (ts) return in.vp.raise(kDeviceNotAvailable);
pending:
    if (!r.has(attr::X87 | attr::Mmx) || without_x87(i)) return Exec::Next;
    if (ops::x87_exception_pending(s.x87)) return non_waiting(i.op) ? Exec::Next : numeric_error(in);
    if (s.ferr != 0) [[unlikely]] {
        in.s.ferr = 0;
        (void)in.vp.platform().ferr(in.vp, false);
    }
    return Exec::Next;
}

Exec check_attributes(Interp& in, const Insn& i, const Row& r) {
    if (i.vex != 0 && (!in.vp.protected_mode() || in.vp.v8086())) return in.vp.raise(kInvalidOpcode);
    if (r.has(attr::X87 | attr::Mmx | attr::Sse | attr::Avx)) {
        const Exec result = check_units(in, i, r);
        if (result != Exec::Next) return result;
    }
    if (r.has(attr::Privileged) && in.vp.cpl() != 0) return in.vp.raise(kGeneralProtection, 0);
    return Exec::Next;
}

}  // namespace

Exec execute(Interp& in, const Insn& i) {
    const Row& r = row(i.row);
    in.vp.begin(&i);
    Op op = i.op;
    if (r.feature != Feature::Base && !in.vp.model().has(r.feature)) [[unlikely]] {
        if (!r.has(attr::ElseBase)) return in.vp.raise(kInvalidOpcode);
        op = op == Op::TZCNT ? Op::BSF : Op::BSR;
    }
    if ((r.attributes & kCheckedAttributes) != 0 || i.vex != 0) {
        const Exec result = check_attributes(in, i, r);
        if (result != Exec::Next) return result;
    }
    const Exec result = r.how == How::Host ? execute_on_host(in, i) : body_of(op)(in, i);
    // SDM 3B "Instruction-Breakpoint Exception Condition": what interrupts a string instruction before its last iteration
    // pushes RF set.
    if (result == Exec::Repeat) in.s.rflags |= flag::RF;
    return result;
}

}  // namespace vg::cpu
