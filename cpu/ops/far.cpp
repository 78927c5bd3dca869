// Far JMP, CALL and RET, through gates and tasks too. SDM 3A "Privilege Checking When Transferring Program Control".
#include "cpu/ops/far.h"

#include "base/bits.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/task.h"

namespace vg::cpu::ops {

namespace {

bool refuse(Interp& in, u8 vector, u16 selector) {
    in.vp.raise(vector, selector_error(selector));
    return false;
}

/// Where a far transfer goes.
struct Target {
    u16 selector = 0;
    u64 offset = 0;
};

bool read_target(Interp& in, const Insn& i, Target& out) {
    if (i[0].kind == OperandKind::FarPtr) {
        out = {static_cast<u16>(i.imm2), i.imm & low_mask(8u * i.op_size)};
        return true;
    }
    u8 raw[10] = {};
    const u32 size = i.op_size;
    u64 address = 0;
    if (!in.memory_address(i, size + 2, false, address) ||
        !in.vp.memory().read(address, raw, size + 2, As::Current, i.seg == Seg::SS))
        return false;
    std::memcpy(&out.offset, raw, size);
    std::memcpy(&out.selector, raw + size, 2);
    return true;
}

/// Offset within the new code segment: canonical in 64-bit code, else within the limit.
bool check_offset(Interp& in, const Descriptor& code, u64& offset) {
    const bool wide = in.vp.long_mode() && code.l();
    if (!wide) offset &= 0xffffffff;
    if (wide ? canonical(offset) : offset <= code.limit()) return true;
    in.vp.raise(kGeneralProtection, 0);
    return false;
}

void enter_code(Interp& in, u16 selector, const Descriptor& code, u64 offset, unsigned cpl) {
    in.s.segment(Seg::CS) = make_segment(static_cast<u16>((selector & ~3u) | cpl), code);
    in.s.rip = offset;
    set_cpl(in.vp, cpl);
}

/// A code segment reached directly by JMP or CALL, at the same CPL.
bool check_direct_code(Interp& in, u16 selector, const Descriptor& code) {
    const unsigned cpl = in.vp.cpl(), rpl = selector & 3u;
    if (code.conforming() ? code.dpl() > cpl : rpl > cpl || code.dpl() != cpl)
        return refuse(in, kGeneralProtection, selector);
    if (in.vp.long_mode() && code.l() && code.db()) return refuse(in, kGeneralProtection, selector);
    return code.present() || refuse(in, kSegmentNotPresent, selector);
}

Exec transfer_real(Interp& in, const Insn& i, const Target& target, bool call) {
    if (target.offset > in.s.segment(Seg::CS).limit) return general_protection(in);
    if (call) {
        StackFrame stack = current_stack(in.vp);
        if (!stack.push(in.s.segment(Seg::CS).selector, i.op_size) || !stack.push(in.next_rip(i), i.op_size))
            return in.vp.failed();
        stack.commit();
    }
    in.s.segment(Seg::CS) = real_segment(in.vp, Seg::CS, target.selector);
    in.s.rip = target.offset;
    return Exec::Resync;
}

Exec transfer_code(Interp& in, const Insn& i, const Target& target, Descriptor& code, bool call) {
    if (!check_direct_code(in, target.selector, code)) return Exec::Fault;
    u64 offset = target.offset;
    if (!check_offset(in, code, offset)) return Exec::Fault;
    StackFrame stack = current_stack(in.vp);
    if (call && (!stack.push(in.s.segment(Seg::CS).selector, i.op_size) || !stack.push(in.next_rip(i), i.op_size)))
        return in.vp.failed();
    if (!mark_accessed(in.vp, code)) return in.vp.failed();
    if (call) stack.commit();
    enter_code(in, target.selector, code, offset, in.vp.cpl());
    return Exec::Resync;
}

Exec transfer_task(Interp& in, const Insn& i, u16 selector, bool call) {
    return switch_task(in.vp, selector, call ? TaskSwitch::Call : TaskSwitch::Jump, in.next_rip(i), in.s.rflags);
}

/// A gate's code segment. `new_cpl` is the privilege the transfer leads to.
bool read_gate_code(Interp& in, u16 selector, bool call, Descriptor& code, unsigned& new_cpl) {
    const unsigned cpl = in.vp.cpl();
    if (is_null(selector)) {
        in.vp.raise(kGeneralProtection, 0);
        return false;
    }
    if (!read_descriptor(in.vp, selector, kGeneralProtection, code)) return false;
    if (!code.code() || code.dpl() > cpl) return refuse(in, kGeneralProtection, selector);
    if (!call && !code.conforming() && code.dpl() != cpl) return refuse(in, kGeneralProtection, selector);
    if (in.vp.long_mode() && (!code.l() || code.db())) return refuse(in, kGeneralProtection, selector);
    if (!code.present()) return refuse(in, kSegmentNotPresent, selector);
    new_cpl = code.conforming() ? cpl : code.dpl();
    return true;
}

/// CALL through a gate to an inner level: new stack, old SS:SP, parameters, return address.
Exec call_inner(Interp& in, const Insn& i, const Descriptor& gate, Descriptor& code, u64 offset, unsigned new_cpl,
                unsigned size) {
    VpState& s = in.s;
    const bool wide = in.vp.long_mode();
    InnerStack inner;
    SegmentReg new_ss = null_segment(static_cast<u16>(new_cpl), new_cpl);
    if (!read_inner_stack(in.vp, new_cpl, 0, inner)) return in.vp.failed();
    if (!wide) {
        Descriptor ss;
        if (is_null(inner.ss)) return in.vp.raise(kInvalidTss, 0);
        if (!check_stack_segment(in.vp, inner.ss, new_cpl, kInvalidTss, ss) || !mark_accessed(in.vp, ss))
            return in.vp.failed();
        new_ss = make_segment(inner.ss, ss);
    }
    StackFrame stack(in.vp, new_ss, inner.sp, wide, As::Supervisor, wide ? 0 : selector_error(new_ss.selector));
    if (!stack.push(s.segment(Seg::SS).selector, size) || !stack.push(s.gpr[RSP], size)) return in.vp.failed();
    StackFrame old = current_stack(in.vp);
    for (unsigned n = wide ? 0 : gate.gate_parameters(); n-- > 0;) {
        u64 parameter = 0;
        if (!old.peek(parameter, size, u64{n} * size) || !stack.push(parameter, size)) return in.vp.failed();
    }
    if (!stack.push(s.segment(Seg::CS).selector, size) || !stack.push(in.next_rip(i), size)) return in.vp.failed();
    if (!mark_accessed(in.vp, code)) return in.vp.failed();
    stack.commit();
    s.segment(Seg::SS) = new_ss;
    enter_code(in, gate.gate_selector(), code, offset, new_cpl);
    return Exec::Resync;
}

Exec transfer_gate(Interp& in, const Insn& i, const Target& target, Descriptor& gate, bool call) {
    const bool wide = in.vp.long_mode();
    if (wide && !widen_descriptor(in.vp, target.selector, kGeneralProtection, gate)) return in.vp.failed();
    const unsigned size = wide ? 8 : gate.type() == systype::CallGate32 ? 4 : 2;
    Descriptor code;
    unsigned new_cpl = 0;
    if (!read_gate_code(in, gate.gate_selector(), call, code, new_cpl)) return in.vp.failed();
    u64 offset = size == 2 ? gate.gate_offset() & 0xffff : gate.gate_offset();
    if (!check_offset(in, code, offset)) return Exec::Fault;
    if (call && new_cpl < in.vp.cpl()) return call_inner(in, i, gate, code, offset, new_cpl, size);
    StackFrame stack = current_stack(in.vp);
    if (call && (!stack.push(in.s.segment(Seg::CS).selector, size) || !stack.push(in.next_rip(i), size)))
        return in.vp.failed();
    if (!mark_accessed(in.vp, code)) return in.vp.failed();
    if (call) stack.commit();
    enter_code(in, gate.gate_selector(), code, offset, in.vp.cpl());
    return Exec::Resync;
}

Exec transfer_system(Interp& in, const Insn& i, const Target& target, Descriptor& d, bool call) {
    const unsigned type = d.type();
    const bool gate16_or_32 = type == systype::CallGate32 || (type == systype::CallGate16 && !in.vp.long_mode());
    const bool tss = !in.vp.long_mode() && (type == systype::Tss16 || type == systype::Tss32);
    const bool task_gate = !in.vp.long_mode() && type == systype::TaskGate;
    const unsigned weakest = std::max<unsigned>(in.vp.cpl(), target.selector & 3u);
    if ((!gate16_or_32 && !tss && !task_gate) || d.dpl() < weakest) {
        refuse(in, kGeneralProtection, target.selector);
        return Exec::Fault;
    }
    if (!d.present()) {
        refuse(in, kSegmentNotPresent, target.selector);
        return Exec::Fault;
    }
    if (gate16_or_32) return transfer_gate(in, i, target, d, call);
    return transfer_task(in, i, tss ? target.selector : d.gate_selector(), call);
}

Exec far_transfer(Interp& in, const Insn& i, bool call) {
    Target target;
    if (!read_target(in, i, target)) return in.vp.failed();
    if (!protected_proper(in)) return transfer_real(in, i, target, call);
    if (is_null(target.selector)) return general_protection(in);
    Descriptor d;
    if (!read_descriptor(in.vp, target.selector, kGeneralProtection, d)) return in.vp.failed();
    if (d.code()) return transfer_code(in, i, target, d, call);
    if (!d.s()) return transfer_system(in, i, target, d, call);
    refuse(in, kGeneralProtection, target.selector);
    return Exec::Fault;
}

}  // namespace

bool read_return_code(Interp& in, u16 selector, Descriptor& code) {
    if (is_null(selector)) {
        in.vp.raise(kGeneralProtection, 0);
        return false;
    }
    if (!read_descriptor(in.vp, selector, kGeneralProtection, code)) return false;
    const unsigned rpl = selector & 3u;
    const bool sizes_ok = !in.vp.long_mode() || !code.l() || !code.db();
    if (!code.code() || rpl < in.vp.cpl() || !sizes_ok || (code.conforming() ? code.dpl() > rpl : code.dpl() != rpl))
        return refuse(in, kGeneralProtection, selector);
    return code.present() || refuse(in, kSegmentNotPresent, selector);
}

bool check_return_offset(Interp& in, const Descriptor& code, u64& offset) { return check_offset(in, code, offset); }

bool read_return_stack(Interp& in, u16 selector, unsigned rpl, bool to_64_bit, SegmentReg& out) {
    if (is_null(selector)) {
        if (to_64_bit && rpl != 3 && (selector & 3u) == rpl) {
            out = null_segment(selector, rpl);
            return true;
        }
        in.vp.raise(kGeneralProtection, 0);
        return false;
    }
    Descriptor ss;
    if (!check_stack_segment(in.vp, selector, rpl, kGeneralProtection, ss) || !mark_accessed(in.vp, ss)) return false;
    out = make_segment(selector, ss);
    return true;
}

void enter_return(Interp& in, u16 selector, const Descriptor& code, u64 offset) {
    enter_code(in, selector, code, offset, selector & 3u);
}

void set_return_stack(Interp& in, const SegmentReg& ss, u64 sp, bool to_64_bit) {
    u64& rsp = in.s.gpr[RSP];
    in.s.segment(Seg::SS) = ss;
    rsp = to_64_bit ? sp : ss.db() ? static_cast<u32>(sp) : (rsp & ~u64{0xffff}) | (sp & 0xffff);
}

Exec JMP_FAR(Interp& in, const Insn& i) { return far_transfer(in, i, false); }
Exec CALL_FAR(Interp& in, const Insn& i) { return far_transfer(in, i, true); }

Exec RET_FAR(Interp& in, const Insn& i) {
    const unsigned size = i.op_size;
    const u64 extra = i.operand_count != 0 ? i.imm & 0xffff : 0;
    StackFrame stack = current_stack(in.vp);
    u64 offset = 0, selector_image = 0;
    if (!stack.pop(offset, size) || !stack.pop(selector_image, size)) return in.vp.failed();
    const u16 selector = static_cast<u16>(selector_image);
    if (!protected_proper(in)) {
        if (offset > in.s.segment(Seg::CS).limit) return general_protection(in);
        stack.skip(extra);
        stack.commit();
        in.s.segment(Seg::CS) = real_segment(in.vp, Seg::CS, selector);
        in.s.rip = offset;
        return Exec::Resync;
    }
    Descriptor code;
    if (!read_return_code(in, selector, code) || !check_return_offset(in, code, offset)) return in.vp.failed();
    const unsigned rpl = selector & 3u;
    const bool to_64_bit = in.vp.long_mode() && code.l();
    stack.skip(extra);
    if (rpl == in.vp.cpl()) {
        if (!mark_accessed(in.vp, code)) return in.vp.failed();
        stack.commit();
        enter_return(in, selector, code, offset);
        return Exec::Resync;
    }
    u64 sp = 0, ss_image = 0;
    SegmentReg ss{};
    if (!stack.pop(sp, size) || !stack.pop(ss_image, size) ||
        !read_return_stack(in, static_cast<u16>(ss_image), rpl, to_64_bit, ss) || !mark_accessed(in.vp, code))
        return in.vp.failed();
    set_return_stack(in, ss, sp, to_64_bit);
    set_return_stack(in, ss, in.s.gpr[RSP] + extra, to_64_bit);
    enter_return(in, selector, code, offset);
    drop_inner_segments(in.vp);
    return Exec::Resync;
}

}  // namespace vg::cpu::ops
