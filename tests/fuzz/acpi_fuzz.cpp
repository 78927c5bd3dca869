// Any bytes as the DSDT that replaces the built-in one. The first byte's bit 0 corrects length and checksum.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/assert.h"
#include "machine/acpi_tables.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using vg::u8, vg::u32, vg::u64;
constexpr std::size_t kHeaderBytes = 36, kLengthOffset = 4, kChecksumOffset = 9;

void correct(std::vector<u8>& table) {
    if (table.size() < kHeaderBytes) return;
    std::memcpy(table.data(), "DSDT", 4);
    const u32 length = static_cast<u32>(table.size());
    std::memcpy(table.data() + kLengthOffset, &length, sizeof length);
    table[kChecksumOffset] = 0;
    table[kChecksumOffset] = static_cast<u8>(-std::accumulate(table.begin(), table.end(), 0));
}

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    using namespace vg::machine;
    if (size < 2) return 0;
    AcpiOptions options;
    for (u32 i = 0; i < (data[0] >> 1) % 17u; ++i) options.apic_ids.push_back(i);
    options.memory_top = u64{4} << 30;
    options.vmbus = true;
    options.dsdt.assign(data + 1, data + size);
    if ((data[0] & 1) != 0) correct(options.dsdt);
    options.dsdt_name = "fuzz.aml";
    const auto tables = build_acpi(options);
    if (!tables) return 0;
    for (const AcpiTable& table : *tables) {
        VG_ASSERT(table.address.value >= board::kAcpiBase);
        VG_ASSERT(table.address.value + table.content.size() <= board::kAcpiBase + board::kAcpiSize);
    }
    return 0;
}
