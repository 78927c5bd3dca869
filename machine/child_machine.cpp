#include "machine/child_machine.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/state.h"
#include "devices/net/host_forward.h"
#include "devices/storage/block_device.h"
#include "hv/parent/network_adapter.h"
#include "hv/vp.h"
#include "machine/acpi_tables.h"
#include "machine/disk_image.h"
#include "machine/efi_tables.h"
#include "machine/exit_port.h"
#include "machine/layout.h"
#include "machine/loader.h"

namespace vg::machine {

ChildMachine::~ChildMachine() = default;

Result<std::unique_ptr<ChildMachine>> ChildMachine::create(const Config& config, const ChildSection& section,
                                                           hv::Hypervisor& hypervisor, Spa ram, Spa video,
                                                           u64 start_unix_seconds, Events handlers) {
    auto model = cpu::CpuModel::create(section.cpu.empty() ? config.machine.cpu : section.cpu);
    if (!model)
        return Unexpected{
            model.error().in(section.cpu.empty() ? config.machine.at.text("cpu") : section.at.text("cpu"))};
    std::unique_ptr<ChildMachine> child(new ChildMachine(section, std::move(*model), hypervisor));
    if (auto ok = child->build(ram, video, start_unix_seconds, std::move(handlers)); !ok) return Unexpected{ok.error()};
    if (config.restoring) {
        child->kernel_kind_ = "restored";
        return child;
    }
    if (auto ok = child->load(); !ok) return Unexpected{ok.error()};
    return child;
}

Result<void> ChildMachine::build(Spa ram, Spa video, u64 start_unix_seconds, Events handlers) {
    hv::parent::ParentEvents parent_events;
    parent_events.power_off = [this, off = handlers.shutdown] {
        const cpu::VpState& s = partition_->vps().front()->processor().state();
        off(fmt::format("triple fault; last instruction at 0x{:x}", s.rip));
    };
    parent_events.reset = [reset = handlers.reset] { reset("the guest asked for a reset"); };
    parent_events.crashed = [crashed = handlers.crashed](const hv::CrashReport& report) {
        crashed(fmt::format("the guest reported a crash: P0 0x{:x} P1 0x{:x} P2 0x{:x} P3 0x{:x} P4 0x{:x}{}{}",
                            report.p[0], report.p[1], report.p[2], report.p[3], report.p[4],
                            report.message.empty() ? "" : "\n", report.message));
    };
    parent_ = std::make_unique<hv::parent::BuiltInParent>(section_.name, hypervisor_.events(), hypervisor_.log(), io_,
                                                          std::move(parent_events));
    hv::PartitionConfig partition_config =
        section_.enlightenments == "full" ? hv::full_partition_config() : hv::PartitionConfig{};
    partition_config.name = section_.name;
    partition_config.max_vps = section_.processors;
    partition_ = &hypervisor_.create_partition(std::move(partition_config), *parent_);
    parent_->attach(*partition_);

    ChipsetEvents chipset_events;
    chipset_events.console = handlers.console;
    chipset_events.power_off = [off = handlers.powered_off] { off("the guest powered off"); };
    chipset_events.reset = [reset = handlers.reset] { reset("the guest asked for a reset"); };
    chipset_ = std::make_unique<Chipset>(hypervisor_.events(), io_, partition_->apic_bus(), start_unix_seconds,
                                         std::move(chipset_events));
    parent_->add_mmio(Gpa(board::kIoApicBase), devices::Ioapic::kSize, chipset_->ioapic());

    const RamLayout layout(section_.memory.bytes);
    if (auto ok = partition_->map_memory(Gpa(0), ram, layout.low, {}); !ok) return ok;
    if (layout.high != 0) {
        if (auto ok = partition_->map_memory(Gpa(kFourGiB), ram + layout.low, layout.high, {}); !ok) return ok;
    }
    for (u32 i = 0; i < section_.processors; ++i) partition_->create_vp(model_, i);
    services_ = std::make_unique<ChildServices>(
        ChildServices::Board{section_.name, hypervisor_.events(), *partition_, *parent_, hypervisor_.memory(), ram,
                             section_.memory.bytes, section_.memory_limit(), video, start_unix_seconds},
        section_.devices);
    if (auto ok = add_test_devices(std::move(handlers.debug_exit)); !ok) return ok;
    return check_disks();
}

Result<void> ChildMachine::add_test_devices(std::function<void(u32 raw)> debug_exit) {
    if (section_.devices.hyperv_testdev) {
        test_device_ = std::make_unique<hv::parent::TestDevice>(*partition_);
        io_.map("hyperv_testdev", hv::parent::TestDevice::kPort, hv::parent::TestDevice::kPortCount, *test_device_);
    }
    auto exit = add_exit_port(io_, section_.devices.at, section_.devices.isa_debug_exit, std::move(debug_exit));
    if (!exit) return Unexpected{exit.error()};
    debug_exit_ = std::move(*exit);
    return {};
}

Result<void> ChildMachine::check_disks() const {
    for (const DiskSection& disk : section_.disks) {
        if (auto ok = check_disk_image(disk); !ok) return ok;
    }
    return {};
}

Result<void> ChildMachine::attach_disks() {
    const auto units = place_disks(section_);
    if (!units) return Unexpected{units.error()};
    std::vector<hv::parent::StorageController*> controllers;
    for (std::size_t i = 0; i < section_.disks.size(); ++i) {
        const DiskSection& disk = section_.disks[i];
        while (controllers.size() <= disk.controller) {
            const auto number = static_cast<u32>(controllers.size());
            controllers.push_back(&parent_->add_storage_controller(fmt::format("{}.scsi{}", section_.name, number),
                                                                   storage_instance(number),
                                                                   static_cast<u16>(section_.processors - 1)));
        }
        auto device = open_disk_image(disk, {hypervisor_.log(), partition_->id(), static_cast<u32>(i)});
        if (!device) return Unexpected{device.error()};
        disks_.push_back(device->get());
        auto attached = controllers[disk.controller]->attach(0, static_cast<u8>(disk.target),
                                                             static_cast<u8>((*units)[i]), std::move(*device));
        if (!attached) return Unexpected{attached.error().in(disk.at.text())};
    }
    return {};
}

Result<void> ChildMachine::attach_nics(Network& network, u64 start_unix_seconds) {
    const u32 queues = std::min(section_.processors, hv::vsp::Network::kMaxQueues);
    for (u32 i = 0; i < section_.nics.size(); ++i) {
        const NicSection& nic = section_.nics[i];
        devices::MacAddress address{0x52, 0x54, 0x00, 0x76, 0x67, static_cast<u8>(network.size())};
        if (const auto given = devices::parse_mac_address(nic.mac); given) address = *given;
        hv::vmbus::Offer offer;
        offer.name = fmt::format("{}.net{}", section_.name, i);
        offer.type = hv::kNetworkClass;
        offer.instance = network_instance(i);
        offer.flags = hv::vmbus::kOfferEnumerate;
        auto adapter = std::make_unique<hv::parent::NetworkAdapter>(
            offer.name, address, hypervisor_.events(), static_cast<u16>(queues - 1));
        if (auto ok = network.connect(*adapter, nic, start_unix_seconds); !ok) return ok;
        adapters_.push_back(adapter.get());
        parent_->add_device(std::move(offer), std::move(adapter));
    }
    return {};
}

Result<void> ChildMachine::attach_services() {
    services_->offer();
    if (!section_.devices.sockets) return {};
    auto sockets = HostSockets::create(parent_->add_sockets(section_.name + ".sockets"), section_.devices.socket_path);
    if (!sockets) return Unexpected{sockets.error().in(section_.devices.at.text("socket_path"))};
    host_sockets_ = std::move(*sockets);
    return {};
}

Result<void> ChildMachine::load() {
    const RamLayout layout(section_.memory.bytes);
    AcpiOptions acpi;
    for (u32 i = 0; i < section_.processors; ++i) acpi.apic_ids.push_back(i);
    acpi.memory_top = RamLayout(section_.memory_limit()).top();
    acpi.vmbus = true;
    if (!section_.acpi_dsdt.empty()) {
        auto dsdt = read_file(section_.acpi_dsdt, board::kAcpiSize);
        if (!dsdt) return Unexpected{dsdt.error()};
        acpi.dsdt = std::move(*dsdt);
        acpi.dsdt_name = section_.acpi_dsdt;
    }
    auto tables = build_acpi(acpi);
    if (!tables) return Unexpected{tables.error()};
    for (const AcpiTable& table : *tables) {
        if (!write(table.address, table.content)) VG_UNREACHABLE();  // low memory is always RAM
    }
    LoadRequest request{section_.kernel,     section_.initrd,         section_.cmdline,
                        layout.map(),        tables->front().address, {},
                        section_.kernel_name};
    // Linux's drivers of synthetic video take a partition without firmware for one of generation 1.
    constexpr u64 kEfiTables = board::kAcpiBase + board::kAcpiSize - kEfiTablesSize;
    const auto free = [](const AcpiTable& table) { return table.address.value + table.content.size() <= kEfiTables; };
    if (section_.devices.video && std::all_of(tables->begin(), tables->end(), free))
        request.efi = write_efi_tables(*this, kEfiTables, request.rsdp, request.memory_map);
    auto entry = load_kernel(*this, request);
    if (!entry) return Unexpected{entry.error()};
    kernel_kind_ = entry->kind;
    if (!enter(*this, partition_->vps().front()->processor(), *entry)) VG_UNREACHABLE();
    return {};
}

Result<void> ChildMachine::flush_disks() {
    Result<void> first;
    for (devices::BlockDevice* disk : disks_) {
        if (disk->read_only()) continue;
        if (auto ok = disk->settle(); !ok && first) first = ok;
    }
    return first;
}

void ChildMachine::fields(StateVisitor& v) {
    chipset_->fields(v);
    {
        VisitScope scope(v, "parent");
        parent_->fields(v);
    }
    for (devices::Device* device : std::initializer_list<devices::Device*>{test_device_.get(), debug_exit_.get()}) {
        if (device == nullptr) continue;
        VisitScope scope(v, device->name());
        device->fields(v);
    }
    if (section_.devices.none()) return;  // as it was saved before there were any
    VisitScope scope(v, "services");
    services_->fields(v);
}

}  // namespace vg::machine
