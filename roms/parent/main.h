// What the system does once its runtime stands.
#pragma once

#include <string_view>

namespace vg::parent {

/// Finds the disk, reads the table, serves children. Returns when the machine should be powered off; panics if
/// something of that cannot be done, or a child that starts by itself failed.
/// @param cmdline  words: log=AREA=LEVEL (trace.h)
void run(std::string_view cmdline);

}  // namespace vg::parent
