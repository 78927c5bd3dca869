#include "roms/vmm/mmio.h"

namespace vg::vmm {
namespace {

struct Prefixes {
    bool operand = false, address = false;
    u8 rex = 0;
};

/// Bytes of ModRM, SIB and displacement; 0 for a register operand.
unsigned modrm_length(const u8* bytes, unsigned left, bool address_16) {
    if (left == 0) return 0;
    const u8 mod = bytes[0] >> 6, rm = bytes[0] & 7;
    if (mod == 3) return 0;
    if (address_16) return 1 + (mod == 1 ? 1u : mod == 2 || (mod == 0 && rm == 6) ? 2u : 0u);
    unsigned length = 1;
    if (rm == 4) {
        if (left < 2) return 0;
        ++length;
        if (mod == 0 && (bytes[1] & 7) == 5) length += 4;
    } else if (mod == 0 && rm == 5) {
        length += 4;
    }
    return length + (mod == 1 ? 1u : mod == 2 ? 4u : 0u);
}

}  // namespace

bool decode_move(const u8* bytes, unsigned count, bool wide, MmioMove& out) {
    Prefixes p;
    unsigned at = 0;
    for (; at < count; ++at) {
        if (bytes[at] == 0x66) p.operand = true;
        else if (bytes[at] == 0x67) p.address = true;
        else if (bytes[at] != 0x26 && bytes[at] != 0x2e && bytes[at] != 0x36 && bytes[at] != 0x3e && bytes[at] != 0x64 &&
                 bytes[at] != 0x65)
            break;
    }
    if (wide && at < count && (bytes[at] & 0xf0) == 0x40) p.rex = bytes[at++];
    if (at >= count) return false;
    const bool address_16 = !wide && !p.address;
    const u8 full = (p.rex & 8) != 0 ? 8 : wide != p.operand ? 4 : 2;
    u8 opcode = bytes[at++];
    const bool two = opcode == 0x0f;
    if (two) {
        if (at >= count) return false;
        opcode = bytes[at++];
    }
    out = {};
    if (!two && opcode >= 0xa0 && opcode <= 0xa3) {  // accumulator and absolute address
        out.store = opcode >= 0xa2;
        out.size = (opcode & 1) != 0 ? full : 1;
        at += wide ? 8 : p.address ? 4 : 2;
        out.length = static_cast<u8>(at);
        return at <= count;
    }
    const unsigned operand = modrm_length(bytes + at, count - at, address_16);
    if (operand == 0 || at + operand > count) return false;
    out.reg = static_cast<u8>((bytes[at] >> 3 & 7) | ((p.rex & 4) != 0 ? 8 : 0));
    at += operand;
    unsigned immediate = 0;
    if (!two && (opcode == 0x88 || opcode == 0x89)) {
        out.store = true;
        out.size = opcode == 0x88 ? 1 : full;
    } else if (!two && (opcode == 0x8a || opcode == 0x8b)) {
        out.size = opcode == 0x8a ? 1 : full;
    } else if (!two && (opcode == 0xc6 || opcode == 0xc7)) {
        out.store = out.immediate = true;
        out.size = opcode == 0xc6 ? 1 : full;
        immediate = out.size == 8 ? 4 : out.size;
    } else if (two && (opcode == 0xb6 || opcode == 0xb7)) {
        out.zero_extend = true;
        out.size = opcode == 0xb6 ? 1 : 2;
    } else {
        return false;
    }
    // Without REX, byte registers 4 to 7 are the high halves.
    if (!out.immediate && !out.zero_extend && out.size == 1 && p.rex == 0 && out.reg >= 4) return false;
    if (at + immediate > count) return false;
    for (unsigned i = 0; i < immediate; ++i) out.value |= u64{bytes[at + i]} << (8 * i);
    if (out.size == 8 && (out.value & 0x80000000) != 0) out.value |= ~u64{0xffffffff};
    out.length = static_cast<u8>(at + immediate);
    return true;
}

}  // namespace vg::vmm
