#include "roms/parent/main.h"

#include "roms/parent/ahci.h"
#include "roms/parent/pci_ahci.h"
#include "roms/parent/platform.h"
#include "roms/parent/system.h"
#include "roms/parent/trace.h"
#include "roms/parent/wall_clock.h"

namespace vg::parent {

void run(std::string_view cmdline) {
    const auto controller = find_ahci();
    if (controller == nullptr) panic("there is no AHCI controller; give the machine a disk with bus = \"ahci\"");
    auto disk = AhciDisk::open(*controller);
    if (!disk) panic(disk.error().text);
    auto system = System::create(**disk, wall_clock_at_start(), make_log(cmdline));
    if (!system) panic(system.error().text);
    const bool right = (*system)->run();
    if (!(*disk)->flush()) panic("the disk did not keep what was written");
    if (!right) panic("a child failed");
}

}  // namespace vg::parent
