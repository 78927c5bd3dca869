// A disk as the storage core sees it. Mirrors devices::BlockDevice without its host types, so that the core also
// runs inside a guest parent.
#pragma once

#include <span>

#include "base/types.h"

namespace vg::hv::vsp {

/// Offsets and sizes are whole logical sectors and lie inside the disk (the core checks). False: the
/// medium failed.
class BlockBackend {
  public:
    virtual ~BlockBackend() = default;
    [[nodiscard]] virtual u64 size_bytes() const = 0;
    [[nodiscard]] virtual bool read_only() const = 0;
    /// 512 or 4096.
    [[nodiscard]] virtual u32 logical_sector_bytes() const { return 512; }
    /// 512 or 4096, not less than the logical ones.
    [[nodiscard]] virtual u32 physical_sector_bytes() const = 0;
    [[nodiscard]] virtual bool read(u64 offset, std::span<u8> out) = 0;
    [[nodiscard]] virtual bool write(u64 offset, std::span<const u8> data) = 0;
    /// As read and write of all the parts, one behind the other.
    [[nodiscard]] virtual bool read_parts(u64 offset, std::span<const std::span<u8>> parts) {
        for (const std::span<u8> part : parts) {
            if (!read(offset, part)) return false;
            offset += part.size();
        }
        return true;
    }
    [[nodiscard]] virtual bool write_parts(u64 offset, std::span<const std::span<u8>> parts) {
        for (const std::span<u8> part : parts) {
            if (!write(offset, part)) return false;
            offset += part.size();
        }
        return true;
    }
    /// The range may lose its content.
    [[nodiscard]] virtual bool discard(u64 offset, u64 size) = 0;
    /// Everything written before is durable when it returns.
    [[nodiscard]] virtual bool flush() = 0;
};

}  // namespace vg::hv::vsp
