#include "machine/efi_tables.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "hv/spec/guid.h"

namespace vg::machine {

namespace {

// UEFI 2.10 §4.2 to §4.6, §7.2.

struct TableHeader {
    u64 signature;
    u32 revision, size, crc32, reserved;
};
struct SystemTable {
    TableHeader header;
    u64 vendor;
    u32 vendor_revision, pad;
    u64 console_in_handle, console_in, console_out_handle, console_out, error_handle, error;
    u64 runtime, boot;
    u64 table_count, tables;
};
static_assert(sizeof(SystemTable) == 120);
struct RuntimeTable {
    TableHeader header;
    std::array<u64, 14> services;
};
struct ConfigurationTable {
    hv::Guid type;
    u64 table;
};
struct RuntimeProperties {
    u16 version, length;
    u32 supported;
};
struct MemoryDescriptor {
    u32 type, pad;
    u64 physical, virtual_address, pages, attributes;
};
static_assert(sizeof(MemoryDescriptor) == 40);

constexpr u64 kSystemSignature = 0x5453595320494249;   // "IBI SYST"
constexpr u64 kRuntimeSignature = 0x56524553544e5552;  // "RUNTSERV"
constexpr u32 kRevision = 2 << 16 | 100;               // 2.10
constexpr hv::Guid kAcpi20Table = hv::guid("8868e871-e4f1-11d3-bc22-0080c73c8881");
constexpr hv::Guid kRuntimePropertiesTable = hv::guid("eb66918a-7eef-402a-842e-931d21c38ae9");
constexpr u32 kConventional = 7, kReserved = 0, kRuntimeCode = 5, kRuntimeData = 6;
constexpr u64 kWriteBack = 8, kRuntime = u64{1} << 63;
constexpr unsigned kSetVirtualAddressMap = 4;  // in the order of the table
constexpr u32 kSupportsSetVirtualAddressMap = 0x100;

// Places in the data page.
constexpr u64 kSystem = 0, kRuntimeServices = 0x100, kTables = 0x200, kProperties = 0x280, kVendor = 0x2a0, kMap = 0x300;
constexpr u64 kStubSize = 16;
/// mov rax, status; ret
constexpr std::array<u8, kStubSize> kUnsupported = {0x48, 0xb8, 3, 0, 0, 0, 0, 0, 0, 0x80, 0xc3};
constexpr std::array<u8, kStubSize> kSuccess = {0x31, 0xc0, 0xc3};

u32 crc32_of(std::span<const u8> bytes) {
    u32 crc = ~u32{0};
    for (const u8 byte : bytes) {
        crc ^= byte;
        for (unsigned bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
    }
    return ~crc;
}

template <class T>
void put(std::vector<u8>& page, u64 at, const T& value) {
    std::memcpy(page.data() + at, &value, sizeof value);
}
template <class T>
void put_table(std::vector<u8>& page, u64 at, T table) {
    table.header.revision = kRevision;
    table.header.size = sizeof table;
    table.header.crc32 = crc32_of({reinterpret_cast<const u8*>(&table), sizeof table});
    put(page, at, table);
}

/// RAM as the loader says, with the two pages taken out of what is reserved.
std::vector<MemoryDescriptor> descriptors(u64 base, const std::vector<MemoryRange>& map) {
    std::vector<MemoryDescriptor> list;
    const auto add = [&](u32 type, u64 from, u64 to, u64 attributes) {
        if (from < to) list.push_back({type, 0, from, 0, (to - from) / kPageSize, attributes});
    };
    for (const MemoryRange& range : map) {
        const u32 type = range.type == MemoryRange::kRam ? kConventional : kReserved;
        const u64 end = range.base + range.size;
        add(type, range.base, std::min(end, std::max(base, range.base)), kWriteBack);
        add(type, std::max(range.base, std::min(end, base + kEfiTablesSize)), end, kWriteBack);
    }
    add(kRuntimeData, base, base + kPageSize, kWriteBack | kRuntime);
    add(kRuntimeCode, base + kPageSize, base + 2 * kPageSize, kWriteBack | kRuntime);
    return list;
}

}  // namespace

std::optional<EfiBoot> write_efi_tables(GuestMemory& memory, u64 base, Gpa rsdp, const std::vector<MemoryRange>& map) {
    const std::vector<MemoryDescriptor> list = descriptors(base, map);
    if (list.size() * sizeof(MemoryDescriptor) > kPageSize - kMap) return std::nullopt;
    std::vector<u8> data(kPageSize), code(kPageSize);
    std::ranges::copy(kUnsupported, code.begin());
    std::ranges::copy(kSuccess, code.begin() + kStubSize);

    RuntimeTable runtime{};
    runtime.header.signature = kRuntimeSignature;
    runtime.services.fill(base + kPageSize);
    runtime.services[kSetVirtualAddressMap] = base + kPageSize + kStubSize;
    put_table(data, kRuntimeServices, runtime);
    put(data, kTables, ConfigurationTable{kAcpi20Table, rsdp.value});
    put(data, kTables + sizeof(ConfigurationTable), ConfigurationTable{kRuntimePropertiesTable, base + kProperties});
    put(data, kProperties, RuntimeProperties{1, sizeof(RuntimeProperties), kSupportsSetVirtualAddressMap});
    u64 at = kVendor;
    for (const char c : std::string_view("Verdigris")) {
        put(data, at, static_cast<u16>(c));
        at += 2;
    }
    for (std::size_t i = 0; i < list.size(); ++i) put(data, kMap + i * sizeof list[i], list[i]);
    SystemTable system{};
    system.header.signature = kSystemSignature;
    system.vendor = base + kVendor;
    system.vendor_revision = 1;
    system.runtime = base + kRuntimeServices;
    system.table_count = 2;
    system.tables = base + kTables;
    put_table(data, kSystem, system);
    if (!memory.write(Gpa(base), data) || !memory.write(Gpa(base + kPageSize), code)) return std::nullopt;
    return EfiBoot{base + kSystem, base + kMap, static_cast<u32>(list.size() * sizeof(MemoryDescriptor)),
                   sizeof(MemoryDescriptor)};
}

}  // namespace vg::machine
