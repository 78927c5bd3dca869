// The Q35 memory controller hub as a PCI function: identity, and the registers by which firmware shadows itself.
#pragma once

#include <array>
#include <functional>

#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/spec/q35.h"

namespace vg::devices {

/// The programmable attribute map decides which accesses to 0xC0000..0xFFFFF go to memory.
///
/// DEVIATION: the base address of the configuration space (PCIEXBAR) is the board's for good: it reads as enabled there
/// and writes are dropped. There is no system management memory: SMRAM can be read back and has no effect.
class Q35Host final : public Device {
  public:
    /// Where reads, and writes, of a range go: to memory, or to what is behind it.
    using Shadow = std::function<void(u64 base, u64 size, bool reads, bool writes)>;

    Q35Host(const PciSlot& slot, u64 config_base, Shadow shadow);

    [[nodiscard]] std::string_view name() const override { return "host_bridge"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }

  private:
    static constexpr u32 kSegments = 2 * q35::kPamCount - 1;

    /// Tells of what has changed in the map.
    void update();
    [[nodiscard]] u8 nibble(u32 segment) const;

    PciFunction pci_;
    Shadow shadow_;
    std::array<u8, kSegments> told_{};  // derived
};

}  // namespace vg::devices
