#include "roms/parent/pci_display.h"

#include "devices/spec/dispi.h"
#include "devices/spec/pci.h"
#include "roms/parent/pci_functions.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace {

namespace dispi = devices::dispi;
namespace pci = devices::pci;

constexpr u32 kDisplayClass = 0x038000;
constexpr u32 kMemoryBar = 0, kRegisterBar = 2;

class Registers final : public FrameScroller {
  public:
    explicit Registers(u64 base) : base_(base + dispi::kOffset) {}
    [[nodiscard]] u16 read(u32 index) const { return *at<const volatile u16>(base_ + index * 2); }
    void write(u32 index, u32 value) { *at<volatile u16>(base_ + index * 2) = static_cast<u16>(value); }
    void show_from(u32 line) override { write(dispi::kY, line); }

  private:
    u64 base_;
};

u64 bar(u16 function, u32 index) {
    const u32 value = pci_read(function, static_cast<u8>(pci::kBar0 + index * 4), 4);
    return (value & pci::kBarIo) != 0 ? 0 : value & ~u32{0xf};
}

void set_mode(Registers& registers, u32 width, u32 height) {
    registers.write(dispi::kEnable, 0);
    registers.write(dispi::kWidth, width);
    registers.write(dispi::kHeight, height);
    registers.write(dispi::kBitsPerPixel, 32);
    registers.write(dispi::kEnable, dispi::kEnabled | dispi::kLinear);
}

}  // namespace

std::unique_ptr<FrameConsole> find_display() {
    const auto function = find_pci_function(kDisplayClass);
    if (!function) return nullptr;
    const u64 memory = bar(*function, kMemoryBar), control = bar(*function, kRegisterBar);
    if (memory == 0 || control == 0) return nullptr;
    pci_write(*function, pci::kCommand, 2, pci_read(*function, pci::kCommand, 2) | pci::kMemorySpace);
    auto registers = std::make_unique<Registers>(control);
    if (registers->read(dispi::kId) != dispi::kIdentity) return nullptr;
    const bool on = (registers->read(dispi::kEnable) & dispi::kEnabled) != 0;
    if (!on || registers->read(dispi::kBitsPerPixel) != 32) set_mode(*registers, 1024, 768);

    Frame frame;
    frame.width = registers->read(dispi::kWidth);
    frame.height = registers->read(dispi::kHeight);
    frame.stride = registers->read(dispi::kVirtualWidth);
    const u64 bytes = u64{registers->read(dispi::kMemory64K)} << 16;
    frame.pixels = {at<volatile u32>(memory), bytes / sizeof(u32)};
    const bool usable = frame.width >= 64 && frame.height >= 64 && frame.stride >= frame.width;
    if (!usable || bytes / sizeof(u32) < u64{frame.stride} * frame.height * 2) return nullptr;
    return std::make_unique<FrameConsole>(frame, *registers.release());
}

}  // namespace vg::parent
