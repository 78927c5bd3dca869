#include "roms/vmm/misuse.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "base/types.h"

namespace vg::vmm {
namespace {

bool write_to(const std::string& path, const void* data, std::size_t size, off_t at = 0) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool done = pwrite(fd, data, size, at) == static_cast<ssize_t>(size);
    close(fd);
    return done;
}

/// The last page of the last reserved range; 0 if there is none.
u64 last_reserved_page() {
    FILE* file = std::fopen("/proc/iomem", "r");
    if (file == nullptr) return 0;
    char line[256];
    u64 page = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) {
        unsigned long long first = 0, last = 0;
        if (std::sscanf(line, "%llx-%llx", &first, &last) == 2 && std::strstr(line, ": Reserved") != nullptr)
            page = (last + 1 - 4096) & ~u64{4095};
    }
    std::fclose(file);
    return page;
}

/// NVM Express Base 1.4c §3: one admin command is there, says the doorbell.
u32 fetch_from(volatile u32* registers, u64 queue) {
    constexpr unsigned kCc = 0x14 / 4, kCsts = 0x1c / 4, kAqa = 0x24 / 4, kAsq = 0x28 / 4, kAcq = 0x30 / 4,
                       kDoorbell = 0x1000 / 4;
    registers[kCc] = 0;
    registers[kAqa] = 15u << 16 | 15;
    for (const unsigned base : {kAsq, kAcq}) {
        registers[base] = static_cast<u32>(queue);
        registers[base + 1] = static_cast<u32>(queue >> 32);
    }
    registers[kCc] = 4u << 20 | 6u << 16 | 1;
    registers[kDoorbell] = 1;
    constexpr u32 kFatal = 2;
    for (unsigned i = 0; i < 100 && (registers[kCsts] & kFatal) == 0; ++i) usleep(1000);
    return registers[kCsts];
}

}  // namespace

bool misuse_nvme(const std::string& address) {
    mount("sysfs", "/sys", "sysfs", 0, "");
    const std::string function = "/sys/bus/pci/devices/" + address;
    const u64 page = last_reserved_page();
    const u16 command = 0x0406;  // memory space, bus master, no INTx
    if (page == 0 || !write_to(function + "/driver/unbind", address.data(), address.size()) ||
        !write_to(function + "/enable", "1", 1) || !write_to(function + "/config", &command, sizeof command, 4)) {
        std::printf("vmm: %s cannot be taken\n", address.c_str());
        return false;
    }
    constexpr std::size_t kSize = 0x2000;
    const int fd = open((function + "/resource0").c_str(), O_RDWR | O_SYNC | O_CLOEXEC);
    void* registers = fd < 0 ? MAP_FAILED : mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (registers == MAP_FAILED) {
        std::printf("vmm: %s has no registers\n", address.c_str());
        return false;
    }
    std::printf("vmm: %s pointed at %#llx, CSTS %#x\n", address.c_str(), static_cast<unsigned long long>(page),
                fetch_from(static_cast<volatile u32*>(registers), page));
    munmap(registers, kSize);
    close(fd);
    return true;
}

}  // namespace vg::vmm
