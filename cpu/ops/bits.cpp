// Bit tests and scans, counts, CRC32.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// Offset of the element that a bit offset in a register selects: it may lie before or behind the operand.
template <class T>
u64 element_address(const Interp& in, const Insn& i, u64 bit_offset) {
    const s64 offset = static_cast<s64>(static_cast<std::make_signed_t<T>>(bit_offset));
    const u64 address = in.effective_address(i) + static_cast<u64>(offset >> __builtin_ctz(kBits<T>)) * sizeof(T);
    switch (i.addr_size) {
        case 2: return static_cast<u16>(address);
        case 4: return static_cast<u32>(address);
        default: return address;
    }
}

/// BT family: CF = the bit; f(value, mask) gives the new value. Nothing is written with `Write` false.
template <bool Write, class F>
Exec bit_test(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        u64 bit_offset;
        if (!in.read(i, i[1], bit_offset)) return in.vp.failed();
        const unsigned index = static_cast<unsigned>(bit_offset & (kBits<T> - 1));
        const auto change = [&](T value, u64& flags) {
            flags = with_flags(flags, flag::CF, when(((value >> index) & 1) != 0, flag::CF));
            return f(value, static_cast<T>(T{1} << index));
        };
        if (i[0].kind == OperandKind::Gpr) {
            const T result = change(static_cast<T>(in.gpr(i[0])), in.s.rflags);
            if constexpr (Write) in.set_gpr(i[0], result);
            return Exec::Next;
        }
        const u64 offset = i[1].kind == OperandKind::Gpr ? element_address<T>(in, i, bit_offset)
                                                         : in.effective_address(i);
        const bool stack = i.seg == Seg::SS;
        u64 address;
        if (!in.linear(i.seg, offset, sizeof(T), Write, address)) return in.vp.failed();
        if constexpr (Write) {
            return update_memory<T>(in, address, stack, i.lock, change) ? Exec::Next : in.vp.failed();
        } else {
            T value;
            if (!in.load(address, &value, sizeof value, stack)) return in.vp.failed();
            change(value, in.s.rflags);
            return Exec::Next;
        }
    });
}

/// dest = f(source), with flags(result, source); a source of zero is the caller's.
template <class F>
Exec scan(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T source;
        if (!operand(in, i, 1, source)) return in.vp.failed();
        return f(source);
    });
}

/// BSF and BSR: the destination stays if the source is zero (both vendors; AMD documents it).
template <class F>
Exec bit_scan(Interp& in, const Insn& i, F index_of) {
    return scan(in, i, [&]<class T>(T source) {
        u64 bits = flag::ZF | flag::PF;
        if (source != 0) {
            const T index = static_cast<T>(index_of(source));
            in.set_gpr(i[0], index);
            bits = zsp(index) & flag::PF;
        }
        in.s.rflags = with_flags(in.s.rflags, flag::Status, bits);
        return Exec::Next;
    });
}

/// LZCNT and TZCNT: CF says that the source was zero, ZF that the result is.
template <class T>
Exec set_count(Interp& in, const Insn& i, T source, unsigned count) {
    in.set_gpr(i[0], count);
    in.s.rflags = with_flags(in.s.rflags, flag::Status & ~flag::OF,
                             when(source == 0, flag::CF) | when(count == 0, flag::ZF));
    return Exec::Next;
}

constexpr u32 kCrc32cReflected = 0x82f63b78;

u32 crc32c(u32 crc, u64 data, unsigned bytes) {
    for (unsigned n = 0; n < bytes; ++n) {
        crc ^= static_cast<u8>(data >> (8 * n));
        for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kCrc32cReflected : 0);
    }
    return crc;
}

}  // namespace

Exec BT(Interp& in, const Insn& i) {
    return bit_test<false>(in, i, []<class T>(T value, T) { return value; });
}
Exec BTS(Interp& in, const Insn& i) {
    return bit_test<true>(in, i, []<class T>(T value, T mask) { return static_cast<T>(value | mask); });
}
Exec BTR(Interp& in, const Insn& i) {
    return bit_test<true>(in, i, []<class T>(T value, T mask) { return static_cast<T>(value & ~mask); });
}
Exec BTC(Interp& in, const Insn& i) {
    return bit_test<true>(in, i, []<class T>(T value, T mask) { return static_cast<T>(value ^ mask); });
}

Exec BSF(Interp& in, const Insn& i) {
    return bit_scan(in, i, []<class T>(T source) { return __builtin_ctzll(source); });
}
Exec BSR(Interp& in, const Insn& i) {
    return bit_scan(in, i, []<class T>(T source) { return 63 - __builtin_clzll(source); });
}
Exec TZCNT(Interp& in, const Insn& i) {
    return scan(in, i, [&]<class T>(T source) {
        return set_count(in, i, source, source == 0 ? kBits<T> : static_cast<unsigned>(__builtin_ctzll(source)));
    });
}
Exec LZCNT(Interp& in, const Insn& i) {
    return scan(in, i, [&]<class T>(T source) {
        const unsigned zeros = source == 0 ? 64 : static_cast<unsigned>(__builtin_clzll(source));
        return set_count(in, i, source, zeros - (64 - kBits<T>));
    });
}
Exec POPCNT(Interp& in, const Insn& i) {
    return scan(in, i, [&]<class T>(T source) {
        in.set_gpr(i[0], static_cast<u64>(__builtin_popcountll(source)));
        in.s.rflags = with_flags(in.s.rflags, flag::Status, when(source == 0, flag::ZF));
        return Exec::Next;
    });
}

Exec CRC32(Interp& in, const Insn& i) {
    u64 data;
    if (!in.read(i, i[1], data)) return in.vp.failed();
    in.set_gpr(i[0], crc32c(static_cast<u32>(in.gpr(i[0])), data, i[1].size));
    return Exec::Next;
}

Exec BSWAP(Interp& in, const Insn& i) {
    const u64 value = in.gpr(i[0]);
    // BSWAP r16 is undefined; processors of both vendors clear it.
    const u64 result = i[0].size == 8   ? __builtin_bswap64(value)
                       : i[0].size == 4 ? __builtin_bswap32(static_cast<u32>(value))
                                        : 0;
    in.set_gpr(i[0], result);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
