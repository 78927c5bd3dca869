// A root that points a device of its own at memory that is not its own.
#pragma once

#include <string>

namespace vg::vmm {

/// Takes the NVMe controller at a PCI address ("0000:00:09.0") from its driver, has it fetch a command from the last
/// page of the memory that the hypervisor keeps (the last reserved range of /proc/iomem), and prints the controller's
/// status. False if it could not be done.
[[nodiscard]] bool misuse_nvme(const std::string& address);

}  // namespace vg::vmm
