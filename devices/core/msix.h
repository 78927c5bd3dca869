// The MSI-X table and pending bits of a function. PCI Local Bus 3.0 §6.8.2, §6.8.3.
#pragma once

#include <functional>
#include <vector>

#include "base/state.h"
#include "base/types.h"

namespace vg::devices {

/// Vectors with an address, data and mask each. Pending messages go out when neither the vector nor the function is
/// masked.
class MsixTable {
  public:
    using Send = std::function<void(u64 address, u32 data)>;

    /// Offsets are those within the BAR that holds both.
    MsixTable(u32 vectors, u32 table_offset, u32 pba_offset, Send send);

    void reset();
    void fields(StateVisitor& v);
    [[nodiscard]] u32 vectors() const { return static_cast<u32>(entries_.size()); }
    /// Whether the byte at this offset of the BAR belongs to the table or the pending bits.
    [[nodiscard]] bool claims(u64 offset) const;
    [[nodiscard]] u64 read(u64 offset, unsigned size) const;
    void write(u64 offset, unsigned size, u64 value);
    /// The function's control register changed: `active` is enabled and not masked as a whole.
    void set_active(bool active);
    /// Vectors that do not exist are dropped.
    void signal(u32 vector);

  private:
    struct Entry {
        u64 address = 0;
        u32 data = 0;
        u32 control = 1;
    };
    [[nodiscard]] u32 word(u64 offset) const;
    void write_word(u64 offset, u32 value, u32 mask);
    void deliver(u32 vector);

    std::vector<Entry> entries_;
    std::vector<u8> pending_;
    u32 table_, pba_;
    Send send_;
    bool active_ = false;
};

}  // namespace vg::devices
