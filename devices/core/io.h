// Port I/O: the interface of a chip, and the bus that routes, logs and counts.
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/types.h"

namespace vg::devices {

/// A chip's answer to an access. Anything but Ok reads as all-ones and is logged once per place.
enum class IoStatus : u8 { Ok, NoRegister, BadSize, Unaligned };

/// Ports of one chip. `offset` is relative to the base it was mapped at. Sizes 1, 2, 4.
class PortIo {
  public:
    virtual ~PortIo() = default;
    virtual IoStatus port_read(u16 offset, unsigned size, u32& value) = 0;
    virtual IoStatus port_write(u16 offset, unsigned size, u32 value) = 0;
};

/// The 64 KiB port space of one board. Unclaimed ports read as all-ones; wide accesses to chips that take only bytes
/// are split by the bus when the chip answers BadSize to the wide one.
class IoBus {
  public:
    explicit IoBus(Log& log) : log_(log) {}
    /// Claims [base, base+count). Overlap is a configuration mistake of ours and asserts.
    void map(std::string name, u16 base, u32 count, PortIo& chip);
    struct Range;
    /// The first claimed range that [base, base+count) would overlap, or null.
    [[nodiscard]] const Range* claimed(u16 base, u32 count) const;
    u32 read(u16 port, unsigned size);
    void write(u16 port, unsigned size, u32 value);
    struct Range {
        std::string name;
        u16 base;
        u32 count;
        PortIo* chip;
        u64 reads = 0, writes = 0;
    };
    [[nodiscard]] const std::vector<Range>& ranges() const { return ranges_; }

  private:
    Range* find(u32 port);
    void report(const char* what, u16 port, unsigned size, IoStatus status);

    Log& log_;
    std::vector<Range> ranges_;  // sorted by base
    std::bitset<0x10000> reported_;
    RateLimit unclaimed_{20};
};

}  // namespace vg::devices
