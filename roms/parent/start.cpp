// From entry.S to main: memory, constructors, interrupts, console, hypervisor.
#include <span>

#include "machine/loader_spec.h"
#include "roms/parent/console.h"
#include "roms/parent/hypervisor.h"
#include "roms/parent/interrupts.h"
#include "roms/parent/main.h"
#include "roms/parent/pages.h"
#include "roms/parent/platform.h"

extern "C" {
using Constructor = void (*)();
extern const Constructor constructors_begin[], constructors_end[];
extern const vg::u8 image_end[];

void start(const vg::machine::boot::HvmStartInfo* info) {
    using namespace vg;
    using namespace vg::parent;
    start_interrupts();
    if (info->magic != machine::boot::kHvmStartMagic || info->version < 1) panic("not started by the PVH protocol");
    start_pages({at<const machine::boot::HvmMemmapEntry>(info->memmap_paddr), info->memmap_entries},
                physical(image_end), {at<const machine::boot::HvmModule>(info->modlist_paddr), info->nr_modules});
    for (const Constructor* each = constructors_begin; each != constructors_end; ++each) (*each)();
    start_console();
    start_hypervisor();
    run(info->cmdline_paddr != 0 ? at<const char>(info->cmdline_paddr) : "");
    power_off();
}
}
