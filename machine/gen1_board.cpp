#include "machine/gen1_board.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"
#include "base/state.h"

namespace vg::machine {

namespace {

using devices::Vga;
namespace pci = devices::pci;

constexpr u32 kIsaDevice = 7, kIdeFunction = 1, kPowerFunction = 3, kVideoDevice = 8;
constexpr u32 kPciInputs = 4;
constexpr u64 kMiB = u64{1} << 20, kGiB = u64{1} << 30;
/// Firmware is in memory from here on, up to 1 MiB: a board that has no shadow to switch on has it copied there.
constexpr u64 kBaseMemory = 0xa0000, kUpperMemory = 0xc0000;

/// Drivers of the disks that VMBus has too look for these names and leave the emulated ones alone (Linux, ata_piix).
constexpr SystemNames kNames = {"Microsoft Corporation", "Virtual Machine", "7.0"};
/// SMBIOS of a partition that starts with a kernel: at the end of the ACPI tables' place, where systems look for it.
constexpr u64 kSmbiosBase = board::kAcpiBase + board::kAcpiSize - 0x2000, kSmbiosSize = 0x2000, kSmbiosAnchor = 0x20;

std::vector<devices::IrqLine*> pci_inputs(Chipset& chipset) {
    std::vector<devices::IrqLine*> inputs;
    for (u32 i = 0; i < kPciInputs; ++i) inputs.push_back(&chipset.ioapic().line(board::kPciFirstGsi + i));
    return inputs;
}

/// The firmware of a partition with the words of the machine's own.
Result<Firmware> load_child_firmware(const ChildSection& section) {
    Config own;
    own.boot.emplace();
    own.boot->firmware = section.firmware;
    own.boot->video_bios = section.video_bios;
    own.boot->at = section.at;
    own.devices.display = section.devices.video;
    auto firmware = load_firmware(own);
    if (firmware && firmware->uefi)
        return fail(Error::Code::Usage,
                    fmt::format("{}: \"{}\" is UEFI firmware; a partition of generation 1 has a BIOS: use \"seabios\"",
                                section.at.text("firmware"), section.firmware));
    return firmware;
}

}  // namespace

Gen1Board::Gen1Board(const ChildSection& section, const Environment& environment)
    : section_(section),
      environment_(environment),
      layout_(section.memory.bytes),
      memory_(environment.memory, environment.partition.slat()),
      video_memory_(environment.memory),
      upstream_(memory_, environment.chipset.messages()),
      legacy_(environment.events, environment.io, environment.chipset, environment.reset, false),
      input_(environment.events, legacy_.keyboard()),
      bus_(std::make_unique<devices::PciBus>(upstream_, windows(), pci_inputs(environment.chipset))),
      host_(bus_->slot(0), !section.firmware.empty()),
      isa_(bus_->slot(kIsaDevice)),
      ide_(bus_->slot(kIsaDevice, kIdeFunction), environment.events,
           {&environment.chipset.isa_line(devices::ide::kIrq[0]), &environment.chipset.isa_line(devices::ide::kIrq[1])}),
      power_(bus_->slot(kIsaDevice, kPowerFunction), pm_base(section)),
      debug_console_(environment.log) {
    for (devices::Device* device : std::initializer_list<devices::Device*>{&host_, &isa_, &ide_, &power_})
        bus_->attach(*device->pci());
    ide_.map_ports(environment.io);
}

Result<std::unique_ptr<Gen1Board>> Gen1Board::create(const ChildSection& section, const Environment& environment) {
    std::unique_ptr<Gen1Board> board(new Gen1Board(section, environment));
    if (auto ok = board->build(); !ok) return Unexpected{ok.error()};
    return board;
}

Result<void> Gen1Board::build() {
    if (auto ok = map_memory(); !ok) return ok;
    if (section_.devices.video) add_video();
    map_windows();
    environment_.parent.set_board(*this);
    return section_.firmware.empty() ? Result<void>{} : add_firmware();
}

/// Everything but the video's window below 1 MiB.
Result<void> Gen1Board::map_memory() {
    hv::Partition& partition = environment_.partition;
    if (auto ok = partition.map_memory(Gpa(0), environment_.ram, kBaseMemory, {}); !ok) return ok;
    auto ok = partition.map_memory(Gpa(kUpperMemory), environment_.ram + kUpperMemory, layout_.low - kUpperMemory, {});
    if (!ok || layout_.high == 0) return ok;
    return partition.map_memory(Gpa(kFourGiB), environment_.ram + layout_.low, layout_.high, {});
}

/// The image ends at 4 GiB, and cannot be written there.
Result<void> Gen1Board::add_firmware() {
    auto firmware = load_child_firmware(section_);
    if (!firmware) return Unexpected{firmware.error()};
    firmware_ = std::move(*firmware);
    const u64 size = firmware_->image.size();
    if (auto ok = environment_.memory.add_rom(section_.name + ".firmware", environment_.firmware, firmware_->image); !ok)
        return ok;
    environment_.io.map("fw_cfg", devices::FwCfg::kPort, devices::FwCfg::kDmaPortCount, fw_cfg_);
    environment_.io.map("firmware_debug", devices::DebugConsole::kPort, 1, debug_console_);
    return environment_.partition.map_memory(Gpa(kFourGiB - size), environment_.firmware, size,
                                             {.read = true, .write = false, .execute = true});
}

void Gen1Board::add_video() {
    vga_ = std::make_unique<Vga>(
        bus_->slot(kVideoDevice), environment_.events, video_memory_,
        [this](std::optional<u64> bar) { return follow_video(bar); }, Vga::kPartition);
    bus_->attach(*vga_->pci());
    environment_.io.map("vga", devices::vga::kFirstPort, devices::vga::kPortCount, vga_->vga_ports());
    environment_.io.map("vga_dispi", devices::dispi::kIndexPort, 3, vga_->dispi_ports());
    environment_.parent.add_mmio(Gpa(Vga::kWindowBase), Vga::kWindowSize, vga_->window());
}

Iova Gen1Board::follow_video(std::optional<u64> bar) {
    const devices::PciBus::Range& low = bus_->windows().low;
    if (bar && (*bar < low.base || !fits(*bar - low.base, kVideoBytes, low.size))) bar.reset();
    if (bar != video_at_) {
        hv::Partition& partition = environment_.partition;
        // A space without room for its tables shows nothing there: what is behind is the bus, which reaches the memory too.
        if (video_at_ && !partition.unmap_memory(Gpa(*video_at_), kVideoBytes))
            environment_.log.warn(Area::Devices, "{}: the video's memory stays at {:#x}", section_.name, *video_at_);
        video_at_ = bar;
        show_video();
    }
    return Iova(environment_.video.value);
}

void Gen1Board::show_video() {
    if (video_at_ && !environment_.partition.map_memory(Gpa(*video_at_), environment_.video, kVideoBytes, {}))
        environment_.log.warn(Area::Devices, "{}: the video's memory cannot be at {:#x}", section_.name, *video_at_);
}

devices::PciBus::Windows Gen1Board::windows() const {
    devices::PciBus::Windows windows;
    windows.low = {board::kLowGapBase, board::kLowMmioSize};
    windows.high = {align_up(RamLayout(section_.memory_limit()).top(), kGiB), board::kHighMmioSize};
    windows.ports = {board::kFirmwarePciPortBase, board::kFirmwarePciPortCount};
    return windows;
}

void Gen1Board::map_windows() {
    environment_.chipset.connect_pci(bus_->config_address());
    environment_.io.map("pci_config_data", pci::kConfigDataPort, 4, bus_->config_data());
    const devices::PciBus::Windows& windows = bus_->windows();
    environment_.io.map("pci_ports", static_cast<u16>(windows.ports.base), static_cast<u32>(windows.ports.size), bus_->ports());
    environment_.parent.add_mmio(Gpa(windows.low.base), windows.low.size, bus_->low_memory());
}

void Gen1Board::describe(AcpiOptions& options) const {
    const devices::PciBus::Windows& windows = bus_->windows();
    AcpiPci info;
    info.low_memory = {windows.low.base, windows.low.size};
    info.high_memory = {windows.high.base, windows.high.size};
    info.ports = {windows.ports.base, windows.ports.size};
    info.legacy_ports = true;
    for (u32 device = 0; device < info.gsi.size(); ++device)
        for (u8 pin = 0; pin < 4; ++pin)
            info.gsi[device][pin] = board::kPciFirstGsi + bus_->input_of(device, static_cast<u8>(pin + 1));
    options.pci = info;
    options.has_pic = true;
    options.vga = vga_ != nullptr;
    options.pm_base = pm_base(section_);
}

Smbios Gen1Board::smbios() const { return build_smbios(section_.memory.bytes, section_.processors, kNames); }

Result<void> Gen1Board::leave_as_firmware(GuestMemory& memory) {
    ide_.pci()->config_write(pci::kBar0 + devices::Ide::kMasterBar * 4, 4, board::kPciPortBase);
    ide_.pci()->config_write(pci::kCommand, 2, pci::kIoSpace);
    ide_.leave_as_firmware();
    if (vga_ != nullptr) {
        vga_->pci()->config_write(pci::kBar0 + Vga::kMemoryBar * 4, 4, static_cast<u32>(board::kLowGapBase));
        vga_->pci()->config_write(pci::kCommand, 2, pci::kIoSpace | pci::kMemorySpace);
    }
    legacy_.leave_as_firmware(environment_.io);
    Smbios names = smbios();
    place_tables(names, static_cast<u32>(kSmbiosBase + kSmbiosAnchor));
    if (kSmbiosAnchor + names.tables.size() > kSmbiosSize || names.anchor.size() > kSmbiosAnchor) VG_UNREACHABLE();
    if (!memory.write(Gpa(kSmbiosBase), names.anchor) || !memory.write(Gpa(kSmbiosBase + kSmbiosAnchor), names.tables))
        VG_UNREACHABLE();  // low memory is always RAM
    return {};
}

void Gen1Board::tell_firmware(GuestMemory& memory, const std::vector<AcpiTable>& tables, bool restoring) {
    fill_cmos(environment_.chipset.rtc(), layout_.low, layout_.high, section_.processors);
    fw_cfg_.set_number(devices::FwCfg::kRamSize, section_.memory.bytes, 8);
    fw_cfg_.set_number(devices::FwCfg::kCpuCount, section_.processors, 2);
    fw_cfg_.enable_dma(memory_);
    describe_board(fw_cfg_, {.memory_bytes = section_.memory.bytes,
                             .low_memory = layout_.low,
                             .high_memory = layout_.high,
                             .processors = section_.processors,
                             .display = vga_ != nullptr,
                             .boot_order = boot_order(),
                             .tables = tables,
                             .video_bios = firmware_->video_bios,
                             .display_vendor = Vga::kPartition.vendor,
                             .display_device = Vga::kPartition.device,
                             .names = kNames});
    if (restoring) return;
    const std::vector<u8>& image = firmware_->image;
    const u64 shown = std::min<u64>(image.size(), kMiB - kUpperMemory);
    if (!memory.write(Gpa(kMiB - shown), std::span(image).last(shown))) VG_UNREACHABLE();
}

std::vector<std::string> Gen1Board::boot_order() const {
    std::vector<std::string> paths;
    const auto disks = static_cast<u32>(std::ranges::count(section_.disks, "ide", &DiskSection::bus));
    for (u32 i = 0; i < disks; ++i)
        paths.push_back(fmt::format("/pci@i0cf8/ide@{:x},{:x}/drive@{:x}/disk@{:x}", kIsaDevice, kIdeFunction, i / 2, i % 2));
    return paths;
}

void Gen1Board::attach(std::unique_ptr<devices::BlockDevice> disk) {
    ide_.attach(ide_disks_ / 2, ide_disks_ % 2,
                std::make_unique<devices::AtaDisk>(std::move(disk), fmt::format("VGIDE{:05}", ide_disks_ + 1),
                                                   devices::AtaDisk::Transport::Parallel));
    ++ide_disks_;
}

void Gen1Board::fields(StateVisitor& v) {
    bool shown = video_at_.has_value();
    u64 at = video_at_.value_or(0);
    v("video_shown", shown);
    v("video_at", at);
    if (v.loading()) video_at_ = shown ? std::optional(at) : std::nullopt;  // the partition's space is loaded already
    std::vector<devices::Device*> all = {&legacy_.pic(),           &legacy_.pit(),  &legacy_.i8042(),
                                         &legacy_.system_control(), &legacy_.post(), &legacy_.coprocessor_error(),
                                         bus_.get(),                   &host_,          &isa_,
                                         &ide_,                     &power_,         vga_.get()};
    if (firmware_) all.push_back(&fw_cfg_);
    std::erase(all, nullptr);
    for (devices::Device* device : all) {
        VisitScope scope(v, device->name());
        device->fields(v);
    }
    VisitScope scope(v, "input");
    input_.fields(v);
}

}  // namespace vg::machine
