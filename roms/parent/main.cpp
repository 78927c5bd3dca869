#include "roms/parent/main.h"

#include "roms/parent/platform.h"

namespace vg::parent {

void run() { log("parent: {} MiB free", free_page_count() * kPageSize >> 20); }

}  // namespace vg::parent
