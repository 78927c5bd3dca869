// Segment registers and descriptor tables.
#include "base/bits.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/segments.h"

namespace vg::cpu::ops {

namespace {

/// After a segment register was loaded. SS inhibits interrupts for one instruction; outside 64-bit mode bases and
/// limits are part of what translated code assumes.
Exec loaded(Interp& in, const Insn& i, Seg seg) {
    if (seg == Seg::SS) in.s.interrupt_shadow = shadow::MovSs;
    return seg == Seg::SS || !in_64_bit(in) ? resync(in, i) : Exec::Next;
}

Exec load_far_pointer(Interp& in, const Insn& i, Seg seg) {
    u8 raw[10] = {};
    const u32 size = i.op_size;
    u64 address = 0;
    if (!in.memory_address(i, size + 2, false, address) ||
        !in.vp.memory().read(address, raw, size + 2, As::Current, i.seg == Seg::SS))
        return in.vp.failed();
    u64 offset = 0;
    u16 selector = 0;
    std::memcpy(&offset, raw, size);
    std::memcpy(&selector, raw + size, 2);
    if (!load_segment(in.vp, seg, selector)) return in.vp.failed();
    in.set_gpr(i[0], offset);
    return in_64_bit(in) ? Exec::Next : resync(in, i);
}

Exec store_table(Interp& in, const Insn& i, const TableReg& table) {
    if ((in.s.cr4 & cr4::UMIP) != 0 && in.vp.cpl() != 0) return general_protection(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::DescriptorTable, out)) return out;
    u8 raw[10] = {};
    const u16 limit = static_cast<u16>(table.limit);
    const u32 size = in_64_bit(in) ? 10 : 6;
    std::memcpy(raw, &limit, 2);
    std::memcpy(raw + 2, &table.base, 8);
    u64 address = 0;
    if (!in.memory_address(i, size, true, address) ||
        !in.vp.memory().write(address, raw, size, As::Current, i.seg == Seg::SS))
        return in.vp.failed();
    return Exec::Next;
}

Exec load_table(Interp& in, const Insn& i, TableReg& table) {
    Exec out{};
    if (taken(in, i, virt::ExitReason::DescriptorTable, out)) return out;
    u8 raw[10] = {};
    const bool wide = in_64_bit(in);
    const u32 size = wide ? 10 : 6;
    u64 address = 0;
    if (!in.memory_address(i, size, false, address) ||
        !in.vp.memory().read(address, raw, size, As::Current, i.seg == Seg::SS))
        return in.vp.failed();
    u16 limit = 0;
    u64 base = 0;
    std::memcpy(&limit, raw, 2);
    std::memcpy(&base, raw + 2, size - 2);
    if (!wide && i.op_size == 2) base &= 0xffffff;
    if (wide && !canonical(base)) return general_protection(in);
    table.base = base;
    table.limit = limit;
    return resync(in, i);
}

Exec store_selector(Interp& in, const Insn& i, Seg seg) {
    if (!protected_proper(in)) return undefined(in);
    if ((in.s.cr4 & cr4::UMIP) != 0 && in.vp.cpl() != 0) return general_protection(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::DescriptorTable, out)) return out;
    return in.write(i, i[0], in.s.segment(seg).selector) ? Exec::Next : in.vp.failed();
}

bool read_selector(Interp& in, const Insn& i, const Operand& operand, u16& selector) {
    u64 value = 0;
    if (!in.read(i, operand, value)) return false;
    selector = static_cast<u16>(value);
    return true;
}

void set_zf(Interp& in, bool on) { in.s.rflags = on ? in.s.rflags | flag::ZF : in.s.rflags & ~flag::ZF; }

/// Visibility of a descriptor at this CPL and RPL, for LAR, LSL, VERR, VERW.
bool visible(const Interp& in, const Descriptor& d, u16 selector) {
    return d.conforming() || (in.vp.cpl() <= d.dpl() && (selector & 3u) <= d.dpl());
}

bool lar_type(const Interp& in, const Descriptor& d) {
    if (d.s()) return true;
    const u32 valid = in.vp.long_mode() ? 0x1a04 : 0x1a3e;  // bit per type
    return bit(valid, d.type());
}
bool lsl_type(const Interp& in, const Descriptor& d) {
    if (d.s()) return true;
    const u32 valid = in.vp.long_mode() ? 0x0a04 : 0x0a0e;
    return bit(valid, d.type());
}

/// LAR and LSL: looks the descriptor up; ZF says whether it may be seen.
Exec inspect(Interp& in, const Insn& i, bool (*type_ok)(const Interp&, const Descriptor&), u64 (*result)(const Descriptor&)) {
    if (!protected_proper(in)) return undefined(in);
    u16 selector = 0;
    if (!read_selector(in, i, i[1], selector)) return in.vp.failed();
    Descriptor d;
    bool found = false;
    if (!is_null(selector) && !find_descriptor(in.vp, selector, d, found)) return in.vp.failed();
    const bool ok = found && type_ok(in, d) && visible(in, d, selector);
    set_zf(in, ok);
    if (ok) in.set_gpr(i[0], result(d));
    return Exec::Next;
}

Exec verify(Interp& in, const Insn& i, bool write) {
    if (!protected_proper(in)) return undefined(in);
    u16 selector = 0;
    if (!read_selector(in, i, i[0], selector)) return in.vp.failed();
    Descriptor d;
    bool found = false;
    if (!is_null(selector) && !find_descriptor(in.vp, selector, d, found)) return in.vp.failed();
    const bool usable = write ? d.writable_data() : d.data() || d.readable_code();
    set_zf(in, found && usable && visible(in, d, selector));
    return Exec::Next;
}

/// LLDT and LTR: a system descriptor of the GDT whose type is in `types` (a bit each).
bool read_system_descriptor(Interp& in, u16 selector, u32 types, Descriptor& d) {
    const u32 error = selector_error(selector);
    if ((selector & 4) != 0) {
        in.vp.raise(kGeneralProtection, error);
        return false;
    }
    if (!read_descriptor(in.vp, selector, kGeneralProtection, d)) return false;
    if (d.s() || !bit(types, d.type())) {
        in.vp.raise(kGeneralProtection, error);
        return false;
    }
    if (!d.present()) {
        in.vp.raise(kSegmentNotPresent, error);
        return false;
    }
    if (!in.vp.long_mode()) return true;
    if (!widen_descriptor(in.vp, selector, kGeneralProtection, d)) return false;
    if (canonical(d.base())) return true;
    in.vp.raise(kGeneralProtection, error);
    return false;
}

}  // namespace

Exec MOV_SREG(Interp& in, const Insn& i) {
    if (i[0].kind != OperandKind::Seg) {
        const u16 selector = in.s.segment(static_cast<Seg>(i[1].reg)).selector;
        return in.write(i, i[0], selector) ? Exec::Next : in.vp.failed();
    }
    const auto seg = static_cast<Seg>(i[0].reg);
    u16 selector = 0;
    if (!read_selector(in, i, i[1], selector) || !load_segment(in.vp, seg, selector)) return in.vp.failed();
    return loaded(in, i, seg);
}

Exec PUSH_SREG(Interp& in, const Insn& i) {
    const u16 selector = in.s.segment(static_cast<Seg>(i[0].reg)).selector;
    return in.push(selector, i.op_size) ? Exec::Next : in.vp.failed();
}

Exec POP_SREG(Interp& in, const Insn& i) {
    const auto seg = static_cast<Seg>(i[0].reg);
    StackFrame stack = current_stack(in.vp);
    u64 value = 0;
    if (!stack.pop(value, i.op_size) || !load_segment(in.vp, seg, static_cast<u16>(value))) return in.vp.failed();
    stack.commit();
    return loaded(in, i, seg);
}

Exec LDS(Interp& in, const Insn& i) { return load_far_pointer(in, i, Seg::DS); }
Exec LES(Interp& in, const Insn& i) { return load_far_pointer(in, i, Seg::ES); }
Exec LFS(Interp& in, const Insn& i) { return load_far_pointer(in, i, Seg::FS); }
Exec LGS(Interp& in, const Insn& i) { return load_far_pointer(in, i, Seg::GS); }
Exec LSS(Interp& in, const Insn& i) { return load_far_pointer(in, i, Seg::SS); }

Exec SGDT(Interp& in, const Insn& i) { return store_table(in, i, in.s.gdtr); }
Exec SIDT(Interp& in, const Insn& i) { return store_table(in, i, in.s.idtr); }
Exec LGDT(Interp& in, const Insn& i) { return load_table(in, i, in.s.gdtr); }
Exec LIDT(Interp& in, const Insn& i) { return load_table(in, i, in.s.idtr); }
Exec SLDT(Interp& in, const Insn& i) { return store_selector(in, i, Seg::LDTR); }
Exec STR(Interp& in, const Insn& i) { return store_selector(in, i, Seg::TR); }

Exec LLDT(Interp& in, const Insn& i) {
    if (!protected_proper(in)) return undefined(in);
    if (in.vp.cpl() != 0) return general_protection(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::DescriptorTable, out)) return out;
    u16 selector = 0;
    if (!read_selector(in, i, i[0], selector)) return in.vp.failed();
    Descriptor d;
    if (!is_null(selector) && !read_system_descriptor(in, selector, 1u << systype::Ldt, d)) return in.vp.failed();
    in.s.segment(Seg::LDTR) = is_null(selector) ? null_segment(selector) : make_segment(selector, d);
    return Exec::Next;
}

Exec LTR(Interp& in, const Insn& i) {
    if (!protected_proper(in)) return undefined(in);
    if (in.vp.cpl() != 0) return general_protection(in);
    Exec out{};
    if (taken(in, i, virt::ExitReason::DescriptorTable, out)) return out;
    u16 selector = 0;
    if (!read_selector(in, i, i[0], selector)) return in.vp.failed();
    if (is_null(selector)) return general_protection(in);
    const u32 types = 1u << systype::Tss32 | (in.vp.long_mode() ? 0 : 1u << systype::Tss16);
    Descriptor d;
    if (!read_system_descriptor(in, selector, types, d)) return in.vp.failed();
    if (!set_tss_busy(in.vp, d, true)) return in.vp.failed();
    SegmentReg& tr = in.s.segment(Seg::TR);
    tr = make_segment(selector, d);
    tr.attributes |= 2;
    return Exec::Next;
}

Exec LAR(Interp& in, const Insn& i) {
    return inspect(in, i, lar_type, [](const Descriptor& d) { return d.low >> 32 & 0x00f0ff00; });
}
Exec LSL(Interp& in, const Insn& i) {
    return inspect(in, i, lsl_type, [](const Descriptor& d) { return u64{d.limit()}; });
}
Exec VERR(Interp& in, const Insn& i) { return verify(in, i, false); }
Exec VERW(Interp& in, const Insn& i) { return verify(in, i, true); }

Exec ARPL(Interp& in, const Insn& i) {
    if (!protected_proper(in)) return undefined(in);
    u16 destination = 0;
    if (!read_selector(in, i, i[0], destination)) return in.vp.failed();
    const unsigned rpl = in.gpr(i[1]) & 3;
    const bool adjust = (destination & 3u) < rpl;
    // The destination is written in either case, so that it must be writable.
    const u16 result = adjust ? static_cast<u16>((destination & ~3u) | rpl) : destination;
    if (!in.write(i, i[0], result)) return in.vp.failed();
    set_zf(in, adjust);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
