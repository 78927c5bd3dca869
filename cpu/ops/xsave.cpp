// The XSAVE family: x87, SSE, AVX and PKRU state in standard and compacted format. SDM 1 "Managing State Using the
// XSAVE Feature Set".
//
// XINUSE has one deterministic meaning: a component is in use iff it differs from its initial configuration. There is no
// modified optimization: XSAVEOPT and XSAVES write everything in use.
#include <algorithm>

#include "base/bits.h"
#include "cpu/ops/common.h"
#include "cpu/ops/fpu.h"
#include "cpu/ops/state_image.h"
#include "cpu/spec/xsave.h"

namespace vg::cpu::ops {

namespace {

using xsave::kExtended, xsave::kHeader, xsave::kHeaderSize;

constexpr u64 kX87Bit = 1 << xsave::kX87, kSseBit = 1 << xsave::kSse, kAvxBit = 1 << xsave::kAvx,
              kPkruBit = 1 << xsave::kPkru;
constexpr u64 kCompacted = u64{1} << 63;
constexpr u32 kXstateBv = kHeader, kXcompBv = kHeader + 8;

bool all_zero(const void* data, std::size_t size) {
    const u8* p = static_cast<const u8*>(data);
    return std::all_of(p, p + size, [](u8 byte) { return byte == 0; });
}

/// Vector registers that the current mode has: outside 64-bit mode the upper eight are not touched.
unsigned register_count(const Insn& i) { return i.mode == CodeMode::Bits64 ? 16 : 8; }

bool available(Interp& in) {
    if ((in.s.cr4 & cr4::OSXSAVE) == 0)
        in.vp.raise(kInvalidOpcode);
    else if ((in.s.cr0 & cr0::TS) != 0)
        in.vp.raise(kDeviceNotAvailable);
    else
        return true;
    return false;
}

bool area_address(Interp& in, const Insn& i, bool write, u64& address) {
    if (!in.memory_address(i, kExtended, write, address)) return false;
    if ((address & 63) == 0) return true;
    in.vp.raise(kGeneralProtection, 0);
    return false;
}

u64 requested(const Interp& in) { return in.gpr(RDX, 4) << 32 | in.gpr(RAX, 4); }

/// The rest of the area lies within the segment too.
bool extended_in_segment(Interp& in, const Insn& i, bool write, u32 size) {
    u64 ignored;
    return size <= kExtended || in.memory_address(i, size, write, ignored);
}

bool wide_pointers(const Insn& i) { return i.mode == CodeMode::Bits64 && (i.rex & 8) != 0; }

/// @param compacted  XCOMP_BV of the area, or 0
void put_components(StateImage& image, const VpState& s, const Insn& i, u64 compacted, u64 components) {
    if ((components & kX87Bit) != 0) image.put_x87(wide_pointers(i));
    if ((components & kSseBit) != 0) image.put_xmm(register_count(i));
    if ((components & kAvxBit) != 0) {
        const u32 avx = xsave::offset_of(xsave::kAvx, compacted);
        for (unsigned n = 0; n < register_count(i); ++n) image.put(avx + 16 * n, s.ymm[n] + 16, 16);
    }
    if ((components & kPkruBit) != 0) image.put(xsave::offset_of(xsave::kPkru, compacted), u64{s.pkru});
}

/// XSAVE and XSAVEOPT: standard format; XSAVEOPT leaves out what is not in use.
Exec save_standard(Interp& in, const Insn& i, bool optimized) {
    u64 address;
    if (!available(in) || !area_address(in, i, true, address)) return in.vp.failed();
    const u64 mask = requested(in) & in.s.xcr0, used = components_in_use(in.s, false) & mask;
    if (!extended_in_segment(in, i, true, xsave::area_size(mask, 0))) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    if (!image.fetch(kXstateBv, 8)) return in.vp.failed();
    put_components(image, in.s, i, 0, optimized ? used : mask);
    if ((mask & (kSseBit | kAvxBit)) != 0) image.put_mxcsr();
    image.put(kXstateBv, (image.get<u64>(kXstateBv) & ~mask) | used);
    return image.commit() ? Exec::Next : in.vp.failed();
}

/// XSAVEC and XSAVES: compacted format, only what is in use.
Exec save_compacted(Interp& in, const Insn& i, u64 enabled) {
    u64 address;
    if (!available(in) || !area_address(in, i, true, address)) return in.vp.failed();
    const u64 mask = requested(in) & enabled, used = components_in_use(in.s, true) & mask;
    if (!extended_in_segment(in, i, true, xsave::area_size(mask, mask))) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    put_components(image, in.s, i, mask, used);
    if ((used & kSseBit) != 0) image.put_mxcsr();
    image.put(kXstateBv, used);
    image.put(kXcompBv, mask | kCompacted);
    return image.commit() ? Exec::Next : in.vp.failed();
}

/// The header of an area to restore from. SDM 1 "Operation of XRSTOR", "Operation of XRSTORS".
bool header_valid(const StateImage& image, u64 enabled, bool compacted) {
    const u64 xstate = image.get<u64>(kXstateBv), xcomp = image.get<u64>(kXcompBv);
    const u32 zero_from = compacted ? kXcompBv + 8 : kXcompBv, zero_to = compacted ? kHeader + kHeaderSize : kXcompBv + 16;
    for (u32 offset = zero_from; offset < zero_to; ++offset)
        if (image.get<u8>(offset) != 0) return false;
    if (!compacted) return (xstate & ~enabled) == 0;
    return (xcomp & ~(enabled | kCompacted)) == 0 && (xstate & ~(xcomp & ~kCompacted)) == 0;
}

/// Sets the components in `mask`: from the image those in `present`, the others to their initial configuration.
void get_components(Interp& in, const Insn& i, StateImage& image, u64 compacted, u64 mask, u64 present) {
    VpState& s = in.s;
    const unsigned count = register_count(i);
    const u32 avx = xsave::offset_of(xsave::kAvx, compacted);
    if ((mask & kX87Bit) != 0) {
        if ((present & kX87Bit) != 0) {
            image.get_x87(wide_pointers(i));
        } else {
            init_x87(s.x87);
            std::memset(s.x87.st, 0, sizeof s.x87.st);
        }
    }
    if ((mask & kSseBit) != 0) {
        if ((present & kSseBit) != 0)
            image.get_xmm(count);
        else
            for (unsigned n = 0; n < count; ++n) std::memset(s.ymm[n], 0, 16);
    }
    if ((mask & kAvxBit) != 0)
        for (unsigned n = 0; n < count; ++n) {
            if ((present & kAvxBit) != 0)
                std::memcpy(s.ymm[n] + 16, image.data() + avx + 16 * n, 16);
            else
                std::memset(s.ymm[n] + 16, 0, 16);
        }
    if ((mask & kPkruBit) != 0) s.pkru = (present & kPkruBit) != 0 ? image.get<u32>(xsave::offset_of(xsave::kPkru, compacted)) : 0;
}

Exec restore(Interp& in, const Insn& i, u64 enabled, bool supervisor) {
    u64 address;
    if (!available(in) || !area_address(in, i, false, address)) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    if (!image.fetch(0, kExtended)) return in.vp.failed();
    const u64 xcomp = image.get<u64>(kXcompBv);
    const bool compacted = (xcomp & kCompacted) != 0;
    const bool format_ok = compacted ? in.vp.model().has(Feature::Xsavec) : !supervisor;
    if (!format_ok || !header_valid(image, enabled, compacted)) return in.vp.raise(kGeneralProtection, 0);

    const u64 mask = requested(in) & enabled, present = image.get<u64>(kXstateBv) & mask;
    const u32 end = xsave::area_size(present, compacted ? xcomp : 0);
    if (!extended_in_segment(in, i, false, end)) return in.vp.failed();
    if (!image.fetch(kExtended, end - kExtended)) return in.vp.failed();

    // Standard format: MXCSR goes with SSE or AVX and is loaded even if XSTATE_BV leaves both out.
    const bool sets_mxcsr = (mask & (compacted ? kSseBit : kSseBit | kAvxBit)) != 0;
    const bool loads_mxcsr = sets_mxcsr && (!compacted || (present & kSseBit) != 0);
    if (loads_mxcsr && (image.mxcsr() & ~kMxcsrMask) != 0) return in.vp.raise(kGeneralProtection, 0);
    const u32 old_pkru = in.s.pkru;
    get_components(in, i, image, compacted ? xcomp : 0, mask, present);
    if (sets_mxcsr) in.s.mxcsr = loads_mxcsr ? image.mxcsr() : kMxcsrInit;
    if (in.s.pkru == old_pkru) return Exec::Next;
    in.vp.tlb().pkru_changed();
    in.vp.update_context();
    in.advance(i);
    return Exec::Resync;
}

}  // namespace

u64 components_in_use(const VpState& s, bool count_mxcsr) {
    X87State initial{};
    initial.fcw = kFcwInit;
    u64 mask = std::memcmp(&initial, &s.x87, kFxControlSize) != 0 || !all_zero(s.x87.st, sizeof s.x87.st) ? kX87Bit : 0;
    bool low = count_mxcsr && s.mxcsr != kMxcsrInit, high = false;
    for (const auto& ymm : s.ymm) {
        low = low || !all_zero(ymm, 16);
        high = high || !all_zero(ymm + 16, 16);
    }
    return mask | when(low, kSseBit) | when(high, kAvxBit) | when(s.pkru != 0, kPkruBit);
}

Exec XSAVE(Interp& in, const Insn& i) { return save_standard(in, i, false); }
Exec XSAVEOPT(Interp& in, const Insn& i) { return save_standard(in, i, true); }
Exec XSAVEC(Interp& in, const Insn& i) { return save_compacted(in, i, in.s.xcr0); }
// IA32_XSS holds no bit here, so that XSS-exiting bitmaps of guests never exit.
Exec XSAVES(Interp& in, const Insn& i) {
    if (in.vp.controls().no_xsaves) return in.vp.raise(kInvalidOpcode);
    return save_compacted(in, i, in.s.xcr0 | in.s.xss);
}
Exec XRSTOR(Interp& in, const Insn& i) { return restore(in, i, in.s.xcr0, false); }
Exec XRSTORS(Interp& in, const Insn& i) {
    if (in.vp.controls().no_xsaves) return in.vp.raise(kInvalidOpcode);
    return restore(in, i, in.s.xcr0 | in.s.xss, true);
}

}  // namespace vg::cpu::ops
