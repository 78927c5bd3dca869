// `verdigris doctor`: what this host can do, each line with its remedy.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

struct Finding {
    enum class Grade : u8 { Ok, Warn, Fail };
    Grade grade = Grade::Ok;
    std::string text;
};

Finding check_instructions() {
    std::string missing;
    if (!__builtin_cpu_supports("avx2")) missing += " AVX2";
    if (!__builtin_cpu_supports("bmi2")) missing += " BMI2";
    if (!missing.empty()) {
        return {Finding::Grade::Fail, "the processor lacks" + missing + "; Verdigris needs an x86-64-v3 host"};
    }
    return {Finding::Grade::Ok, "the processor has AVX2 and BMI2"};
}

/// The code cache is one memfd mapped twice: writable, and executable. Run a return instruction through it.
Finding check_code_cache() {
    const long page = ::sysconf(_SC_PAGESIZE);
    const auto size = static_cast<std::size_t>(page);
    const int fd = ::memfd_create("doctor", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, page) != 0) {
        return {Finding::Grade::Fail, fmt::format("memfd_create: {}; allow it in the sandbox", std::strerror(errno))};
    }
    void* writable = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void* executable = ::mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    ::close(fd);
    if (writable == MAP_FAILED || executable == MAP_FAILED) {
        return {Finding::Grade::Fail,
                "memory cannot be mapped as executable (SELinux execmem, noexec memfd?); allow it, or run with --engine "
                "step"};
    }
    const u8 code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};  // mov eax, 42; ret
    std::memcpy(writable, code, sizeof code);
    int (*function)() = nullptr;
    std::memcpy(&function, &executable, sizeof function);
    const bool works = function() == 42;
    ::munmap(writable, size);
    ::munmap(executable, size);
    return works ? Finding{Finding::Grade::Ok, "translated code can be mapped and executed"}
                 : Finding{Finding::Grade::Fail, "translated code does not run; use --engine step"};
}

/// The number behind `label` in a file of lines "label number", as in /proc/meminfo; 0 if it is not there.
u64 number_in(const char* file, const std::string& label) {
    std::ifstream in(file);
    u64 number = 0;
    for (std::string line; std::getline(in, line);) {
        if (line.rfind(label, 0) == 0 && std::istringstream(line.substr(label.size())) >> number) return number;
    }
    return 0;
}

/// What a new process could have: the kernel's own estimate, or what the container leaves, if that is less.
u64 available_memory() {
    const u64 host = number_in("/proc/meminfo", "MemAvailable:") << 10;
    const u64 limit = number_in("/sys/fs/cgroup/memory.max", ""), used = number_in("/sys/fs/cgroup/memory.current", "");
    return limit != 0 ? std::min(host, limit - std::min(limit, used)) : host;
}

double gib(u64 bytes) { return static_cast<double>(bytes) / (1 << 30); }

Finding check_memory() {
    const u64 available = available_memory();
    const auto text = fmt::format("{:.1f} GiB of memory available", gib(available));
    if (available >= u64{1} << 30) return {Finding::Grade::Ok, text};
    return {Finding::Grade::Warn, text + "; a guest takes what it touches, up to its memory key: stop something, or give it less"};
}

/// Where throw-away overlays go: devices::open_unnamed_file.
Finding check_disk() {
    const char* chosen = std::getenv("TMPDIR");
    const char* folder = chosen != nullptr && *chosen != 0 ? chosen : "/var/tmp";
    struct statvfs info {};
    if (::statvfs(folder, &info) != 0) {
        return {Finding::Grade::Warn, fmt::format("{}: {}; set TMPDIR to a folder that exists", folder, std::strerror(errno))};
    }
    const u64 available = u64{info.f_bavail} * info.f_frsize;
    const auto text = fmt::format("{:.1f} GiB free in {} for throw-away overlays", gib(available), folder);
    return {available >= (u64{1} << 30) ? Finding::Grade::Ok : Finding::Grade::Warn,
            available >= (u64{1} << 30) ? text : text + "; set TMPDIR to a larger place"};
}

Finding check_images() {
    std::string missing;
    for (const char* name : {"vmlinuz", "initrd.img", "base.vhd"}) {
        if (::access(fmt::format("build/guest/{}", name).c_str(), R_OK) != 0) missing += fmt::format(" {}", name);
    }
    if (missing.empty()) return {Finding::Grade::Ok, "the images of examples/linux.toml are in build/guest"};
    return {Finding::Grade::Warn, fmt::format("build/guest lacks{} for examples/linux.toml; make them with: tools/make-guest build/guest",
                                              missing)};
}

Finding check_display() {
    return {Finding::Grade::Ok, "not needed: the desktop debugger is not available yet"};
}

Finding check_address_space() {
    const std::size_t size = std::size_t{64} << 30;
    void* probe = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) {
        return {Finding::Grade::Warn, "64 GiB of address space cannot be reserved (ulimit -v?); large guests will not start"};
    }
    ::munmap(probe, size);
    return {Finding::Grade::Ok, "address space for large guests"};
}

Finding check_tool(const char* tool, const char* purpose) {
    if (std::system(fmt::format("command -v {} >/dev/null 2>&1", tool).c_str()) == 0) {
        return {Finding::Grade::Ok, fmt::format("{} found ({})", tool, purpose)};
    }
    return {Finding::Grade::Warn, fmt::format("{} is missing ({}); tools/setup installs it", tool, purpose)};
}

}  // namespace

int doctor() {
    const std::pair<const char*, std::function<Finding()>> checks[] = {
        {"processor", check_instructions},
        {"translator", check_code_cache},
        {"memory", check_memory},
        {"address space", check_address_space},
        {"disk", check_disk},
        {"images", check_images},
        {"display", check_display},
        {"qemu-img", [] { return check_tool("qemu-img", "makes and checks disk images"); }},
        {"iasl", [] { return check_tool("iasl", "checks ACPI tables in tests"); }},
    };
    bool failed = false;
    for (const auto& [name, check] : checks) {
        const Finding finding = check();
        const char* grade = finding.grade == Finding::Grade::Ok ? "OK" : finding.grade == Finding::Grade::Warn ? "warn" : "FAIL";
        failed = failed || finding.grade == Finding::Grade::Fail;
        std::printf("%-4s  %-14s %s\n", grade, name, finding.text.c_str());
    }
    return failed ? kHostCannot : kPass;
}

}  // namespace vg::cli
