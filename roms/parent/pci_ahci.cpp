#include "roms/parent/pci_ahci.h"

#include "devices/spec/pci.h"
#include "roms/parent/pci_functions.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace pci = devices::pci;

namespace {

constexpr u32 kAhciClass = 0x010601;

class PciAhci final : public AhciSystem {
  public:
    explicit PciAhci(u16 function) : function_(function), vector_(allocate_vector(on_message, nullptr)) {}

    u32 config_read(u32 offset, u32 size) override { return pci_read(function_, static_cast<u8>(offset), size); }
    void config_write(u32 offset, u32 size, u32 value) override {
        pci_write(function_, static_cast<u8>(offset), size, value);
    }
    bool map_registers(u64 address) override {
        registers_ = address;  // mapped with all that lies below 4 GiB
        return true;
    }
    u32 read(u32 offset) override { return *at<const volatile u32>(registers_ + offset); }
    void write(u32 offset, u32 value) override { *at<volatile u32>(registers_ + offset) = value; }
    Memory allocate(u64 pages) override {
        const u64 address = allocate_pages(pages);
        return {address != 0 ? at<u8>(address) : nullptr, address};
    }
    u64 device_address(const void* data, u64) override { return physical(data); }
    Message message() override { return {msi_address(), vector_}; }
    u64 now_100ns() override { return reference_time_100ns(); }
    void wait(u64 deadline_100ns) override {
        set_alarm(deadline_100ns);
        wait_for_interrupt();
    }

  private:
    static void on_message(void*) {}  // waking up is enough: the driver looks at its registers

    u16 function_;
    u8 vector_;
    u64 registers_ = 0;
};

}  // namespace

std::unique_ptr<AhciSystem> find_ahci() {
    const auto function = find_pci_function(kAhciClass);
    if (!function) return nullptr;
    return std::make_unique<PciAhci>(*function);
}

}  // namespace vg::parent
