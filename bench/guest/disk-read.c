// Init of bench/disk: reads the disk sequentially in pieces of 1 MiB, then 4 KiB at random places, past the page cache, each
// between two marks; then writes 1 MiB pieces with one flush. Prints sums of what it read.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kLarge = 1 << 20, kSmall = 4096, kRounds = 3 };

static uint64_t sum(uint64_t so_far, const unsigned char* data, size_t size) {
    for (size_t at = 0; at < size; at += 512) {
        uint64_t word;
        memcpy(&word, data + at, sizeof word);
        so_far = (so_far ^ word) * 0x100000001b3;
    }
    return so_far;
}

/// The names in /modules/order, in their order.
static void load_modules(void) {
    FILE* list = fopen("/modules/order", "r");
    char name[200], path[256];
    while (list != NULL && fscanf(list, "%199s", name) == 1) {
        snprintf(path, sizeof path, "/modules/%s", name);
        const int file = open(path, O_RDONLY);
        syscall(SYS_finit_module, file, "", 0);
        close(file);
    }
}

static int open_disk(void) {
    for (int tries = 0; tries < 300; ++tries) {
        for (int i = 0; i < 2; ++i) {
            const int disk = open(i == 0 ? "/dev/sda" : "/dev/vda", O_RDWR | O_DIRECT);
            if (disk >= 0) return disk;
        }
        usleep(50000);
    }
    return -1;
}

int main(void) {
    mount("proc", "/proc", "proc", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    const int disk = open_disk();
    unsigned char* buffer = NULL;
    if (disk < 0 || posix_memalign((void**)&buffer, kSmall, kLarge) != 0) {
        printf("MARK failed\n");
        reboot(RB_POWER_OFF);
    }
    const long bytes = lseek(disk, 0, SEEK_END);
    uint64_t seed = 88172645463325252u;
    for (int round = 1; round <= kRounds; ++round) {
        uint64_t total = 0;
        printf("MARK begin sequential\n"), fflush(stdout);
        for (long at = 0; at + kLarge <= bytes; at += kLarge) {
            if (pread(disk, buffer, kLarge, at) != kLarge) printf("MARK failed\n");
            total = sum(total, buffer, kLarge);
        }
        printf("MARK end sequential %016lx\n", (unsigned long)total), fflush(stdout);
        total = 0;
        printf("MARK begin random\n"), fflush(stdout);
        for (int i = 0; i < 20000; ++i) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            const long at = (long)(seed % (uint64_t)(bytes / kSmall)) * kSmall;
            if (pread(disk, buffer, kSmall, at) != kSmall) printf("MARK failed\n");
            total = sum(total, buffer, kSmall);
        }
        printf("MARK end random %016lx\n", (unsigned long)total), fflush(stdout);
    }
    for (int round = 1; round <= kRounds; ++round) {
        memset(buffer, round, kLarge);
        printf("MARK begin write\n"), fflush(stdout);
        for (long at = 0; at + kLarge <= bytes / 4; at += kLarge)
            if (pwrite(disk, buffer, kLarge, at) != kLarge) printf("MARK failed\n");
        fsync(disk);
        printf("MARK end write 0\n"), fflush(stdout);
    }
    reboot(RB_POWER_OFF);
    return 0;
}
