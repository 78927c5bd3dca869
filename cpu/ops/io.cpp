// IN, OUT, INS, OUTS. SDM 1 "Input/Output".
#include "base/bits.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"

namespace vg::cpu::ops {

namespace {

/// The I/O permission bitmap of a 32-bit or 64-bit TSS. SDM 1 "I/O Permission Bit Map".
bool allowed_by_bitmap(Interp& in, u16 port, unsigned size, bool& allowed) {
    constexpr u32 kMapBaseOffset = 0x66;
    const SegmentReg& tr = in.s.segment(Seg::TR);
    allowed = false;
    if ((tr.type() & 8) == 0 || tr.limit < kMapBaseOffset + 1) return true;
    const auto at = [&](u64 offset) {
        const u64 address = tr.base + offset;
        return in.vp.long_mode() ? address : static_cast<u32>(address);
    };
    u16 map = 0;
    if (!in.vp.memory().read(at(kMapBaseOffset), map, As::Supervisor)) return false;
    const u64 offset = u64{map} + port / 8;
    if (offset + 1 > tr.limit) return true;  // two bytes are always read
    u16 bitmap = 0;
    if (!in.vp.memory().read(at(offset), bitmap, As::Supervisor)) return false;
    allowed = (bitmap >> (port & 7) & low_mask(size)) == 0;
    return true;
}

/// Next, or the fault to return.
Exec check_port(Interp& in, u16 port, unsigned size) {
    if (!in.vp.protected_mode() || (!in.vp.v8086() && in.vp.cpl() <= iopl(in))) return Exec::Next;
    bool allowed = false;
    if (!allowed_by_bitmap(in, port, size, allowed)) return in.vp.failed();
    return allowed ? Exec::Next : general_protection(in);
}

/// One port access, offered to the levels. False: the body returns `out`.
bool access_port(Interp& in, const Insn& i, u16 port, unsigned size, bool write, bool string, u32& value, Exec& out) {
    if (!in.vp.levels().empty()) {
        virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Io);
        exit.port = port;
        exit.size = static_cast<u8>(size);
        exit.write = write;
        exit.string = string;
        exit.rep = string && i.rep != Rep::None;
        exit.value = value;
        const virt::Action action = offer(in, i, out, string ? Vp::Offer::Answering : Vp::Offer::All);
        if (action == virt::Action::Complete) {
            if ((in.s.dr[7] & 0xff) != 0) [[unlikely]] in.vp.note_port(port, size);
            value = static_cast<u32>(exit.value & low_mask(8 * size));
            in.vp.tell(TapKind::Port, port, size, write ? 1 : 0, value);
            return true;
        }
        if (action != virt::Action::Default) return false;
    }
    if ((in.s.dr[7] & 0xff) != 0) [[unlikely]] in.vp.note_port(port, size);
    if (write) in.vp.platform().port_write(in.vp, port, size, value);
    else value = static_cast<u32>(in.vp.platform().port_read(in.vp, port, size) & low_mask(8 * size));
    in.vp.tell(TapKind::Port, port, size, write ? 1 : 0, value);
    return true;
}

u16 port_of(const Interp& in, const Operand& o, const Insn& i) {
    return static_cast<u16>(o.kind == OperandKind::Gpr ? in.s.gpr[RDX] & 0xffff : i.imm & 0xff);
}

u64 address_mask(const Insn& i) { return low_mask(8u * i.addr_size); }

void set_count(Interp& in, const Insn& i, unsigned reg, u64 value) { in.set_gpr(reg, i.addr_size, value); }

/// An exit to a level that switches worlds comes before memory is looked at, and describes the iteration to come.
bool string_exits(Interp& in, const Insn& i, u16 port, unsigned size, bool input, Seg seg, u64 offset, Exec& out) {
    virt::Exit& exit = begin_exit(in, i, virt::ExitReason::Io);
    exit.port = port;
    exit.size = static_cast<u8>(size);
    exit.write = !input;
    exit.string = true;
    exit.rep = i.rep != Rep::None;
    const bool based = !in_64_bit(in) || seg == Seg::FS || seg == Seg::GS;
    const u64 linear = offset + (based ? in.s.segment(seg).base : 0);
    exit.gva = Gva(in_64_bit(in) ? linear : static_cast<u32>(linear));
    return offer(in, i, out, Vp::Offer::Switching) != virt::Action::Default;
}

/// One iteration of INS or OUTS. Next: done, registers stepped.
Exec string_iteration(Interp& in, const Insn& i, u16 port, unsigned size, bool input) {
    const unsigned reg = input ? RDI : RSI;
    const u64 offset = in.s.gpr[reg] & address_mask(i);
    const Seg seg = input ? Seg::ES : i.seg;
    u64 address = 0;
    u32 value = 0;
    Exec out{};
    if (in.vp.controls().switches_worlds && string_exits(in, i, port, size, input, seg, offset, out)) return out;
    if (!in.linear(seg, offset, size, input, address)) return in.vp.failed();
    if (input) {
        // The destination is checked first: a port must not be read when its value has nowhere to go.
        if (!in.vp.memory().probe_write(address, size)) return in.vp.failed();
        if (!access_port(in, i, port, size, false, true, value, out)) return out;
        if (!in.vp.memory().write(address, &value, size)) return in.vp.failed();
    } else {
        if (!in.vp.memory().read(address, &value, size, As::Current, seg == Seg::SS)) return in.vp.failed();
        if (!access_port(in, i, port, size, true, true, value, out)) return out;
    }
    const u64 step = (in.s.rflags & flag::DF) != 0 ? 0 - u64{size} : size;
    in.set_gpr(reg, i.addr_size, offset + step);
    return Exec::Next;
}

Exec string_io(Interp& in, const Insn& i, bool input) {
    const u16 port = static_cast<u16>(in.s.gpr[RDX]);
    const unsigned size = i[input ? 0 : 1].size;
    if (const Exec allowed = check_port(in, port, size); allowed != Exec::Next) return allowed;
    if (i.rep == Rep::None) {
        const Exec result = string_iteration(in, i, port, size, input);
        return result == Exec::Next ? resync(in, i) : result;
    }
    u64 count = in.s.gpr[RCX] & address_mask(i);
    while (count != 0) {
        const Exec result = string_iteration(in, i, port, size, input);
        if (result != Exec::Next) return result;
        set_count(in, i, RCX, --count);
        if (count == 0) break;
        // The engine charges the last iteration; interrupts and traps are taken between iterations.
        --in.s.budget;
        const bool traps = (in.s.rflags & flag::TF) != 0 || in.vp.access_noted();
        if (in.s.budget <= 0 || traps || in.vp.event_pending() || in.vp.stop_requested()) return Exec::Repeat;
    }
    return resync(in, i);
}

}  // namespace

Exec IN(Interp& in, const Insn& i) {
    const u16 port = port_of(in, i[1], i);
    const unsigned size = i[0].size;
    if (const Exec allowed = check_port(in, port, size); allowed != Exec::Next) return allowed;
    u32 value = 0;
    Exec out{};
    if (!access_port(in, i, port, size, false, false, value, out)) return out;
    in.set_gpr(RAX, size, value);
    return resync(in, i);
}

Exec OUT(Interp& in, const Insn& i) {
    const u16 port = port_of(in, i[0], i);
    const unsigned size = i[1].size;
    if (const Exec allowed = check_port(in, port, size); allowed != Exec::Next) return allowed;
    u32 value = static_cast<u32>(in.gpr(RAX, size));
    Exec out{};
    if (!access_port(in, i, port, size, true, false, value, out)) return out;
    return resync(in, i);
}

Exec INS(Interp& in, const Insn& i) { return string_io(in, i, true); }
Exec OUTS(Interp& in, const Insn& i) { return string_io(in, i, false); }

}  // namespace vg::cpu::ops
