// Any text as the parent's table of children: a table within its limits, or an error that names a line.
#include <string>

#include "base/assert.h"
#include "roms/parent/children_table.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    using vg::parent::ChildrenTable;
    const auto table = ChildrenTable::parse({reinterpret_cast<const char*>(data), size});
    if (!table) {
        VG_ASSERT(size > ChildrenTable::kMaxBytes || table.error().text.rfind("line ", 0) == 0);
        return 0;
    }
    VG_ASSERT(table->children.size() <= ChildrenTable::kMaxChildren);
    for (const auto& child : table->children) {
        VG_ASSERT(!child.name.empty() && child.name.size() <= ChildrenTable::kMaxNameBytes);
        VG_ASSERT(!child.kernel.empty());
        VG_ASSERT(child.processors >= 1 && child.processors <= ChildrenTable::kMaxProcessors);
        VG_ASSERT(child.memory_bytes >= ChildrenTable::kMinMemoryMib << 20);
        VG_ASSERT(child.memory_bytes <= ChildrenTable::kMaxMemoryMib << 20);
        VG_ASSERT(child.disks.size() <= ChildrenTable::kMaxDisks);
    }
    return 0;
}
