// Host instruction bytes: the few forms that blocks are made of, and the general ModRM form that guest instructions
// are re-encoded with.
//
// Blocks are written by this and not by xbyak: re-encoding works on opcode bytes, for which xbyak has no interface,
// and translation time counts (21 ns per instruction with xbyak, 2 ns here). Thunks, made once, use xbyak.
#pragma once

#include <cstring>

#include "base/types.h"
#include "jit/layout.h"

namespace vg::jit {

inline constexpr u8 kNone = 0xff;

/// A host memory operand.
struct HostMem {
    u8 base = kNone;
    u8 index = kNone;  ///< never RSP
    u8 scale = 1;
    s32 disp = 0;
};

/// What precedes ModRM.
struct Encoding {
    u8 map = 0;  ///< 0 one-byte, 1: 0F, 2: 0F38, 3: 0F3A
    u8 opcode = 0;
    u8 mandatory = 0;     ///< 0, 0x66, 0xf2 or 0xf3 directly before REX
    bool size16 = false;  ///< 0x66 as operand size
    bool lock = false;
    bool w = false;
    bool force_rex = false;  ///< SPL..DIL are meant
    // VEX
    bool vex = false;
    bool l = false;
    u8 vvvv = 0;  ///< register number
};

/// Condition codes as in the low nibble of Jcc.
enum Cond : u8 { kO, kNo, kB, kAe, kE, kNe, kBe, kA, kS, kNs, kP, kNp, kL, kGe, kLe, kG };

/// Appends to a buffer whose bytes are known by their offset in the code arena. The caller makes sure of the room.
class Assembler {
  public:
    void attach(u8* arena, u32 offset) {
        arena_ = arena;
        p_ = arena + offset;
    }
    [[nodiscard]] u32 offset() const { return static_cast<u32>(p_ - arena_); }
    void rewind(u32 offset) { p_ = arena_ + offset; }

    void byte(u8 v) { *p_++ = v; }
    void word(u16 v) {
        byte(static_cast<u8>(v));
        byte(static_cast<u8>(v >> 8));
    }
    void dword(u32 v) {
        std::memcpy(p_, &v, 4);
        p_ += 4;
    }
    void qword(u64 v) {
        std::memcpy(p_, &v, 8);
        p_ += 8;
    }
    void bytes(const u8* from, std::size_t count) {
        std::memcpy(p_, from, count);
        p_ += count;
    }

    // ---- the general form
    void modrm(const Encoding& e, u8 reg, u8 rm) {
        note(reg);
        note(rm);
        u8* p = prefix(p_, e, reg, kNone, rm);
        *p++ = static_cast<u8>(0xc0 | (reg & 7) << 3 | (rm & 7));
        p_ = p;
    }
    void modrm(const Encoding& e, u8 reg, HostMem m) {
        note(reg);
        p_ = memory(prefix(p_, e, reg, m.index, m.base), reg, m);
    }

    /// A one-byte opcode without prefixes but REX.
    void plain(u8 opcode, bool w, u8 reg, u8 rm) {
        note(reg);
        note(rm);
        u8* p = rex(p_, w, (reg & 8u) >> 1 | rm >> 3);
        *p++ = opcode;
        *p++ = static_cast<u8>(0xc0 | (reg & 7) << 3 | (rm & 7));
        p_ = p;
    }
    void plain(u8 opcode, bool w, u8 reg, HostMem m) {
        note(reg);
        const unsigned x = m.index == kNone ? 0u : m.index & 8u, b = m.base == kNone ? 0u : m.base & 8u;
        u8* p = rex(p_, w, (reg & 8u) >> 1 | x >> 2 | b >> 3);
        *p++ = opcode;
        p_ = memory(p, reg, m);
    }

    // ---- 64-bit conveniences
    void mov(u8 to, u8 from) { plain(0x8b, true, to, from); }
    void mov32(u8 to, u8 from) { plain(0x8b, false, to, from); }
    void mov(u8 to, HostMem m) { plain(0x8b, true, to, m); }
    void mov32(u8 to, HostMem m) { plain(0x8b, false, to, m); }
    void mov(HostMem m, u8 from) { plain(0x89, true, from, m); }
    void lea(u8 to, HostMem m) { plain(0x8d, true, to, m); }
    void lea32(u8 to, HostMem m) { plain(0x8d, false, to, m); }
    void add(u8 to, HostMem m) { plain(0x03, true, to, m); }
    void add(u8 to, u8 from) { plain(0x03, true, to, from); }
    void xor_(u8 to, HostMem m) { plain(0x33, true, to, m); }
    void cmp(u8 a, HostMem m) { plain(0x3b, true, a, m); }
    void cmp(u8 a, u8 b) { plain(0x3b, true, a, b); }
    /// Group 1 with an immediate: 0 add, 4 and, 5 sub, 6 xor, 7 cmp.
    void alu_imm(u8 which, u8 to, s32 imm, bool w) {
        const bool small = imm >= -128 && imm <= 127;
        plain(small ? 0x83 : 0x81, w, which, to);
        if (small)
            byte(static_cast<u8>(imm));
        else
            dword(static_cast<u32>(imm));
    }
    void mov_imm(u8 to, u64 imm) {
        note(to);
        if (imm <= 0xffffffff) {
            if (to >= 8) byte(0x41);
            byte(static_cast<u8>(0xb8 | (to & 7)));
            dword(static_cast<u32>(imm));
        } else if (static_cast<s64>(imm) == static_cast<s32>(imm)) {
            plain(0xc7, true, 0, to);
            dword(static_cast<u32>(imm));
        } else {
            byte(static_cast<u8>(0x48 | (to >> 3)));
            byte(static_cast<u8>(0xb8 | (to & 7)));
            qword(imm);
        }
    }
    /// to = from rotated right, flags untouched.
    void rorx(u8 to, u8 from, u8 count) {
        modrm({.map = 3, .opcode = 0xf0, .mandatory = 0xf2, .w = true, .vex = true}, to, from);
        byte(count);
    }
    void shl32(u8 to, u8 count) {
        plain(0xc1, false, 4, to);
        byte(count);
    }
    void lahf() { byte(0x9f); }
    void sahf() { byte(0x9e); }
    void seto_al() { bytes(reinterpret_cast<const u8*>("\x0f\x90\xc0"), 3); }
    void push_imm(u32 imm) {
        byte(0x68);
        dword(imm);
    }
    void jmp(u32 target) {
        byte(0xe9);
        rel32(target);
    }
    void call(u32 target) {
        note(kT1);
        byte(0xe8);
        rel32(target);
    }
    void jcc(u8 cond, u32 target) {
        byte(0x0f);
        byte(static_cast<u8>(0x80 | cond));
        rel32(target);
    }
    /// Jcc or JMP with a displacement to be set later; returns the offset of the displacement.
    u32 jcc_later(u8 cond) {
        jcc(cond, offset());
        return offset() - 4;
    }
    u32 jmp_later() {
        jmp(offset());
        return offset() - 4;
    }
    u32 call_later() {
        call(offset());
        return offset() - 4;
    }
    void push(u8 reg) {
        if (reg >= 8) byte(0x41);
        byte(static_cast<u8>(0x50 | (reg & 7)));
    }
    void pop(u8 reg) {
        note(reg);
        if (reg >= 8) byte(0x41);
        byte(static_cast<u8>(0x58 | (reg & 7)));
    }
    void ret() { byte(0xc3); }
    void call_memory(HostMem m) { plain(0xff, false, 2, m); }
    void jmp_memory(HostMem m) { plain(0xff, false, 4, m); }

    /// Whether T1 has been named as a register operand, or anything called, since keep_t1(): it may have changed.
    [[nodiscard]] bool t1_named() const { return t1_named_; }
    void keep_t1() { t1_named_ = false; }
    void lose_t1() { t1_named_ = true; }

    /// Makes the rel32 at offset `at` lead to `target`.
    static void patch(u8* arena, u32 at, u32 target) {
        const u32 displacement = target - (at + 4);
        __atomic_store_n(reinterpret_cast<u32*>(arena + at), displacement, __ATOMIC_RELEASE);
    }
    void patch(u32 at, u32 target) { patch(arena_, at, target); }
    void patch_here(u32 at) { patch(at, offset()); }

    /// Emits a NOP so that a rel32 that starts `before` bytes from here does not cross an 8-byte boundary: patching
    /// it is then one store that no other processor sees half done.
    void align_rel32(u32 before) {
        static constexpr u8 kNops[4][3] = {{}, {0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0x00}};
        const u32 at = (offset() + before) & 7;
        if (at > 4) bytes(kNops[8 - at], 8 - at);
    }

  private:
    void rel32(u32 target) { dword(target - (offset() + 4)); }

    // The bytes of one instruction go through a local pointer: `p_` would be stored with each, because a byte may alias it.

    /// @param rxb  the low bits of REX
    [[nodiscard]] static u8* rex(u8* p, bool w, unsigned rxb) {
        *p = static_cast<u8>(0x40u | (w ? 8u : 0u) | rxb);
        return p + (w || rxb != 0);
    }
    [[nodiscard]] static u8* prefix(u8* p, const Encoding& e, u8 reg, u8 index, u8 rm) {
        // kNone has bit 3 set: it is no register.
        const unsigned r = reg >> 3 & 1, x = index == kNone ? 0u : index >> 3 & 1u, b = rm == kNone ? 0u : rm >> 3 & 1u;
        if (e.vex) return vex_prefix(p, e, r, x, b);
        if (e.lock) *p++ = 0xf0;
        if (e.size16) *p++ = 0x66;
        if (e.mandatory != 0) *p++ = e.mandatory;
        const u8 rex = static_cast<u8>((e.w ? 8u : 0u) | r << 2 | x << 1 | b);
        if (rex != 0 || e.force_rex) *p++ = static_cast<u8>(0x40 | rex);
        if (e.map != 0) {
            *p++ = 0x0f;
            if (e.map != 1) *p++ = e.map == 2 ? 0x38 : 0x3a;
        }
        *p++ = e.opcode;
        return p;
    }
    [[nodiscard]] static u8* vex_prefix(u8* p, const Encoding& e, unsigned r, unsigned x, unsigned b) {
        const unsigned pp = e.mandatory == 0x66 ? 1 : e.mandatory == 0xf3 ? 2 : e.mandatory == 0xf2 ? 3 : 0;
        const unsigned tail = (~e.vvvv & 15u) << 3 | (e.l ? 4u : 0u) | pp;
        if (x == 0 && b == 0 && !e.w && e.map == 1) {
            *p++ = 0xc5;
            *p++ = static_cast<u8>((r ^ 1) << 7 | tail);
        } else {
            *p++ = 0xc4;
            *p++ = static_cast<u8>((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | e.map);
            *p++ = static_cast<u8>((e.w ? 0x80u : 0u) | tail);
        }
        *p++ = e.opcode;
        return p;
    }
    [[nodiscard]] static u8* put(u8* p, s32 value) {
        std::memcpy(p, &value, sizeof value);
        return p + sizeof value;
    }
    [[nodiscard]] static u8* memory(u8* p, u8 reg, HostMem m) {
        const unsigned r = (reg & 7u) << 3;
        if (m.base == kNone) {
            const unsigned index = m.index == kNone ? 0x20u : (m.index & 7u) << 3;
            *p++ = static_cast<u8>(r | 4);
            *p++ = static_cast<u8>(scale_bits(m.scale) | index | 5);
            return put(p, m.disp);
        }
        const unsigned base = m.base & 7u;
        const bool small = m.disp == static_cast<s8>(m.disp);
        const unsigned mod = m.disp == 0 && base != 5 ? 0 : small ? 0x40 : 0x80;
        if (m.index != kNone) {
            *p++ = static_cast<u8>(mod | r | 4);
            *p++ = static_cast<u8>(scale_bits(m.scale) | (m.index & 7u) << 3 | base);
        } else {
            *p++ = static_cast<u8>(mod | r | base);
            if (base == 4) *p++ = 0x24;
        }
        if (mod == 0x80) return put(p, m.disp);
        if (mod == 0x40) *p++ = static_cast<u8>(m.disp);
        return p;
    }
    /// 1, 2, 4, 8 as SIB.scale.
    static constexpr unsigned scale_bits(u8 scale) { return ((unsigned{scale} >> 1) - (unsigned{scale} >> 3)) << 6; }

    void note(u8 reg) { t1_named_ = t1_named_ || reg == kT1; }

    bool t1_named_ = true;
    u8* arena_ = nullptr;
    u8* p_ = nullptr;
};

/// A field of an entry of the edge table: always with disp32, so that the number can be patched.
constexpr HostMem edge_entry(u32 number, std::size_t field) {
    return {.base = kBank,
            .disp = static_cast<s32>(static_cast<std::size_t>(mmu::kEdgeTable) + number * sizeof(mmu::JumpEntry) + field)};
}
static_assert(mmu::kEdgeTable > 127);

/// Saves the host's status flags in the flags slot, which is what holds then. They stay in the hardware. Clobbers T0.
inline void emit_save_flags(Assembler& a) {
    a.mov(kT0, kRax);
    a.seto_al();
    a.lahf();
    a.modrm({.opcode = 0x89, .size16 = true}, kRax, HostMem{.base = kBank, .disp = kFlagsSlot});
    a.mov(kRax, kT0);
    a.modrm({.opcode = 0xc7}, 0, HostMem{.base = kBank, .disp = kPending});
    a.dword(0);
}

}  // namespace vg::jit
