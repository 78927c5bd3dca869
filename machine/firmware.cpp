#include "machine/firmware.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "machine/loader.h"

namespace vg::machine {

namespace {

namespace fs = std::filesystem;

constexpr u64 kMaxImage = 8 << 20, kMinImage = 64 << 10;

constexpr struct {
    const char *name, *path, *package;
} kKnown[] = {{"seabios", "/usr/share/seabios/bios-256k.bin", "seabios"},
              {"ovmf", "/usr/share/OVMF/OVMF_CODE.fd", "ovmf"}};
constexpr const char* kVideoBios = "vgabios-stdvga.bin";
constexpr const char* kVideoBiosHome = "/usr/share/seabios";

bool is_file(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error);
}

/// A UEFI firmware volume begins with a header whose signature is at 40 (UEFI PI 1.7, volume 3, §3.2.1).
bool is_firmware_volume(const std::vector<u8>& image) {
    return image.size() > 44 && std::memcmp(image.data() + 40, "_FVH", 4) == 0;
}

/// OVMF_CODE.fd has OVMF_VARS.fd beside it.
std::string variables_beside(const fs::path& code) {
    std::string name = code.filename().string();
    const std::size_t at = name.find("CODE");
    if (at == std::string::npos) return "";
    name.replace(at, 4, "VARS");
    // Variants of the code with the same variables.
    for (const std::string_view variant : {".secboot", ".ms"}) {
        if (const std::size_t found = name.find(variant);
            found != std::string::npos && !is_file(code.parent_path() / name))
            name.erase(found, variant.size());
    }
    const fs::path path = code.parent_path() / name;
    return is_file(path) ? path.string() : "";
}

/// Commands of the table loader (QEMU "bios-linker-loader"; SeaBIOS "romfile_loader").
class TableLoader {
  public:
    static constexpr std::size_t kEntryBytes = 128, kNameBytes = 56;
    static constexpr u8 kHigh = 1, kBiosSegment = 2;

    void allocate(std::string_view file, u32 alignment, u8 zone) {
        begin(1);
        name(file);
        number(alignment, 4);
        number(zone, 1);
        end();
    }
    /// The field at `offset` of `file` becomes an address: what it holds, in bytes from the beginning of `target`.
    void pointer(std::string_view file, std::string_view target, u32 offset, u8 size) {
        begin(2);
        name(file);
        name(target);
        number(offset, 4);
        number(size, 1);
        end();
    }
    void checksum(std::string_view file, u32 offset, u32 start, u32 length) {
        begin(3);
        name(file);
        number(offset, 4);
        number(start, 4);
        number(length, 4);
        end();
    }
    [[nodiscard]] const std::vector<u8>& bytes() const { return bytes_; }

  private:
    void begin(u32 command) { number(command, 4); }
    void end() { bytes_.resize((bytes_.size() + kEntryBytes - 1) / kEntryBytes * kEntryBytes); }
    void name(std::string_view text) {
        bytes_.insert(bytes_.end(), text.begin(), text.end());
        bytes_.resize(bytes_.size() + kNameBytes - text.size());
    }
    void number(u32 value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) bytes_.push_back(static_cast<u8>(value >> (i * 8)));
    }
    std::vector<u8> bytes_;
};

constexpr std::string_view kTables = "etc/acpi/tables", kRsdp = "etc/acpi/rsdp";

/// Makes an address in a table an offset from the tables' place, and has the loader add where it has put them.
void relocate(TableLoader& loader, std::vector<u8>& content, std::string_view file, u32 base, u32 field, u8 size) {
    u64 value = 0;
    std::memcpy(&value, content.data() + base + field, size);
    if (value == 0) return;
    value -= board::kAcpiBase;
    std::memcpy(content.data() + base + field, &value, size);
    loader.pointer(file, kTables, base + field, size);
}

void add_acpi(devices::FwCfg& fw_cfg, const std::vector<AcpiTable>& tables) {
    TableLoader loader;
    std::vector<u8> content, rsdp;
    loader.allocate(kRsdp, 16, TableLoader::kBiosSegment);
    loader.allocate(kTables, 64, TableLoader::kHigh);
    for (const AcpiTable& table : tables) {
        if (table.signature == "RSD PTR ") continue;
        const auto base = static_cast<u32>(table.address.value - board::kAcpiBase);
        content.resize(base + table.content.size());
        std::copy(table.content.begin(), table.content.end(), content.begin() + base);
    }
    constexpr u32 kChecksum = 9, kFirmwareControl = 36, kDsdt = 40, kLongDsdt = 140, kFirstRoot = 36;
    for (const AcpiTable& table : tables) {
        if (table.signature == "RSD PTR " || table.signature == "FACS") continue;
        const auto base = static_cast<u32>(table.address.value - board::kAcpiBase);
        if (table.signature == "FACP") {
            relocate(loader, content, kTables, base, kFirmwareControl, 4);
            relocate(loader, content, kTables, base, kDsdt, 4);
            relocate(loader, content, kTables, base, kLongDsdt, 8);
        }
        if (table.signature == "XSDT") {
            for (u32 at = kFirstRoot; at + 8 <= table.content.size(); at += 8)
                relocate(loader, content, kTables, base, at, 8);
        }
        content[base + kChecksum] = 0;
        loader.checksum(kTables, base + kChecksum, base, static_cast<u32>(table.content.size()));
    }
    constexpr u32 kXsdt = 24, kFirstSum = 8, kFirstPart = 20, kSecondSum = 32, kAll = 36;
    rsdp = tables.front().content;
    relocate(loader, rsdp, kRsdp, 0, kXsdt, 8);
    rsdp[kFirstSum] = rsdp[kSecondSum] = 0;
    loader.checksum(kRsdp, kFirstSum, 0, kFirstPart);
    loader.checksum(kRsdp, kSecondSum, 0, kAll);
    fw_cfg.add_file(std::string(kTables), std::move(content));
    fw_cfg.add_file(std::string(kRsdp), std::move(rsdp));
    fw_cfg.add_file("etc/table-loader", loader.bytes());
}

void add_memory_map(devices::FwCfg& fw_cfg, const FirmwareFacts& facts) {
    std::vector<u8> entries;
    const auto add = [&](u64 base, u64 size) {
        const auto put = [&](u64 value, unsigned bytes) {
            for (unsigned i = 0; i < bytes; ++i) entries.push_back(static_cast<u8>(value >> (i * 8)));
        };
        put(base, 8);
        put(size, 8);
        put(MemoryRange::kRam, 4);
    };
    add(0, facts.low_memory);
    if (facts.high_memory != 0) add(u64{1} << 32, facts.high_memory);
    fw_cfg.add_file("etc/e820", std::move(entries));
}

std::vector<u8> bytes_of(u64 value, unsigned count) {
    std::vector<u8> bytes;
    for (unsigned i = 0; i < count; ++i) bytes.push_back(static_cast<u8>(value >> (i * 8)));
    return bytes;
}

}  // namespace

std::string find_firmware(const std::string& name) {
    if (name.empty() || is_file(name)) return name;
    for (const auto& known : kKnown)
        if (fs::path(name).filename() == known.name) return known.path;
    return name;
}

namespace {

/// The video BIOS that lies beside a firmware, or where Debian's package has it; "" if there is none.
std::string video_bios_for(const std::string& firmware) {
    for (const fs::path& place : {fs::path(firmware).parent_path(), fs::path(kVideoBiosHome)})
        if (is_file(place / kVideoBios)) return (place / kVideoBios).string();
    return "";
}

}  // namespace

void find_firmware_files(Config& config) {
    if (config.boot && !config.boot->firmware.empty()) {
        BootSection& boot = *config.boot;
        boot.firmware = find_firmware(boot.firmware);
        if (config.devices.display && boot.video_bios.empty()) boot.video_bios = video_bios_for(boot.firmware);
    }
    for (ChildSection& child : config.children) {
        if (child.firmware.empty()) continue;
        child.firmware = find_firmware(child.firmware);
        if (child.devices.video && child.video_bios.empty()) child.video_bios = video_bios_for(child.firmware);
    }
}

Result<Firmware> load_firmware(const Config& config) {
    const BootSection& boot = *config.boot;
    const auto bad = [&](std::string_view key, std::string text) {
        return fail(Error::Code::Usage, fmt::format("{}: {}", boot.at.text(key), text));
    };
    if (!is_file(boot.firmware)) {
        for (const auto& known : kKnown) {
            if (boot.firmware == known.path)
                return bad("firmware",
                           fmt::format("firmware \"{}\" does not exist. Install Debian's package: apt install {}",
                                       boot.firmware, known.package));
        }
        return bad("firmware",
                   fmt::format("firmware \"{}\" does not exist. Write firmware = \"seabios\" or \"ovmf\" for "
                               "what Debian's packages of these names install",
                               boot.firmware));
    }
    Firmware firmware;
    auto image = read_file(boot.firmware, kMaxImage);
    if (!image) return Unexpected{image.error()};
    if (image->size() < kMinImage || image->size() % kPageSize != 0)
        return bad("firmware", fmt::format("\"{}\" has {} bytes: firmware has from 64 KiB to 8 MiB, in whole pages",
                                           boot.firmware, image->size()));
    firmware.image = std::move(*image);
    firmware.uefi = is_firmware_volume(firmware.image);
    if (firmware.uefi) {
        std::string variables = boot.firmware_vars;
        if (!is_file(variables)) variables = variables_beside(boot.firmware);
        if (!variables.empty()) {
            auto content = read_file(variables, kMaxImage);
            if (!content) return Unexpected{content.error()};
            if (content->empty() || content->size() % kPageSize != 0 || !is_firmware_volume(*content))
                return bad("firmware_vars",
                           fmt::format("\"{}\" holds no UEFI variables; make one with: cp "
                                       "/usr/share/OVMF/OVMF_VARS.fd {}",
                                       variables, boot.firmware_vars.empty() ? "vars.fd" : boot.firmware_vars));
            firmware.variables = std::move(*content);
        } else if (!boot.firmware_vars.empty()) {
            return bad("firmware_vars",
                       fmt::format("\"{}\" does not exist, and no OVMF_VARS file lies beside the firmware "
                                   "to make it from",
                                   boot.firmware_vars));
        }
        return firmware;
    }
    if (!boot.firmware_vars.empty())
        return bad("firmware_vars",
                   fmt::format("\"{}\" is not UEFI firmware and keeps no variables; leave it out", boot.firmware));
    if (!config.devices.display) return firmware;
    if (boot.video_bios.empty())
        return bad("firmware",
                   "the display needs a video BIOS, vgabios-stdvga.bin of Debian's package seabios, and none is "
                   "there; install it, or name one with video_bios");
    auto video = read_file(boot.video_bios, kMaxImage);
    if (!video) return Unexpected{video.error()};
    firmware.video_bios = std::move(*video);
    return firmware;
}

void describe_board(devices::FwCfg& fw_cfg, const FirmwareFacts& facts) {
    using devices::FwCfg;
    fw_cfg.set_number(FwCfg::kMaxCpus, facts.processors, 2);
    // Without a screen SeaBIOS speaks on the serial port.
    fw_cfg.set_number(FwCfg::kNoGraphics, facts.display ? 0 : 1, 2);
    add_memory_map(fw_cfg, facts);
    add_acpi(fw_cfg, facts.tables);
    Smbios smbios = build_smbios(facts.memory_bytes, facts.processors, facts.names);
    fw_cfg.add_file("etc/smbios/smbios-anchor", std::move(smbios.anchor));
    fw_cfg.add_file("etc/smbios/smbios-tables", std::move(smbios.tables));
    if (!facts.video_bios.empty())
        fw_cfg.add_file(fmt::format("pci{:04x},{:04x}.rom", facts.display_vendor, facts.display_device), facts.video_bios);
    constexpr u64 kLockedVmxOutsideSmx = 5;
    if (facts.vmx) fw_cfg.add_file("etc/msr_feature_control", bytes_of(kLockedVmxOutsideSmx, 8));
    if (facts.boot_order.empty()) return;
    std::vector<u8> order;
    for (const std::string& path : facts.boot_order) {
        order.insert(order.end(), path.begin(), path.end());
        order.push_back('\n');
    }
    order.back() = 0;
    fw_cfg.add_file("bootorder", std::move(order));
}

void fill_cmos(devices::CmosRtc& rtc, u64 low_memory, u64 high_memory, u32 processors) {
    constexpr u64 kKiB = 1 << 10, kUnit = 64 << 10, kMiB = 1 << 20;
    const auto word = [&](u8 index, u64 value) {
        const u64 shown = std::min<u64>(value, 0xffff);
        rtc.set_nvram(index, static_cast<u8>(shown));
        rtc.set_nvram(static_cast<u8>(index + 1), static_cast<u8>(shown >> 8));
    };
    word(0x15, 640);
    word(0x17, std::min<u64>((low_memory - kMiB) / kKiB, 0xfc00));  // up to 64 MiB
    word(0x30, std::min<u64>((low_memory - kMiB) / kKiB, 0xfc00));
    word(0x34, low_memory > 16 * kMiB ? (low_memory - 16 * kMiB) / kUnit : 0);
    word(0x5b, high_memory / kUnit & 0xffff);
    rtc.set_nvram(0x5d, static_cast<u8>(high_memory / kUnit >> 16));
    rtc.set_nvram(0x5f, static_cast<u8>(processors - 1));
}

}  // namespace vg::machine
