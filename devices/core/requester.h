// Who asks on the bus, and the way from there to memory and to interrupt controllers.
#pragma once

#include <compare>
#include <map>

#include "base/types.h"
#include "devices/core/irq.h"
#include "mmu/dma.h"

namespace vg::devices {

/// Requester id of a function: bus, device 0..31, function 0..7. PCI Express Base 5.0 §2.2.4.2, §2.2.6.2.
struct Rid {
    u16 value = 0;

    constexpr Rid() = default;
    constexpr explicit Rid(u16 v) : value(v) {}
    constexpr Rid(u32 bus, u32 device, u32 function)
        : value(static_cast<u16>((bus & 0xff) << 8 | (device & 0x1f) << 3 | (function & 7))) {}
    constexpr auto operator<=>(const Rid&) const = default;
    [[nodiscard]] constexpr u8 bus() const { return static_cast<u8>(value >> 8); }
    [[nodiscard]] constexpr u8 device() const { return (value >> 3) & 0x1f; }
    [[nodiscard]] constexpr u8 function() const { return value & 7; }
};

/// What lies between functions and the machine: nothing, or an IOMMU. Devices cannot tell. What it hands out lives as
/// long as it does, and is the same for the same requester.
class Upstream {
  public:
    virtual ~Upstream() = default;
    /// Memory as this requester reaches it.
    [[nodiscard]] virtual mmu::Dma& dma(Rid requester) = 0;
    /// Where its interrupt messages go.
    [[nodiscard]] virtual MessageSink& messages(Rid requester) = 0;
};

/// Every requester reaches the same memory and the same interrupt controllers.
class DirectUpstream final : public Upstream {
  public:
    DirectUpstream(const mmu::DirectDma& memory, MessageSink& sink) : memory_(memory), sink_(sink) {}
    [[nodiscard]] mmu::Dma& dma(Rid requester) override {
        return views_.try_emplace(requester, memory_.as(requester.value)).first->second;
    }
    [[nodiscard]] MessageSink& messages(Rid) override { return sink_; }

  private:
    const mmu::DirectDma& memory_;
    MessageSink& sink_;
    std::map<Rid, mmu::DirectDma> views_;  ///< they differ in whom accesses are told of as
};

}  // namespace vg::devices
