// What every virtio device is: the PCI transport of VIRTIO 1.2 §4.1, without the transitional interface.
#pragma once

#include <string>
#include <vector>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/spec/virtio.h"
#include "devices/virtio/queue.h"

namespace vg::devices {

/// Registers, status, features, queues and interrupts. A device adds its features, its configuration and what it does
/// with chains. Work happens in events: a notification arms one, kLatency later.
///
/// A queue that cannot be makes the device ask for a reset (§2.1.2 DEVICE_NEEDS_RESET), and it does nothing more until
/// then.
class VirtioDevice : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kRegisterBytes = 0x8000;
    static constexpr VTime kLatency = 5'000;

    [[nodiscard]] std::string_view name() const override { return name_; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  protected:
    struct Kind {
        std::string name;
        u16 type;
        u32 class_code;
        u64 features;  ///< of the device's own
        u32 queues;
    };
    VirtioDevice(const PciSlot& slot, EventQueue& events, Kind kind);

    // ---- For the device.
    /// Its configuration, as the driver reads it now.
    [[nodiscard]] virtual std::span<const u8> device_config() const = 0;
    /// Does what waits in the queues, some of it. Returns when there may be more to do at once: virtual time of the
    /// next event, or kNever.
    virtual VTime work() = 0;
    /// The driver has reset it: everything of its own is as at first.
    virtual void reset_device() = 0;
    virtual void device_fields(StateVisitor& v) = 0;

    /// The next chain of a queue, if there is one. Otherwise a notification has been asked for.
    [[nodiscard]] std::optional<VirtioChain> take(u32 queue);
    void give_back(u32 queue, const VirtioChain& chain, u32 written);
    void untake(u32 queue) { queues_[queue].untake(); }
    /// Whether a queue has chains, without taking any or asking for a notification.
    [[nodiscard]] bool has_chain(u32 queue);
    /// Something is to be done. Without a driver: nothing.
    void wake();
    [[nodiscard]] bool running() const {
        return (state_.status & (virtio::kDriverOk | virtio::kNeedsReset)) == virtio::kDriverOk;
    }
    [[nodiscard]] bool has(u64 feature) const { return (state_.driver_features & feature) != 0; }
    [[nodiscard]] mmu::Dma& dma() { return pci_.dma(); }
    [[nodiscard]] EventQueue& events() { return events_; }
    /// Features that depend on what is plugged in, before the machine runs.
    void offer(u64 features) { features_ |= features; }
    void withdraw(u64 features) { features_ &= ~features; }
    /// The queues cannot be worked with.
    void broken();

  private:
    struct State {
        u64 driver_features = 0;
        u32 device_select = 0, driver_select = 0;
        u16 config_vector = virtio::kNoVector, queue_select = 0;
        u8 status = 0, isr = 0;
    };
    [[nodiscard]] u32 read_common(u32 offset);
    void write_common(u32 offset, unsigned size, u32 value);
    void write_status(u8 value);
    void set_features(u32 value);
    [[nodiscard]] u8 read_isr();
    void interrupt(u8 isr, u16 vector);
    void run();
    void reset_all();
    [[nodiscard]] u16 valid_vector(u32 value) const;
    [[nodiscard]] u32 access_by_config(u32 offset, unsigned size);
    void written_by_config(u32 offset, unsigned size);
    void add_capabilities();

    std::string name_;
    EventQueue& events_;
    PciFunction pci_;
    EventQueue::TimerId timer_;
    u64 features_;
    u32 config_capability_ = 0;
    std::vector<VirtioQueue> queues_;
    State state_;
};

}  // namespace vg::devices
