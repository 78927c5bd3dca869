#include "generator.h"

#include <cstring>

#include "cpu/isa/encoding.h"

namespace vg::cpu {

namespace {

constexpr u8 kPrefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x2e, 0x64, 0x26, 0x36, 0x3e, 0x65};

/// Prefixes, and now and then a REX among them, where it must not count.
unsigned put_prefixes(Random& random, CodeMode mode, u8* out) {
    unsigned count = random.below(4);
    if (count == 3) count = random.below(5);
    unsigned n = 0;
    for (; n < count; ++n) {
        out[n] = kPrefixes[random.below(random.one_in(3) ? std::size(kPrefixes) : 4)];
        if (mode == CodeMode::Bits64 && random.one_in(50)) out[n] = static_cast<u8>(0x40 | random.below(16));
    }
    if (mode == CodeMode::Bits64 && random.one_in(3)) out[n++] = static_cast<u8>(0x40 | random.below(16));
    return n;
}

/// VEX prefix with valid fields more often than chance has it: vvvv unused, register bits that select VEX outside
/// 64-bit mode, an existing map.
unsigned put_vex(Random& random, CodeMode mode, u32 map, u8* out) {
    const u8 used = random.one_in(8) ? 0 : 0xc0;
    const u8 unused_vvvv = random.one_in(2) ? 0x78 : 0;
    const u8 select = mode == CodeMode::Bits64 ? 0 : used;
    if (map == 0) {
        out[0] = 0xc5;
        out[1] = static_cast<u8>(random.below(256) | unused_vvvv | select);
        return 2;
    }
    out[0] = 0xc4;
    out[1] = static_cast<u8>((random.below(256) & 0xe0) | (map < 4 ? map : random.below(32)) | select);
    out[2] = static_cast<u8>(random.below(256) | unused_vvvv);
    return 3;
}

void fill(Random& random, Sample& s) {
    for (unsigned n = 0; n < s.bytes.size(); n += 8) {
        const u64 r = random.next();
        std::memcpy(&s.bytes[n], &r, 8);
    }
}

/// One of the values accepted by a field of Encoding::where, any if the field accepts all.
unsigned pick(Random& random, where::Set set, unsigned shift, unsigned values) {
    const unsigned accepted = static_cast<unsigned>(set >> shift) & ((1u << values) - 1);
    if (accepted == 0) return random.below(values);
    for (;;) {
        const unsigned value = random.below(values);
        if ((accepted >> value & 1) != 0) return value;
    }
}

bool mentions(where::Set set, unsigned shift, unsigned values) { return (set >> shift & ((1u << values) - 1)) != 0; }

constexpr unsigned kPrefixShift = 0, kModShift = 4, kRegShift = 8, kRmShift = 16, kWShift = 24, kLShift = 26;
constexpr unsigned kOperandShift = 32, kAddressShift = 36, kBShift = 40;
constexpr u8 kMandatory[] = {0, 0x66, 0xf3, 0xf2};

CodeMode pick_mode(Random& random, where::Set set) {
    if ((set & where::IN64) != 0) return CodeMode::Bits64;
    return static_cast<CodeMode>(random.below((set & where::NOT64) != 0 ? 2 : 3));
}

/// Prefix bytes of a legacy encoding: mandatory prefix, operand and address size, REX.
unsigned put_legacy(Random& random, const Encoding& e, CodeMode mode, u8* out) {
    unsigned n = 0;
    const bool in64 = mode == CodeMode::Bits64;
    const u8 prefix = mentions(e.where, kPrefixShift, 4) ? kMandatory[pick(random, e.where, kPrefixShift, 4)] : u8{0};
    if (prefix != 0) out[n++] = prefix;
    unsigned operand = pick(random, e.where, kOperandShift, 3);  // 0 16 bits, 1 32, 2 64
    if (!in64 && operand == 2) operand = 1;
    const bool default32 = mode != CodeMode::Bits16;
    if (prefix != 0x66 && !(mentions(e.where, kPrefixShift, 4) && (e.where & where::P66) == 0) && operand != 2 &&
        (operand == 1) != default32)
        out[n++] = 0x66;
    const unsigned address = pick(random, e.where, kAddressShift, 3);  // 0 16 bits, 1 32, 2 64
    if (mentions(e.where, kAddressShift, 3) && address != (in64 ? 2u : default32 ? 1u : 0u)) out[n++] = 0x67;
    if (in64) {
        unsigned rex = random.below(8) & (e.where & where::B0 ? 6u : 7u);
        if (mentions(e.where, kBShift, 2)) rex = (rex & 6) | pick(random, e.where, kBShift, 2);
        const bool wide = mentions(e.where, kWShift, 2) ? pick(random, e.where, kWShift, 2) != 0 : operand == 2;
        if (wide) rex |= 8;
        if (rex != 0) out[n++] = static_cast<u8>(0x40 | rex);
    }
    if (e.row.map != OpcodeMap::One) out[n++] = 0x0f;
    if (e.row.map == OpcodeMap::M0F38) out[n++] = 0x38;
    if (e.row.map == OpcodeMap::M0F3A) out[n++] = 0x3a;
    return n;
}

unsigned put_vex_of(Random& random, const Encoding& e, CodeMode mode, u8* out) {
    const unsigned map = static_cast<unsigned>(e.row.map) - static_cast<unsigned>(OpcodeMap::Vex0F) + 1;
    const unsigned rxb = mode == CodeMode::Bits64 ? random.below(8) : 7;
    const unsigned vvvv = e.uses_vvvv ? random.below(mode == CodeMode::Bits64 ? 16 : 8) : 0;
    out[0] = 0xc4;
    out[1] = static_cast<u8>(rxb << 5 | map);
    out[2] = static_cast<u8>(pick(random, e.where, kWShift, 2) << 7 | (vvvv ^ 15) << 3 |
                             pick(random, e.where, kLShift, 2) << 2 | pick(random, e.where, kPrefixShift, 4));
    return 3;
}

}  // namespace

Sample generate_row(Random& random, u16 index) {
    const Encoding& e = encodings()[index];
    Sample s;
    s.mode = pick_mode(random, e.where);
    fill(random, s);
    u8* out = s.bytes.data();
    unsigned n =
        e.row.map >= OpcodeMap::Vex0F ? put_vex_of(random, e, s.mode, out) : put_legacy(random, e, s.mode, out);
    out[n++] = e.row.opcode;
    if (e.has_modrm) {
        const bool reg = pick(random, e.where, kModShift, 2) != 0;
        unsigned rm = pick(random, e.where, kRmShift, 8);
        if (e.row.has(attr::Vsib)) rm = 4;
        out[n] = static_cast<u8>((reg ? 3u : random.below(3)) << 6 | pick(random, e.where, kRegShift, 8) << 3 | rm);
    }
    return s;
}

Sample generate(Random& random, CodeMode mode, u32 map, u8 opcode) {
    Sample s;
    s.mode = mode;
    fill(random, s);
    if (map == 9) return s;
    u8* out = s.bytes.data();
    if (map < 4) {
        unsigned n = put_prefixes(random, mode, out);
        if (map != 0) out[n++] = 0x0f;
        if (map >= 2) out[n++] = map == 2 ? 0x38 : 0x3a;
        out[n] = opcode;
    } else {
        unsigned n = random.one_in(16) ? put_prefixes(random, mode, out) : 0;
        n += put_vex(random, mode, map - 4, out + n);
        out[n] = opcode;
    }
    return s;
}

}  // namespace vg::cpu
