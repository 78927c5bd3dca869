// String instructions on memory. Each iteration counts as one instruction (cpu/exec.h).
#include <algorithm>

#include "base/bits.h"
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// One string instruction in progress: its element and address sizes and direction.
class Strings {
  public:
    Strings(Interp& interp, const Insn& insn)
        : in(interp),
          i(insn),
          size((row(insn.row).opcode & 1) != 0 ? insn.op_size : 1),
          forward_((interp.s.rflags & flag::DF) == 0) {}

    Interp& in;
    const Insn& i;
    const unsigned size;

    [[nodiscard]] bool forward() const { return forward_; }
    [[nodiscard]] u64 offset(Gpr reg) const { return in.gpr(reg, i.addr_size); }
    [[nodiscard]] u64 offset_mask() const { return low_mask(i.addr_size * 8u); }

    /// Moves a pointer register over `count` elements.
    void advance(Gpr reg, u64 count) {
        const u64 distance = count * size;
        in.set_gpr(reg, i.addr_size, forward_ ? offset(reg) + distance : offset(reg) - distance);
    }
    /// The element at DS:rSI (segment overridable).
    bool load_source(u64& value) { return load(i.seg, RSI, value); }
    /// The element at ES:rDI.
    bool load_destination(u64& value) { return load(Seg::ES, RDI, value); }
    bool store_destination(u64 value) {
        u64 address;
        return in.linear(Seg::ES, offset(RDI), size, true, address) && in.store(address, &value, size);
    }

    /// Host memory of as many whole elements, going up from the register, as one page and the segment hold.
    /// Reduces `count`; nullptr if it cannot be had (the element by element path tells why).
    u8* window(Seg seg, Gpr reg, bool write, u64& count) {
        u64 address, ignored;
        const u64 start = offset(reg);
        if (!in.linear(seg, start, size, write, address)) return nullptr;
        count = std::min(count, (kPageSize - (address & kPageMask)) / size);
        if (count < 2 || start > offset_mask() - (count * size - 1)) return nullptr;
        if (!in.linear(seg, start, static_cast<u32>(count * size), write, ignored)) return nullptr;
        return in.direct(address, size, write, seg == Seg::SS);
    }

  private:
    bool load(Seg seg, Gpr reg, u64& value) {
        u64 address;
        value = 0;
        return in.linear(seg, offset(reg), size, false, address) &&
               in.load(address, &value, size, seg == Seg::SS);
    }

    const bool forward_;
};

/// Drives the repetition. `chunk(limit)` does 1 to `limit` iterations and returns how many, or 0 on failure (then it
/// did none); `stop()` ends the repetition early (CMPS, SCAS).
template <class Chunk, class Stop>
Exec repeat(Strings& op, Chunk chunk, Stop stop) {
    Interp& in = op.in;
    if (op.i.rep == Rep::None) return chunk(u64{1}) != 0 ? Exec::Next : in.vp.failed();
    const unsigned address_size = op.i.addr_size;
    // SDM 3B "Data Breakpoint Exception Condition": the trap comes after the iteration that met the breakpoint.
    const bool one_by_one = (in.s.rflags & flag::TF) != 0 || (in.s.dr[7] & 0xff) != 0;
    const auto traps = [&] { return (in.s.rflags & flag::TF) != 0 || in.vp.access_noted(); };
    u64 count = in.gpr(RCX, address_size);
    if (count == 0) return Exec::Next;
    while (true) {
        const u64 budget = in.s.budget > 0 ? static_cast<u64>(in.s.budget) : 1;
        const u64 done = chunk(one_by_one ? 1 : std::min(count, budget));
        if (done == 0) return in.vp.failed();
        count -= done;
        in.set_gpr(RCX, address_size, count);
        if (count == 0 || stop()) {
            in.s.budget -= static_cast<s64>(done - 1);  // the engine charges the last one
            return Exec::Next;
        }
        in.s.budget -= static_cast<s64>(done);
        if (in.s.budget <= 0 || (one_by_one && traps()) || in.vp.stop_requested()) return Exec::Repeat;
    }
}

bool never() { return false; }

/// Copies elements upwards with the propagation that an overlap of the two has: the host's own MOVS.
void copy_up(u8* to, const u8* from, u64 count, unsigned size) {
    switch (size) {
        case 1: asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        case 2: asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        case 4: asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        default: asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    }
}

void fill_up(u8* to, u64 value, u64 count, unsigned size) {
    switch (size) {
        case 1: asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        case 2: asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        case 4: asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        default: asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    }
}

u64 move_many(Strings& op, u64 limit) {
    u64 count = limit;
    const u8* from = op.window(op.i.seg, RSI, false, count);
    u8* to = from != nullptr ? op.window(Seg::ES, RDI, true, count) : nullptr;
    if (to == nullptr) return 0;
    copy_up(to, from, count, op.size);
    return count;
}

u64 store_many(Strings& op, u64 limit) {
    u64 count = limit;
    u8* to = op.window(Seg::ES, RDI, true, count);
    if (to == nullptr) return 0;
    fill_up(to, op.in.s.gpr[RAX], count, op.size);
    return count;
}

/// CMPS and SCAS end when ZF is not what the prefix asks for.
bool compare_ends(const Strings& op) {
    return ((op.in.s.rflags & flag::ZF) != 0) != (op.i.rep == Rep::Repe);
}

void compare(Strings& op, u64 left, u64 right) {
    by_size(op.size, [&](auto type) {
        using T = decltype(type);
        sub(static_cast<T>(left), static_cast<T>(right), false, op.in.s.rflags);
    });
}

}  // namespace

Exec MOVS(Interp& in, const Insn& i) {
    Strings op(in, i);
    const auto chunk = [&](u64 limit) -> u64 {
        u64 done = limit > 1 && op.forward() ? move_many(op, limit) : 0;
        if (done == 0) {
            u64 value;
            if (!op.load_source(value) || !op.store_destination(value)) return 0;
            done = 1;
        }
        op.advance(RSI, done);
        op.advance(RDI, done);
        return done;
    };
    return repeat(op, chunk, never);
}

Exec STOS(Interp& in, const Insn& i) {
    Strings op(in, i);
    const auto chunk = [&](u64 limit) -> u64 {
        u64 done = limit > 1 && op.forward() ? store_many(op, limit) : 0;
        if (done == 0) {
            if (!op.store_destination(in.s.gpr[RAX])) return 0;
            done = 1;
        }
        op.advance(RDI, done);
        return done;
    };
    return repeat(op, chunk, never);
}

Exec LODS(Interp& in, const Insn& i) {
    Strings op(in, i);
    const auto chunk = [&](u64) -> u64 {
        u64 value;
        if (!op.load_source(value)) return 0;
        in.set_gpr(RAX, op.size, value);
        op.advance(RSI, 1);
        return 1;
    };
    return repeat(op, chunk, never);
}

Exec CMPS(Interp& in, const Insn& i) {
    Strings op(in, i);
    const auto chunk = [&](u64) -> u64 {
        u64 left, right;
        if (!op.load_source(left) || !op.load_destination(right)) return 0;
        compare(op, left, right);
        op.advance(RSI, 1);
        op.advance(RDI, 1);
        return 1;
    };
    return repeat(op, chunk, [&] { return compare_ends(op); });
}

Exec SCAS(Interp& in, const Insn& i) {
    Strings op(in, i);
    const auto chunk = [&](u64) -> u64 {
        u64 value;
        if (!op.load_destination(value)) return 0;
        compare(op, in.s.gpr[RAX], value);
        op.advance(RDI, 1);
        return 1;
    };
    return repeat(op, chunk, [&] { return compare_ends(op); });
}

}  // namespace vg::cpu::ops
