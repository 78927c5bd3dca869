// What people ask about partitions and devices: snapshots that say more than the state does by itself. Nothing here
// changes the machine or is read by its guests.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "iommu/history.h"
#include "machine/machine.h"
#include "mmu/slat_builder.h"

namespace vg::model {

/// A message that a guest has not taken yet.
struct PendingMessage {
    u8 sint = 0;
    u32 type = 0;
    u64 origin = 0;
    bool in_slot = false;  ///< in the guest's message page; else it waits behind
};

struct VpView {
    u32 index = 0;
    std::string state;  ///< "runs", "halted", "suspended (explicit)", ...
    u64 rip = 0;
    std::vector<PendingMessage> messages;
};

struct PartitionView {
    u64 id = 0;
    std::optional<u64> parent;
    std::vector<u64> children;
    std::string name, state;
    u64 deposited_available = 0, deposited_in_use = 0, table_pages = 0;
    std::vector<std::pair<std::string, u64>> properties;          ///< those that are set, by name
    std::vector<std::pair<u32, std::string>> ports, connections;  ///< by id: kind and where it goes
    std::vector<VpView> vps;
};
/// Parents before their children; none without a hypervisor.
[[nodiscard]] std::vector<PartitionView> partitions(machine::Machine& machine);

/// One entry of a second-level walk.
struct WalkStep {
    unsigned level = 0;  ///< 4 the top, 1 the last
    Spa place;           ///< of the entry
    u64 entry = 0;
    std::string meaning;
};
/// How a partition's GPA becomes an SPA: read from the tables in memory, not from what they were made from.
struct WalkView {
    std::vector<WalkStep> steps;
    std::optional<Spa> spa;
    mmu::SlatPermissions permissions{false, false, false};
    bool in_space = false;  ///< part of the space, with or without something behind it
    bool overlay = false;   ///< a page of the hypervisor's that hides memory
    bool deposited = false;
    u32 mappings = 0;  ///< how often children map the page
};
/// Nothing if there is no such partition, or it has no space (yet, or any more).
[[nodiscard]] std::optional<WalkView> walk(machine::Machine& machine, u64 partition, Gpa gpa);

struct DeviceView {
    u16 rid = 0;
    std::string reach;  ///< "domain 1 by 4 levels at 0x...", or why nothing
    std::optional<u16> domain;
    u64 faults = 0;  ///< only where the hypervisor counts
};
struct IommuView {
    std::string owner;  ///< "hypervisor" or "guest"
    bool translating = false, remapping = false;
    std::vector<DeviceView> devices;
    u64 faults = 0, transfers = 0, lost_faults = 0;        ///< in all
    std::vector<std::string> last_faults, last_transfers;  ///< oldest first
};
/// Nothing without a unit.
[[nodiscard]] std::optional<IommuView> iommu(machine::Machine& machine);

}  // namespace vg::model
