#include "roms/vmm/linux_boot.h"

#include <cstdio>
#include <cstring>
#include <vector>

namespace vg::vmm {
namespace {

constexpr u64 kGdt = 0x6000, kBootParams = 0x7000, kPageTables = 0x9000, kCommandLine = 0x20000, kKernel = 0x100000;
constexpr u64 kEntry64 = 0x200;

// Offsets in the boot sector and in the boot parameters.
constexpr unsigned kSetupSectors = 0x1f1, kMagic = 0x202, kVersion = 0x206, kLoader = 0x210, kFlags = 0x211,
                   kCommandLinePointer = 0x228, kXloadflags = 0x236, kHeaderEnd = 0x290, kE820Count = 0x1e8,
                   kE820Table = 0x2d0;

template <class T>
T get(const std::vector<u8>& from, unsigned offset) {
    T value;
    std::memcpy(&value, from.data() + offset, sizeof value);
    return value;
}

template <class T>
void put(u8* to, const T& value) {
    std::memcpy(to, &value, sizeof value);
}

std::vector<u8> read_all(const char* path) {
    std::vector<u8> content;
    FILE* file = std::fopen(path, "rb");
    if (file == nullptr) return content;
    u8 block[65536];
    for (std::size_t got; (got = std::fread(block, 1, sizeof block, file)) != 0;)
        content.insert(content.end(), block, block + got);
    std::fclose(file);
    return content;
}

/// The first GiB at its own addresses.
void make_page_tables(u8* memory) {
    constexpr u64 kPresentWrite = 3, kLarge = 0x80;
    put(memory + kPageTables, kPageTables + 0x1000 + kPresentWrite);
    put(memory + kPageTables + 0x1000, kPageTables + 0x2000 + kPresentWrite);
    for (u64 i = 0; i < 512; ++i) put(memory + kPageTables + 0x2000 + 8 * i, (i << 21) | kLarge | kPresentWrite);
}

void add_range(u8* params, u64 base, u64 end, u32 type) {
    u8* entry = params + kE820Table + 20 * params[kE820Count];
    put(entry, base);
    put(entry + 8, end - base);
    put(entry + 16, type);
    ++params[kE820Count];
}

}  // namespace

bool load_bzimage(const char* path, const char* cmdline, u8* memory, u64 size, LinuxEntry& entry) {
    const std::vector<u8> image = read_all(path);
    if (image.size() < 0x1000 || get<u32>(image, kMagic) != 0x53726448 || get<u16>(image, kVersion) < 0x20c ||
        (get<u16>(image, kXloadflags) & 1) == 0)
        return false;
    const u64 setup = (u64{image[kSetupSectors] != 0 ? image[kSetupSectors] : u8{4}} + 1) * 512;
    if (setup >= image.size() || kKernel + image.size() * 4 > size || std::strlen(cmdline) > 2000) return false;
    std::memcpy(memory + kKernel, image.data() + setup, image.size() - setup);
    u8* params = memory + kBootParams;
    std::memset(params, 0, 4096);
    std::memcpy(params + kSetupSectors, image.data() + kSetupSectors, kHeaderEnd - kSetupSectors);
    params[kLoader] = 0xff;
    params[kFlags] = static_cast<u8>(params[kFlags] & ~0x20);
    put(params + kCommandLinePointer, static_cast<u32>(kCommandLine));
    std::strcpy(reinterpret_cast<char*>(memory + kCommandLine), cmdline);
    add_range(params, 0, 0x9f000, 1);
    add_range(params, kKernel, size, 1);
    make_page_tables(memory);
    const u64 gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
    std::memcpy(memory + kGdt, gdt, sizeof gdt);
    entry = {kKernel + kEntry64, kBootParams, kPageTables, kGdt};
    return true;
}

}  // namespace vg::vmm
