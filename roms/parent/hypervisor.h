// The hypervisor as the root partition sees it: hypercall page, one-shot timer.
#pragma once

#include "base/types.h"

namespace vg::parent {

/// Announces this system, enables the hypercall page and the timer's vector. Panics unless this is a root partition.
void start_hypervisor();

}  // namespace vg::parent
