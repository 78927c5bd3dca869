// The hypervisor as the root partition finds it: identity, one-shot timer.
#pragma once

namespace vg::parent {

/// Announces this system, enables hypercalls and the timer behind set_alarm(). Panics unless this is a root partition.
void start_hypervisor();

}  // namespace vg::parent
