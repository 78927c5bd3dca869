// A SCSI direct-access device (SPC-3, SBC-3) over a block backend. No I/O of its own; freestanding.
#pragma once

#include <array>
#include <span>

#include "base/types.h"
#include "hv/vsp/block_backend.h"
#include "hv/vsp/guest_data.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vsp {

/// SCSI status byte (SAM-4 "Status codes").
enum class ScsiStatus : u8 { Good = 0x00, CheckCondition = 0x02 };

/// Sense data: key, additional code and qualifier (SPC-4 "Sense data").
struct Sense {
    u8 key = 0, asc = 0, ascq = 0;
    bool operator==(const Sense&) const = default;
};
inline constexpr Sense kNoSense = {0x0, 0x00, 0x00};
inline constexpr Sense kReadError = {0x3, 0x11, 0x00};
inline constexpr Sense kWriteError = {0x3, 0x0c, 0x00};
inline constexpr Sense kInvalidOpcode = {0x5, 0x20, 0x00};
inline constexpr Sense kLbaOutOfRange = {0x5, 0x21, 0x00};
inline constexpr Sense kInvalidField = {0x5, 0x24, 0x00};
inline constexpr Sense kLunNotSupported = {0x5, 0x25, 0x00};
inline constexpr Sense kInvalidParameterField = {0x5, 0x26, 0x00};
inline constexpr Sense kParameterLength = {0x5, 0x1a, 0x00};
inline constexpr Sense kSavingNotSupported = {0x5, 0x39, 0x00};
inline constexpr Sense kWriteProtected = {0x7, 0x27, 0x00};

/// Fixed-format sense data, 18 bytes.
[[nodiscard]] std::array<u8, 18> fixed_sense(Sense sense);

/// What became of a command.
struct ScsiResult {
    enum class Outcome : u8 {
        Good,
        Check,     ///< CHECK CONDITION with `sense`
        Overrun,   ///< the command asks for more data than the buffer holds; nothing was transferred
        BadMemory  ///< the guest's data pages are not memory
    };
    Outcome outcome = Outcome::Good;
    Sense sense = kNoSense;
    u32 transferred = 0;  ///< bytes moved to or from the data buffer

    static ScsiResult good(u32 transferred = 0) { return {Outcome::Good, kNoSense, transferred}; }
    static ScsiResult check(Sense sense) { return {Outcome::Check, sense, 0}; }
    static ScsiResult overrun() { return {Outcome::Overrun, kNoSense, 0}; }
    static ScsiResult bad_memory() { return {Outcome::BadMemory, kNoSense, 0}; }
};

/// The data buffer of one command, in the initiator's memory.
class DataBuffer {
  public:
    virtual ~DataBuffer() = default;
    /// Bytes that may be moved; 0 if the direction does not fit or there is no buffer.
    [[nodiscard]] virtual u32 in_size() const = 0;
    [[nodiscard]] virtual u32 out_size() const = 0;
    /// Device to initiator, [offset, offset+data.size()) within in_size(). False: not memory.
    [[nodiscard]] virtual bool put(u32 offset, std::span<const u8> data) = 0;
    /// Initiator to device, within out_size().
    [[nodiscard]] virtual bool get(u32 offset, std::span<u8> data) = 0;
    /// The buffer itself from `offset` on: GuestData::in_place.
    virtual void in_place(u32 offset, u32 size, bool fill, GuestParts& parts) {
        (void)offset, (void)size, (void)fill, (void)parts;
    }
};

/// What a disk tells about itself.
struct DiskIdentity {
    std::array<char, 8> vendor = {'M', 's', 'f', 't', ' ', ' ', ' ', ' '};  // Linux's driver looks for it
    std::array<char, 16> product = {'V', 'i', 'r', 't', 'u', 'a', 'l', ' ', 'D', 'i', 's', 'k', ' ', ' ', ' ', ' '};
    std::array<char, 4> revision = {'1', '.', '0', ' '};
    std::array<u8, 16> id{};  ///< unique per disk; the serial number and the designators derive from it
};

/// Counts of what a disk did, for people.
struct DiskStats {
    std::array<u64, 256> commands{};  ///< by operation code
    u64 checks = 0;                   ///< commands that ended in CHECK CONDITION
    u64 bytes_read = 0, bytes_written = 0, flushes = 0, bytes_discarded = 0;
};

/// One logical unit. Transfers happen inside execute().
class ScsiDisk {
  public:
    /// `scratch` holds one chunk of data in transit: at least one page, whole sectors; may be shared by disks.
    ScsiDisk(BlockBackend& backend, DiskIdentity identity, std::span<u8> scratch)
        : backend_(backend), identity_(identity), scratch_(scratch) {}

    /// Executes one command. `cdb` has 16 bytes, those past its length zero.
    ScsiResult execute(const std::array<u8, 16>& cdb, DataBuffer& data);
    [[nodiscard]] const DiskStats& stats() const { return stats_; }
    void fields(StateVisitor& v);
    [[nodiscard]] BlockBackend& backend() const { return backend_; }

  private:
    using Cdb = std::array<u8, 16>;
    struct Blocks {
        u64 lba = 0;
        u32 count = 0;
    };

    ScsiResult dispatch(const Cdb& cdb, DataBuffer& data);
    ScsiResult inquiry(const Cdb& cdb, DataBuffer& data) const;
    ScsiResult vital_product_data(const Cdb& cdb, DataBuffer& data) const;
    ScsiResult mode_sense(const Cdb& cdb, DataBuffer& data, bool ten) const;
    ScsiResult read_capacity_10(const Cdb& cdb, DataBuffer& data) const;
    ScsiResult read_capacity_16(const Cdb& cdb, DataBuffer& data) const;
    ScsiResult request_sense(const Cdb& cdb, DataBuffer& data) const;
    ScsiResult read(const Cdb& cdb, Blocks blocks, DataBuffer& data);
    ScsiResult write(const Cdb& cdb, Blocks blocks, bool force_unit_access, DataBuffer& data);
    /// Where the buffer can be reached by address from `done` on, in whole blocks: not less than is worth a request.
    bool find_parts(DataBuffer& data, u64 done, u64 total, bool fill);
    ScsiResult verify(const Cdb& cdb, Blocks blocks) const;
    ScsiResult write_same(const Cdb& cdb, Blocks blocks, DataBuffer& data);
    ScsiResult unmap(const Cdb& cdb, DataBuffer& data);
    ScsiResult synchronize_cache(Blocks blocks);

    /// Bytes of a logical block.
    [[nodiscard]] u32 block_size() const { return backend_.logical_sector_bytes(); }
    [[nodiscard]] u64 byte_offset(u64 lba) const { return lba * block_size(); }
    [[nodiscard]] u64 block_count() const { return backend_.size_bytes() / block_size(); }
    [[nodiscard]] bool in_range(Blocks blocks) const {
        return blocks.lba <= block_count() && blocks.count <= block_count() - blocks.lba;
    }
    /// Advertised only for what can be written.
    [[nodiscard]] bool thin() const { return !backend_.read_only(); }

    BlockBackend& backend_;
    DiskIdentity identity_;
    std::span<u8> scratch_;
    GuestParts parts_;  ///< of the request at hand
    DiskStats stats_;
};

// ---- answers that do not need a disk

/// Sends `response` cut to the allocation length and the buffer.
ScsiResult respond(DataBuffer& data, u32 allocation_length, std::span<const u8> response);
/// INQUIRY of a logical unit that does not exist: peripheral byte 0x7F (D-40); vital product data is refused.
ScsiResult absent_inquiry(const std::array<u8, 16>& cdb, DataBuffer& data);
/// REPORT LUNS over these unit numbers.
ScsiResult report_luns(const std::array<u8, 16>& cdb, std::span<const u8> luns, DataBuffer& data);

/// Operation codes that the storage core itself must know.
inline constexpr u8 kOpInquiry = 0x12;
inline constexpr u8 kOpReportLuns = 0xa0;

}  // namespace vg::hv::vsp
