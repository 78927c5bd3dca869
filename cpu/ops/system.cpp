// Control and debug registers, CPUID, time stamp, HLT, TLB and cache control, FS/GS base, protection keys, XCR0.
#include "base/bits.h"
#include "cpu/control_registers.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/ops/fpu.h"
#include "cpu/segments.h"

namespace vg::cpu::ops {

namespace {

void set_pair(Interp& in, u64 value) {
    in.s.gpr[RDX] = value >> 32;
    in.s.gpr[RAX] = static_cast<u32>(value);
}
u64 get_pair(const Interp& in) { return in.s.gpr[RDX] << 32 | static_cast<u32>(in.s.gpr[RAX]); }

Exec write_cr(Interp& in, unsigned number, u64 value) {
    switch (number) {
        case 0: return write_cr0(in.vp, value);
        case 2: in.s.cr2 = value; return Exec::Next;
        case 3: return write_cr3(in.vp, value);
        case 4: return write_cr4(in.vp, value);
        default:
            if ((value & ~u64{15}) != 0) return general_protection(in);
            in.vp.apic().set_tpr(static_cast<u8>(value << 4));
            return Exec::Next;
    }
}

u64 read_cr(const Interp& in, unsigned number) {
    switch (number) {
        case 0: return in.vp.controls().cr0_view.read(in.s.cr0);
        case 2: return in.s.cr2;
        case 3: return in.s.cr3;
        case 4: return in.vp.controls().cr4_view.read(in.s.cr4);
        default: return in.vp.apic().tpr() >> 4;
    }
}

/// A write of CR0, CR3, CR4 or CR8 offered to the levels, then done.
/// @param source  LMSW: its operand
Exec change_cr(Interp& in, const Insn& i, unsigned number, u64 value, virt::CrAccess how = virt::CrAccess::MovTo,
               u64 source = 0) {
    if (!in.vp.levels().empty() && (number != 2 || in.vp.controls().cr_reads)) {
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Cr);
        exit.write = true;
        exit.cr_access = how;
        exit.data[0] = source;
        if (how == virt::CrAccess::Lmsw && i.memory_operand() != nullptr) {
            u64 address = 0;
            if (in.memory_address(i, 2, false, address)) exit.gva = Gva(address);
        }
        exit.reg = static_cast<u8>(number);
        exit.value = value;
        Exec out{};
        const virt::Action action = offer(in, i, out);
        if (action == virt::Action::Complete) return resync(in, i);
        if (action != virt::Action::Default) return out;
    }
    if (number == 0) value = in.vp.controls().cr0_view.write(in.s.cr0, value);
    if (number == 4) value = in.vp.controls().cr4_view.write(in.s.cr4, value);
    const u64 old = read_cr(in, number);
    const Exec result = write_cr(in, number, value);
    if (result != Exec::Next) return result;
    in.vp.tell(TapKind::Cr, number, value, old, in.s.rip);
    return resync(in, i);
}

/// A read of a control register, for levels that ask for it; they may change the value. True: the body returns `out`.
bool read_exits(Interp& in, const Insn& i, unsigned number, u64& value, Exec& out) {
    const virt::Controls& controls = in.vp.controls();
    const bool offered = number == 8 || (number == 3 && controls.cr_all) || controls.cr_reads;
    if (!offered || in.vp.levels().empty()) return false;
    virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Cr);
    exit.reg = static_cast<u8>(number);
    exit.cr_access = virt::CrAccess::MovFrom;
    exit.value = value;
    const virt::Action action = offer(in, i, out);
    if (action == virt::Action::Complete) value = exit.value;
    return action != virt::Action::Complete && action != virt::Action::Default;
}

bool time_stamp_allowed(const Interp& in) { return (in.s.cr4 & cr4::TSD) == 0 || in.vp.cpl() == 0; }

Exec read_time_stamp(Interp& in, const Insn& i, bool with_aux) {
    if (!time_stamp_allowed(in)) return general_protection(in);
    u64 value = in.vp.tsc();
    if (!in.vp.levels().empty()) {
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Rdtsc);
        exit.value = value;
        Exec out{};
        const virt::Action action = offer(in, i, out);
        if (action == virt::Action::Complete) value = exit.value;
        else if (action != virt::Action::Default) return out;
    }
    set_pair(in, value);
    if (with_aux) in.s.gpr[RCX] = static_cast<u32>(in.s.tsc_aux);
    return Exec::Next;
}

/// One draw of the VP's own deterministic generator (splitmix64).
u64 draw(VpState& s) {
    s.random_state += 0x9e3779b97f4a7c15;
    u64 z = s.random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

Exec random(Interp& in, const Insn& i) {
    in.set_gpr(i[0], draw(in.s));
    in.s.rflags = (in.s.rflags & ~flag::Status) | flag::CF;
    return Exec::Next;
}

bool base_access(const Interp& in) { return (in.s.cr4 & cr4::FSGSBASE) != 0; }

Exec read_base(Interp& in, const Insn& i, Seg seg) {
    if (!base_access(in)) return undefined(in);
    in.set_gpr(i[0], in.s.segment(seg).base);
    return Exec::Next;
}

Exec write_base(Interp& in, const Insn& i, Seg seg) {
    if (!base_access(in)) return undefined(in);
    const u64 value = in.gpr(i[0]);
    if (!canonical(value)) return general_protection(in);
    in.s.segment(seg).base = value;
    return Exec::Next;
}

Exec set_ac(Interp& in, const Insn& i, bool on) {
    if (in.vp.cpl() != 0) return undefined(in);
    in.s.rflags = on ? in.s.rflags | flag::AC : in.s.rflags & ~flag::AC;
    in.vp.update_privilege();
    return resync(in, i);
}

}  // namespace

Exec MOV_CR(Interp& in, const Insn& i) {
    const bool writes = i[0].kind == OperandKind::Cr;
    const Operand& cr = writes ? i[0] : i[1];
    const unsigned number = cr.reg;
    const unsigned size = in_64_bit(in) ? 8 : 4;
    if (writes) return change_cr(in, i, number, in.gpr(i[1].reg, size));
    u64 value = read_cr(in, number);
    Exec out{};
    if (read_exits(in, i, number, value, out)) return out;
    in.set_gpr(i[0].reg, size, value);
    return Exec::Next;
}

// DEVIATION: breakpoints on I/O are stored and read back, but never match.
Exec MOV_DR(Interp& in, const Insn& i) {
    const bool writes = i[0].kind == OperandKind::Dr;
    unsigned number = writes ? i[0].reg : i[1].reg;
    if (in.vp.controls().dr) {
        // SDM 3C "Relative Priority of Faults and VM Exits": before #GP of a lower privilege and #UD of CR4.DE.
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Dr);
        exit.write = writes;
        exit.reg = static_cast<u8>(number);
        Exec out{};
        if (offer(in, i, out) != virt::Action::Default) return out;
    }
    if (in.vp.cpl() != 0) return general_protection(in);
    if (number == 4 || number == 5) {
        if ((in.s.cr4 & cr4::DE) != 0) return undefined(in);
        number += 2;
    }
    if ((in.s.dr[7] & dr7::GD) != 0) {
        Fault fault;
        fault.vector = kDebug;
        fault.dr6_bits = dr6::BD;
        return in.vp.raise(fault);
    }
    const unsigned size = in_64_bit(in) ? 8 : 4;
    if (!writes) {
        in.set_gpr(i[0].reg, size, in.s.dr[number]);
        return Exec::Next;
    }
    const Exec result = write_dr(in.vp, number, in.gpr(i[1].reg, size));
    return result == Exec::Next ? resync(in, i) : result;
}

Exec CLTS(Interp& in, const Insn& i) { return change_cr(in, i, 0, in.s.cr0 & ~cr0::TS, virt::CrAccess::Clts); }

Exec LMSW(Interp& in, const Insn& i) {
    u64 value = 0;
    if (!in.read(i, i[0], value)) return in.vp.failed();
    const u64 kept = in.s.cr0 & ~(cr0::MP | cr0::EM | cr0::TS);  // PE can be set, not cleared
    return change_cr(in, i, 0, kept | (value & (cr0::PE | cr0::MP | cr0::EM | cr0::TS)), virt::CrAccess::Lmsw, value);
}

Exec SMSW(Interp& in, const Insn& i) {
    if ((in.s.cr4 & cr4::UMIP) != 0 && in.vp.cpl() != 0) return general_protection(in);
    u64 value = read_cr(in, 0);
    Exec out{};
    if (read_exits(in, i, 0, value, out)) return out;
    return in.write(i, i[0], value) ? Exec::Next : in.vp.failed();
}

Exec INVLPG(Interp& in, const Insn& i) {
    Exec out{};
    const u64 offset = in.effective_address(i);
    const bool wide = in_64_bit(in);
    const bool based = !wide || i.seg == Seg::FS || i.seg == Seg::GS;
    u64 address = offset + (based ? in.s.segment(i.seg).base : 0);
    if (!wide) address = static_cast<u32>(address);
    if (!in.vp.levels().empty()) {
        begin_exit(in, i, virt::ExitReason::Invlpg).gva = Gva(address);
        const virt::Action action = offer(in, i, out);
        if (action == virt::Action::Complete) return resync(in, i);
        if (action != virt::Action::Default) return out;
    }
    if (canonical(address) || !wide) in.vp.tlb().flush_page(address);  // SDM: otherwise a no-op
    return resync(in, i);
}

Exec INVPCID(Interp& in, const Insn& i) {
    if (in.vp.controls().no_invpcid) return undefined(in);
    if (in.vp.cpl() != 0) return general_protection(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::Invpcid, out)) return out;
    u64 descriptor[2] = {};
    const u64 type = in.gpr(i[0]);
    if (!in.load_operand(i, descriptor, sizeof descriptor)) return in.vp.failed();
    const u64 pcid = descriptor[0] & 0xfff;
    if (type > 3 || descriptor[0] >> 12 != 0) return general_protection(in);
    if (type < 2 && pcid != 0 && (in.s.cr4 & cr4::PCIDE) == 0) return general_protection(in);
    if (type == 0 && !canonical(descriptor[1])) return general_protection(in);
    switch (type) {
        case 0: in.vp.tlb().flush_page_pcid(descriptor[1], static_cast<u16>(pcid)); break;
        case 1: in.vp.tlb().flush_pcid(static_cast<u16>(pcid)); break;
        case 2: in.vp.tlb().flush_tag(); break;
        default: in.vp.tlb().flush_all_nonglobal(); break;
    }
    return resync(in, i);
}

Exec INVD(Interp& in, const Insn& i) {
    Exec out{};
    return taken(in, i, virt::ExitReason::Invd, out) ? out : WBINVD(in, i);
}
Exec WBINVD(Interp& in, const Insn& i) {
    Exec out{};
    return taken(in, i, virt::ExitReason::Wbinvd, out) ? out : Exec::Next;
}

Exec HLT(Interp& in, const Insn& i) {
    Exec out{};
    if (taken(in, i, virt::ExitReason::Halt, out)) return out;
    in.s.activity = Activity::Halted;
    return resync(in, i);
}

Exec PAUSE(Interp& in, const Insn& i) {
    Exec out{};
    return taken(in, i, virt::ExitReason::Pause, out) ? out : Exec::Next;
}

Exec MONITOR(Interp& in, const Insn& i) {
    if (in.vp.cpl() != 0) return undefined(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::Monitor, out)) return out;
    u64 address = 0;
    u8 byte = 0;
    const u64 offset = in.gpr(RAX, i.addr_size);
    if ((in.s.gpr[RCX] & 0xffffffff) != 0) return general_protection(in);
    if (!in.linear(i.seg, offset, 1, false, address) || !in.vp.memory().read(address, byte)) return in.vp.failed();
    return Exec::Next;
}

Exec MWAIT(Interp& in, const Insn& i) {
    if (in.vp.cpl() != 0) return undefined(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::Mwait, out)) return out;
    if ((in.s.gpr[RCX] & 0xfffffffe) != 0) return general_protection(in);
    return Exec::Next;  // waking at once is allowed
}

Exec CPUID(Interp& in, const Insn& i) {
    const u32 leaf = static_cast<u32>(in.s.gpr[RAX]), subleaf = static_cast<u32>(in.s.gpr[RCX]);
    CpuidRegs regs = cpuid(in.vp, leaf, subleaf);
    if (!in.vp.levels().empty()) {
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Cpuid);
        exit.leaf = leaf;
        exit.subleaf = subleaf;
        exit.regs[0] = regs.eax, exit.regs[1] = regs.ebx, exit.regs[2] = regs.ecx, exit.regs[3] = regs.edx;
        Exec out{};
        const virt::Action action = offer(in, i, out);
        if (action == virt::Action::Complete) regs = {exit.regs[0], exit.regs[1], exit.regs[2], exit.regs[3]};
        else if (action != virt::Action::Default) return out;
    }
    in.s.gpr[RAX] = regs.eax;
    in.s.gpr[RBX] = regs.ebx;
    in.s.gpr[RCX] = regs.ecx;
    in.s.gpr[RDX] = regs.edx;
    return Exec::Next;
}

Exec RDTSC(Interp& in, const Insn& i) { return read_time_stamp(in, i, false); }
Exec RDTSCP(Interp& in, const Insn& i) {
    return in.vp.controls().no_rdtscp ? undefined(in) : read_time_stamp(in, i, true);
}

Exec RDPID(Interp& in, const Insn& i) {
    if (in.vp.controls().no_rdtscp) return undefined(in);
    in.set_gpr(i[0].reg, in_64_bit(in) ? 8 : 4, in.s.tsc_aux);
    return Exec::Next;
}

/// There is no performance monitoring unit: every counter number is invalid.
Exec RDPMC(Interp& in, const Insn& i) {
    const bool allowed = (in.s.cr4 & cr4::PCE) != 0 || in.vp.cpl() == 0;
    Exec out{};
    return allowed && taken(in, i, virt::ExitReason::Rdpmc, out) ? out : general_protection(in);
}

Exec RDRAND(Interp& in, const Insn& i) {
    Exec out{};
    return in.vp.controls().rdrand && taken(in, i, virt::ExitReason::Random, out) ? out : random(in, i);
}
Exec RDSEED(Interp& in, const Insn& i) {
    Exec out{};
    return in.vp.controls().rdseed && taken(in, i, virt::ExitReason::Random, out) ? out : random(in, i);
}

Exec SWAPGS(Interp& in, const Insn&) {
    std::swap(in.s.segment(Seg::GS).base, in.s.kernel_gs_base);
    return Exec::Next;
}
Exec RDFSBASE(Interp& in, const Insn& i) { return read_base(in, i, Seg::FS); }
Exec RDGSBASE(Interp& in, const Insn& i) { return read_base(in, i, Seg::GS); }
Exec WRFSBASE(Interp& in, const Insn& i) { return write_base(in, i, Seg::FS); }
Exec WRGSBASE(Interp& in, const Insn& i) { return write_base(in, i, Seg::GS); }

Exec CLAC(Interp& in, const Insn& i) { return set_ac(in, i, false); }
Exec STAC(Interp& in, const Insn& i) { return set_ac(in, i, true); }

Exec RDPKRU(Interp& in, const Insn&) {
    if ((in.s.cr4 & cr4::PKE) == 0) return undefined(in);
    if (static_cast<u32>(in.s.gpr[RCX]) != 0) return general_protection(in);
    set_pair(in, in.s.pkru);
    return Exec::Next;
}

Exec WRPKRU(Interp& in, const Insn& i) {
    if ((in.s.cr4 & cr4::PKE) == 0) return undefined(in);
    if (static_cast<u32>(in.s.gpr[RCX]) != 0 || static_cast<u32>(in.s.gpr[RDX]) != 0) return general_protection(in);
    in.s.pkru = static_cast<u32>(in.s.gpr[RAX]);
    in.vp.tlb().pkru_changed();
    in.vp.update_context();
    return resync(in, i);
}

Exec XGETBV(Interp& in, const Insn&) {
    if ((in.s.cr4 & cr4::OSXSAVE) == 0) return undefined(in);
    const u32 index = static_cast<u32>(in.s.gpr[RCX]);
    if (index > 1 || (index == 1 && !in.vp.model().has(CpuFlag::XGETBV1))) return general_protection(in);
    set_pair(in, index == 0 ? in.s.xcr0 : in.s.xcr0 & components_in_use(in.s, true));
    return Exec::Next;
}

Exec XSETBV(Interp& in, const Insn& i) {
    if ((in.s.cr4 & cr4::OSXSAVE) == 0) return undefined(in);
    if (in.vp.cpl() != 0) return general_protection(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::Xsetbv, out)) return out;
    if (static_cast<u32>(in.s.gpr[RCX]) != 0) return general_protection(in);
    const Exec result = write_xcr0(in.vp, get_pair(in));
    return result == Exec::Next ? resync(in, i) : result;
}

Exec SERIALIZE(Interp& in, const Insn& i) { return resync(in, i); }

}  // namespace vg::cpu::ops
