#pragma once

namespace vg::parent {

/// What the system does once its runtime stands. Returns when the machine should be powered off.
void run();

}  // namespace vg::parent
