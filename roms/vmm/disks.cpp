#include "roms/vmm/disks.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/types.h"

namespace vg::vmm {
namespace {

constexpr std::size_t kBlock = 128 * 1024, kBlocks = 16;

u64 word_of(u64 disk, u64 round, u64 index) { return (disk << 56 | round << 32 | index) * 0x9e3779b97f4a7c15; }

/// Direct I/O: every round is DMA into and out of this process's own pages.
bool one_round(int fd, u64 disk, u64 round, u64* buffer) {
    for (u64 block = 0; block < kBlocks; ++block) {
        for (u64 i = 0; i < kBlock / 8; ++i) buffer[i] = word_of(disk, round, block * kBlock + i);
        if (pwrite(fd, buffer, kBlock, static_cast<off_t>(block * kBlock)) != static_cast<ssize_t>(kBlock))
            return false;
    }
    if (fsync(fd) != 0) return false;
    for (u64 block = 0; block < kBlocks; ++block) {
        std::memset(buffer, 0, kBlock);
        if (pread(fd, buffer, kBlock, static_cast<off_t>(block * kBlock)) != static_cast<ssize_t>(kBlock)) return false;
        for (u64 i = 0; i < kBlock / 8; ++i)
            if (buffer[i] != word_of(disk, round, block * kBlock + i)) return false;
    }
    return true;
}

int open_disk(const std::string& path) {
    for (unsigned attempt = 0; attempt < 100; ++attempt) {
        if (const int fd = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC); fd >= 0) return fd;
        usleep(50'000);
    }
    return -1;
}

int work(const std::vector<std::string>& paths, int stop) {
    void* buffer = nullptr;
    if (posix_memalign(&buffer, 4096, kBlock) != 0) return 1;
    std::vector<int> files;
    for (const std::string& path : paths) {
        files.push_back(open_disk(path));
        if (files.back() < 0) {
            std::printf("vmm: disk %s is not there\n", path.c_str());
            return 1;
        }
    }
    pollfd waiting{stop, POLLIN, 0};
    u64 rounds = 0;
    while (rounds == 0 || poll(&waiting, 1, 0) == 0) {
        for (std::size_t disk = 0; disk < files.size(); ++disk) {
            if (one_round(files[disk], disk, rounds, static_cast<u64*>(buffer))) continue;
            std::printf("vmm: disk %s failed in round %llu\n", paths[disk].c_str(),
                        static_cast<unsigned long long>(rounds));
            return 1;
        }
        ++rounds;
    }
    std::printf("vmm: disks came back as written, %llu rounds\n", static_cast<unsigned long long>(rounds));
    return 0;
}

}  // namespace

Disks::Disks(const std::string& names) {
    std::vector<std::string> paths;
    for (std::size_t at = 0; at < names.size();) {
        const std::size_t end = std::min(names.find(',', at), names.size());
        paths.push_back("/dev/" + names.substr(at, end - at));
        at = end + 1;
    }
    int ends[2];
    if (paths.empty() || pipe(ends) != 0) return;
    process_ = fork();
    if (process_ == 0) {
        close(ends[1]);
        const int result = work(paths, ends[0]);
        std::fflush(stdout);
        _exit(result);
    }
    close(ends[0]);
    stop_ = ends[1];
}

bool Disks::end() {
    if (process_ < 0) return true;
    close(stop_);
    int status = 1;
    return waitpid(process_, &status, 0) == process_ && status == 0;
}

}  // namespace vg::vmm
