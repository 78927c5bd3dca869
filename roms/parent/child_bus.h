// A child's VMBus: the same server and devices as under the built-in parent, between hypercalls.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "hv/parent/storage_controller.h"
#include "hv/vmbus/server.h"
#include "roms/parent/child_memory.h"
#include "roms/parent/ports.h"

namespace vg::parent {

/// Messages and signals of the child are queued as they come and worked on by run(), in their order.
class ChildBus final : private hv::vmbus::Notifier, private PortOwner {
  public:
    static constexpr std::size_t kMaxQueuedMessages =
        64;  ///< beyond it a child that does not take its answers loses its own
    static constexpr VTime kMinRetryDelay = 50'000, kMaxRetryDelay = 10'000'000;

    ChildBus(std::string name, u64 partition_id, Ports& ports, ChildMemory& memory, EventQueue& events, Log& log);
    ~ChildBus() override;
    ChildBus(const ChildBus&) = delete;
    ChildBus& operator=(const ChildBus&) = delete;

    /// Makes the connections that channel messages are posted to.
    HvStatus connect();
    /// Offers a SCSI controller; it lives as long as the bus.
    hv::parent::StorageController& add_storage_controller(const hv::Guid& instance, u16 max_sub_channels);
    /// Does what was queued. True if there was anything.
    bool run();

    [[nodiscard]] const hv::vmbus::Server& server() const { return server_; }
    [[nodiscard]] const std::vector<std::unique_ptr<hv::parent::StorageController>>& storage() const {
        return storage_;
    }

  private:
    struct Work {
        bool is_signal = false;
        u32 connection_id = 0;
        std::vector<u8> message;
    };

    // Notifier
    bool send_message(u32 vp_index, u8 sint, std::span<const u8> message) override;
    void signal_guest(u32 vp_index, u8 sint, u16 flag) override;
    bool connect_event(u32 connection_id) override;
    void disconnect_event(u32 connection_id) override;
    bool read_guest(u64 gpa, void* out, u64 size) override;
    bool write_guest(u64 gpa, const void* data, u64 size) override;
    // PortOwner
    void on_message(u32 type, std::span<const u8> payload) override;
    void on_signal(u32 connection_id) override;

    void retry();

    std::string name_;
    u64 partition_id_;
    Ports& ports_;
    ChildMemory& memory_;
    EventQueue& events_;
    Log& log_;
    std::vector<std::unique_ptr<hv::parent::StorageController>> storage_;  // outlives the server's channels
    hv::vmbus::Server server_;
    std::deque<Work> work_;
    std::size_t queued_messages_ = 0;
    std::set<u32> queued_signals_;
    EventQueue::TimerId retry_timer_;
    VTime retry_delay_ = kMinRetryDelay;
    RateLimit complaints_;
};

}  // namespace vg::parent
