// The disks of a configuration in the order in which a machine has them.
#pragma once

#include <string>
#include <vector>

#include "machine/config.h"

namespace vg::machine {

struct ListedDisk {
    std::string owner;  ///< the child's name, or "" for the machine's own
    DiskSection* section;
};
/// In the order of Machine::disks().
[[nodiscard]] inline std::vector<ListedDisk> list_disks(Config& config) {
    std::vector<ListedDisk> all;
    for (DiskSection& disk : config.disks) all.push_back({"", &disk});
    for (ChildSection& child : config.children) {
        for (DiskSection& disk : child.disks) all.push_back({child.name, &disk});
    }
    return all;
}

}  // namespace vg::machine
