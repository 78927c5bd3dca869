#include "base/process_copy.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "base/types.h"

namespace vg {

namespace {

struct View {
    u8* at;
    u64 size, offset;
    int protection;
};
using Views = std::map<u64, std::vector<View>>;  // by inode

/// All shared mappings that can be written through some view.
bool find_views(Views& views) {
    std::FILE* const maps = std::fopen("/proc/self/maps", "re");
    if (maps == nullptr) return false;
    char line[4096];
    while (std::fgets(line, sizeof line, maps) != nullptr) {
        unsigned long begin = 0, end = 0, offset = 0, inode = 0;
        char access[5] = {};
        if (std::sscanf(line, "%lx-%lx %4s %lx %*s %lu", &begin, &end, access, &offset, &inode) != 5 ||
            access[3] != 's')
            continue;
        const int protection = (access[0] == 'r' ? PROT_READ : 0) | (access[1] == 'w' ? PROT_WRITE : 0) |
                               (access[2] == 'x' ? PROT_EXEC : 0);
        views[inode].push_back({reinterpret_cast<u8*>(begin), end - begin, offset, protection});
    }
    std::fclose(maps);
    std::erase_if(views, [](const auto& entry) {
        return std::none_of(entry.second.begin(), entry.second.end(),
                            [](const View& view) { return (view.protection & PROT_WRITE) != 0; });
    });
    return true;
}

bool write_all(int file, const u8* data, u64 size, u64 offset) {
    while (size != 0) {
        const ssize_t done = ::pwrite(file, data, size, static_cast<off_t>(offset));
        if (done <= 0) return false;
        data += done;
        offset += static_cast<u64>(done);
        size -= static_cast<u64>(done);
    }
    return true;
}

/// The parts of a view that the host holds in memory; the rest has never been touched.
bool copy_resident(const View& view, int file) {
    std::vector<unsigned char> resident(view.size / kPageSize);
    if (mincore(view.at, view.size, resident.data()) != 0) return false;
    for (u64 page = 0; page < resident.size();) {
        if ((resident[page] & 1) == 0) {
            ++page;
            continue;
        }
        u64 end = page;
        while (end < resident.size() && (resident[end] & 1) != 0) ++end;
        if (!write_all(file, view.at + page * kPageSize, (end - page) * kPageSize, view.offset + page * kPageSize))
            return false;
        page = end;
    }
    return true;
}

/// Descriptors that lead to this inode lead to `file`.
bool redirect(u64 inode, int file) {
    DIR* const folder = opendir("/proc/self/fd");
    if (folder == nullptr) return false;
    struct stat fresh {};
    bool good = fstat(file, &fresh) == 0;
    while (const dirent* const entry = readdir(folder)) {
        const int number = std::atoi(entry->d_name);
        struct stat about {};
        if (entry->d_name[0] == '.' || number == file || fstat(number, &about) != 0) continue;
        if (about.st_ino == inode && about.st_dev == fresh.st_dev) good = good && dup3(file, number, O_CLOEXEC) >= 0;
    }
    closedir(folder);
    return good;
}

bool make_private() {
    Views all;
    if (!find_views(all)) return false;
    for (auto& [inode, views] : all) {
        const int file = memfd_create("verdigris-copy", MFD_CLOEXEC);
        if (file < 0) return false;
        u64 size = 0;
        for (const View& view : views) size = std::max(size, view.offset + view.size);
        bool good = ftruncate(file, static_cast<off_t>(size)) == 0;
        std::map<u64, u64> copied;  // offset, size: views of the same part are copied once
        for (const View& view : views) {
            if ((view.protection & PROT_READ) == 0 || copied[view.offset] >= view.size) continue;
            copied[view.offset] = view.size;
            good = good && copy_resident(view, file);
        }
        for (const View& view : views) {
            good = good && mmap(view.at, view.size, view.protection, MAP_SHARED | MAP_FIXED, file,
                                static_cast<off_t>(view.offset)) != MAP_FAILED;
        }
        good = good && redirect(inode, file);
        close(file);
        if (!good) return false;
    }
    return true;
}

bool alone() {
    DIR* const tasks = opendir("/proc/self/task");
    if (tasks == nullptr) return false;
    unsigned count = 0;
    while (const dirent* const entry = readdir(tasks)) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count == 1;
}

}  // namespace

Result<pid_t> copy_process() {
    if (!alone())
        return fail(Error::Code::Host,
                    "this process cannot be copied: it has several threads, or /proc is not mounted");
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0)
        return fail(Error::Code::Host, fmt::format("a copy of the process: {}", std::strerror(errno)));
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        close(ready[0]);
        const char good = make_private() ? 1 : 0;
        if (good == 0 || ::write(ready[1], &good, 1) != 1) _exit(1);
        close(ready[1]);
        return child;
    }
    const int failed = errno;
    close(ready[1]);
    char good = 0;
    if (child > 0) {
        while (::read(ready[0], &good, 1) < 0 && errno == EINTR) {
        }
        if (good == 0) waitpid(child, nullptr, 0);
    }
    close(ready[0]);
    if (child < 0) return fail(Error::Code::Host, fmt::format("a copy of the process: {}", std::strerror(failed)));
    if (good == 0)
        return fail(Error::Code::Host,
                    "a copy of the process has no memory of its own; give the guests less, or the host more");
    return child;
}

}  // namespace vg
