#include "machine/pci_board.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"
#include "base/state.h"
#include "devices/core/told_upstream.h"
#include "devices/net/host_forward.h"
#include "machine/disk_image.h"

namespace vg::machine {

namespace {

using devices::PciBus, devices::PciSlot;
namespace pci = devices::pci;

/// Device numbers on bus 0: fixed, so that a guest's names for them are too.
constexpr u32 kHostBridgeDevice = 0, kDisplayDevice = 2, kFirstNvmeDevice = 8, kFirstNicDevice = 24, kAhciDevice = 31;
constexpr u32 kFirstVirtioDevice = 3, kConsoleDevice = 28, kEduDevice = 29;
/// With firmware, as on a Q35 board: its LPC bridge is function 0 of the device that the AHCI is a function of.
constexpr u32 kLpcDevice = 31, kFirmwareAhciFunction = 2, kFirstWiredDevice = 25;
constexpr u16 kFirmwareWidth = 1024, kFirmwareHeight = 768;

PciBus::Windows windows_for(u64 memory_top, bool firmware) {
    PciBus::Windows windows;
    windows.low = {board::kPciMemoryBase, board::kPciMemorySize};
    if (firmware) windows.low = {board::kFirmwarePciMemoryBase, board::kFirmwarePciMemorySize};
    windows.high = {align_up(memory_top, board::kPciHighMemoryAlign), board::kPciHighMemorySize};
    // OVMF gives 64-bit base addresses places at the end of what a processor can address.
    if (firmware) windows.high.size = board::kDisplayHome - windows.high.base;
    windows.ports = {board::kPciPortBase, board::kPciPortCount};
    if (firmware) windows.ports = {board::kFirmwarePciPortBase, board::kFirmwarePciPortCount};
    return windows;
}

/// Each requester reaches what the remapping unit lets it.
class RemappedUpstream final : public devices::Upstream {
  public:
    explicit RemappedUpstream(iommu::Vtd& unit) : unit_(unit) {}
    [[nodiscard]] mmu::Dma& dma(devices::Rid requester) override { return unit_.dma(requester.value); }
    [[nodiscard]] devices::MessageSink& messages(devices::Rid requester) override {
        return unit_.messages(requester.value);
    }

  private:
    iommu::Vtd& unit_;
};

}  // namespace

PciBoard::HostBridge::HostBridge(const PciSlot& slot)
    : pci_(slot, {.vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000, .revision = 2}) {}

PciBoard::PciBoard(const Config& config, const Environment& environment)
    : environment_(environment),
      memory_(environment.memory),
      disk_sections_(config.disks),
      has_display_(config.devices.display),
      has_console_(config.devices.virtio_console),
      has_edu_(config.devices.edu),
      nic_sections_(config.nics),
      network_(environment.events, environment.log) {
    if (environment.iommu != nullptr)
        upstream_ = std::make_unique<RemappedUpstream>(*environment.iommu);
    else
        upstream_ = std::make_unique<devices::DirectUpstream>(memory_, environment.chipset.messages());
    upstream_ = std::make_unique<devices::ToldUpstream>(std::move(upstream_), environment.log);
    std::vector<devices::IrqLine*> inputs;
    if (firmware()) pirqs_.resize(board::kPciGsiCount);
    for (u32 i = 0; i < board::kPciGsiCount; ++i) {
        inputs.push_back(&environment.chipset.ioapic().line(board::kPciFirstGsi + i));
        if (firmware()) inputs.back() = &pirqs_[i];
    }
    bus_ = std::make_unique<PciBus>(*upstream_, windows_for(environment.memory_top, firmware()), inputs,
                                    firmware() ? kFirstWiredDevice : 32);
}

PciBoard::~PciBoard() {
    bus_.reset();  // before the functions that it knows
}

Result<std::unique_ptr<PciBoard>> PciBoard::create(const Config& config, const Environment& environment) {
    std::unique_ptr<PciBoard> board(new PciBoard(config, environment));
    if (auto ok = board->build(); !ok) return Unexpected{ok.error()};
    return board;
}

Result<void> PciBoard::build() {
    if (auto ok = map_windows(); !ok) return ok;
    if (firmware())
        add_firmware_board();
    else
        add<HostBridge>(kHostBridgeDevice);
    if (has_display_ && !firmware()) display_ = &add<devices::Display>(kDisplayDevice, memory_, Iova(board::kDisplayMemoryBase));
    if (has_console_)
        console_ = &add<devices::VirtioConsole>(kConsoleDevice, environment_.events, environment_.console);
    if (has_edu_) add<devices::Edu>(kEduDevice, environment_.events);
    add_nics();
    return add_disks();
}

/// The host bridge shadows the BIOS, the LPC bridge leads interrupts to the 8259s.
void PciBoard::add_firmware_board() {
    mmu::PhysicalMemory& memory = environment_.memory;
    add<devices::Q35Host>(kHostBridgeDevice, ecam_base(), [&memory](u64 base, u64 size, bool reads, bool writes) {
        memory.switch_pages(Spa(base), size, reads, writes);
    });
    std::vector<devices::IrqLine*> pins;
    for (u32 i = 0; i < board::kPciGsiCount; ++i)
        pins.push_back(&environment_.chipset.ioapic().line(board::kPciFirstGsi + i));
    auto& lpc = add<devices::Ich9Lpc>(kLpcDevice, board::kFirmwarePmBase, pins, *environment_.pic_inputs);
    lpc.connect(pirqs_);
    environment_.io.map("lpc_pm", board::kFirmwarePmBase + devices::Ich9Lpc::kFirstPort,
                        devices::q35::kPmPorts - devices::Ich9Lpc::kFirstPort, lpc.pm_ports());
    if (has_display_) add_vga();
}

void PciBoard::add_vga() {
    const PciBus::Range low = bus_->windows().low;
    mmu::PhysicalMemory& memory = environment_.memory;
    const auto follow = [low, &memory](std::optional<u64> bar) {
        const bool shown = bar && *bar >= low.base && fits(*bar - low.base, devices::Vga::kMemoryBytes, low.size);
        const u64 place = shown ? *bar : board::kDisplayHome;
        memory.move_ram(Spa(board::kDisplayHome), Spa(place));
        return Iova(place);
    };
    vga_ = &add<devices::Vga>(kDisplayDevice, environment_.events, memory_, follow);
    environment_.io.map("vga", devices::vga::kFirstPort, devices::vga::kPortCount, vga_->vga_ports());
    environment_.io.map("vga_dispi", devices::dispi::kIndexPort, 3, vga_->dispi_ports());
    // The range is free: nothing else is there on a board with firmware.
    if (auto ok = memory.add_mmio("vga", Spa(devices::Vga::kWindowBase), devices::Vga::kWindowSize, vga_->window()); !ok)
        VG_UNREACHABLE();
}

u64 PciBoard::ecam_base() const { return firmware() ? board::kFirmwareEcamBase : board::kEcamBase; }

void PciBoard::reset() {
    bus_->reset();
    for (const auto& device : devices_) device->reset();
}

std::vector<std::string> PciBoard::boot_order() const {
    std::vector<std::string> paths;
    u32 port = 0, nvme = 0, virtio = 0;
    for (const DiskSection& disk : disk_sections_) {
        if (disk.bus == "nvme") {
            paths.push_back(fmt::format("/pci@i0cf8/pci8086,5845@{:x}/namespace@1,{:x}", kFirstNvmeDevice + nvme,
                                        nvmes_[nvme]->eui64()));
            ++nvme;
        } else if (disk.bus == "virtio") {
            paths.push_back(fmt::format("/pci@i0cf8/scsi@{:x}/disk@0,0", kFirstVirtioDevice + virtio++));
        } else {
            paths.push_back(fmt::format("/pci@i0cf8/pci8086,2922@{:x},{:x}/drive@{:x}/disk@0", kAhciDevice,
                                        kFirmwareAhciFunction, port++));
        }
    }
    return paths;
}

void PciBoard::add_nics() {
    for (u32 i = 0; i < nic_sections_.size(); ++i) {
        devices::MacAddress address{0x52, 0x54, 0x00, 0x76, 0x67, static_cast<u8>(i)};
        if (const auto given = devices::parse_mac_address(nic_sections_[i].mac); given) address = *given;
        if (nic_sections_[i].bus == "virtio")
            nics_.push_back(&add<devices::VirtioNet>(kFirstNicDevice + i, environment_.events, i, address));
        else
            nics_.push_back(&add<devices::E1000e>(kFirstNicDevice + i, environment_.events, i, address));
    }
}

Result<void> PciBoard::connect_nics(u64 start_unix_seconds) {
    for (std::size_t i = 0; i < nics_.size(); ++i) {
        if (auto ok = network_.connect(*nics_[i], nic_sections_[i], start_unix_seconds); !ok) return ok;
    }
    return {};
}

Result<void> PciBoard::add_disks() {
    u32 ports = 0, nvmes = 0;
    for (const DiskSection& disk : disk_sections_) {
        if (auto ok = check_disk_image(disk); !ok) return ok;
        if (disk.bus == "nvme") {
            nvmes_.push_back(&add<devices::Nvme>(kFirstNvmeDevice + nvmes, environment_.events, nvmes));
            ++nvmes;
        } else if (disk.bus == "virtio") {
            const u32 number = static_cast<u32>(virtio_disks_.size());
            virtio_disks_.push_back(&add<devices::VirtioBlock>(kFirstVirtioDevice + number, environment_.events, number));
        } else {
            ++ports;
        }
    }
    if (ports != 0)
        ahci_ = &add_function<devices::Ahci>(kAhciDevice, firmware() ? kFirmwareAhciFunction : 0, environment_.events, ports);
    return {};
}

Result<void> PciBoard::attach_disks() {
    u32 port = 0, nvme = 0, virtio = 0;
    for (const DiskSection& section : disk_sections_) {
        auto image = open_disk_image(section, {environment_.log, 0, static_cast<u32>(disks_.size())});
        if (!image) return Unexpected{image.error()};
        disks_.push_back(image->get());
        if (section.bus == "nvme") {
            nvmes_[nvme++]->attach(std::move(*image));
            continue;
        }
        if ((*image)->logical_sector_bytes() != u32{512}) {
            return fail(Error::Code::Usage,
                        fmt::format("{}: disk \"{}\" has sectors of {} bytes, which neither AHCI nor virtio offers here; use "
                                    "bus = \"nvme\"",
                                    section.at.text(), section.image, (*image)->logical_sector_bytes()));
        }
        if (section.bus == "virtio") {
            virtio_disks_[virtio++]->attach(std::move(*image));
            continue;
        }
        ahci_->attach(port, std::make_unique<devices::AtaDisk>(std::move(*image), fmt::format("VG{:08}", port + 1)));
        ++port;
    }
    return {};
}

void PciBoard::trace_to(Log& log) {
    if (ahci_ != nullptr) ahci_->trace_to(log);
}

Result<void> PciBoard::flush_disks() {
    Result<void> first;
    for (devices::BlockDevice* disk : disks_) {
        if (disk->read_only()) continue;
        if (auto ok = disk->settle(); !ok && first) first = ok;
    }
    return first;
}

Result<void> PciBoard::map_windows() {
    environment_.chipset.connect_pci(bus_->config_address());
    environment_.io.map("pci_config_data", pci::kConfigDataPort, 4, bus_->config_data());
    const PciBus::Windows& windows = bus_->windows();
    environment_.io.map("pci_ports", static_cast<u16>(windows.ports.base), static_cast<u32>(windows.ports.size),
                        bus_->ports());
    mmu::PhysicalMemory& memory = environment_.memory;
    if (auto ok = memory.add_mmio("pci_config", Spa(ecam_base()), board::kPciBuses * PciBus::kEcamBytesPerBus,
                                  bus_->ecam());
        !ok) {
        return ok;
    }
    u64 low_size = windows.low.size;
    if (has_display_ && firmware()) {
        auto ok = memory.add_ram("display", Spa(board::kDisplayHome), devices::Vga::kMemoryBytes);
        if (!ok) return ok;
    } else if (has_display_) {
        // The end of the window is the display's memory, for good.
        constexpr u64 kEnd = board::kDisplayMemoryBase + devices::Display::kMemoryBytes;
        VG_ASSERT(kEnd == windows.low.base + windows.low.size);
        low_size -= devices::Display::kMemoryBytes;
        auto ok = memory.add_ram("display", Spa(board::kDisplayMemoryBase), devices::Display::kMemoryBytes);
        if (!ok) return ok;
    }
    if (auto ok = memory.add_mmio("pci_memory", Spa(windows.low.base), low_size, bus_->low_memory()); !ok) return ok;
    return memory.add_mmio("pci_memory_high", Spa(windows.high.base), windows.high.size, bus_->high_memory());
}

AcpiPci PciBoard::acpi() const {
    const auto range = [](const PciBus::Range& from) { return AcpiPci::Range{from.base, from.size}; };
    AcpiPci info;
    info.ecam = {ecam_base(), board::kPciBuses * PciBus::kEcamBytesPerBus};
    info.low_memory = range(bus_->windows().low);
    info.high_memory = range(bus_->windows().high);
    info.ports = range(bus_->windows().ports);
    for (u32 device = 0; device < info.gsi.size(); ++device) {
        for (u8 pin = 0; pin < 4; ++pin) {
            const u32 input = bus_->input_of(device, static_cast<u8>(pin + 1));
            info.gsi[device][pin] = board::kPciFirstGsi + input;
            // As SeaBIOS and OVMF route PIRQA..D, and E..H.
            constexpr std::array<u32, 4> kFirmwareRoutes = {10, 10, 11, 11};
            if (firmware()) info.isa[device][pin] = kFirmwareRoutes[input % 4];
        }
    }
    return info;
}

void PciBoard::leave_as_firmware() {
    u64 memory = bus_->windows().low.base, ports = bus_->windows().ports.base;
    for (const auto& [rid, function] : bus_->functions()) {
        for (u32 i = 0; i < pci::kBarCount; ++i) {
            const u32 at = pci::kBar0 + i * 4;
            function->config_write(at, 4, ~u32{0});
            const u32 mask = function->config_read(at, 4);
            if (mask == 0) continue;
            const bool io = (mask & pci::kBarIo) != 0, wide = !io && (mask & pci::kBarMemory64) != 0;
            const u64 size = (~(mask & (io ? ~u32{3} : ~u32{15})) & 0xffffffff) + u64{1};  // all are below 4 GiB here
            u64& next = io ? ports : memory;
            next = align_up(next, size);
            function->config_write(at, 4, static_cast<u32>(next));
            if (wide) function->config_write(pci::kBar0 + ++i * 4, 4, static_cast<u32>(next >> 32));
            next += size;
        }
        if (const u8 pin = static_cast<u8>(function->config_read(pci::kInterruptPin, 1)); pin != 0) {
            function->config_write(pci::kInterruptLine, 1, board::kPciFirstGsi + bus_->input_of(rid.device(), pin));
        }
        function->config_write(pci::kCommand, 2, pci::kIoSpace | pci::kMemorySpace);
    }
    VG_ASSERT(memory <= board::kDisplayMemoryBase && ports <= bus_->windows().ports.base + bus_->windows().ports.size);
    if (display_ == nullptr) return;
    constexpr u32 kMemoryBar = pci::kBar0 + devices::Display::kMemoryBar * 4;
    display_->pci()->config_write(kMemoryBar, 4, static_cast<u32>(board::kDisplayMemoryBase));
    display_->set_mode(kFirmwareWidth, kFirmwareHeight);
}

std::optional<FrameBuffer> PciBoard::frame_buffer() const {
    if (display_ == nullptr) return std::nullopt;
    const devices::Display::Mode mode = display_->mode();
    return FrameBuffer{board::kDisplayMemoryBase, devices::Display::kMemoryBytes, static_cast<u16>(mode.width),
                       static_cast<u16>(mode.height), static_cast<u16>(mode.stride_bytes)};
}

void PciBoard::fields(StateVisitor& v) {
    {
        VisitScope scope(v, bus_->name());
        bus_->fields(v);
    }
    for (const auto& device : devices_) {
        VisitScope scope(v, device->name());
        device->fields(v);
    }
}

}  // namespace vg::machine
