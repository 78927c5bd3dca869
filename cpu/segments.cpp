#include "cpu/segments.h"

namespace vg::cpu {

namespace {

constexpr u64 kAccessed = u64{1} << 40;
constexpr u64 kBusy = u64{1} << 41;

/// Table limit of a selector's table, or false if there is no such table.
bool locate(const Vp& vp, u16 selector, u64& base, u64& limit) {
    const VpState& s = vp.state();
    if ((selector & 4) == 0) {
        base = s.gdtr.base;
        limit = s.gdtr.limit;
        return true;
    }
    const SegmentReg& ldt = s.segment(Seg::LDTR);
    base = ldt.base;
    limit = ldt.limit;
    return ldt.usable();
}

u64 table_address(const Vp& vp, u64 address) { return vp.long_mode() ? address : static_cast<u32>(address); }

bool data_segment_allowed(const Descriptor& d, unsigned cpl, unsigned rpl) {
    if (!d.data() && !d.readable_code()) return false;
    return d.conforming() || (rpl <= d.dpl() && cpl <= d.dpl());
}

bool load_stack_segment(Vp& vp, u16 selector) {
    VpState& s = vp.state();
    const unsigned cpl = vp.cpl();
    if (is_null(selector)) {
        if (vp.code_mode() != CodeMode::Bits64 || cpl == 3 || (selector & 3u) != cpl) {
            vp.raise(kGeneralProtection, 0);
            return false;
        }
        s.segment(Seg::SS) = null_segment(selector, cpl);
        return true;
    }
    Descriptor d;
    if (!check_stack_segment(vp, selector, cpl, kGeneralProtection, d) || !mark_accessed(vp, d)) return false;
    s.segment(Seg::SS) = make_segment(selector, d);
    return true;
}

}  // namespace

bool find_descriptor(Vp& vp, u16 selector, Descriptor& out, bool& found, bool wide) {
    u64 base = 0, limit = 0;
    const u64 offset = selector & 0xfff8u;
    const u32 size = wide ? 16 : 8;
    found = locate(vp, selector, base, limit) && offset + size - 1 <= limit;
    if (!found) return true;
    out = {};
    out.address = table_address(vp, base + offset);
    return vp.memory().read(out.address, &out.low, size, As::Supervisor);
}

bool read_descriptor(Vp& vp, u16 selector, u8 vector, Descriptor& out, bool wide) {
    bool found = false;
    if (!find_descriptor(vp, selector, out, found, wide)) return false;
    if (!found) vp.raise(vector, selector_error(selector));
    return found;
}

bool widen_descriptor(Vp& vp, u16 selector, u8 vector, Descriptor& descriptor) {
    if (!read_descriptor(vp, selector, vector, descriptor, true)) return false;
    // SDM 3A "Segment Descriptor Tables in IA-32e Mode": the type field of the upper half must be zero.
    if (bits(descriptor.high, 44, 40) == 0) {
        descriptor.high &= 0xffffffff;
        return true;
    }
    vp.raise(vector, selector_error(selector));
    return false;
}

bool mark_accessed(Vp& vp, Descriptor& descriptor) {
    if ((descriptor.low & kAccessed) != 0) return true;
    descriptor.low |= kAccessed;
    const u8 byte = static_cast<u8>(descriptor.low >> 40);
    return vp.memory().write(descriptor.address + 5, byte, As::Supervisor);
}

bool set_tss_busy(Vp& vp, const Descriptor& descriptor, bool busy) {
    const u64 low = busy ? descriptor.low | kBusy : descriptor.low & ~kBusy;
    const u8 byte = static_cast<u8>(low >> 40);
    return vp.memory().write(descriptor.address + 5, byte, As::Supervisor);
}

SegmentReg make_segment(u16 selector, const Descriptor& descriptor) {
    return {descriptor.base(), descriptor.limit(), selector, descriptor.attributes()};
}

SegmentReg null_segment(u16 selector, unsigned dpl) { return {0, 0, selector, static_cast<u16>(dpl << 5)}; }

SegmentReg real_segment(const Vp& vp, Seg seg, u16 selector) {
    constexpr u16 kV8086Data = 0xf3;
    if (vp.v8086()) return {u64{selector} << 4, 0xffff, selector, kV8086Data};
    // Real-address mode changes selector and base only: "unreal" limits survive.
    SegmentReg out = vp.state().segment(seg);
    out.selector = selector;
    out.base = u64{selector} << 4;
    if (!out.present()) {
        out.attributes = 0x93;
        out.limit = 0xffff;
    }
    return out;
}

bool check_stack_segment(Vp& vp, u16 selector, unsigned cpl, u8 vector, Descriptor& out) {
    if (!read_descriptor(vp, selector, vector, out)) return false;
    if ((selector & 3u) != cpl || out.dpl() != cpl || !out.writable_data()) {
        vp.raise(vector, selector_error(selector));
        return false;
    }
    if (!out.present()) {
        vp.raise(kStackFault, selector_error(selector));
        return false;
    }
    return true;
}

bool load_segment(Vp& vp, Seg seg, u16 selector) {
    VpState& s = vp.state();
    if (!vp.protected_mode() || vp.v8086()) {
        s.segment(seg) = real_segment(vp, seg, selector);
        return true;
    }
    if (seg == Seg::SS) return load_stack_segment(vp, selector);
    if (is_null(selector)) {
        s.segment(seg) = null_segment(selector);
        return true;
    }
    Descriptor d;
    if (!read_descriptor(vp, selector, kGeneralProtection, d)) return false;
    if (!data_segment_allowed(d, vp.cpl(), selector & 3u)) {
        vp.raise(kGeneralProtection, selector_error(selector));
        return false;
    }
    if (!d.present()) {
        vp.raise(kSegmentNotPresent, selector_error(selector));
        return false;
    }
    if (!mark_accessed(vp, d)) return false;
    s.segment(seg) = make_segment(selector, d);
    return true;
}

void drop_inner_segments(Vp& vp) {
    VpState& s = vp.state();
    for (const Seg seg : {Seg::ES, Seg::DS, Seg::FS, Seg::GS}) {
        SegmentReg& reg = s.segment(seg);
        const bool conforming_code = reg.s() && (reg.type() & 12) == 12;
        // Only the selector becomes null and the register unusable: 64-bit code goes on using the base of FS and GS.
        const bool inner = reg.usable() && !conforming_code && reg.dpl() < vp.cpl();
        if (inner || (!reg.usable() && !is_null(reg.selector))) reg = {reg.base, 0, 0, 0};
    }
}

bool StackFrame::address(u64 offset, unsigned size, u64& out) {
    if (wide_) {
        out = offset;
        return true;
    }
    if (!within_limit(ss_, offset, size)) {
        vp_.raise(kStackFault, ss_error_);
        return false;
    }
    out = static_cast<u32>(ss_.base + offset);
    return true;
}

bool StackFrame::push(u64 value, unsigned size) {
    const u64 next = (sp_ & ~mask_) | ((sp_ - size) & mask_);
    u64 linear = 0;
    if (!address(next & mask_, size, linear) || !vp_.memory().write(linear, &value, size, as_, true)) return false;
    sp_ = next;
    return true;
}

bool StackFrame::peek(u64& value, unsigned size, u64 skip) {
    u64 linear = 0;
    value = 0;
    return address((sp_ + skip) & mask_, size, linear) && vp_.memory().read(linear, &value, size, as_, true);
}

bool StackFrame::pop(u64& value, unsigned size) {
    if (!peek(value, size, 0)) return false;
    skip(size);
    return true;
}

bool read_inner_stack(Vp& vp, unsigned cpl, unsigned ist, InnerStack& out) {
    const SegmentReg& tr = vp.state().segment(Seg::TR);
    const bool wide = vp.long_mode();
    const bool tss32 = (tr.type() & 8) != 0;
    const u32 offset = wide ? (ist != 0 ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl) : tss32 ? 4 + 8 * cpl : 2 + 4 * cpl;
    const u32 size = wide ? 8 : tss32 ? 6 : 4;
    if (u64{offset} + size - 1 > tr.limit) {
        vp.raise(kInvalidTss, selector_error(tr.selector));
        return false;
    }
    u8 raw[8] = {};
    const u64 address = tr.base + offset;
    if (!vp.memory().read(wide ? address : static_cast<u32>(address), raw, size, As::Supervisor)) return false;
    out = {};
    std::memcpy(&out.sp, raw, wide ? 8 : tss32 ? 4 : 2);
    if (!wide) std::memcpy(&out.ss, raw + (tss32 ? 4 : 2), 2);
    return true;
}

void set_cpl(Vp& vp, unsigned cpl) {
    vp.state().cpl = static_cast<u8>(cpl);
    vp.update_privilege();
}

}  // namespace vg::cpu
