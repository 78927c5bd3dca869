#include "cpu/ops/state_image.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/bits.h"
#include "cpu/ops/fpu.h"

namespace vg::cpu::ops {

bool StateImage::fetch(u32 offset, u32 size) {
    VG_ASSERT(offset + size <= kMaxSize);
    for (u32 done = 0; done < size; done += kPiece)
        if (!in_.load(address_ + offset + done, data_ + offset + done, std::min(kPiece, size - done), stack_))
            return false;
    return true;
}

void StateImage::put(u32 offset, const void* bytes, u32 size) {
    VG_ASSERT(offset + size <= kMaxSize);
    std::memcpy(data_ + offset, bytes, size);
    for (u32 at = offset; at < offset + size;) {
        const u32 count = std::min(kPiece - at % kPiece, offset + size - at);
        collected_[at / kPiece] |= low_mask(count) << at % kPiece;
        at += count;
    }
}

/// Calls f(offset, size) for runs of collected bytes within aligned pieces, until one returns false.
template <class F>
bool StateImage::for_each_run(F f) {
    for (u32 piece = 0; piece < kMaxSize / kPiece; ++piece) {
        for (u64 left = collected_[piece]; left != 0;) {
            const auto first = static_cast<u32>(std::countr_zero(left));
            const auto count = static_cast<u32>(std::countr_one(left >> first));
            if (!f(piece * kPiece + first, count)) return false;
            left &= ~(low_mask(count) << first);
        }
    }
    return true;
}

bool StateImage::commit() {
    return for_each_run([&](u32 offset, u32 size) { return in_.probe(address_ + offset, size, stack_); }) &&
           for_each_run([&](u32 offset, u32 size) {
               return in_.store(address_ + offset, data_ + offset, size, stack_);
           });
}

void StateImage::put_x87(bool wide) {
    const X87State& x = in_.s.x87;
    u8 control[kFxControlSize];
    std::memcpy(control, &x, sizeof control);
    control[offsetof(X87State, pad0)] = 0;
    if (!wide) {  // the upper halves hold selectors there: zero (CPUID "deprecates FPU CS and FPU DS values")
        std::memset(control + offsetof(X87State, fip) + 4, 0, 4);
        std::memset(control + offsetof(X87State, fdp) + 4, 0, 4);
    }
    put(0, control, sizeof control);
    for (u32 n = 0; n < 8; ++n) {
        u8 slot[16] = {};
        std::memcpy(slot, x.st[n], 10);
        put(kStOffset + 16 * n, slot, sizeof slot);
    }
}

void StateImage::get_x87(bool wide) {
    X87State& x = in_.s.x87;
    X87State image;
    std::memcpy(&image, data_, kFxLegacySize);
    set_x87_control(x, image.fcw, image.fsw);
    x.ftw = image.ftw;
    for (u32 n = 0; n < 8; ++n) {
        std::memset(x.st[n], 0, 16);
        std::memcpy(x.st[n], image.st[n], 10);
    }
    x.fop = 0;
    x.fip = x.fdp = 0;
    if (!x87_exception_pending(x)) return;
    x.fop = image.fop & 0x7ff;
    // The registers hold linear-address bits only: any others come back as copies of bit 47.
    constexpr unsigned kLinearBits = 48;
    x.fip = wide ? sign_extend(image.fip, kLinearBits) : static_cast<u32>(image.fip);
    x.fdp = wide ? sign_extend(image.fdp, kLinearBits) : static_cast<u32>(image.fdp);
}

void StateImage::put_mxcsr() {
    const u32 words[2] = {in_.s.mxcsr, kMxcsrMask};
    put(kMxcsrOffset, words, sizeof words);
}

void StateImage::put_xmm(unsigned count) {
    for (u32 n = 0; n < count; ++n) put(kXmmOffset + 16 * n, in_.s.ymm[n], 16);
}

void StateImage::get_xmm(unsigned count) {
    for (u32 n = 0; n < count; ++n) std::memcpy(in_.s.ymm[n], data_ + kXmmOffset + 16 * n, 16);
}

}  // namespace vg::cpu::ops
