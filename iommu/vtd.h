// An Intel VT-d remapping unit: DMA and interrupt remapping in legacy mode. VT-d 4.1 (edition: iommu/spec/registers.h).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/events.h"
#include "base/log.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "iommu/caches.h"
#include "iommu/history.h"
#include "iommu/spec/invalidation.h"
#include "mmu/dma.h"

namespace vg::iommu {

/// What the unit reports in CAP and ECAP, and then does. Not offered: device TLBs, scalable mode, posted interrupts,
/// page requests, advanced fault logging.
struct VtdConfig {
    std::string name = "vtd0";  ///< unique in the machine: names the unit's state and its timer
    u8 host_address_bits = 46;  ///< HAW, 32..52: address bits above it are reserved in every table
    bool levels3 = true;        ///< 39-bit AGAW
    bool levels4 = true;        ///< 48-bit AGAW; one of the two at least
    bool pages_2m = true, pages_1g = true;
    bool caching_mode = false;        ///< CM: entries that are absent or wrong are cached too
    bool write_buffer_flush = false;  ///< RWBF: asks software for flushes, which complete at once
    bool protected_regions = true;    ///< PLMR and PHMR
    bool pass_through = true, snoop_control = true;
    bool interrupt_remapping = true, x2apic = true;
};

/// The device tables' answer for one requester id, without side effects: for people and for tests.
struct ContextInfo {
    FaultReason reason = FaultReason::None;  ///< None: the rest is valid
    u16 domain = 0;
    bool pass_through = false;
    u8 levels = 0;  ///< 3 or 4
    Spa table{};    ///< top second-level table
};

/// Everything that devices do to memory and to interrupt controllers goes through the views that `dma` and `messages`
/// hand out. All of it runs on the machine's thread, synchronously; only a long invalidation queue goes on later, on
/// the event queue. What a guest writes into registers, tables or the queue can refuse a device, never reach beyond
/// RAM, and never makes the unit do more than kQueueBurst descriptors at a time.
class Vtd final : public devices::Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kSize = reg::kSize;
    static constexpr u32 kFaultRecords = 8;
    static constexpr u32 kQueueBurst = 64;      ///< descriptors in one go
    static constexpr VTime kQueuePause = 1000;  ///< virtual ns until the next ones

    /// @param out  takes remapped and permitted messages, and the unit's own events. An x2APIC destination's bits 31:8
    /// are
    ///             the address's bits 63:40 (as in FEUADDR).
    Vtd(mmu::PhysicalMemory& memory, EventQueue& events, Log& log, devices::MessageSink& out, VtdConfig config = {});
    Vtd(const Vtd&) = delete;
    Vtd& operator=(const Vtd&) = delete;

    /// The memory that requester `rid` (bus 15:8, device 7:3, function 2:0) reaches. Lives as long as the unit. A
    /// 4-byte write to FEEx_xxxx is an interrupt request.
    [[nodiscard]] mmu::Dma& dma(u16 rid);
    /// Where the MSIs of requester `rid` go, IOAPICs among them. A message to an address outside FEEx_xxxx is a 4-byte
    /// DMA.
    [[nodiscard]] devices::MessageSink& messages(u16 rid);
    /// For a chip that has no requester id: its messages are remapped, but an entry's source validation does not apply.
    [[nodiscard]] devices::MessageSink& unidentified_messages();

    /// Where the unit's own events (fault, completion) go instead of to `out`: a hypervisor whose unit it is, so that
    /// they do not meet the messages of its guests' devices. Called in the middle of a transfer; null: to `out`.
    void set_event_sink(devices::MessageSink* sink) { event_sink_ = sink; }

    [[nodiscard]] std::string_view name() const override { return config_.name; }
    void reset() override;
    void fields(StateVisitor& v) override;
    mmu::MmioHandler* mmio() override { return this; }
    /// 4 and 8 bytes, naturally aligned, as the specification allows ("Register Location"). Other reads give the bytes
    /// of the registers that they touch; other writes are dropped.
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

    [[nodiscard]] const VtdConfig& config() const { return config_; }
    [[nodiscard]] u64 capabilities() const { return capabilities_; }
    [[nodiscard]] u64 extended_capabilities() const { return extended_capabilities_; }
    /// From the tables in memory, not from the caches.
    [[nodiscard]] ContextInfo peek_context(u16 rid) const;
    /// The last transfers and faults, oldest first.
    [[nodiscard]] const History& history() const { return history_; }

  private:
    class View;
    class Sink;
    /// One translated page, or why there is none.
    struct Page {
        Verdict verdict = Verdict::Refused;
        FaultReason reason = FaultReason::None;
        u64 spa = 0;  ///< of the byte asked for
    };
    /// A context entry taken apart; with a reason, only `fault_disable` counts.
    struct Context {
        FaultReason reason = FaultReason::None;
        bool fault_disable = false, pass_through = false;
        u16 domain = 0;
        u8 levels = 0;
        u64 table = 0;
    };
    struct FaultRecord {
        u64 low = 0, high = 0;
    };
    struct Event {
        u32 control = reg::event::kMask, data = 0, address = 0, upper = 0;
    };
    struct State {
        u32 status = 0;                                 ///< GSTS
        u64 root_register = 0, interrupt_register = 0;  ///< as written
        u64 root = 0, interrupt_table = 0;              ///< as latched by SRTP and SIRTP
        u64 context_command = 0, iotlb_command = 0, invalidate_address = 0;
        u32 fault_status = 0;  ///< PFO and IQE; PPF and FRI follow from the records
        u8 first_record = 0, next_record = 0;
        std::array<FaultRecord, kFaultRecords> records;
        Event fault_event, completion_event;
        u32 completion_status = 0;
        u32 protected_enable = 0, protected_low_base = 0, protected_low_limit = 0;
        u64 protected_high_base = 0, protected_high_limit = 0;
        u64 queue_address = 0;
        u32 queue_head = 0, queue_tail = 0;
        u8 queue_error = 0;
    };

    // vtd.cpp: registers
    [[nodiscard]] u32 read_register(u32 offset) const;
    void write_register(u32 offset, u32 value);
    [[nodiscard]] static u64 State::*wide_register(u32 offset);
    [[nodiscard]] u64 writable_bits(u32 offset) const;
    void write_wide(u32 offset, u32 value);
    [[nodiscard]] static u32 read_event(const Event& event, u32 offset);
    void write_command(u32 value);
    void write_event(Event& event, u32 offset, u32 value);
    void event_fields(StateVisitor& v, std::string_view name, Event& event);

    // translate.cpp: DMA remapping
    [[nodiscard]] bool transfer(u16 rid, u64 iova, u64 size, bool write, u8* to, const u8* from);
    [[nodiscard]] Page translate(u16 rid, u64 iova, bool write);
    [[nodiscard]] Page walk(u16 rid, const Context& context, u64 iova, bool write);
    [[nodiscard]] FaultReason walk_tables(const Context& context, u64 iova, bool write, Iotlb::Entry& found) const;
    [[nodiscard]] Context find_context(u16 rid);
    [[nodiscard]] Context load_context(u16 rid, ContextEntry& entry) const;
    [[nodiscard]] FaultReason check_context(const ContextEntry& entry) const;
    [[nodiscard]] static Context take_apart(const ContextEntry& entry);
    [[nodiscard]] u64 above_host() const;
    [[nodiscard]] bool is_protected(u64 spa) const;
    template <class T>
    [[nodiscard]] bool load(u64 spa, T& out) const;

    // remap.cpp: interrupt remapping
    void interrupt(u16 rid, bool identified, u64 address, u32 data);
    [[nodiscard]] FaultReason find_irte(u16 rid, bool identified, u32 index, Irte& irte);
    [[nodiscard]] FaultReason check_irte(const Irte& irte, u16 rid, bool identified) const;

    // invalidate.cpp
    void invalidate_context(u64 command);
    void invalidate_iotlb(u64 command);
    void run_queue();
    void queue_failed(reg::QueueError error);
    [[nodiscard]] reg::QueueError run_descriptor(const Descriptor& d);
    [[nodiscard]] reg::QueueError run_iotlb(const Descriptor& d);
    [[nodiscard]] reg::QueueError run_wait(const Descriptor& d);

    // fault.cpp
    void dma_fault(u16 rid, FaultReason reason, u64 iova, bool write, bool recorded);
    void interrupt_fault(u16 rid, FaultReason reason, u32 index, bool recorded);
    void record(u64 low, u64 high);
    [[nodiscard]] u32 fault_status() const;
    void fault_event(u32 status_before);
    void deliver(Event& event);
    void write_fault_status(u32 value);
    void write_record(u32 index, u32 dword, u32 value);

    mmu::PhysicalMemory& memory_;
    EventQueue& events_;
    Log& log_;
    devices::MessageSink& out_;
    devices::MessageSink* event_sink_ = nullptr;
    VtdConfig config_;
    u64 capabilities_ = 0, extended_capabilities_ = 0;
    EventQueue::TimerId queue_timer_;

    State state_;
    ContextCache contexts_;
    Iotlb iotlb_;
    InterruptCache interrupts_;
    History history_;
    RateLimit fault_log_{20}, access_log_{5};
    std::map<u16, std::unique_ptr<View>> views_;
    std::map<u16, std::unique_ptr<Sink>> sinks_;
    std::unique_ptr<Sink> unidentified_;

  public:
    ~Vtd() override;
};

}  // namespace vg::iommu
