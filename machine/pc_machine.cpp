#include "machine/pc_machine.h"

#include <fmt/format.h>

#include "base/state.h"
#include "hv/vp.h"
#include "machine/acpi_tables.h"
#include "machine/exit_port.h"
#include "machine/layout.h"
#include "machine/loader.h"
#include "machine/root_devices.h"

namespace vg::machine {

Result<std::unique_ptr<PcMachine>> PcMachine::create(const Config& config, mmu::PhysicalMemory& memory,
                                                     EventQueue& events, Log& log, hv::Hypervisor* hypervisor,
                                                     Events handlers) {
    auto model = cpu::CpuModel::create(config.machine.cpu);
    if (!model) return Unexpected{model.error().in(config.machine.at.text("cpu"))};
    std::unique_ptr<PcMachine> pc(new PcMachine(memory, log, std::move(*model)));
    if (auto ok = pc->build(config, events, log, hypervisor, std::move(handlers)); !ok) {
        if (hypervisor != nullptr) hypervisor->set_device_guard(nullptr);  // it knows this board's unit
        return Unexpected{ok.error()};
    }
    return pc;
}

Result<void> PcMachine::build(const Config& config, EventQueue& events, Log& log, hv::Hypervisor* hypervisor,
                              Events handlers) {
    handlers_ = std::move(handlers);
    const u64 bytes = config.machine.memory.bytes;
    auto start = parse_clock(config.machine.clock);
    if (!start) return Unexpected{start.error()};
    if (!config.boot->firmware.empty()) {
        auto firmware = load_firmware(config);
        if (!firmware) return Unexpected{firmware.error()};
        firmware_ = std::move(*firmware);
        events_ = &events;
        restart_ = events.add("restart", [this](VTime) { restart(); });
        handlers_.chipset.reset = handlers_.shutdown = [this] { ask_restart(); };
    }
    const RamLayout layout(bytes, firmware_ ? board::kFirmwareEcamBase : board::kPciMemoryBase);
    if (auto ok = add_memory(config, layout); !ok) return ok;
    if (hypervisor != nullptr) make_root(config, *hypervisor);
    chipset_ = std::make_unique<Chipset>(events, io_, apics(), *start, handlers_.chipset,
                                         firmware_ ? board::kFirmwarePmBase : board::kPmBase);
    if (auto ok = memory_.add_mmio("ioapic", Spa(board::kIoApicBase), devices::Ioapic::kSize, chipset_->ioapic());
        !ok) {
        return ok;
    }
    if (config.has_iommu()) {
        if (auto ok = add_iommu(config, events, log); !ok) return ok;
    }
    legacy_ = std::make_unique<LegacyChips>(events, io_, *chipset_, handlers_.chipset.reset, firmware_.has_value());
    if (firmware_) input_ = std::make_unique<PcInput>(events, legacy_->keyboard());
    if (auto ok = add_hpet(events); !ok) return ok;
    // What the hypervisor keeps lies behind RAM.
    const u64 top = hypervisor != nullptr ? hypervisor->private_base().value + hypervisor->private_size() : layout.top();
    auto pci = PciBoard::create(
        config, {memory_, events, log, io_, *chipset_, top, iommu_.get(), handlers_.chipset.console, legacy_->pci_inputs()});
    if (!pci) return Unexpected{pci.error()};
    pci_ = std::move(*pci);
    if (iommu_ != nullptr && hypervisor != nullptr) {
        if (auto ok = guard_devices(*hypervisor); !ok) return ok;
    }
    if (auto ok = add_test_devices(config); !ok) return ok;

    if (root_ == nullptr) make_processors(config, events, log);
    legacy_->wire(*boot_);
    if (!firmware_) leave_as_firmware();
    pci_->trace_to(log);
    if (firmware_) {
        debug_console_ = std::make_unique<devices::DebugConsole>(log);
        io_.map("firmware_debug", devices::DebugConsole::kPort, 1, *debug_console_);
        if (auto ok = tell_firmware(config, layout); !ok) return ok;
    } else if (!config.restoring) {
        if (auto ok = load(config, layout, hypervisor); !ok) return ok;
    }
    if (auto ok = pci_->connect_nics(*start); !ok) return ok;
    if (auto ok = pci_->attach_disks(); !ok) return ok;
    const BootSection& boot = *config.boot;
    if (flash_store_ == nullptr || boot.firmware_vars.empty() || !boot.firmware_vars_kept || config.restoring) return {};
    return flash_store_->keep_in(boot.firmware_vars, firmware_->variables);
}

Result<void> PcMachine::add_memory(const Config& config, const RamLayout& layout) {
    if (firmware_) {
        if (auto ok = add_firmware_memory(config, layout); !ok) return ok;
    } else if (auto ok = memory_.add_ram("ram", Spa(0), layout.low); !ok) {
        return ok;
    }
    if (layout.high == 0) return {};
    return memory_.add_ram("ram-high", Spa(kFourGiB), layout.high);
}

/// The image ends at 4 GiB. Its last 128 KiB are seen below 1 MiB too, until the firmware shadows them.
Result<void> PcMachine::add_firmware_memory(const Config&, const RamLayout& layout) {
    namespace q35 = devices::q35;
    constexpr u64 kMiB = u64{1} << 20, kIsaBios = 128 << 10, kBaseMemory = 0xa0000;
    const std::vector<u8>& image = firmware_->image;
    std::vector<u8> below(q35::kPamSize, 0xff);
    const u64 shown = std::min<u64>(image.size(), kIsaBios);
    std::copy_n(image.end() - static_cast<std::ptrdiff_t>(shown), shown, below.end() - static_cast<std::ptrdiff_t>(shown));
    if (auto ok = memory_.add_ram("ram", Spa(0), kBaseMemory); !ok) return ok;
    if (auto ok = memory_.add_switched_ram("ram-shadow", Spa(q35::kPamBase), q35::kPamSize, below, nullptr); !ok) return ok;
    if (auto ok = memory_.add_ram("ram-low", Spa(kMiB), layout.low - kMiB); !ok) return ok;
    if (auto ok = memory_.add_rom("firmware", Spa(kFourGiB - image.size()), image); !ok) return ok;
    return firmware_->variables.empty() ? Result<void>{} : add_flash();
}

/// UEFI's variables, in front of its code.
Result<void> PcMachine::add_flash() {
    const std::vector<u8>& content = firmware_->variables;
    const Spa base(kFourGiB - firmware_->image.size() - content.size());
    flash_store_ = std::make_unique<FlashStore>(memory_, base, content.size());
    flash_ = std::make_unique<devices::CfiFlash>(content.size(), *flash_store_, [this, base](bool array) {
        memory_.switch_pages(base, firmware_->variables.size(), array, false);
    });
    if (auto ok = memory_.add_switched_ram("flash", base, content.size(), {}, flash_.get()); !ok) return ok;
    flash_store_->write(0, content);
    flash_->reset();
    return {};
}

AcpiOptions PcMachine::acpi_options(const Config& config, const RamLayout& layout) const {
    AcpiOptions acpi;
    for (u32 i = 0; i < config.machine.processors; ++i) acpi.apic_ids.push_back(i);
    acpi.pci = pci_->acpi();
    if (iommu_ != nullptr && root_ == nullptr) acpi.dmar.emplace();
    acpi.has_pic = true;
    acpi.hpet = true;
    acpi.memory_top = layout.top();
    if (firmware_) acpi.pm_base = board::kFirmwarePmBase;
    acpi.vga = pci_->vga() != nullptr;
    return acpi;
}

Result<void> PcMachine::tell_firmware(const Config& config, const RamLayout& layout) {
    fill_cmos(chipset_->rtc(), layout.low, layout.high, config.machine.processors);
    auto tables = build_acpi(acpi_options(config, layout));
    if (!tables) return Unexpected{tables.error()};
    fw_cfg_memory_ = std::make_unique<mmu::DirectDma>(memory_);
    fw_cfg_->enable_dma(*fw_cfg_memory_);
    describe_board(*fw_cfg_, {.memory_bytes = layout.low + layout.high,
                              .low_memory = layout.low,
                              .high_memory = layout.high,
                              .processors = config.machine.processors,
                              .display = pci_->vga() != nullptr,
                              .vmx = model_.has(cpu::CpuFlag::VMX),
                              .boot_order = pci_->boot_order(),
                              .tables = *tables,
                              .video_bios = firmware_->video_bios});
    return {};
}

Result<void> PcMachine::flush() {
    Result<void> first = pci_->flush_disks();
    if (flash_store_ != nullptr)
        if (auto ok = flash_store_->flush(); !ok && first) first = ok;
    return first;
}

std::size_t PcMachine::console_input(std::span<const u8> bytes) {
    devices::VirtioConsole* const console = pci_->console();
    return console != nullptr && console->in_use() ? console->receive(bytes) : chipset_->com1().receive(bytes);
}

void PcMachine::ask_restart() { events_->arm(restart_, events_->now()); }

/// Memory keeps its content, the clock runs on; everything else is as at power-on.
void PcMachine::restart() {
    pci_->reset();
    for (devices::Device* chip : chips()) chip->reset();
    chipset_->reset();
    input_->reset();
    for (const auto& vp : vps_) vp->reset();
}

Result<void> PcMachine::load(const Config& config, const RamLayout& layout, const hv::Hypervisor* hypervisor) {
    const AcpiOptions acpi = acpi_options(config, layout);
    auto tables = build_acpi(acpi);
    if (!tables) return Unexpected{tables.error()};
    for (const AcpiTable& table : *tables) {
        if (!write(table.address, table.content)) VG_UNREACHABLE();
    }
    auto map = layout.map();
    map.push_back({acpi.pci->ecam.base, acpi.pci->ecam.size, MemoryRange::kReserved});
    // what the hypervisor keeps is in the memory map, so that the root can map the pages it is told of.
    if (hypervisor != nullptr)
        map.push_back({hypervisor->private_base().value, hypervisor->private_size(), MemoryRange::kReserved});
    LoadRequest request{config.boot->kernel,     config.boot->initrd,  config.boot->cmdline,    std::move(map),
                        tables->front().address, pci_->frame_buffer(), config.boot->kernel_name};
    request.modules = config.boot->modules;
    auto entry = load_kernel(*this, request);
    if (!entry) return Unexpected{entry.error()};
    if (!enter(*this, *boot_, *entry)) VG_UNREACHABLE();
    return {};
}

void PcMachine::make_processors(const Config& config, EventQueue& events, Log& log) {
    for (u32 i = 0; i < config.machine.processors; ++i) {
        vps_.push_back(std::make_unique<cpu::Vp>(cpu::VpEnvironment{memory_, events, log, model_, apics_, *this},
                                                 fmt::format("vp{}", i), i, i));
        vps_.back()->reset();
    }
    boot_ = vps_.front().get();
}

void PcMachine::make_root(const Config& config, hv::Hypervisor& hypervisor) {
    cpu::Platform& board = *this;  // a private base
    root_sink_ = std::make_unique<RootSink>(board, handlers_.chipset.reset);
    hv::RootConfig root{
        hv::root_partition_config(), {}, config.hypervisor->root_scheduler, {handlers_.chipset.power_off}};
    for (u32 i = 0; i < config.machine.processors; ++i) root.apic_ids.push_back(i);
    root_ = &hypervisor.create_root(std::move(root), *root_sink_, model_);
    boot_ = &root_->vps().front()->processor();
}

/// The bare PC's kernel drives the unit itself. The root partition's does not see it: nothing is at its address.
Result<void> PcMachine::add_iommu(const Config& config, EventQueue& events, Log& log) {
    iommu_ = std::make_unique<iommu::Vtd>(memory_, events, log, chipset_->messages());
    if (root_ != nullptr) return {};
    chipset_->remap_ioapic(config.devices.ioapic_source_id ? iommu_->messages(board::kIoApicRid)
                                                          : iommu_->unidentified_messages());
    return memory_.add_mmio("iommu", Spa(board::kIommuBase), iommu::Vtd::kSize, *iommu_);
}

Result<void> PcMachine::guard_devices(hv::Hypervisor& hypervisor) {
    std::vector<u16> devices;
    for (const auto& [rid, function] : pci_->bus().functions()) devices.push_back(rid.value);
    auto guard = RootDevices::create(hypervisor, *iommu_, devices);
    if (!guard) return Unexpected{guard.error()};
    root_devices_ = guard->get();
    hypervisor.set_device_guard(std::move(*guard));
    return {};
}

Result<void> PcMachine::add_hpet(EventQueue& events) {
    devices::Hpet::Wiring wiring{chipset_->isa_line(0), chipset_->isa_line(board::kRtcIrq), {}, [this](bool replaced) {
                                     legacy_->cut_timer(replaced);
                                     chipset_->cut_rtc(replaced);
                                 }};
    for (const u32 irq : {10u, 11u}) wiring.routes[irq] = &chipset_->isa_line(irq);  // nobody else's
    hpet_ = std::make_unique<devices::Hpet>(events, std::move(wiring));
    return memory_.add_mmio("hpet", Spa(devices::Hpet::kBase), devices::Hpet::kSize, *hpet_);
}

void PcMachine::leave_as_firmware() {
    legacy_->leave_as_firmware(io_);
    // VMX may be used, and IA32_FEATURE_CONTROL is locked.
    constexpr u64 kLock = 1, kVmxOutsideSmx = 4;
    if (model_.has(cpu::CpuFlag::VMX))
        for (const auto& vp : vps_) vp->state().feature_control = kLock | kVmxOutsideSmx;
    pci_->leave_as_firmware();
}

Result<void> PcMachine::add_test_devices(const Config& config) {
    if (config.devices.fw_cfg || firmware_) {
        fw_cfg_ = std::make_unique<devices::FwCfg>();
        fw_cfg_->set_number(devices::FwCfg::kRamSize, config.machine.memory.bytes, 8);
        fw_cfg_->set_number(devices::FwCfg::kCpuCount, config.machine.processors, 2);
        io_.map("fw_cfg", devices::FwCfg::kPort,
                firmware_ ? devices::FwCfg::kDmaPortCount : devices::FwCfg::kPortCount, *fw_cfg_);
    }
    if (config.devices.testdev) {
        if (auto ok = add_test_device(); !ok) return ok;
    }
    auto exit = add_exit_port(io_, config.devices.at, config.devices.isa_debug_exit, handlers_.debug_exit);
    if (!exit) return Unexpected{exit.error()};
    debug_exit_ = std::move(*exit);
    return {};
}

Result<void> PcMachine::add_test_device() {
    std::vector<devices::IrqLine*> lines;
    for (u32 i = 0; i < chipset_->ioapic().pin_count(); ++i) {
        lines.push_back(i < 16 ? &chipset_->isa_line(i) : &chipset_->ioapic().line(i));
    }
    test_device_ = std::make_unique<devices::TestDevice>(std::move(lines), [this](u32 address) {
        for (const auto& vp : vps_) {
            vp->hold_off();
            vp->tlb().flush_page(address);
        }
        if (root_ == nullptr) return;
        for (const auto& vp : root_->vps()) vp->processor().tlb().flush_page(address);
    });
    io_.map("test_latch", devices::TestDevice::kLatchPort, devices::TestDevice::kLatchPortCount,
            test_device_->latch_ports());
    io_.map("test_lines", devices::TestDevice::kLinePort, test_device_->line_port_count(), test_device_->line_ports());
    return memory_.add_mmio("test_device", Spa(devices::TestDevice::kMmioBase), devices::TestDevice::kMmioSize,
                            *test_device_);
}

bool PcMachine::write(Gpa gpa, std::span<const u8> data) {
    const mmu::Region* region = memory_.find(Spa(gpa.value));
    if (region == nullptr || region->kind != mmu::RegionKind::Ram ||
        data.size() > region->size - (gpa.value - region->base.value)) {
        return false;
    }
    memory_.write(Spa(gpa.value), data.data(), data.size());
    return true;
}

bool PcMachine::read(Gpa gpa, std::span<u8> out) {
    memory_.read(Spa(gpa.value), out.data(), out.size());
    return true;
}

u32 PcMachine::port_read(cpu::Vp&, u16 port, unsigned size) { return io_.read(port, size); }
void PcMachine::port_write(cpu::Vp&, u16 port, unsigned size, u32 value) { io_.write(port, size, value); }

std::vector<devices::Device*> PcMachine::chips() {
    LegacyChips& old = *legacy_;
    std::vector<devices::Device*> all = {
        &old.pic(),  &old.pit(),   hpet_.get(),   &old.i8042(),       &old.system_control(), &old.post(), &old.coprocessor_error(),
        debug_exit_.get(), fw_cfg_.get(), test_device_.get(), iommu_.get(), flash_.get()};
    std::erase(all, nullptr);
    return all;
}

void PcMachine::fields(StateVisitor& v) {
    chipset_->fields(v);
    for (devices::Device* device : chips()) {
        VisitScope scope(v, device->name());
        device->fields(v);
    }
    legacy_->input_fields(v);
    if (input_ != nullptr) {
        VisitScope scope(v, "input");
        input_->fields(v);
    }
    pci_->fields(v);
    for (const auto& vp : vps_) {
        VisitScope scope(v, vp->name());
        vp->fields(v);
    }
}

}  // namespace vg::machine
