// Rules over several keys: what can be built, said before anything is built.
#include <fmt/format.h>

#include <sys/stat.h>

#include <filesystem>

#include "machine/config.h"

namespace vg::machine {

namespace {

constexpr u64 kMiB = u64{1} << 20;

Result<void> check_file(const Location& at, std::string_view what, const std::string& path, std::string_view remedy) {
    if (path.empty()) return {};
    struct stat info {};
    const std::filesystem::path file(path);
    if (::stat(path.c_str(), &info) != 0) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: {} \"{}\" does not exist (looked in {}). {}", at.text(), what,
                                file.filename().string(), file.has_parent_path() ? file.parent_path().string() : ".",
                                remedy));
    }
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
        return fail(Error::Code::Usage, fmt::format("{}: {} \"{}\" is not a file. {}", at.text(), what, path, remedy));
    }
    return {};
}

constexpr std::string_view kKernelRemedy =
    "Name a kernel image, for example the vmlinuz of Debian's package linux-image-cloud-amd64.";

Result<void> check_disk(const DiskSection& disk, bool child) {
    const std::string where = disk.at.text();
    if (disk.image.empty()) {
        return fail(Error::Code::Usage, fmt::format("{}: the disk has no image; add image = \"FILE\"", where));
    }
    if (child && disk.bus != "vmbus") {
        return fail(Error::Code::Usage, fmt::format("{}: bus \"{}\" is not available in a generation 2 partition; use "
                                                    "bus = \"vmbus\"", where, disk.bus));
    }
    if (disk.write != "overlay" && !disk.overlay.empty()) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: overlay = \"{}\" has no effect with write = \"{}\"; leave one of them out", where,
                                disk.overlay, disk.write));
    }
    return check_file(disk.at, "disk", disk.image,
                      fmt::format("Create it with: qemu-img create -f vpc {} 2G", disk.image));
}

Result<void> check_child(const ChildSection& child) {
    const std::string where = child.at.text();
    const auto bad = [&](std::string text) { return fail(Error::Code::Usage, fmt::format("{}: {}", where, text)); };
    if (child.generation != 2) return bad("generation 1 partitions are not available yet; use generation = 2");
    if (child.kernel.empty()) return bad(fmt::format("child \"{}\" has no kernel; add kernel = \"FILE\"", child.name));
    if (child.memory.bytes < 64 * kMiB || child.memory.bytes % (2 * kMiB) != 0 ||
        child.memory.bytes > (u64{1} << 40)) {
        return bad(fmt::format("memory = \"{}\" must be from 64 MiB to 1 TiB in steps of 2 MiB", to_string(child.memory)));
    }
    if (!child.nics.empty()) return bad("network adapters are not available yet; remove [[child.nic]]");
    for (const DiskSection& disk : child.disks) {
        if (auto ok = check_disk(disk, true); !ok) return ok;
    }
    if (auto ok = check_file(child.at, "kernel", child.kernel, kKernelRemedy); !ok) return ok;
    if (auto ok = check_file(child.at, "initrd", child.initrd, "Leave it out, or make one with mkinitramfs."); !ok) return ok;
    return check_file(child.at, "acpi_dsdt", child.acpi_dsdt, "Compile one with: iasl dsdt.asl");
}

}  // namespace

Result<void> check_config(const Config& config) {
    const Location at{config.file, 0, 0};
    const auto bad = [&](std::string text) { return fail(Error::Code::Usage, fmt::format("{}: {}", at.text(), text)); };
    if (config.machine.scheduler == "parallel") {
        return bad("scheduler = \"parallel\" is not available yet; use \"deterministic\"");
    }
    if (auto clock = parse_clock(config.machine.clock); !clock) return bad("machine.clock: " + clock.error().text);
    if (!config.children.empty() && !config.hypervisor) {
        return bad("[[child]] needs the hypervisor; add a [hypervisor] table");
    }
    if (config.hypervisor && config.boot) {
        return bad("a guest as parent partition is not available yet; remove [boot] to use the built-in parent, or "
                   "[hypervisor] for a bare PC");
    }
    if (config.hypervisor && config.children.empty()) {
        return bad("the built-in parent has no partition to run; add a [[child]] table");
    }
    if (!config.hypervisor && !config.boot) {
        return bad("nothing to boot; add [hypervisor] and [[child]], or [boot] for a bare PC");
    }
    if (config.boot) {
        if (!config.boot->firmware.empty()) return bad("booting firmware is not available yet; use boot.kernel");
        if (config.boot->kernel.empty()) return bad("[boot] has no kernel; add kernel = \"FILE\"");
        if (auto ok = check_file(at, "kernel", config.boot->kernel, kKernelRemedy); !ok) return ok;
        if (auto ok = check_file(at, "initrd", config.boot->initrd, "Leave it out, or make one with mkinitramfs."); !ok) return ok;
    }
    if (!config.disks.empty()) return bad("disks of the machine itself are not available yet; use [[child.disk]]");
    if (!config.nics.empty()) return bad("network adapters are not available yet; remove [[nic]]");
    for (const ChildSection& child : config.children) {
        if (auto ok = check_child(child); !ok) return ok;
    }
    return {};
}

}  // namespace vg::machine
