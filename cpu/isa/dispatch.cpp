#include "cpu/isa/dispatch.h"

#include "base/assert.h"

namespace vg::cpu {

namespace {

using namespace where;

/// Fields of the key, in index order. `set` is what the field's accepted values look like in Encoding::where.
struct Field {
    u16 bit;
    u8 width;   ///< bits of index
    u8 values;  ///< number of values
    u8 shift;   ///< of the accepted values in where::Set
};
constexpr Field kFields[] = {
    {1 << 0, 2, 4, 0},   // prefix
    {1 << 1, 1, 2, 4},   // memory, register form
    {1 << 2, 3, 8, 8},   // reg
    {1 << 3, 3, 8, 16},  // rm
    {1 << 4, 1, 2, 24},  // W
    {1 << 5, 1, 2, 26},  // L
    {1 << 6, 1, 2, 28},  // not 64, 64
    {1 << 7, 2, 3, 32},  // operand size
    {1 << 8, 2, 3, 36},  // address size
    {1 << 9, 1, 2, 40},  // B
};

constexpr unsigned accepted(const Field& f, Set set) {
    return static_cast<unsigned>(set >> f.shift) & ((1u << f.values) - 1);
}

constexpr u32 width_code(u8 bytes) { return static_cast<u32>(bytes) >> 2; }  // 2, 4, 8 -> 0, 1, 2

}  // namespace

u32 Dispatch::index(u16 fields, const DispatchKey& k) {
    u32 out = 0;
    if (fields & (1 << 0)) out = k.prefix;
    if (fields & (1 << 1)) out = out << 1 | static_cast<u32>(k.register_form);
    if (fields & (1 << 2)) out = out << 3 | k.reg;
    if (fields & (1 << 3)) out = out << 3 | k.rm;
    if (fields & (1 << 4)) out = out << 1 | static_cast<u32>(k.w);
    if (fields & (1 << 5)) out = out << 1 | static_cast<u32>(k.l);
    if (fields & (1 << 6)) out = out << 1 | static_cast<u32>(k.in64);
    if (fields & (1 << 7)) out = out << 2 | width_code(k.operand_size);
    if (fields & (1 << 8)) out = out << 2 | width_code(k.address_size);
    if (fields & (1 << 9)) out = out << 1 | static_cast<u32>(k.b);
    return out;
}

void Dispatch::build(Slot& slot, std::span<const u16> candidates) {
    const auto table = encodings();
    slot.used = true;
    slot.has_modrm = table[candidates[0]].has_modrm;
    Set mentioned = 0;
    for (const u16 c : candidates) {
        VG_ASSERT(table[c].has_modrm == slot.has_modrm);
        mentioned |= table[c].where;
    }
    unsigned width = 0;
    for (const Field& f : kFields) {
        if (accepted(f, mentioned) == 0) continue;
        slot.fields = static_cast<u16>(slot.fields | f.bit);
        width += f.width;
    }
    slot.base = static_cast<u32>(rows_.size());
    for (u32 i = 0; i < 1u << width; ++i) {
        unsigned values[std::size(kFields)] = {};
        u32 rest = i;
        for (unsigned n = std::size(kFields); n-- > 0;) {
            if ((slot.fields & kFields[n].bit) == 0) continue;
            values[n] = rest & ((1u << kFields[n].width) - 1);
            rest >>= kFields[n].width;
        }
        const auto fits = [&](u16 c) {
            for (unsigned n = 0; n < std::size(kFields); ++n) {
                const unsigned set = accepted(kFields[n], table[c].where);
                if (set != 0 && (set >> values[n] & 1) == 0) return false;
            }
            return true;
        };
        u16 found = 0;
        for (const u16 c : candidates) {
            if (!fits(c)) continue;
            found = c;
            break;
        }
        rows_.push_back(found);
    }
}

Dispatch::Dispatch() {
    std::vector<u16> candidates[static_cast<unsigned>(OpcodeMap::Count)][256];
    const auto table = encodings();
    for (std::size_t n = 1; n < table.size(); ++n)
        candidates[static_cast<unsigned>(table[n].row.map)][table[n].row.opcode].push_back(static_cast<u16>(n));
    rows_.push_back(0);
    for (unsigned map = 0; map < static_cast<unsigned>(OpcodeMap::Count); ++map)
        for (unsigned opcode = 0; opcode < 256; ++opcode)
            if (!candidates[map][opcode].empty()) build(slots_[map][opcode], candidates[map][opcode]);
}

}  // namespace vg::cpu
