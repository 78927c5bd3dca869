// Firmware of the bare PC: finding its image, and what the board tells it by fw_cfg.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "devices/cmos_rtc.h"
#include "devices/fw_cfg.h"
#include "machine/acpi_tables.h"
#include "machine/config.h"
#include "machine/guest_memory.h"
#include "machine/smbios.h"

namespace vg::machine {

/// An image that ends at 4 GiB, where a processor starts.
struct Firmware {
    std::vector<u8> image;
    bool uefi = false;           ///< its variables are a second chip in front of it
    std::vector<u8> variables;   ///< of UEFI firmware, as they are at first; empty: none
    std::vector<u8> video_bios;  ///< empty: none
};

/// What a firmware's name leads to: the name itself if there is such a file, else, for "seabios" and "ovmf", what
/// Debian's packages of these names install, else the name itself.
[[nodiscard]] std::string find_firmware(const std::string& name);
/// The same for the other files of a configuration that boots firmware: what is left out becomes what lies beside the
/// firmware. Nothing without firmware.
void find_firmware_files(Config& config);

/// Reads the files. Error (Usage): one is missing or cannot be what it is taken for; with the remedy.
[[nodiscard]] Result<Firmware> load_firmware(const Config& config);

/// What the board is made of, as firmware wants to know it.
struct FirmwareFacts {
    u64 memory_bytes = 0, low_memory = 0, high_memory = 0;  ///< RAM: all, below 4 GiB, above
    u32 processors = 1;
    bool display = false;
    bool vmx = false;                     ///< IA32_FEATURE_CONTROL has to be set and locked
    std::vector<std::string> boot_order;  ///< Open Firmware paths
    const std::vector<AcpiTable>& tables;
    const std::vector<u8>& video_bios;
    u16 display_vendor = 0x1234, display_device = 0x1111;  ///< whose option ROM the video BIOS is
    SystemNames names{};
};
void describe_board(devices::FwCfg& fw_cfg, const FirmwareFacts& facts);
/// What the CMOS memory of a PC says of its size: firmware that is older than fw_cfg's memory map believes it.
void fill_cmos(devices::CmosRtc& rtc, u64 low_memory, u64 high_memory, u32 processors);

}  // namespace vg::machine
