// The built-in parent of one child: answers its intercepts, serves its VMBus.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "devices/core/io.h"
#include "hv/parent/socket_hub.h"
#include "hv/parent/storage_controller.h"
#include "hv/partition.h"
#include "hv/vmbus/server.h"
#include "mmu/physical_memory.h"

namespace vg::hv::parent {

/// What the machine wants to hear about its child. Called from inside the VP's slice: note it, act after the slice.
struct ParentEvents {
    std::function<void()> power_off;
    std::function<void()> reset;
    std::function<void(const CrashReport&)> crashed;
};

/// Wires of a PC's board that the processors of a generation-1 partition end at, as in cpu::Platform.
class BoardWires {
  public:
    virtual ~BoardWires() = default;
    virtual int acknowledge_external() = 0;
    virtual cpu::FerrAnswer ferr(bool active) = 0;
};

/// Create it, create the partition with it as its InterceptSink, then call attach(). Guest calls come on the VP's
/// thread inside a hypercall and are only queued; the work happens on the event queue 2 µs later, in order, so that a
/// device can never be re-entered from a guest's instruction.
class BuiltInParent final : public InterceptSink, private vmbus::Notifier, private PortOwner {
  public:
    static constexpr VTime kWorkDelay = 2'000;
    static constexpr std::size_t kMaxQueuedMessages = 64;  ///< then the poster gets InsufficientBuffers
    static constexpr VTime kMinRetryDelay = 50'000, kMaxRetryDelay = 10'000'000;

    /// @param name  unique in the machine: names timers
    BuiltInParent(std::string name, EventQueue& events, Log& log, devices::IoBus& ports, ParentEvents parent_events,
                  vmbus::ServerOptions options = {});
    ~BuiltInParent() override;
    BuiltInParent(const BuiltInParent&) = delete;
    BuiltInParent& operator=(const BuiltInParent&) = delete;

    /// Binds to the child and connects its message connections. Once.
    void attach(Partition& partition);
    /// Answers accesses to [base, base+size) of the child. Ranges must not overlap.
    void add_mmio(Gpa base, u64 size, mmu::MmioHandler& handler);
    /// The child has a PC's board, which outlives its processors' use. Before it runs.
    void set_board(BoardWires& board) { board_ = &board; }
    /// Offers a SCSI controller; lives as long as the parent. @param max_sub_channels  0: a single channel
    StorageController& add_storage_controller(const std::string& name, const Guid& instance, u16 max_sub_channels = 0);
    /// Offers the accelerator of an IDE disk (rows D-02, D-41): its LUN 0 at path 0 and target `drive`.
    /// @param channel  0 or 1  @param drive  0 or 1
    StorageController& add_ide_accelerator(const std::string& name, u8 channel, u8 drive);
    /// Offers any other device; it lives as long as the parent. Its state is saved under `offer.name`, which no other
    /// device of this parent has. Returns the relid.
    u16 add_device(vmbus::Offer offer, std::unique_ptr<vmbus::ChannelDevice> device);
    /// Answers the child's sockets; lives as long as the parent. Once.
    SocketHub& add_sockets(const std::string& name);
    /// Null: requests for sockets are refused.
    [[nodiscard]] SocketHub* sockets() const { return sockets_.get(); }
    /// The child was reset: its VMBus connection is forgotten, the offers stay.
    void reset();

    [[nodiscard]] vmbus::Server& server() { return server_; }
    [[nodiscard]] const vmbus::Server& server() const { return server_; }
    [[nodiscard]] const std::vector<std::unique_ptr<StorageController>>& storage() const { return storage_; }
    /// Signals to the guest that found its SINT masked or off (S-07).
    [[nodiscard]] u64 lost_signals() const { return lost_signals_; }
    void fields(StateVisitor& v);

    // InterceptSink
    u32 port_read(Vp& vp, u16 port, unsigned size) override;
    void port_write(Vp& vp, u16 port, unsigned size, u32 value) override;
    bool mmio_read(Vp& vp, Gpa gpa, unsigned size, u64& value) override;
    bool mmio_write(Vp& vp, Gpa gpa, unsigned size, u64 value) override;
    void partition_reset(Vp& vp) override;
    void partition_shutdown(Vp& vp) override;
    void partition_crashed(Vp& vp) override;
    int acknowledge_external(Vp& vp) override;
    cpu::FerrAnswer ferr(Vp& vp, bool active) override;

  private:
    /// A signal of a connection, or a channel message.
    struct Work {
        std::optional<u32> signal;
        std::vector<u8> message;
    };
    struct MmioRange {
        Gpa base;
        u64 size;
        mmu::MmioHandler* handler;
    };

    // Notifier
    bool send_message(u32 vp_index, u8 sint, std::span<const u8> message) override;
    void signal_guest(u32 vp_index, u8 sint, u16 flag) override;
    bool connect_event(u32 connection_id) override;
    void disconnect_event(u32 connection_id) override;
    bool read_guest(u64 gpa, void* out, u64 size) override;
    bool write_guest(u64 gpa, const void* data, u64 size) override;
    std::span<u8> guest_memory(u64 gpa, u64 size, bool fill) override;
    u64 partition_id() const override { return partition_->id(); }
    // PortOwner
    HvStatus on_message(Partition& from, u32 connection_id, const PostedMessage& message) override;
    HvStatus on_signal(Partition& from, u32 connection_id, u16 flag) override;

    StorageController& offer_storage(vmbus::Offer offer, u16 max_sub_channels);
    void schedule_work();
    void run_work();
    void retry();
    void work_fields(StateVisitor& v);
    [[nodiscard]] const MmioRange* find_mmio(Gpa gpa, unsigned size) const;

    EventQueue& events_;
    Log& log_;
    devices::IoBus& ports_;
    ParentEvents parent_events_;
    vmbus::ServerOptions options_;
    Partition* partition_ = nullptr;
    BoardWires* board_ = nullptr;
    std::vector<MmioRange> mmio_;
    struct Device {
        std::string name;
        std::unique_ptr<vmbus::ChannelDevice> device;
    };
    std::vector<std::unique_ptr<StorageController>> storage_;  // outlives the server's channels
    std::vector<Device> devices_;                              // so does this
    std::unique_ptr<SocketHub> sockets_;                       // and this
    vmbus::Server server_;
    std::deque<Work> work_;
    std::size_t queued_messages_ = 0;
    std::set<u32> queued_signals_;
    EventQueue::TimerId work_timer_, retry_timer_;
    VTime retry_delay_ = kMinRetryDelay;
    u64 lost_signals_ = 0;
    RateLimit complaints_;
};

}  // namespace vg::hv::parent
