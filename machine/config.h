// The machine's configuration: what a TOML file says, with defaults filled in. cli.md §4.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::machine {

/// Where a value was written, for messages: `file:line:column`, or the option of the command line.
struct Location {
    std::string file;
    u32 line = 0, column = 0;
    [[nodiscard]] std::string text() const;
};

/// Where a table and its keys were written.
struct Place {
    Location table;
    std::map<std::string, Location, std::less<>> keys;

    /// Of the key's value, or of the table if the key was left out.
    [[nodiscard]] std::string text(std::string_view key = "") const;
};

/// A size in bytes, written "512 MiB" (B, KiB, MiB, GiB, TiB).
struct ByteSize {
    u64 bytes = 0;
    bool operator==(const ByteSize&) const = default;
};
/// A duration in virtual or wall nanoseconds, written "120 s" (ns, us, ms, s, min, h). 0: no limit.
struct Duration {
    u64 ns = 0;
    bool operator==(const Duration&) const = default;
};

[[nodiscard]] Result<ByteSize> parse_byte_size(std::string_view text);
[[nodiscard]] Result<Duration> parse_duration(std::string_view text);
/// "2026-01-01T00:00:00Z" to seconds since 1970.
[[nodiscard]] Result<u64> parse_clock(std::string_view text);
[[nodiscard]] std::string to_string(ByteSize size);
[[nodiscard]] std::string to_string(Duration duration);

struct MachineSection {
    std::string cpu = "verdigris-v2";
    ByteSize memory{u64{1} << 30};
    u32 processors = 1;
    std::string clock = "2026-01-01T00:00:00Z";
    std::string scheduler = "deterministic";
    std::string pace = "auto";
    std::string stress;
    Place at;

    template <class V>
    void keys(V& v) {
        v("cpu", cpu, "named CPU model with feature changes, e.g. \"verdigris-v2,-pcid\"");
        v("memory", memory, "RAM of the bare PC or of the parent partition");
        v("processors", processors, "virtual processors of the bare PC or of the parent partition", 1, 16);
        v("clock", clock, "guest wall clock at start, ISO 8601 UTC; the host's is never read");
        v.choice("scheduler", scheduler, {"deterministic", "parallel"}, "how virtual processors share the host");
        v.choice("pace", pace, {"auto", "on", "off"},
                 "wait for the wall clock when guest time is ahead of it (auto: for an interactive console, and with a "
                 "network that reaches the host)");
        v("stress", stress, "for tests: ways of running that must change no result, e.g. \"tlb=1,budget=1,flush=7\"");
    }
};

struct HypervisorSection {
    bool root_scheduler = false;
    ByteSize memory{u64{64} << 20};
    Place at;

    template <class V>
    void keys(V& v) {
        v("root_scheduler", root_scheduler, "the parent partition schedules its children's processors");
        v("memory", memory, "memory that the hypervisor keeps for itself");
    }
};

/// Of the key `symbols`, wherever a kernel is named.
inline constexpr std::string_view kSymbolsDoc =
    "ELF file with symbols and DWARF of the kernel, for inspection only; a stock Linux kernel needs none for names";

struct BootSection {
    std::string kernel, kernel_name, initrd, cmdline, firmware, firmware_vars, video_bios, symbols;
    std::vector<std::string> modules;  ///< "FILE ARGUMENTS"
    bool firmware_vars_kept = true;
    Place at;

    template <class V>
    void keys(V& v) {
        v.path("kernel", kernel, "bzImage, PVH ELF or multiboot ELF");
        v("kernel_name", kernel_name,
          "name that a multiboot kernel finds in front of its command line; left out: the file's");
        v.path("initrd", initrd, "initial RAM disk, or the multiboot module");
        v("cmdline", cmdline, "kernel command line");
        v.words("modules", modules,
                "files that a multiboot or PVH kernel finds behind the initrd, each with its arguments: \"vmlinuz console=hvc0\"");
        v.path("firmware", firmware,
               "firmware image in place of a kernel: a file, or \"seabios\" or \"ovmf\" for those of Debian's packages");
        v.path("firmware_vars", firmware_vars,
               "file that keeps UEFI variables, created if missing; left out: they are thrown away afterwards");
        v("firmware_vars_kept", firmware_vars_kept, "changes of UEFI variables reach firmware_vars");
        v.path("video_bios", video_bios, "video BIOS of the display; left out: SeaBIOS' vgabios-stdvga.bin");
        v.path("symbols", symbols, kSymbolsDoc);
    }
};

struct DiskSection {
    std::string bus = "vmbus", image, overlay, format = "auto", write = "overlay";
    u32 controller = 0, target = 0;
    std::optional<u32> lun;
    Place at;

    template <class V>
    void keys(V& v) {
        v.choice("bus", bus, {"vmbus", "ahci", "nvme", "ide", "virtio"}, "how the guest sees it");
        v.path("image", image, "disk image; never written unless write = \"direct\"");
        v.path("overlay", overlay, "file that takes the writes, created if missing; left out: thrown away afterwards");
        v.choice("format", format, {"auto", "raw", "vhd", "vhdx", "qcow2"}, "image format; auto goes by the file's name");
        v.choice("write", write, {"overlay", "direct", "none", "memory"},
                 "where writes go (memory: kept there, gone afterwards; an overlay is only read)");
        v("controller", controller, "SCSI controller", 0, 3);
        v("target", target, "SCSI target", 0, 1);
        v("lun", lun, "SCSI logical unit; left out: the next free one", 0, 63);
    }
};

struct NicSection {
    std::string bus = "vmbus", backend = "none", mac, pcap, frames, switch_name;
    std::vector<std::string> hostfwd;
    bool host_access = false;
    Place at;

    template <class V>
    void keys(V& v) {
        v.choice("bus", bus, {"vmbus", "virtio", "e1000e"}, "how the guest sees it");
        v.choice("backend", backend, {"none", "slirp", "tap", "pcap", "switch"}, "what it is connected to");
        v("mac", mac, "hardware address, e.g. \"52:54:00:12:34:56\"; left out: 52:54:00:76:67:00 and up");
        v.path("pcap", pcap, "file that takes every frame, for Wireshark and tcpdump; overwritten");
        v.path("frames", frames,
               "pcap: capture whose frames arrive at their times, those of the guest's wall clock (machine.clock)");
        v("switch", switch_name, "switch: its name; adapters with the same one are connected to each other");
        v("hostfwd", hostfwd, "slirp: ports of the host that lead into the guest, e.g. \"tcp:127.0.0.1:2222-:22\"");
        v("host_access", host_access, "slirp: 10.0.2.2 reaches the host's own services on 127.0.0.1");
    }
};

/// What a partition has besides disks and network adapters.
struct ChildDevicesSection {
    bool heartbeat = true, shutdown = true, time_sync = true, kvp = true, vss = true;
    bool keyboard = true, mouse = true, video = true, dynamic_memory = true;
    bool sockets = false;  ///< not of none(): their state is the parent's
    bool hyperv_testdev = false;
    u32 isa_debug_exit = 0;
    std::string socket_path;
    std::string resolution = "1024x768";
    Place at;
    [[nodiscard]] bool none() const {
        return !(heartbeat || shutdown || time_sync || kvp || vss || keyboard || mouse || video || dynamic_memory);
    }

    template <class V>
    void keys(V& v) {
        v("heartbeat", heartbeat, "integration service: whether the guest is alive");
        v("shutdown", shutdown, "integration service: the host can ask the guest to power off or restart");
        v("time_sync", time_sync, "integration service: the host sets the guest's clock");
        v("kvp", kvp, "integration service: key-value pairs, addresses of network adapters");
        v("vss", vss, "integration service: the host can freeze the guest's file systems");
        v("keyboard", keyboard, "synthetic keyboard");
        v("mouse", mouse, "synthetic mouse");
        v("video", video, "synthetic video with 8 MiB of frame buffer");
        v.choice("resolution", resolution,
                 {"640x480", "800x600", "1024x768", "1152x864", "1280x720", "1280x1024", "1366x768", "1440x900",
                  "1600x900", "1600x1200", "1680x1050", "1920x1080"},
                 "what the video device asks the guest to begin with");
        v("dynamic_memory", dynamic_memory, "balloon and memory hot-add");
        v("sockets", sockets, "Hyper-V sockets (AF_VSOCK in Linux)");
        v.path("socket_path", socket_path,
               "Unix socket for programs of the host that connect to the guest (\"CONNECT PORT\"); the guest's connections "
               "to port P go to the socket PATH_P; left out: refused");
        v("isa_debug_exit", isa_debug_exit, "first of the exit device's four I/O ports; 0: absent", 0, 0xfffc);
        v("hyperv_testdev", hyperv_testdev, "SynIC test device of kvm-unit-tests at port 0x3000");
    }
};

struct ChildSection {
    std::string name = "child";
    u32 generation = 2, processors = 1;
    ByteSize memory{u64{512} << 20}, memory_max;
    std::string cpu, enlightenments = "full", kernel, kernel_name, initrd, cmdline, firmware, video_bios, acpi_dsdt, symbols;
    bool free_page_hints = true;
    std::vector<DiskSection> disks;
    std::vector<NicSection> nics;
    ChildDevicesSection devices;
    Place at;

    template <class V>
    void keys(V& v) {
        v("name", name, "name of the partition");
        v("generation", generation, "2: synthetic devices only; 1: a PC's chips and IDE disks too", 1, 2);
        v("processors", processors, "virtual processors", 1, 16);
        v("memory", memory, "RAM of the partition");
        v("memory_max", memory_max, "to which memory can be added while it runs; left out or 0: none");
        v("cpu", cpu, "CPU model; left out: the machine's");
        v.choice("enlightenments", enlightenments, {"full", "basic", "none"},
                 "what the hypervisor offers the guest: all that it can make use of, what it needs to boot, or (generation 1) "
                 "nothing, not even its presence");
        v("free_page_hints", free_page_hints,
          "the guest may tell which of its pages are free: their memory is the host's again");
        v.path("kernel", kernel, "bzImage or PVH ELF");
        v("kernel_name", kernel_name,
          "name that a multiboot kernel finds in front of its command line; left out: the file's");
        v.path("initrd", initrd, "initial RAM disk");
        v("cmdline", cmdline, "kernel command line");
        v.path("firmware", firmware,
               "generation 1: BIOS in place of a kernel, which boots the first IDE disk: a file, or \"seabios\" for Debian's");
        v.path("video_bios", video_bios, "video BIOS of a partition with firmware; left out: SeaBIOS' vgabios-stdvga.bin");
        v.path("acpi_dsdt", acpi_dsdt, "compiled DSDT that replaces the built-in one");
        v.path("symbols", symbols, kSymbolsDoc);
        v.tables("disk", disks, "disks");
        v.tables("nic", nics, "network adapters");
        v.table("devices", devices, "integration services, keyboard, mouse, video, dynamic memory");
    }
    /// Address space of its RAM, with what may be added.
    [[nodiscard]] u64 memory_limit() const { return memory_max.bytes > memory.bytes ? memory_max.bytes : memory.bytes; }
};

struct DevicesSection {
    u32 isa_debug_exit = 0;
    bool testdev = false, edu = false, fw_cfg = true, display = false, virtio_console = false;
    std::optional<bool> iommu;  ///< Config::has_iommu
    bool ioapic_source_id = true;
    Place at;

    template <class V>
    void keys(V& v) {
        v("isa_debug_exit", isa_debug_exit, "first of the exit device's four I/O ports; 0: absent", 0, 0xfffc);
        v("testdev", testdev, "test device of kvm-unit-tests");
        v("edu", edu, "QEMU's educational PCI device, for tests (bare PC)");
        v("display", display, "linear frame buffer display on PCI, with firmware a VGA (bare PC)");
        v("virtio_console", virtio_console,
          "virtio console that shares the serial port's terminal and takes what is typed once its driver runs (bare PC)");
        v("iommu", iommu,
          "VT-d unit: of the bare PC's kernel (left out: absent), or of the hypervisor, which keeps the parent "
          "partition's devices within its memory (left out: there)");
        v("ioapic_source_id", ioapic_source_id,
          "the IOAPIC's interrupt requests carry the source-id that ACPI tells, for the bare PC's IOMMU to verify; false: "
          "none, and nothing is verified, as on boards that do not identify their IOAPIC");
        v("fw_cfg", fw_cfg, "firmware configuration interface at port 0x510 (bare PC)");
    }
};

struct TestSection {
    std::vector<std::string> start, expect, fail_on, send, required, artefacts;
    std::string skip;
    Duration guest_time, start_time, wall_time;
    u32 pass_value = 1, exit_code = 0;
    Place at;

    template <class V>
    void keys(V& v) {
        v("start", start,
          "regular expressions after which, in order, the test proper starts: guest_time and `run --instructions` count "
          "from there, expect looks at what comes behind");
        v("expect", expect, "regular expressions that must appear on the console, in order");
        v("fail_on", fail_on, "regular expressions that fail the run");
        v("send", send, "what is typed when: \"REGEX=>TEXT\", in order");
        v("guest_time", guest_time, "virtual time budget, from the start of the test proper");
        v("start_time", start_time, "virtual time budget until the test proper starts; left out: as guest_time");
        v("wall_time", wall_time, "wall clock limit of the whole run");
        v("pass_value", pass_value, "(value << 1) | 1 of the write to isa-debug-exit that passes");
        v("exit_code", exit_code, "`verdigris test`: the exit code that passes, e.g. 4 for a guest that must panic", 0, 255);
        v("skip", skip, "`verdigris test`: why this test is not run");
        v.paths("requires", required, "`verdigris test`: files without which this test is skipped");
        v.paths("artefacts", artefacts, "`verdigris test --keep`: further files that the run leaves and that are kept");
    }
};

/// The whole configuration. Value type; paths are absolute or relative to the working directory after loading.
struct Config {
    std::string file;  ///< where it came from, for messages
    MachineSection machine;
    std::optional<HypervisorSection> hypervisor;
    std::optional<BootSection> boot;
    std::vector<DiskSection> disks;
    std::vector<NicSection> nics;
    std::vector<ChildSection> children;
    DevicesSection devices;
    std::optional<TestSection> test;
    bool restoring = false;  ///< not a key: memory and state come from elsewhere, no kernel is loaded

    /// A machine with a hypervisor and physical devices has a remapping unit unless it is turned off.
    [[nodiscard]] bool has_iommu() const { return devices.iommu.value_or(hypervisor && boot); }

    template <class V>
    void keys(V& v) {
        v.table("machine", machine, "the machine");
        v.table("hypervisor", hypervisor, "puts the hypervisor under the machine");
        v.table("boot", boot, "what the bare PC or the parent partition boots");
        v.tables("disk", disks, "the machine's own disks");
        v.tables("nic", nics, "the machine's own network adapters");
        v.tables("child", children, "partitions created at start by the built-in parent");
        v.table("devices", devices, "test devices");
        v.table("test", test, "verdict of `verdigris test` and of `run`");
    }
};

/// One `-s KEY=VALUE`.
using Override = std::pair<std::string, std::string>;

/// Loads a file and applies overrides. Errors (Usage) have the form `file:line:column: what; remedy`.
[[nodiscard]] Result<Config> load_config(const std::string& path, const std::vector<Override>& overrides);
/// The same from text; `name` stands for the file in messages, `directory` is what relative paths are relative to.
[[nodiscard]] Result<Config> parse_config(std::string_view text, const std::string& name, const std::string& directory,
                                          const std::vector<Override>& overrides);
/// Rules that concern several keys: what this version can build. Errors as above.
[[nodiscard]] Result<void> check_config(const Config& config);
/// The SCSI unit of each disk of a partition, in order: what `lun` says, or the next free one of its controller and
/// target. Error (Usage): two disks at one place.
[[nodiscard]] Result<std::vector<u32>> place_disks(const ChildSection& child);
/// The effective configuration as TOML that loads to the same value.
[[nodiscard]] std::string show_config(const Config& config);
/// JSON Schema of the configuration file.
[[nodiscard]] std::string config_schema();

/// For a configuration that was stored with a machine: one that says nothing about a child's devices or enlightenments
/// is of a version that had none, or the basic ones, and so has the machine.
void keep_stored_defaults(Config& config);

/// The known name nearest to a mistyped one, or "" if none is near.
[[nodiscard]] std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

}  // namespace vg::machine
