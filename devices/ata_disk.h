// The disk at the end of a SATA link or an IDE cable: what commands mean, without the host adapter. ACS-3.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/state.h"
#include "devices/spec/ata.h"
#include "devices/storage/block_device.h"

namespace vg::devices {

/// A command by its name in ACS-3, or "command 0x.." for one that is not known here.
[[nodiscard]] std::string to_string(ata::Command command);

/// A command as a register FIS carries it.
struct AtaCommand {
    ata::Command command{};
    u8 device = 0;
    u16 features = 0, count = 0;
    u64 lba = 0;  ///< 48 bits
    /// From the first 16 bytes of a host-to-device register FIS.
    [[nodiscard]] static AtaCommand from_fis(std::span<const u8, 16> fis);
    void fields(StateVisitor& v);
};

/// What a command wants done, after it was checked.
struct AtaPlan {
    enum class Data : u8 { None, ToHost, FromHost };
    Data data = Data::None;
    bool pio = false;
    bool queued = false;  ///< completes with Set Device Bits for `tag`
    u8 tag = 0;
    u8 error = 0;          ///< not 0: refused, nothing else counts
    u64 bytes = 0;         ///< to transfer
    bool on_disk = false;  ///< the data is the disk's, from `offset` on; otherwise it is `buffer`
    u64 offset = 0;
    std::vector<u8> buffer{};
    enum class After : u8 { Nothing, Flush, Trim };
    After after = After::Nothing;  ///< once the data was transferred
    u16 count = 0;                 ///< count register of the answer
    /// For an adapter that is saved in the middle of a command. What is loaded is no larger than a plan can be.
    void fields(StateVisitor& v);
};

/// A disk of 512-byte sectors with 48-bit addresses, native command queueing, TRIM and a write cache that flushes
/// empty.
class AtaDisk {
  public:
    /// A parallel one has no queueing; it is an ATA-6 disk.
    enum class Transport : u8 { Serial, Parallel };
    /// @param serial up to 20 printable characters
    AtaDisk(std::unique_ptr<BlockDevice> medium, std::string serial, Transport transport = Transport::Serial);

    void reset() { state_ = State{}; }
    void fields(StateVisitor& v);
    [[nodiscard]] BlockDevice& medium() { return *medium_; }
    [[nodiscard]] Transport transport() const { return transport_; }
    /// Sectors of a block of READ MULTIPLE and WRITE MULTIPLE.
    [[nodiscard]] u32 multiple() const { return state_.multiple; }

    /// Checks a command against the disk. Has no effect but those of commands without data (features, modes).
    [[nodiscard]] AtaPlan plan(const AtaCommand& command);
    /// Moves a part of a plan's data, from `done` bytes on. False: the medium failed.
    [[nodiscard]] bool read(const AtaPlan& plan, u64 done, std::span<u8> out);
    [[nodiscard]] bool write(AtaPlan& plan, u64 done, std::span<const u8> data);
    /// The data is there: what remains to be done. False: the medium failed.
    [[nodiscard]] bool finish(const AtaPlan& plan);
    /// A queued command failed: what the error log will say.
    void note_queued_error(const AtaCommand& command, const AtaPlan& plan, u8 status, u8 error);

  private:
    struct State {
        bool write_cache = true, look_ahead = true;
        u8 multiple = 16;
        u8 transfer_mode = 0x42;  // of a parallel disk: Ultra DMA 2
        bool log_valid = false;  // of the queued error log
        std::array<u8, 16> log{};
    };
    [[nodiscard]] u64 sectors() const { return medium_->size_bytes() / ata::kSectorBytes; }
    [[nodiscard]] AtaPlan transfer(u64 lba, u64 count, AtaPlan::Data data);
    [[nodiscard]] AtaPlan identify() const;
    void identify_parallel(std::span<u16, 256> words) const;
    [[nodiscard]] AtaPlan log(const AtaCommand& command);
    [[nodiscard]] AtaPlan set_features(const AtaCommand& command);
    [[nodiscard]] bool trim(std::span<const u8> ranges);

    std::unique_ptr<BlockDevice> medium_;
    std::string serial_;
    Transport transport_;
    State state_;
};

}  // namespace vg::devices
