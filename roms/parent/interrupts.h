// The descriptor table and the local APIC.
#pragma once

namespace vg::parent {

/// Loads the IDT and enables the local APIC. Interrupts stay closed.
void start_interrupts();

}  // namespace vg::parent
