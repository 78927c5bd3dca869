// From opcode and context to the row: a table per opcode over just those fields that its rows distinguish.
#pragma once

#include <vector>

#include "cpu/isa/encoding.h"

namespace vg::cpu {

/// What a row's conditions are checked against.
struct DispatchKey {
    u8 prefix = 0;  ///< 0 none, 1 66, 2 F3, 3 F2 (VEX.pp has the same order)
    u8 reg = 0, rm = 0;
    bool register_form = false;  ///< ModRM.mod == 3
    bool w = false, l = false, b = false;
    bool in64 = false;
    u8 operand_size = 4, address_size = 4;
};

class Dispatch {
  public:
    Dispatch();

    struct Slot {
        u32 base = 0;
        u16 fields = 0;  ///< which fields of the key index the table
        bool used = false;
        bool has_modrm = false;
    };
    [[nodiscard]] const Slot& slot(OpcodeMap map, u8 opcode) const {
        return slots_[static_cast<unsigned>(map)][opcode];
    }
    /// Index of the row, 0 if no row fits.
    [[nodiscard]] u16 find(const Slot& slot, const DispatchKey& key) const {
        return rows_[slot.base + (slot.fields == 0 ? 0 : index(slot.fields, key))];
    }

  private:
    [[nodiscard]] static u32 index(u16 fields, const DispatchKey& key);
    void build(Slot& slot, std::span<const u16> candidates);

    Slot slots_[static_cast<unsigned>(OpcodeMap::Count)][256];
    std::vector<u16> rows_;
};

}  // namespace vg::cpu
