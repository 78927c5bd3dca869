// Protocol core of the storage VSP: one SCSI controller. Bytes in, effects out; no I/O, no heap. Rows D-30..D-44.
#pragma once

#include <array>
#include <span>

#include "base/types.h"
#include "hv/spec/storvsc.h"
#include "hv/vsp/guest_data.h"
#include "hv/vsp/scsi_disk.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vsp {

/// What the core asks of the world around it.
class StorageHost {
  public:
    virtual ~StorageHost() = default;
    /// Sends a completion (64 bytes) for a transaction on the channel it came from.
    virtual void complete(u32 channel, u64 transaction_id, std::span<const u8> packet) = 0;
    /// A request has been carried out and moved `bytes`; call Storage::finish(slot) when it should end.
    virtual void schedule(u32 slot, u32 bytes) = 0;
    /// The guest asks for sub-channels 1..count; called after the answer to it was sent.
    virtual void offer_sub_channels(u16 count) = 0;
};

/// A packet as it came from a ring, in private memory.
struct StoragePacket {
    u32 channel = 0;
    bool sub_channel = false;
    u64 transaction_id = 0;
    bool completion_requested = true;
    std::span<const u8> payload;
    GuestData* data = nullptr;    ///< no data: nullptr
    bool data_malformed = false;  ///< the description of the data made no sense
};

/// One controller with its logical units. The initialisation sequence belongs to the primary channel.
class Storage {
  public:
    enum class State : u8 { AwaitBegin, AwaitVersion, AwaitProperties, AwaitEnd, Ready };

    static constexpr u32 kMaxInFlight = 256;  ///< requests; beyond it packets stay in the ring
    static constexpr u32 kMaxUnits = 64;
    static constexpr u32 kChunkSize = 64 * 1024;  ///< of data in transit
    static constexpr u8 kPaths = 8, kTargets = 64;

    /// @param max_sub_channels  0: a single channel
    Storage(StorageHost& host, u16 max_sub_channels) : host_(host), max_sub_channels_(max_sub_channels) { reset(); }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    /// Adds a unit; false if the place is taken, out of range (path < 8, target < 64) or all kMaxUnits are used.
    bool attach(u8 path, u8 target, u8 lun, ScsiDisk& disk);
    /// Scratch memory for the disks of this controller.
    [[nodiscard]] std::span<u8> scratch() { return scratch_; }

    /// True if another packet can be taken.
    [[nodiscard]] bool can_accept() const { return in_flight_ < kMaxInFlight; }
    /// Takes one packet; asserts can_accept().
    void on_packet(const StoragePacket& packet);
    /// Ends a scheduled request: its completion is sent.
    void finish(u32 slot);
    /// Forgets the requests of a channel: nothing is sent for them any more.
    void channel_closed(u32 channel);
    /// The primary channel was opened or closed: the guest starts from BEGIN_INIT, all requests are forgotten.
    void reset();

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u16 version() const { return version_; }
    [[nodiscard]] u32 in_flight() const { return in_flight_; }
    /// Commands by operation code, those to absent units included.
    [[nodiscard]] const std::array<u64, 256>& commands() const { return commands_; }
    [[nodiscard]] u64 absent_commands() const { return absent_commands_; }
    [[nodiscard]] u64 invalid_packets() const { return invalid_packets_; }
    void fields(StateVisitor& v);

  private:
    struct Unit {
        u8 path = 0, target = 0, lun = 0;
        ScsiDisk* disk = nullptr;
    };
    struct Request {
        bool used = false;
        bool silent = false;  ///< the guest wants no completion
        u32 channel = 0;
        u64 transaction_id = 0;
        storvsc::Packet reply{};
    };

    u32 initialise(storvsc::Packet& packet);
    void answer(const StoragePacket& from, storvsc::Packet& packet, u32 status);
    void execute(const StoragePacket& from, storvsc::Packet& packet);
    void run_command(const StoragePacket& from, storvsc::Srb& srb);
    ScsiResult address_unit(const storvsc::Srb& srb, const std::array<u8, 16>& cdb, DataBuffer& data, bool& absent);
    [[nodiscard]] ScsiDisk* find(u8 path, u8 target, u8 lun) const;
    void finish_all();
    void release(Request& request);
    void reset_requests();
    void request_fields(StateVisitor& v);

    StorageHost& host_;
    u16 max_sub_channels_;
    State state_ = State::AwaitBegin;
    u16 version_ = 0;
    std::array<Unit, kMaxUnits> units_{};
    u32 unit_count_ = 0;
    std::array<Request, kMaxInFlight> requests_{};
    u32 in_flight_ = 0;  ///< requests_ in use
    std::array<u64, 256> commands_{};
    u64 absent_commands_ = 0;
    u64 invalid_packets_ = 0;
    alignas(64) std::array<u8, kChunkSize> scratch_{};
};

}  // namespace vg::hv::vsp
