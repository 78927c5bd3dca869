// A SCSI controller of the built-in parent: the storage core between a VMBus channel and block devices.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "base/result.h"
#include "hv/parent/due.h"
#include "hv/vmbus/channel.h"
#include "hv/vsp/storage.h"

namespace vg::devices {
class BlockDevice;
}

namespace vg::hv::parent {

/// When a request that moved `bytes` ends: a fixed latency plus the transfer at 2 GB/s. Virtual time, so the same in
/// every run.
constexpr VTime storage_latency_ns(u32 bytes) { return 20'000 + bytes / 2; }

/// Offered through Server::offer; all calls on the machine's thread.
class StorageController final : public vmbus::ChannelDevice, private vsp::StorageHost {
  public:
    /// @param name              unique in the machine: it names the timer
    /// @param max_sub_channels  0 for a single channel
    StorageController(std::string name, const Guid& instance, EventQueue& events, Log& log, u16 max_sub_channels);
    ~StorageController() override;
    StorageController(const StorageController&) = delete;
    StorageController& operator=(const StorageController&) = delete;

    /// Puts a disk at path/target/lun. Error (Usage): the place is taken or out of range, or the disk has no sector.
    /// @param description  for people: "vhd (differencing of base.vhd)"
    Result<void> attach(u8 path, u8 target, u8 lun, std::unique_ptr<vsp::BlockBackend> backend, std::string description);
    /// The same for a disk image of the host (storage_device.cpp).
    Result<void> attach(u8 path, u8 target, u8 lun, std::unique_ptr<devices::BlockDevice> device);

    /// Told when a guest's driver begins to use the controller, and when none does any more.
    void on_use(std::function<void(bool in_use)> observer) { on_use_ = std::move(observer); }

    void opened(vmbus::Channel& channel) override;
    void signalled(vmbus::Channel& channel) override;
    void closed(vmbus::Channel& channel) override;
    void restored(vmbus::Channel& channel) override;
    void fields(StateVisitor& v) override;

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const Guid& instance() const { return instance_; }
    [[nodiscard]] const vsp::Storage& core() const { return *core_; }
    struct Disk {
        u8 path, target, lun;
        std::string description;
        std::unique_ptr<vsp::BlockBackend> backend;
        std::unique_ptr<vsp::ScsiDisk> scsi;
    };
    [[nodiscard]] const std::vector<Disk>& disks() const { return disks_; }

  private:
    using Reply = std::array<u8, sizeof(storvsc::Packet)>;
    struct OpenChannel {
        vmbus::Channel* channel = nullptr;
        bool stalled = false;                      ///< packets were left in the ring because the core was full
        std::deque<std::pair<u64, Reply>> unsent;  ///< completions that found no room
    };

    void complete(u32 channel, u64 transaction_id, std::span<const u8> packet) override;
    void schedule(u32 slot, u32 bytes) override;
    void offer_sub_channels(u16 count) override;

    void pump(OpenChannel& open);
    void take(OpenChannel& open, const vmbus::Packet& packet);
    bool send_unsent(OpenChannel& open);
    void finish_due(VTime now);
    void arm();
    void channel_fields(StateVisitor& v);

    std::string name_;
    Guid instance_;
    EventQueue& events_;
    Log& log_;
    std::unique_ptr<vsp::Storage> core_;
    std::vector<Disk> disks_;
    std::map<u32, OpenChannel> open_;  ///< by relid
    std::set<Due> due_;                ///< at most kMaxInFlight; some may be of requests that a reset has ended
    std::array<u64, vsp::Storage::kMaxInFlight> sequence_of_{};  ///< of the latest request in a slot
    u64 next_sequence_ = 1;
    EventQueue::TimerId timer_;
    vmbus::GpaRanges ranges_;
    std::function<void(bool)> on_use_;
};

}  // namespace vg::hv::parent
