#include "roms/parent/pci_functions.h"

#include "devices/spec/pci.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace pci = devices::pci;

std::optional<u16> find_pci_function(u32 class_code) {
    for (u32 device = 0; device < 32; ++device) {
        for (u32 number = 0; number < 8; ++number) {
            const u16 function = static_cast<u16>(device << 3 | number);
            if (pci_read(function, pci::kVendorId, 2) == 0xffff) {
                if (number == 0) break;  // "a device must have a function 0"
                continue;
            }
            if (pci_read(function, pci::kRevision, 4) >> 8 == class_code) return function;
            if (number == 0 && (pci_read(function, pci::kHeaderType, 1) & pci::kMultiFunction) == 0) break;
        }
    }
    return std::nullopt;
}

}  // namespace vg::parent
