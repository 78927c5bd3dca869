#include "ui/model/inspect_hypervisor.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "ui/model/hypervisor.h"

namespace vg::model {
namespace {

constexpr std::string_view kWalk = "walk/";

std::string joined(const std::vector<u64>& values) { return fmt::format("{}", fmt::join(values, " ")); }

void show(const VpView& vp, StateVisitor& v) {
    VisitScope scope(v, fmt::format("vp{}", vp.index));
    v.note("state", vp.state);
    v.note("rip", fmt::format("0x{:x}", vp.rip));
    for (std::size_t i = 0; i < vp.messages.size(); ++i) {
        const PendingMessage& message = vp.messages[i];
        v.note(fmt::format("message{}", i),
               fmt::format("SINT {} type 0x{:x} origin 0x{:x} {}", message.sint, message.type, message.origin,
                           message.in_slot ? "in its slot" : "waits"));
    }
}

void show(const PartitionView& partition, StateVisitor& v) {
    VisitScope scope(v, std::to_string(partition.id));
    v.note("name", partition.name);
    v.note("state", partition.state);
    if (partition.parent) v.note("parent", std::to_string(*partition.parent));
    if (!partition.children.empty()) v.note("children", joined(partition.children));
    {
        VisitScope deposits(v, "deposits");
        v.note("available", std::to_string(partition.deposited_available));
        v.note("in_use", std::to_string(partition.deposited_in_use));
    }
    v.note("table_pages", std::to_string(partition.table_pages));
    {
        VisitScope properties(v, "properties");
        for (const auto& [name, value] : partition.properties) v.note(name, fmt::format("0x{:x}", value));
    }
    for (const auto& [id, text] : partition.ports) v.note(fmt::format("port{}", id), text);
    for (const auto& [id, text] : partition.connections) v.note(fmt::format("connection{}", id), text);
    for (const VpView& vp : partition.vps) show(vp, v);
}

void show(const IommuView& iommu, StateVisitor& v) {
    VisitScope scope(v, "iommu");
    v.note("owner", iommu.owner);
    v.note("translation", iommu.translating ? "on" : "off");
    v.note("interrupt_remapping", iommu.remapping ? "on" : "off");
    std::map<u16, std::string> domains;
    for (const DeviceView& device : iommu.devices) {
        VisitScope one(v, iommu::rid_text(device.rid));
        v.note("reach", device.reach);
        if (iommu.owner == "hypervisor") v.note("faults", std::to_string(device.faults));
        if (!device.domain) continue;
        std::string& list = domains[*device.domain];
        list += (list.empty() ? "" : " ") + iommu::rid_text(device.rid);
    }
    for (const auto& [domain, devices] : domains) v.note(fmt::format("domain{}", domain), devices);
    v.note("faults", std::to_string(iommu.faults));
    v.note("lost_faults", std::to_string(iommu.lost_faults));
    v.note("transfers", std::to_string(iommu.transfers));
    for (std::size_t i = 0; i < iommu.last_faults.size(); ++i) v.note(fmt::format("fault{}", i), iommu.last_faults[i]);
    for (std::size_t i = 0; i < iommu.last_transfers.size(); ++i)
        v.note(fmt::format("transfer{}", i), iommu.last_transfers[i]);
}

std::optional<u64> number(std::string_view text) {
    const bool hex = text.substr(0, 2) == "0x";
    if (hex) text.remove_prefix(2);
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

}  // namespace

void show_hypervisor(machine::Machine& machine, StateVisitor& v) {
    const std::vector<PartitionView> partitions = model::partitions(machine);
    if (!partitions.empty()) {
        VisitScope scope(v, "partitions");
        for (const PartitionView& partition : partitions) show(partition, v);
    }
    if (const auto iommu = model::iommu(machine)) show(*iommu, v);
}

bool is_walk_path(const std::string& path) { return path.rfind(kWalk, 0) == 0; }

std::string inspect_walk(machine::Machine& machine, const std::string& path) {
    const std::string_view rest = std::string_view(path).substr(kWalk.size());
    const std::size_t slash = rest.find('/');
    if (slash == std::string_view::npos) return "";
    const auto partition = number(rest.substr(0, slash)), gpa = number(rest.substr(slash + 1));
    if (!partition || !gpa) return "";
    const auto view = walk(machine, *partition, Gpa(*gpa));
    if (!view) return "";
    StatePrinter printer;
    {
        VisitScope walk(printer, "walk");
        VisitScope one(printer, std::to_string(*partition));
        VisitScope scope(printer, fmt::format("0x{:x}", *gpa));
        for (const WalkStep& step : view->steps) {
            VisitScope level(printer, fmt::format("level{}", step.level));
            printer.note("place", fmt::format("0x{:x}", step.place.value));
            printer.note("entry", fmt::format("0x{:016x}", step.entry));
            printer.note("meaning", step.meaning);
        }
        printer.note("in_space", view->in_space ? "true" : "false");
        if (view->spa) {
            printer.note("spa", fmt::format("0x{:x}", view->spa->value));
            printer.note("permissions",
                         fmt::format("{}{}{}", view->permissions.read ? 'r' : '-', view->permissions.write ? 'w' : '-',
                                     view->permissions.execute ? 'x' : '-'));
            printer.note("overlay", view->overlay ? "true" : "false");
            printer.note("deposited", view->deposited ? "true" : "false");
            printer.note("mapped_by_children", std::to_string(view->mappings));
        }
    }
    return printer.result();
}

}  // namespace vg::model
