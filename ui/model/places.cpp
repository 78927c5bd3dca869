#include "ui/model/places.h"

#include <fmt/format.h>

#include "hv/hypervisor.h"
#include "hv/vp.h"
#include "machine/pc_machine.h"

namespace vg::model {

std::vector<FoundPartition> find_partitions(machine::Machine& machine) {
    std::vector<FoundPartition> list;
    if (machine.hypervisor() == nullptr) {
        FoundPartition pc{0, "pc", "pc", nullptr, {}};
        for (const auto& vp : machine.pc()->vps()) pc.vps.push_back({vp.get(), nullptr, 0});
        list.push_back(std::move(pc));
        return list;
    }
    for (const auto& node : machine.hypervisor()->nodes()) {
        hv::Partition* partition = node->partition.get();
        if (partition == nullptr) continue;
        const bool root = node.get() == machine.hypervisor()->root();
        FoundPartition found{node->id, partition->config().name, root ? "root" : "child", partition, {}};
        for (const auto& vp : partition->vps()) found.vps.push_back({&vp->processor(), partition, node->id});
        list.push_back(std::move(found));
    }
    return list;
}

Result<FoundPartition> find_partition(machine::Machine& machine, u64 id) {
    std::string known;
    for (FoundPartition& partition : find_partitions(machine)) {
        if (partition.id == id) return std::move(partition);
        known += (known.empty() ? "" : ", ") + std::to_string(partition.id);
    }
    return fail(Error::Code::Usage, fmt::format("there is no partition {}; partitions are {}", id, known));
}

Result<FoundVp> find_vp(machine::Machine& machine, SymbolPlace place) {
    const auto partition = find_partition(machine, place.partition);
    if (!partition) return Unexpected{partition.error()};
    std::string known;
    for (const FoundVp& vp : partition->vps) {
        if (vp.vp->index() == place.vp) return vp;
        known += (known.empty() ? "" : ", ") + std::to_string(vp.vp->index());
    }
    return fail(Error::Code::Usage,
                fmt::format("partition {} has no VP {}; {}", place.partition, place.vp,
                            known.empty() ? "it has none" : fmt::format("its VPs are {}", known)));
}

std::optional<SymbolPlace> place_of(machine::Machine& machine, const cpu::Vp* vp) {
    if (vp == nullptr) return std::nullopt;
    for (const FoundPartition& partition : find_partitions(machine)) {
        for (const FoundVp& found : partition.vps)
            if (found.vp == vp) return found.place();
    }
    return std::nullopt;
}

std::string console_name(const FoundPartition& partition) {
    return std::string_view(partition.kind) == "child" ? partition.name : "";
}

}  // namespace vg::model
