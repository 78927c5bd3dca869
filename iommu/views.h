// What devices hold of the unit. Internal to iommu/.
#pragma once

#include "iommu/vtd.h"

namespace vg::iommu {

/// One requester's memory.
class Vtd::View final : public mmu::Dma {
  public:
    View(Vtd& unit, u16 rid) : unit_(unit), rid_(rid) {}
    [[nodiscard]] bool read(Iova address, void* out, u64 size) override {
        return unit_.transfer(rid_, address.value, size, false, static_cast<u8*>(out), nullptr);
    }
    [[nodiscard]] bool write(Iova address, const void* data, u64 size) override {
        return unit_.transfer(rid_, address.value, size, true, nullptr, static_cast<const u8*>(data));
    }

  private:
    Vtd& unit_;
    u16 rid_;
};

/// One requester's interrupt messages.
class Vtd::Sink final : public devices::MessageSink {
  public:
    Sink(Vtd& unit, u16 rid, bool identified) : unit_(unit), rid_(rid), identified_(identified) {}
    void send(u64 address, u32 data) override {
        if (address >= request::kBase && address < request::kBase + request::kSize) {
            unit_.interrupt(rid_, identified_, address, data);
        } else if (identified_) {
            // A message is a write to memory; only its address makes it an interrupt.
            (void)unit_.transfer(rid_, address, sizeof data, true, nullptr, reinterpret_cast<const u8*>(&data));
        }
    }

  private:
    Vtd& unit_;
    u16 rid_;
    bool identified_;
};

}  // namespace vg::iommu
