// The page allocator: one bit for each page of RAM.
#pragma once

#include <span>

#include "base/types.h"
#include "machine/loader_spec.h"

namespace vg::parent {

/// Takes over the RAM of a memory map: what lies above `image_end` and outside the modules. Maps all of the address
/// space up to the end of the map, so that pages of the hypervisor which it shows can be read. Once, before anything
/// allocates.
void start_pages(std::span<const machine::boot::HvmMemmapEntry> map, u64 image_end,
                 std::span<const machine::boot::HvmModule> modules);

}  // namespace vg::parent
