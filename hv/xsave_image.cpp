#include "hv/xsave_image.h"

#include <cstring>

#include "base/bits.h"
#include "cpu/vp.h"

namespace vg::hv {
namespace {

using cpu::VpState;

// SDM 1 "XSAVE-Managed State", "Legacy Region of an XSAVE Area".
constexpr u64 kX87 = 1, kSse = 2, kAvx = 4, kPkru = u64{1} << 9, kKnown = kX87 | kSse | kAvx | kPkru;
constexpr u64 kCompacted = u64{1} << 63;
constexpr u32 kMxcsrOffset = 24, kMxcsrMaskOffset = 28, kStOffset = 32, kXmmOffset = 160, kHeaderOffset = 512,
              kExtendedOffset = 576, kAvxSize = 256, kPkruSize = 8;
constexpr u32 kMxcsrMask = 0xffff;

struct X87Front {
    u16 fcw, fsw;
    u8 ftw, reserved;
    u16 fop;
    u64 fip, fdp;
};
static_assert(sizeof(X87Front) == kMxcsrOffset);

struct Header {
    u64 state, compacted, reserved[6];
};
static_assert(sizeof(Header) == 64);

}  // namespace

u64 xsave_components(const cpu::CpuModel& model) { return model.xcr0_mask() & kKnown; }

u32 xsave_image_size(const cpu::CpuModel& model) {
    const u64 components = xsave_components(model);
    return kExtendedOffset + ((components & kAvx) != 0 ? kAvxSize : 0) + ((components & kPkru) != 0 ? kPkruSize : 0);
}

u32 save_xsave(const cpu::Vp& processor, std::array<u8, kPageSize>& out) {
    const VpState& s = processor.state();
    const u64 components = xsave_components(processor.model());
    out = {};
    const X87Front front{s.x87.fcw, s.x87.fsw, s.x87.ftw, 0, s.x87.fop, s.x87.fip, s.x87.fdp};
    std::memcpy(out.data(), &front, sizeof front);
    std::memcpy(out.data() + kMxcsrOffset, &s.mxcsr, sizeof s.mxcsr);
    std::memcpy(out.data() + kMxcsrMaskOffset, &kMxcsrMask, sizeof kMxcsrMask);
    for (unsigned i = 0; i < 8; ++i) std::memcpy(out.data() + kStOffset + 16 * i, s.x87.st[i], 10);
    for (unsigned i = 0; i < 16; ++i) std::memcpy(out.data() + kXmmOffset + 16 * i, s.ymm[i], 16);
    const Header header{components, kCompacted | components, {}};
    std::memcpy(out.data() + kHeaderOffset, &header, sizeof header);
    u32 at = kExtendedOffset;
    if ((components & kAvx) != 0) {
        for (unsigned i = 0; i < 16; ++i) std::memcpy(out.data() + at + 16 * i, s.ymm[i] + 16, 16);
        at += kAvxSize;
    }
    if ((components & kPkru) != 0) {
        std::memcpy(out.data() + at, &s.pkru, sizeof s.pkru);
        at += kPkruSize;
    }
    return at;
}

bool load_xsave(cpu::Vp& processor, const std::array<u8, kPageSize>& in) {
    VpState& s = processor.state();
    Header header;
    std::memcpy(&header, in.data() + kHeaderOffset, sizeof header);
    const u64 present = header.compacted & ~kCompacted;
    if ((header.compacted & kCompacted) == 0 || (present & ~xsave_components(processor.model())) != 0 ||
        (header.state & ~present) != 0)
        return false;
    X87Front front;
    std::memcpy(&front, in.data(), sizeof front);
    u32 mxcsr = 0;
    std::memcpy(&mxcsr, in.data() + kMxcsrOffset, sizeof mxcsr);
    if ((mxcsr & ~kMxcsrMask) != 0) return false;
    // A component that is in its initial state has no content here.
    constexpr u16 kFcwInitial = 0x37f, kFcwBits = 0x1f7f, kFcwFixed = 0x40;
    constexpr u32 kMxcsrInitial = 0x1f80;
    const bool x87 = (header.state & kX87) != 0, sse = (header.state & kSse) != 0;
    if (!x87) front = {kFcwInitial, 0, 0, 0, 0, 0, 0};
    s.x87.fcw = static_cast<u16>((front.fcw & kFcwBits) | kFcwFixed);
    s.x87.fsw = front.fsw;
    s.x87.ftw = front.ftw;
    s.x87.fop = front.fop & 0x7ff;
    s.x87.fip = front.fip;
    s.x87.fdp = front.fdp;
    for (unsigned i = 0; i < 8; ++i) {
        std::memset(s.x87.st[i], 0, sizeof s.x87.st[i]);
        if (x87) std::memcpy(s.x87.st[i], in.data() + kStOffset + 16 * i, 10);
    }
    s.mxcsr = sse || (header.state & kAvx) != 0 ? mxcsr : kMxcsrInitial;
    for (unsigned i = 0; i < 16; ++i) {
        std::memset(s.ymm[i], 0, sizeof s.ymm[i]);
        if (sse) std::memcpy(s.ymm[i], in.data() + kXmmOffset + 16 * i, 16);
    }
    u32 at = kExtendedOffset;
    if ((present & kAvx) != 0) {
        if ((header.state & kAvx) != 0)
            for (unsigned i = 0; i < 16; ++i) std::memcpy(s.ymm[i] + 16, in.data() + at + 16 * i, 16);
        at += kAvxSize;
    }
    if ((present & kPkru) != 0) {
        u32 pkru = 0;
        if ((header.state & kPkru) != 0) std::memcpy(&pkru, in.data() + at, sizeof pkru);
        s.pkru = pkru;
        processor.tlb().pkru_changed();
        processor.update_context();
    }
    return true;
}

}  // namespace vg::hv
