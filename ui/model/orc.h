// ORC tables: how a Linux kernel without frame pointers says where each function's frame is. Linux
// arch/x86/include/asm/orc_types.h, Documentation/arch/x86/orc-unwinder.rst.
#pragma once

#include <optional>

#include "ui/model/linear_view.h"

namespace vg::model {

/// What a value is relative to.
enum class OrcReg : u8 { Undefined, PrevSp, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect };

/// What lies at the frame's end.
enum class OrcType : u8 {
    Undefined,   ///< nothing is known
    End,         ///< the outermost frame
    Call,        ///< a return address
    Regs,        ///< a whole struct pt_regs
    RegsPartial  ///< what the processor pushed, in its place in a struct pt_regs
};

struct OrcEntry {
    s16 sp_offset = 0, bp_offset = 0;
    OrcReg sp_reg = OrcReg::Undefined, bp_reg = OrcReg::Undefined;
    OrcType type = OrcType::Undefined;
};

/// One sorted table in a guest's memory: the kernel's, or a module's.
class OrcTable {
  public:
    static constexpr u32 kMaxEntries = 8'000'000;
    /// Up to Linux 6.3 the low two bits of the type are 0 for a call, and the end is a bit of its own; since then the
    /// type has three bits, and 0 is "undefined".
    enum class Form : u8 { TwoBits, ThreeBits };

    OrcTable() = default;
    /// @param ips      address of `count` 32-bit offsets, each relative to its own place
    /// @param entries  address of as many 6-byte entries
    OrcTable(u64 ips, u64 entries, u32 count, Form form) : ips_(ips), entries_(entries), count_(count), form_(form) {}

    /// Which form it has: nearly every entry is of a call.
    [[nodiscard]] static std::optional<Form> form_of(const LinearView& view, u64 entries, u32 count);

    /// What holds at `ip`. Nothing: the table does not reach there.
    [[nodiscard]] std::optional<OrcEntry> find(const LinearView& view, u64 ip) const;
    [[nodiscard]] bool empty() const { return count_ == 0; }
    [[nodiscard]] u32 count() const { return count_; }
    [[nodiscard]] Form form() const { return form_; }

  private:
    u64 ips_ = 0, entries_ = 0;
    u32 count_ = 0;
    Form form_ = Form::TwoBits;
};

}  // namespace vg::model
