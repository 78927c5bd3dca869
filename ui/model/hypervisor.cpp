#include "ui/model/hypervisor.h"

#include <fmt/format.h>

#include <string_view>

#include "base/bits.h"
#include "hv/hypervisor.h"
#include "hv/spec/synic.h"
#include "hv/synic.h"
#include "hv/vp.h"
#include "hv/vp_control.h"
#include "iommu/spec/registers.h"
#include "machine/pc_machine.h"
#include "machine/root_devices.h"
#include "mmu/spec/ept.h"

namespace vg::model {
namespace {

using Property = hv::PartitionProperty;

constexpr std::pair<Property, std::string_view> kPropertyNames[] = {
    {Property::PrivilegeFlags, "PrivilegeFlags"},
    {Property::SyntheticProcessorFeatures, "SyntheticProcessorFeatures"},
    {Property::Suspend, "Suspend"},
    {Property::CpuReserve, "CpuReserve"},
    {Property::CpuCap, "CpuCap"},
    {Property::CpuWeight, "CpuWeight"},
    {Property::CpuGroup, "CpuGroup"},
    {Property::TimeFreeze, "TimeFreeze"},
    {Property::DebugChannel, "DebugChannel"},
    {Property::VirtualTlbPages, "VirtualTlbPages"},
    {Property::VsmConfig, "VsmConfig"},
    {Property::ZeroMemoryOnReset, "ZeroMemoryOnReset"},
    {Property::ProcessorsPerSocket, "ProcessorsPerSocket"},
    {Property::NestedTlbSize, "NestedTlbSize"},
    {Property::PageAccessTracking, "PageAccessTracking"},
    {Property::UnimplementedMsrAction, "UnimplementedMsrAction"},
    {Property::GuestOsId, "GuestOsId"},
};

std::string name_of(Property property) {
    for (const auto& [each, name] : kPropertyNames)
        if (each == property) return std::string(name);
    return fmt::format("property_{:x}", static_cast<u32>(property));
}

std::vector<std::pair<std::string, u64>> properties_of(const hv::PartitionNode& node) {
    std::map<Property, u64> values = node.properties;
    values[Property::PrivilegeFlags] = node.config.privileges;
    if (const hv::Partition* partition = node.partition.get()) {
        values[Property::PrivilegeFlags] = partition->config().privileges;
        values[Property::GuestOsId] = partition->guest_os_id;
        values[Property::Suspend] = partition->policy().suspended ? 1 : 0;
        values[Property::TimeFreeze] = partition->policy().time_frozen ? 1 : 0;
        values[Property::UnimplementedMsrAction] = partition->policy().ignore_unknown_msrs ? 1 : 0;
    }
    std::vector<std::pair<std::string, u64>> named;
    for (const auto& [property, value] : values) named.emplace_back(name_of(property), value);
    return named;
}

std::string state_of(hv::PartitionState state) {
    switch (state) {
        case hv::PartitionState::Created:
            return "created";
        case hv::PartitionState::Initialized:
            return "initialized";
        case hv::PartitionState::Finalized:
            return "finalized";
    }
    return "?";
}

std::string state_of(hv::Vp& vp) {
    const hv::VpControl& control = vp.control();
    std::string why;
    const auto add = [&why](bool on, const char* what) {
        if (on) why += (why.empty() ? "" : ", ") + std::string(what);
    };
    add(control.explicit_suspend(), "explicit");
    add(control.intercept_suspend(), "intercept");
    add(control.dispatch_suspend(), "not dispatched");
    add(vp.partition().policy().suspended, "partition");
    if (!why.empty()) return "suspended (" + why + ")";
    if (vp.dispatching() != nullptr) return "runs a child's VP";
    switch (vp.processor().activity()) {
        case cpu::Activity::Active:
            return "runs";
        case cpu::Activity::Halted:
            return "halted";
        case cpu::Activity::Idle:
            return "idle";
        case cpu::Activity::Shutdown:
            return "shut down";
        case cpu::Activity::WaitForSipi:
            return "waits for a start-up";
    }
    return "?";
}

std::vector<PendingMessage> pending_of(hv::Vp& vp, mmu::PhysicalMemory& memory) {
    std::vector<PendingMessage> list;
    for (u8 sint = 0; sint < hv::kSintCount; ++sint) {
        const hv::Synic& synic = vp.synic();
        const Spa slot = synic.message_page() + sint * u64{hv::kMessageSlotSize};
        const auto header = memory.read<hv::MessageHeader>(slot);
        if (header.type != hv::kMessageTypeNone) list.push_back({sint, header.type, header.origin, true});
        for (const hv::Synic::Message& message : synic.waiting(sint))
            list.push_back({sint, message.type, message.origin, false});
    }
    return list;
}

std::string target_text(const hv::PortTarget& target, hv::PortType type) {
    std::string text = fmt::format("SINT {} of VP {}", target.sint, target.vp_index);
    if (type == hv::PortType::Event)
        text += fmt::format(", flags {}..{}", target.base_flag, target.base_flag + target.flag_count);
    return text;
}

std::string_view kind_text(hv::PortType type) {
    switch (type) {
        case hv::PortType::Message:
            return "message";
        case hv::PortType::Event:
            return "event";
        case hv::PortType::Monitor:
            return "monitor";
        case hv::PortType::Doorbell:
            return "doorbell";
    }
    return "?";
}

std::string guest_port_text(const hv::GuestPort& port) {
    return fmt::format("port {} of partition {}, SINT {} of VP {}", port.port_id, port.partition->id(), port.sint,
                       port.vp_index);
}

std::vector<std::pair<u32, std::string>> connections_of(hv::Partition& partition) {
    std::vector<std::pair<u32, std::string>> list;
    for (const auto& [id, port] : partition.connections().all()) {
        const auto* guest = std::get_if<hv::GuestPort>(&port.target);
        list.emplace_back(id, fmt::format("{} to {}", port.kind == hv::PortKind::Message ? "message" : "event",
                                          guest == nullptr ? "the built-in parent" : guest_port_text(*guest)));
    }
    for (const auto& [id, doorbell] : partition.connections().doorbells()) {
        list.emplace_back(
            id, fmt::format("doorbell at GPA 0x{:x} to {}", doorbell.gpa.value, guest_port_text(doorbell.port)));
    }
    return list;
}

PartitionView view_of(machine::Machine& machine, hv::PartitionNode& node) {
    PartitionView view;
    view.id = node.id;
    if (node.parent != nullptr) view.parent = node.parent->id;
    for (const auto& other : machine.hypervisor()->nodes())
        if (other->parent == &node) view.children.push_back(other->id);
    view.name = node.config.name;
    view.state = state_of(node.state);
    view.deposited_available = node.pool.available();
    view.deposited_in_use = node.pool.in_use();
    view.properties = properties_of(node);
    for (const auto& [id, port] : node.ports) {
        view.ports.emplace_back(id, fmt::format("{} from partition {} to {}", kind_text(port.type),
                                                port.connection_partition, target_text(port.target, port.type)));
    }
    if (hv::Partition* partition = node.partition.get()) {
        view.table_pages = partition->table_pages();
        view.connections = connections_of(*partition);
        for (const auto& vp : partition->vps()) {
            view.vps.push_back(
                {vp->index(), state_of(*vp), vp->processor().state().rip, pending_of(*vp, machine.memory())});
        }
    }
    return view;
}

/// Levels are counted as the tables are: 4 is the one that EPTP points to.
std::string meaning_of(u64 entry, unsigned level) {
    using namespace mmu::ept;
    if ((entry & (kRead | kWrite | kExecute)) == 0) return "not present";
    const bool leaf = level == 1 || (entry & kLarge) != 0;
    static constexpr std::string_view kSizes[] = {"", "4 KiB", "2 MiB", "1 GiB"};
    return fmt::format("{}{}{} {} 0x{:x}", (entry & kRead) != 0 ? 'r' : '-', (entry & kWrite) != 0 ? 'w' : '-',
                       (entry & kExecute) != 0 ? 'x' : '-', leaf && level < 4 ? kSizes[level] : "table",
                       entry & low_mask(52) & ~kPageMask);
}

}  // namespace

std::vector<PartitionView> partitions(machine::Machine& machine) {
    std::vector<PartitionView> list;
    if (machine.hypervisor() == nullptr) return list;
    for (const auto& node : machine.hypervisor()->nodes()) list.push_back(view_of(machine, *node));
    return list;
}

std::optional<WalkView> walk(machine::Machine& machine, u64 partition_id, Gpa gpa) {
    hv::Hypervisor* hypervisor = machine.hypervisor();
    const hv::Partition* partition = hypervisor == nullptr ? nullptr : hypervisor->find(partition_id);
    if (partition == nullptr || (gpa.value >> 48) != 0) return std::nullopt;
    using namespace mmu::ept;
    WalkView view;
    u64 table = partition->slat().root & low_mask(52) & ~kPageMask;
    view.permissions = {true, true, true};
    for (unsigned level = 4; level > 0; --level) {
        const unsigned shift = 12 + 9 * (level - 1);
        WalkStep step{level, Spa(table + ((gpa.value >> shift) & 511) * 8), 0, {}};
        if (machine.memory().readable(step.place) == nullptr) break;  // a table outside RAM: nothing of ours
        step.entry = machine.memory().read<u64>(step.place);
        step.meaning = meaning_of(step.entry, level);
        view.steps.push_back(step);
        view.permissions = {view.permissions.read && (step.entry & kRead) != 0,
                            view.permissions.write && (step.entry & kWrite) != 0,
                            view.permissions.execute && (step.entry & kExecute) != 0};
        if ((step.entry & (kRead | kWrite | kExecute)) == 0) break;
        table = step.entry & low_mask(52) & ~kPageMask;
        if (level > 1 && (step.entry & kLarge) == 0) continue;
        view.spa = Spa((table & ~low_mask(shift)) | (gpa.value & low_mask(shift)));
        break;
    }
    view.in_space = partition->contains(gpa);
    if (const auto backing = partition->backing(gpa)) view.overlay = backing->overlay;
    if (view.spa) {
        view.deposited = hypervisor->ledger().deposited(view.spa->page_base());
        view.mappings = hypervisor->ledger().mappings(view.spa->page_base());
    }
    return view;
}

std::optional<IommuView> iommu(machine::Machine& machine) {
    machine::PcMachine* pc = machine.pc();
    if (pc == nullptr || pc->iommu() == nullptr) return std::nullopt;
    iommu::Vtd& unit = *pc->iommu();
    const machine::RootDevices* owner = pc->root_devices();
    IommuView view;
    view.owner = owner != nullptr ? "hypervisor" : "guest";
    const u64 status = unit.mmio_read(iommu::reg::kGlobalStatus, 4);  // reading it has no effect
    view.translating = (status & iommu::reg::global::kTranslation) != 0;
    view.remapping = (status & iommu::reg::global::kInterruptRemapping) != 0;
    for (const auto& [rid, function] : pc->pci().bus().functions()) {
        DeviceView device{rid.value, {}, {}, 0};
        const iommu::ContextInfo info = unit.peek_context(rid.value);
        if (!view.translating) {
            device.reach = "all of memory: not translated";
        } else if (info.reason != iommu::FaultReason::None) {
            device.reach = fmt::format("nothing: {}", iommu::to_string(info.reason));
        } else {
            device.domain = info.domain;
            device.reach = info.pass_through ? fmt::format("domain {} passes through", info.domain)
                                             : fmt::format("domain {} by {} levels at 0x{:x}", info.domain, info.levels,
                                                           info.table.value);
        }
        if (owner != nullptr && owner->faults().contains(rid.value)) device.faults = owner->faults().at(rid.value);
        view.devices.push_back(std::move(device));
    }
    view.lost_faults = owner != nullptr ? owner->lost_faults() : 0;
    const iommu::History& history = unit.history();
    view.faults = history.faults.total();
    view.transfers = history.transfers.total();
    for (u32 i = 0; i < history.faults.size(); ++i) view.last_faults.push_back(iommu::describe(history.faults[i]));
    for (u32 i = 0; i < history.transfers.size(); ++i)
        view.last_transfers.push_back(iommu::describe(history.transfers[i]));
    return view;
}

}  // namespace vg::model
