// Driver of a SATA disk behind an AHCI controller (Serial ATA AHCI 1.3.1, ACS-3).
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "devices/spec/ahci.h"
#include "devices/spec/ata.h"
#include "hv/vsp/block_backend.h"
#include "roms/parent/ahci_system.h"

namespace vg::parent {

/// The first disk of the controller, one command at a time; calls return when the command has ended.
///
/// A command that fails or does not end is repeated after the port was brought back, kTries times in all; then the call
/// returns false. A port that cannot be brought back loses its access to memory, and every call fails. A flush that the
/// disk refused is not repeated, and every flush after it fails: a repetition would call lost data safe (ACS-3 "FLUSH
/// CACHE EXT": the sector that failed is not tried again).
class AhciDisk final : public hv::vsp::BlockBackend {
  public:
    static constexpr u32 kTries = 3;
    static constexpr u64 kMaxTransferBytes = 1 << 20;  ///< of one command
    static constexpr u64 kBounceBytes = 64 << 10;
    static constexpr u64 kSecond = 10'000'000;  ///< in units of 100 ns
    static constexpr u64 kCommandLimit = 10 * kSecond, kFlushLimit = 60 * kSecond;

    /// Takes the controller over, resets it and asks the first port with a disk who it is. `system` outlives the disk.
    /// Error (Host): what the controller or the disk lacks or did not do.
    static Result<std::unique_ptr<AhciDisk>> open(AhciSystem& system);
    /// Stops the port: the device does not touch memory any more.
    ~AhciDisk() override;
    AhciDisk(const AhciDisk&) = delete;
    AhciDisk& operator=(const AhciDisk&) = delete;

    [[nodiscard]] u64 size_bytes() const override { return identity_.sectors * devices::ata::kSectorBytes; }
    [[nodiscard]] bool read_only() const override { return false; }
    [[nodiscard]] u32 physical_sector_bytes() const override { return identity_.physical_sector_bytes; }
    [[nodiscard]] bool read(u64 offset, std::span<u8> out) override;
    [[nodiscard]] bool write(u64 offset, std::span<const u8> data) override;
    /// TRIM, where the disk has it; else nothing.
    [[nodiscard]] bool discard(u64 offset, u64 size) override;
    [[nodiscard]] bool flush() override;

    [[nodiscard]] const std::string& model() const { return identity_.model; }
    [[nodiscard]] const std::string& serial() const { return identity_.serial; }
    [[nodiscard]] u32 port() const { return port_; }

    struct Stats {
        u64 commands = 0;  ///< that ended well
        u64 bounced = 0;   ///< of them, with data through the bounce buffer
        u64 failures = 0;  ///< tries that did not end well
        u64 resets = 0;    ///< of the link
    };
    [[nodiscard]] const Stats& stats() const { return stats_; }

  private:
    struct Identity {
        u64 sectors = 0;
        u32 physical_sector_bytes = 512;
        bool trim = false;
        std::string model, serial;
    };
    struct Command {
        devices::ata::Command code{};
        u64 lba = 0;
        u16 count = 0, features = 0;
        u64 address = 0;  ///< of the data, as the device has it
        u32 bytes = 0;    ///< of data; 0: none
        bool to_disk = false;
    };
    enum class Outcome : u8 { Done, Refused, Broken, TimedOut };

    explicit AhciDisk(AhciSystem& system) : system_(system) {}
    Result<void> start();
    Result<void> set_up_function();
    Result<void> take_over();
    Result<void> start_port();
    Result<void> identify();
    [[nodiscard]] bool stop_port();
    [[nodiscard]] bool run_port();
    [[nodiscard]] bool reset_link();
    [[nodiscard]] bool recover();
    void shut_off();

    [[nodiscard]] bool transfer(u64 offset, u8* data, u64 size, bool to_disk);
    [[nodiscard]] bool execute(const Command& command);
    [[nodiscard]] Outcome attempt(const Command& command);
    void prepare(const Command& command);

    [[nodiscard]] u32 port_read(u32 offset) { return system_.read(port_base() + offset); }
    void port_write(u32 offset, u32 value) { system_.write(port_base() + offset, value); }
    [[nodiscard]] u32 port_base() const { return devices::ahci::kPortsOffset + port_ * devices::ahci::kPortStride; }
    /// Waits until register & mask == value, `limit` at most.
    [[nodiscard]] bool wait_for(u32 offset, u32 mask, u32 value, u64 limit);

    AhciSystem& system_;
    u32 port_ = 0;
    bool found_ = false;         // port_ is ours
    bool dead_ = false;          // it could not be brought back
    u64 reach_ = ~u64{0};        // end of the memory that the controller can address
    bool flush_failed_ = false;  // for good
    AhciSystem::Memory structures_, bounce_;
    Identity identity_;
    Stats stats_;
};

}  // namespace vg::parent
