// Vector instructions that access some elements of memory only: masked moves and gathers. Elements that the mask leaves
// out are not accessed and cannot fault.
#include <algorithm>

#include "base/bits.h"
#include "cpu/ops/common.h"
#include "cpu/ops/fpu.h"

namespace vg::cpu::ops {

namespace {

/// Linear address of `size` bytes at offset + displacement, with the wrap of the address size.
bool element_address(Interp& in, const Insn& i, u64 offset, u32 size, bool write, u64& out) {
    return in.linear(i.seg, offset & low_mask(i.addr_size * 8u), size, write, out);
}

/// Stores the bytes whose mask byte has its top bit set: all checks first.
bool store_masked_bytes(Interp& in, const Insn& i, const u8* data, const u8* mask, unsigned count) {
    const u64 base = in.s.gpr[RDI];
    const bool stack = i.seg == Seg::SS;
    u64 addresses[16];
    for (unsigned n = 0; n < count; ++n) {
        if ((mask[n] & 0x80) == 0) continue;
        if (!element_address(in, i, base + n, 1, true, addresses[n]) || !in.probe(addresses[n], 1, stack)) return false;
    }
    for (unsigned n = 0; n < count; ++n)
        if ((mask[n] & 0x80) != 0 && !in.store(addresses[n], data + n, 1, stack)) return false;
    return true;
}

/// Sets a vector register of a VEX instruction: what lies above `size` bytes becomes zero.
void set_vector(Interp& in, unsigned reg, const u8* data, unsigned size) {
    u8* r = in.s.ymm[reg];
    std::memcpy(r, data, size);
    std::memset(r + size, 0, 32 - size);
}

bool selected(const u8* mask, unsigned element, unsigned size) { return (mask[element * size + size - 1] & 0x80) != 0; }

bool load_masked(Interp& in, const Insn& i, const u8* mask, unsigned size, unsigned total, u8* out) {
    const u64 base = in.effective_address(i);
    for (unsigned n = 0; n < total / size; ++n) {
        u64 address;
        if (!selected(mask, n, size)) continue;
        if (!element_address(in, i, base + u64{n} * size, size, false, address) ||
            !in.load(address, out + n * size, size, i.seg == Seg::SS))
            return false;
    }
    return true;
}

bool store_masked(Interp& in, const Insn& i, const u8* mask, const u8* data, unsigned size, unsigned total) {
    const u64 base = in.effective_address(i);
    const bool stack = i.seg == Seg::SS;
    u64 addresses[8];
    for (unsigned n = 0; n < total / size; ++n) {
        if (!selected(mask, n, size)) continue;
        if (!element_address(in, i, base + u64{n} * size, size, true, addresses[n]) ||
            !in.probe(addresses[n], size, stack))
            return false;
    }
    for (unsigned n = 0; n < total / size; ++n)
        if (selected(mask, n, size) && !in.store(addresses[n], data + n * size, size, stack)) return false;
    return true;
}

struct GatherShape {
    unsigned index_size, element_size;
};

GatherShape gather_shape(Op op) {
    switch (op) {
        case Op::VGATHERDPS: case Op::VPGATHERDD: return {4, 4};
        case Op::VGATHERDPD: case Op::VPGATHERDQ: return {4, 8};
        case Op::VGATHERQPS: case Op::VPGATHERQD: return {8, 4};
        default: return {8, 8};
    }
}

}  // namespace

Exec MASKMOVQ(Interp& in, const Insn& i) {
    X87State& x = in.s.x87;
    u8 data[8], mask[8];
    std::memcpy(data, mmx_register(x, i[0].reg), sizeof data);
    std::memcpy(mask, mmx_register(x, i[1].reg), sizeof mask);
    if (!store_masked_bytes(in, i, data, mask, sizeof data)) return in.vp.failed();
    enter_mmx(x);
    return Exec::Next;
}

Exec MASKMOVDQU(Interp& in, const Insn& i) {
    return store_masked_bytes(in, i, in.s.ymm[i[0].reg], in.s.ymm[i[1].reg], 16) ? Exec::Next : in.vp.failed();
}

/// VMASKMOVPS/PD, VPMASKMOVD/Q: dest, mask, memory or memory, mask, source.
Exec VMASKMOV(Interp& in, const Insn& i) {
    const unsigned total = i.vex_l != 0 ? 32 : 16;
    const unsigned size = i.op == Op::VMASKMOVPS || i.op == Op::VPMASKMOVD ? 4 : 8;
    const u8* mask = in.s.ymm[i[1].reg];
    if (i[0].kind == OperandKind::Mem)
        return store_masked(in, i, mask, in.s.ymm[i[2].reg], size, total) ? Exec::Next : in.vp.failed();
    u8 result[32] = {};
    if (!load_masked(in, i, mask, size, total, result)) return in.vp.failed();
    set_vector(in, i[0].reg, result, total);
    return Exec::Next;
}

/// dest, memory (VSIB), mask. A fault leaves the elements before it loaded and their mask bits clear, as the
/// architecture says, so that the instruction can go on from there.
Exec VGATHER(Interp& in, const Insn& i) {
    const unsigned dest = i[0].reg, mask = i[2].reg;
    if (dest == mask || dest == i.index || mask == i.index) return in.vp.raise(kInvalidOpcode);
    const auto [index_size, size] = gather_shape(i.op);
    const unsigned vector = i.vex_l != 0 ? 32 : 16;
    const unsigned count = vector / std::max(index_size, size);
    const u64 base = static_cast<u64>(i.disp) + (i.base != kNoReg ? in.s.gpr[i.base] : 0);
    u8* const d = in.s.ymm[dest];
    u8* const m = in.s.ymm[mask];
    for (unsigned n = 0; n < count; ++n) {
        if (!selected(m, n, size)) continue;
        u64 index = 0, address;
        std::memcpy(&index, in.s.ymm[i.index] + n * index_size, index_size);
        const u64 offset = base + sign_extend(index, index_size * 8) * i.scale;
        u8 element[8];
        if (!element_address(in, i, offset, size, false, address) ||
            !in.load(address, element, size, i.seg == Seg::SS))
            return in.vp.failed();
        std::memcpy(d + n * size, element, size);
        std::memset(m + n * size, 0, size);
    }
    std::memset(d + count * size, 0, 32 - count * size);
    std::memset(m, 0, 32);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
