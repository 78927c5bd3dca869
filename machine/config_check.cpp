// Rules over several keys: what can be built, said before anything is built.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "cpu/model.h"
#include "devices/net/host_forward.h"
#include "machine/config.h"
#include "machine/loader.h"
#include "machine/stress.h"

namespace vg::machine {

namespace {

constexpr u64 kMiB = u64{1} << 20;

Unexpected<Error> bad(const std::string& where, const std::string& text) {
    return fail(Error::Code::Usage, fmt::format("{}: {}", where, text));
}

Result<void> check_file(const std::string& where, std::string_view what, const std::string& path,
                        std::string_view remedy) {
    if (path.empty()) return {};
    struct stat info {};
    const std::filesystem::path file(path);
    if (::stat(path.c_str(), &info) != 0) {
        return bad(where, fmt::format("{} \"{}\" does not exist (looked in {}). {}", what, file.filename().string(),
                                      file.has_parent_path() ? file.parent_path().string() : ".", remedy));
    }
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
        return bad(where, fmt::format("{} \"{}\" is not a file. {}", what, path, remedy));
    }
    return {};
}

/// @param nests  the processors may have VMX or SVM: those of a PC without the hypervisor, and of children of the built-in
///               parent. Children of a guest parent share the model of the parent, which shows them neither.
Result<void> check_model(const Place& place, const std::string& name, bool nests) {
    const auto model = cpu::CpuModel::create(name);
    if (!model) return Unexpected{model.error().in(place.text("cpu"))};
    const bool vmx = model->has(cpu::CpuFlag::VMX), svm = model->has(cpu::CpuFlag::SVM);
    if (!nests && (vmx || svm))
        return bad(place.text("cpu"), fmt::format("\"{}\" has {}, which a guest as parent partition and its children cannot use yet; "
                                                  "use it on a PC without [hypervisor] or for children of the built-in parent, or "
                                                  "leave {} out",
                                                  name, vmx ? "VMX" : "SVM", vmx ? "vmx" : "svm"));
    return {};
}

constexpr std::string_view kKernelRemedy =
    "Name a kernel image, for example the vmlinuz of Debian's package linux-image-cloud-amd64.";

constexpr std::string_view kSymbolsRemedy =
    "Leave it out: names of a stock Linux kernel are found in its memory; or name its vmlinux with debug information.";

constexpr std::string_view kModuleRemedy = "A module is a file and its arguments, with one space between them.";
constexpr std::string_view kInitrdRemedy = "Leave it out, or make one with mkinitramfs.";

/// @param child  whose disk it is; null: the machine's own
Result<void> check_disk(const DiskSection& disk, const ChildSection* child) {
    if (disk.image.empty()) return bad(disk.at.text(), "the disk has no image; add image = \"FILE\"");
    const bool ide_child = child != nullptr && child->generation == 1;
    if (child != nullptr && disk.bus != "vmbus" && !(ide_child && disk.bus == "ide")) {
        return bad(disk.at.text("bus"),
                   fmt::format("bus \"{}\" is not available in a generation {} partition; use bus = \"vmbus\"{}", disk.bus,
                               child->generation, ide_child ? " or \"ide\"" : ""));
    }
    if (child == nullptr && disk.bus == "vmbus") {
        return bad(disk.at.text("bus"),
                   fmt::format("bus \"{}\" is not available for disks of the machine itself; use bus = \"ahci\", "
                               "\"nvme\", \"virtio\" or \"ide\"",
                               disk.bus));
    }
    // Not by whether they are written down: `config show` writes all of them.
    const std::pair<const char*, bool> places[] = {
        {"controller", disk.controller != 0}, {"target", disk.target != 0}, {"lun", disk.lun.has_value()}};
    for (const auto& [key, given] : places) {
        if (disk.bus != "vmbus" && given) {
            return bad(disk.at.text(key),
                       fmt::format("{} is for bus = \"vmbus\": disks of {} are numbered in their order; leave it out", key,
                                   child == nullptr ? "the machine itself" : "an IDE controller"));
        }
    }
    if (disk.write != "overlay" && disk.write != "memory" && !disk.overlay.empty()) {
        return bad(disk.at.text("overlay"),
                   fmt::format("overlay = \"{}\" has no effect with write = \"{}\"; leave one of them out",
                               disk.overlay, disk.write));
    }
    return check_file(disk.at.text("image"), "disk", disk.image,
                      fmt::format("Create it with: qemu-img create -f vpc {} 2G", disk.image));
}

/// Files that are written have one writer, in the whole machine.
Result<void> check_writers(const Config& config) {
    std::map<std::string, std::string> writer;  // file, where it was named first
    const auto check = [&](const std::vector<DiskSection>& disks) -> Result<void> {
        for (const DiskSection& disk : disks) {
            const std::string& file = disk.write == "direct" ? disk.image : disk.overlay;
            if (file.empty()) continue;
            const std::string where = disk.at.text(disk.write == "direct" ? "image" : "overlay");
            const auto [first, fresh] = writer.emplace(std::filesystem::path(file).lexically_normal().string(), where);
            if (!fresh) {
                return bad(where,
                           fmt::format("\"{}\" already takes the writes of another disk ({}); name another overlay",
                                       file, first->second));
            }
        }
        return {};
    };
    if (auto ok = check(config.disks); !ok) return ok;
    for (const ChildSection& child : config.children) {
        if (auto ok = check(child.disks); !ok) return ok;
    }
    return {};
}

Result<void> check_backend(const NicSection& nic) {
    if (nic.backend == "tap") {
        return bad(nic.at.text("backend"),
                   "backend \"tap\" is not available yet; use \"none\", \"slirp\", \"pcap\" or \"switch\"");
    }
    const struct {
        const char* key;
        bool given;
        const char* backend;
    } keys[] = {{"hostfwd", !nic.hostfwd.empty(), "slirp"},
                {"host_access", nic.host_access, "slirp"},
                {"frames", !nic.frames.empty(), "pcap"},
                {"switch", !nic.switch_name.empty(), "switch"}};
    for (const auto& each : keys) {
        if (!each.given || nic.backend == each.backend) continue;
        return bad(nic.at.text(each.key), fmt::format("{} needs backend = \"{}\"; add it, or leave {} out", each.key,
                                                      each.backend, each.key));
    }
    if (nic.backend == "switch" && nic.switch_name.empty())
        return bad(nic.at.text("backend"), "backend = \"switch\" needs a name; add for example switch = \"lan\"");
    if (nic.backend == "pcap" && nic.frames.empty()) {
        return bad(nic.at.text("backend"),
                   "backend = \"pcap\" needs the frames that arrive; add frames = \"FILE\" or, only to capture, "
                   "use pcap = \"FILE\" with another back end");
    }
    return check_file(nic.at.text("frames"), "capture", nic.frames,
                      "Make one with pcap = \"FILE\" on an adapter, or with tcpdump -w FILE.");
}

Result<void> check_nic(const NicSection& nic, bool child) {
    const std::string_view bus = child ? "vmbus" : "e1000e";
    if (nic.bus != bus && (child || nic.bus != "virtio")) {
        return bad(nic.at.text("bus"),
                   fmt::format("bus \"{}\" is not available for network adapters of {}; use bus = \"{}\"", nic.bus,
                               child ? "a partition" : "the machine itself", bus));
    }
    if (auto ok = check_backend(nic); !ok) return ok;
    for (const std::string& text : nic.hostfwd) {
        if (auto forward = devices::parse_host_forward(text); !forward)
            return bad(nic.at.text("hostfwd"), forward.error().text);
    }
    if (nic.mac.empty()) return {};
    if (auto mac = devices::parse_mac_address(nic.mac); !mac) return bad(nic.at.text("mac"), mac.error().text);
    return {};
}

/// All adapters of a machine: no two write one file, none answers for another on the same switch.
class NicRules {
  public:
    Result<void> check(const std::vector<NicSection>& nics, bool child) {
        constexpr u32 kNics = 4;
        if (nics.size() > kNics) {
            return bad(nics[kNics].at.text(),
                       fmt::format("there is room for {} network adapters; remove the others", kNics));
        }
        for (const NicSection& nic : nics) {
            if (auto ok = check_nic(nic, child); !ok) return ok;
            if (auto ok = check_file_of(nic); !ok) return ok;
            if (auto ok = check_address_of(nic); !ok) return ok;
        }
        return {};
    }

  private:
    Result<void> check_file_of(const NicSection& nic) {
        if (nic.pcap.empty()) return {};
        const auto [first, fresh] = files_.emplace(nic.pcap, nic.at.text("pcap"));
        if (fresh) return {};
        return bad(nic.at.text("pcap"), fmt::format("\"{}\" already takes the frames of another adapter ({}); name "
                                                    "another file",
                                                    nic.pcap, first->second));
    }
    Result<void> check_address_of(const NicSection& nic) {
        if (nic.mac.empty() || nic.backend != "switch") return {};
        const auto address = devices::parse_mac_address(nic.mac);
        const auto [first, fresh] = addresses_.emplace(std::pair(nic.switch_name, *address), nic.at.text("mac"));
        if (fresh) return {};
        return bad(nic.at.text("mac"),
                   fmt::format("\"{}\" is already the address of another adapter on switch \"{}\" ({}); give each its "
                               "own, or leave mac out",
                               nic.mac, nic.switch_name, first->second));
    }

    std::map<std::string, std::string> files_;                                            // where it was named first
    std::map<std::pair<std::string, devices::MacAddress>, std::string> addresses_;  // the same
};

/// What only partitions of generation 1 have, and what starts a partition.
Result<void> check_generation(const ChildSection& child) {
    const bool pc = child.generation == 1;
    const struct {
        const char* key;
        bool given;
        const char* what;
    } keys[] = {{"firmware", !child.firmware.empty(), "a BIOS"},
                {"video_bios", !child.video_bios.empty(), "a video BIOS"},
                {"enlightenments", child.enlightenments == "none", "a guest that does not know of the hypervisor"}};
    for (const auto& each : keys) {
        if (each.given && !pc)
            return bad(child.at.text(each.key), fmt::format("{} is for partitions of generation 1, which have a PC's chips; "
                                                            "add generation = 1, or leave {} out", each.what, each.key));
    }
    if (child.firmware.empty()) {
        if (!child.video_bios.empty())
            return bad(child.at.text("video_bios"), "video_bios is for firmware; add firmware = \"seabios\", or leave it out");
        if (!child.kernel.empty()) return {};
        return bad(child.at.text("kernel"), fmt::format("child \"{}\" has no kernel; add kernel = \"FILE\"{}", child.name,
                                                        pc ? ", or firmware = \"seabios\" to boot from a disk" : ""));
    }
    const std::pair<const char*, const std::string&> direct[] = {{"kernel", child.kernel},
                                                                 {"initrd", child.initrd},
                                                                 {"cmdline", child.cmdline},
                                                                 {"kernel_name", child.kernel_name}};
    for (const auto& [key, value] : direct) {
        if (!value.empty())
            return bad(child.at.text(key),
                       fmt::format("{} is not for firmware, which boots what is on a disk; leave {} or firmware out", key, key));
    }
    return {};
}

Result<void> check_child(const ChildSection& child) {
    if (auto ok = check_generation(child); !ok) return ok;
    if (child.memory.bytes < 64 * kMiB || child.memory.bytes % (2 * kMiB) != 0 || child.memory.bytes > (u64{1} << 40)) {
        return bad(
            child.at.text("memory"),
            fmt::format("memory = \"{}\" must be from 64 MiB to 1 TiB in steps of 2 MiB", to_string(child.memory)));
    }
    if (child.memory_max.bytes != 0 &&
        (child.memory_max.bytes < child.memory.bytes || child.memory_max.bytes % (2 * kMiB) != 0 ||
         child.memory_max.bytes > (u64{1} << 40))) {
        return bad(child.at.text("memory_max"),
                   fmt::format("memory_max = \"{}\" must be from memory (\"{}\") to 1 TiB in steps of 2 MiB",
                               to_string(child.memory_max), to_string(child.memory)));
    }
    if (!child.cpu.empty()) {
        if (auto ok = check_model(child.at, child.cpu, true); !ok) return ok;
    }
    for (const DiskSection& disk : child.disks) {
        if (auto ok = check_disk(disk, &child); !ok) return ok;
    }
    constexpr std::ptrdiff_t kIdeDisks = 4;
    if (std::ranges::count(child.disks, "ide", &DiskSection::bus) > kIdeDisks)
        return bad(child.at.text(), fmt::format("child \"{}\" has more than {} disks with bus = \"ide\"; use \"vmbus\" for the "
                                                "others", child.name, kIdeDisks));
    if (auto units = place_disks(child); !units) return Unexpected{units.error()};
    return {};
}

Result<void> check_child_files(const ChildSection& child) {
    if (auto ok = check_file(child.at.text("kernel"), "kernel", child.kernel, kKernelRemedy); !ok) return ok;
    if (auto ok = check_file(child.at.text("initrd"), "initrd", child.initrd, kInitrdRemedy); !ok) return ok;
    if (auto ok = check_file(child.at.text("symbols"), "symbols", child.symbols, kSymbolsRemedy); !ok) return ok;
    return check_file(child.at.text("acpi_dsdt"), "acpi_dsdt", child.acpi_dsdt, "Compile one with: iasl dsdt.asl");
}

Result<void> check_children(const Config& config) {
    std::map<std::string, std::string> named;  // name, where
    for (const ChildSection& child : config.children) {
        const auto [first, fresh] = named.emplace(child.name, child.at.text("name"));
        if (!fresh) {
            return bad(child.at.text("name"),
                       fmt::format("a partition \"{}\" is there already ({}); give each a name of its own", child.name,
                                   first->second));
        }
    }
    NicRules nics;
    for (const ChildSection& child : config.children) {
        if (auto ok = check_child(child); !ok) return ok;
        if (auto ok = nics.check(child.nics, true); !ok) return ok;
        if (config.restoring) continue;
        if (auto ok = check_child_files(child); !ok) return ok;
    }
    return check_writers(config);
}

/// What goes with firmware, and what only with it.
Result<void> check_firmware(const Config& config) {
    const BootSection& boot = *config.boot;
    const struct {
        const char* key;
        const std::string& value;
        bool with_firmware;
    } keys[] = {{"kernel", boot.kernel, false},           {"initrd", boot.initrd, false},
                {"cmdline", boot.cmdline, false},         {"kernel_name", boot.kernel_name, false},
                {"firmware_vars", boot.firmware_vars, true}, {"video_bios", boot.video_bios, true}};
    for (const auto& each : keys) {
        if (each.value.empty() || each.with_firmware != boot.firmware.empty()) continue;
        return bad(boot.at.text(each.key),
                   each.with_firmware
                       ? fmt::format("{} is for firmware; add firmware = \"seabios\" or \"ovmf\", or leave it out", each.key)
                       : fmt::format("{} is not for firmware, which boots what is on a disk; leave {} or firmware out",
                                     each.key, each.key));
    }
    if (!boot.modules.empty() && !boot.firmware.empty())
        return bad(boot.at.text("modules"), "modules are not for firmware, which boots what is on a disk; leave modules or firmware out");
    if (boot.firmware.empty() || !config.hypervisor) return {};
    return bad(boot.at.text("firmware"),
               "a parent partition cannot boot firmware yet; use boot.kernel, or leave [hypervisor] out");
}

Result<void> check_pc(const Config& config) {
    const BootSection& boot = *config.boot;
    if (boot.firmware.empty() && boot.kernel.empty())
        return bad(boot.at.text(), "[boot] has no kernel; add kernel = \"FILE\", or firmware = \"seabios\" to boot from a disk");
    if (auto ok = check_firmware(config); !ok) return ok;
    const u64 bytes = config.machine.memory.bytes;
    if (bytes < 16 * kMiB || bytes > (u64{1} << 40) || bytes % kPageSize != 0) {
        return bad(config.machine.at.text("memory"),
                   fmt::format("memory = \"{}\" must be from 16 MiB to 1 TiB in steps of 4 KiB",
                               to_string(config.machine.memory)));
    }
    constexpr u32 kAhciPorts = 32, kNvmes = 16, kVirtioDisks = 5, kIdeDisks = 4;
    std::map<std::string, u32> disks_on;
    for (const DiskSection& disk : config.disks) {
        if (auto ok = check_disk(disk, nullptr); !ok) return ok;
        const u32 most = disk.bus == "nvme" ? kNvmes : disk.bus == "virtio" ? kVirtioDisks : disk.bus == "ide" ? kIdeDisks : kAhciPorts;
        if (++disks_on[disk.bus] > most) {
            return bad(disk.at.text("bus"),
                       fmt::format("there is room for {} disks with bus = \"{}\"; use another", most, disk.bus));
        }
    }
    if (auto ok = check_writers(config); !ok) return ok;
    if (auto ok = NicRules().check(config.nics, false); !ok) return ok;
    if (config.restoring) return {};
    if (auto ok = check_file(boot.at.text("kernel"), "kernel", boot.kernel, kKernelRemedy); !ok) return ok;
    if (auto ok = check_file(boot.at.text("symbols"), "symbols", boot.symbols, kSymbolsRemedy); !ok) return ok;
    for (const std::string& module : boot.modules) {
        if (auto ok = check_file(boot.at.text("modules"), "module", module_file(module), kModuleRemedy); !ok) return ok;
    }
    return check_file(boot.at.text("initrd"), "initrd", boot.initrd, kInitrdRemedy);
}

}  // namespace

Result<std::vector<u32>> place_disks(const ChildSection& child) {
    constexpr u32 kUnits = 64;  // of one controller
    std::set<std::tuple<u32, u32, u32>> taken;
    std::map<u32, u32> disks_on;
    std::vector<u32> units;
    for (const DiskSection& disk : child.disks) {
        if (disk.bus != "vmbus") {
            units.push_back(0);
            continue;
        }
        if (++disks_on[disk.controller] > kUnits) {
            return bad(disk.at.text(),
                       fmt::format("controller {} has {} disks already; use another", disk.controller, kUnits));
        }
        u32 lun = disk.lun.value_or(0);
        while (!disk.lun && taken.count({disk.controller, disk.target, lun}) != 0) ++lun;
        if (!taken.insert({disk.controller, disk.target, lun}).second) {
            return bad(disk.at.text("lun"),
                       fmt::format("controller {} target {} already has a disk at lun {}; leave lun out, or "
                                   "give each disk its own",
                                   disk.controller, disk.target, lun));
        }
        units.push_back(lun);
    }
    return units;
}

Result<void> check_config(const Config& config) {
    const std::string& file = config.file;
    if (config.machine.scheduler == "parallel") {
        if (config.hypervisor && config.boot)
            return bad(config.machine.at.text("scheduler"),
                       "scheduler = \"parallel\" does not run a guest as parent partition; use \"deterministic\"");
    }
    if (auto clock = parse_clock(config.machine.clock); !clock) {
        return bad(config.machine.at.text("clock"), "clock: " + clock.error().text);
    }
    if (auto stress = parse_stress(config.machine.stress); !stress) {
        return bad(config.machine.at.text("stress"), stress.error().text);
    }
    if (auto ok = check_model(config.machine.at, config.machine.cpu, !(config.hypervisor && config.boot)); !ok) return ok;
    if (!config.children.empty() && !config.hypervisor) {
        return bad(config.children.front().at.text(), "[[child]] needs the hypervisor; add a [hypervisor] table");
    }
    if (config.boot && !config.children.empty()) {
        return bad(config.children.front().at.text(),
                   "a guest as parent partition creates its own children; remove [[child]], or "
                   "[boot] to use the built-in parent");
    }
    if (config.hypervisor && !config.boot && config.children.empty()) {
        return bad(config.hypervisor->at.text(),
                   "the built-in parent has no partition to run; add a [[child]] table, or [boot] for a "
                   "guest as parent");
    }
    if (config.hypervisor && config.hypervisor->root_scheduler && !config.boot) {
        return bad(config.hypervisor->at.text("root_scheduler"),
                   "root_scheduler needs a guest as parent partition; add [boot], or "
                   "leave it out");
    }
    if (!config.hypervisor && !config.boot) {
        return bad(file, "nothing to boot; add [hypervisor] and [[child]], or [boot] for a bare PC");
    }
    const DevicesSection& devices = config.devices;
    if (!config.boot &&
        (devices.isa_debug_exit != 0 || devices.testdev || devices.edu || devices.display || devices.virtio_console ||
         devices.iommu.value_or(false))) {
        const char* key = devices.testdev               ? "testdev"
                          : devices.edu                 ? "edu"
                          : devices.display             ? "display"
                          : devices.virtio_console      ? "virtio_console"
                          : devices.isa_debug_exit != 0 ? "isa_debug_exit"
                                                        : "iommu";
        return bad(
            devices.at.text(key),
            "test devices, the display and the IOMMU are those of the machine that [boot] starts; partitions have "
            "none: remove them, or use [boot]");
    }
    if (!devices.ioapic_source_id && (config.hypervisor || !config.has_iommu())) {
        return bad(devices.at.text("ioapic_source_id"),
                   "ioapic_source_id is about what the bare PC's IOMMU verifies; add iommu = true (without [hypervisor]), or "
                   "leave it out");
    }
    if (!config.boot && !config.disks.empty()) {
        return bad(config.disks.front().at.text(),
                   "disks of the machine itself are for what [boot] names; partitions have "
                   "[[child.disk]]");
    }
    if (!config.boot && !config.nics.empty()) {
        return bad(config.nics.front().at.text(),
                   "network adapters of the machine itself are for what [boot] names; remove [[nic]], or add [boot]");
    }
    return config.boot ? check_pc(config) : check_children(config);
}

}  // namespace vg::machine
