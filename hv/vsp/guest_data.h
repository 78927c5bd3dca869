// Data in guest memory as a provider's core sees it.
#pragma once

#include <span>

#include "base/types.h"

namespace vg::hv::vsp {

/// The data of one request in guest memory, whatever describes it on the wire.
class GuestData {
  public:
    virtual ~GuestData() = default;
    [[nodiscard]] virtual u64 size() const = 0;
    /// False: outside the data, or not memory.
    [[nodiscard]] virtual bool read(u64 offset, std::span<u8> out) = 0;
    [[nodiscard]] virtual bool write(u64 offset, std::span<const u8> data) = 0;
};

}  // namespace vg::hv::vsp
