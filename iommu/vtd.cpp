#include "iommu/vtd.h"

#include <fmt/format.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "iommu/views.h"

namespace vg::iommu {
namespace {

constexpr u32 kVersion1_0 = 0x10;         // what is offered is told by CAP and ECAP alone
constexpr unsigned kMaxAddressMask = 18;  // a page-selective invalidation covers up to 1 GiB
constexpr unsigned kMaxHandleMask = 15;

constexpr u32 low_half(u64 value) { return static_cast<u32>(value); }
constexpr u32 high_half(u64 value) { return static_cast<u32>(value >> 32); }
u32 half_at(u32 offset, u64 value) { return (offset & 4) != 0 ? high_half(value) : low_half(value); }
constexpr u64 kGranules = ~(reg::pmen::kGranule - 1);

constexpr bool is_record(u32 offset) {
    return offset >= reg::kFaultRecords && offset < reg::kFaultRecords + Vtd::kFaultRecords * 16;
}
/// The four registers of an event follow its control register.
constexpr bool is_event(u32 offset, u32 control) { return offset >= control && offset < control + 16; }

u64 capabilities_of(const VtdConfig& config) {
    using namespace reg::cap;
    u64 cap = kDomains64K | kZeroLengthRead | kPageSelective | kDrainReads | kDrainWrites;
    if (config.write_buffer_flush) cap |= kRequiredWriteBufferFlush;
    if (config.protected_regions) cap |= kProtectedLow | kProtectedHigh;
    if (config.caching_mode) cap |= kCachingMode;
    if (config.levels3) cap |= kAgaw39;
    if (config.levels4) cap |= kAgaw48;
    if (config.pages_2m) cap |= kPages2M;
    if (config.pages_1g) cap |= kPages1G;
    cap |= u64{config.levels4 ? 47u : 38u} << kMgawLow;
    cap |= u64{reg::kFaultRecords / 16} << kFaultOffsetLow;
    cap |= u64{Vtd::kFaultRecords - 1} << kFaultCountLow;
    cap |= u64{kMaxAddressMask} << kMaxMaskLow;
    return cap;
}

u64 extended_capabilities_of(const VtdConfig& config) {
    using namespace reg::ecap;
    u64 ecap = kCoherent | kQueuedInvalidation | (u64{reg::kInvalidateAddress / 16} << kIotlbOffsetLow);
    if (config.pass_through) ecap |= kPassThrough;
    if (config.snoop_control) ecap |= kSnoopControl;
    if (!config.interrupt_remapping) return ecap;
    ecap |= kInterruptRemapping | (u64{kMaxHandleMask} << kMaxHandleMaskLow);
    if (config.x2apic) ecap |= kExtendedInterruptMode;
    return ecap;
}

}  // namespace

Vtd::Vtd(mmu::PhysicalMemory& memory, EventQueue& events, Log& log, devices::MessageSink& out, VtdConfig config)
    : memory_(memory),
      events_(events),
      log_(log),
      out_(out),
      config_(std::move(config)),
      capabilities_(capabilities_of(config_)),
      extended_capabilities_(extended_capabilities_of(config_)),
      queue_timer_(events.add(config_.name + ".queue", [this](VTime) { run_queue(); })),
      unidentified_(std::make_unique<Sink>(*this, u16{0}, false)) {
    VG_ASSERT(config_.levels3 || config_.levels4);
    VG_ASSERT(config_.host_address_bits >= 32 && config_.host_address_bits <= 52);
}

Vtd::~Vtd() = default;

mmu::Dma& Vtd::dma(u16 rid) {
    auto& view = views_[rid];
    if (view == nullptr) view = std::make_unique<View>(*this, rid);
    return *view;
}

devices::MessageSink& Vtd::messages(u16 rid) {
    auto& sink = sinks_[rid];
    if (sink == nullptr) sink = std::make_unique<Sink>(*this, rid, true);
    return *sink;
}

devices::MessageSink& Vtd::unidentified_messages() { return *unidentified_; }

void Vtd::reset() {
    state_ = {};
    contexts_ = {};
    iotlb_ = {};
    interrupts_ = {};
    history_.clear();
    events_.cancel(queue_timer_);
}

u64 Vtd::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    unsigned have = 0;
    for (u32 at = static_cast<u32>(align_down(offset, 4)); have < size; at += 4) {
        const unsigned skip = at < offset ? static_cast<unsigned>(offset - at) : 0;
        value |= u64{read_register(at)} >> (skip * 8) << (have * 8);
        have += 4 - skip;
    }
    return value & low_mask(size * 8);
}

void Vtd::mmio_write(u64 offset, unsigned size, u64 value) {
    if (size < 4 || offset % size != 0) {
        if (access_log_.pass()) {
            log_.info(Area::Iommu, "{}: write of {} bytes at 0x{:03x} dropped: 4 or 8, aligned, are possible",
                      config_.name, size, offset);
        }
        return;
    }
    write_register(static_cast<u32>(offset), low_half(value));
    if (size == 8) write_register(static_cast<u32>(offset) + 4, high_half(value));
}

/// The registers of 64 bits that hold what was written.
u64 Vtd::State::*Vtd::wide_register(u32 offset) {
    switch (offset) {
        case reg::kRootTable:
            return &State::root_register;
        case reg::kContextCommand:
            return &State::context_command;
        case reg::kProtectedHighBase:
            return &State::protected_high_base;
        case reg::kProtectedHighLimit:
            return &State::protected_high_limit;
        case reg::kQueueAddress:
            return &State::queue_address;
        case reg::kInterruptTable:
            return &State::interrupt_register;
        case reg::kInvalidateAddress:
            return &State::invalidate_address;
        case reg::kIotlbInvalidate:
            return &State::iotlb_command;
        default:
            return nullptr;
    }
}

u64 Vtd::writable_bits(u32 offset) const {
    switch (offset) {
        case reg::kRootTable:
            return reg::kTableAddress | u64{3} << reg::kTranslationModeLow;
        case reg::kContextCommand:
            return reg::ccmd::kWritable;
        case reg::kProtectedHighBase:
        case reg::kProtectedHighLimit:
            return low_mask(config_.host_address_bits) & kGranules;
        case reg::kQueueAddress:
            return reg::kTableAddress | reg::kWideDescriptors | low_mask(reg::kQueueSizeHigh + 1);
        case reg::kInterruptTable:
            return reg::kTableAddress | low_mask(reg::kInterruptTableSizeHigh + 1) |
                   (config_.x2apic ? reg::kExtendedMode : 0);
        case reg::kInvalidateAddress:
            return reg::iotlb::kAddressWritable;
        case reg::kIotlbInvalidate:
            return reg::iotlb::kWritable;
        default:
            return 0;
    }
}

u32 Vtd::read_event(const Event& event, u32 offset) {
    switch (offset) {
        case 0:
            return event.control;
        case 4:
            return event.data;
        case 8:
            return event.address;
        default:
            return event.upper;
    }
}

u32 Vtd::read_register(u32 offset) const {
    const State& s = state_;
    if (is_record(offset)) {
        const FaultRecord& record = s.records[(offset - reg::kFaultRecords) / 16];
        return half_at(offset, (offset & 8) != 0 ? record.high : record.low);
    }
    if (is_event(offset, reg::kFaultControl)) return read_event(s.fault_event, offset - reg::kFaultControl);
    if (is_event(offset, reg::kCompletionControl)) {
        return read_event(s.completion_event, offset - reg::kCompletionControl);
    }
    const u32 wide = offset & ~4u;
    if (u64 State::*const member = wide_register(wide); member != nullptr) return half_at(offset, s.*member);
    switch (offset) {
        case reg::kVersion:
            return kVersion1_0;
        case reg::kCap:
        case reg::kCap + 4:
            return half_at(offset, capabilities_);
        case reg::kExtendedCap:
        case reg::kExtendedCap + 4:
            return half_at(offset, extended_capabilities_);
        case reg::kGlobalStatus:
            return s.status;
        case reg::kFaultStatus:
            return fault_status();
        case reg::kProtectedEnable:
            return s.protected_enable;
        case reg::kProtectedLowBase:
            return s.protected_low_base;
        case reg::kProtectedLowLimit:
            return s.protected_low_limit;
        case reg::kQueueHead:
            return s.queue_head;
        case reg::kQueueTail:
            return s.queue_tail;
        case reg::kCompletionStatus:
            return s.completion_status;
        case reg::kQueueError:
            return s.queue_error;
        default:
            return 0;
    }
}

/// Half of a register of 64 bits. A command starts when its high half, with the command bit, is written.
void Vtd::write_wide(u32 offset, u32 value) {
    const u32 whole = offset & ~4u;
    u64& field = state_.*wide_register(whole);
    const bool high = offset != whole;
    const u64 mask = writable_bits(whole) & (high ? ~low_mask(32) : low_mask(32));
    field = (field & ~mask) | ((high ? u64{value} << 32 : value) & mask);
    if (offset == reg::kContextCommand + 4 && (field & reg::ccmd::kInvalidate) != 0) invalidate_context(field);
    if (offset == reg::kIotlbInvalidate + 4 && (field & reg::iotlb::kInvalidate) != 0) invalidate_iotlb(field);
}

void Vtd::write_register(u32 offset, u32 value) {
    State& s = state_;
    if (is_record(offset)) return write_record((offset - reg::kFaultRecords) / 16, (offset / 4) % 4, value);
    if (is_event(offset, reg::kFaultControl)) return write_event(s.fault_event, offset - reg::kFaultControl, value);
    if (is_event(offset, reg::kCompletionControl)) {
        return write_event(s.completion_event, offset - reg::kCompletionControl, value);
    }
    if (wide_register(offset & ~4u) != nullptr) return write_wide(offset, value);
    switch (offset) {
        case reg::kGlobalCommand:
            write_command(value);
            break;
        case reg::kFaultStatus:
            write_fault_status(value);
            break;
        case reg::kProtectedEnable:
            if (!config_.protected_regions) break;
            s.protected_enable = (value & reg::pmen::kEnable) != 0 ? reg::pmen::kEnable | reg::pmen::kStatus : 0;
            break;
        case reg::kProtectedLowBase:
            s.protected_low_base = value & low_half(kGranules);
            break;
        case reg::kProtectedLowLimit:
            s.protected_low_limit = value & low_half(kGranules);
            break;
        case reg::kQueueTail:
            s.queue_tail = value & reg::kQueueOffset;
            run_queue();
            break;
        case reg::kCompletionStatus:
            if ((value & reg::kWaitComplete) == 0) break;
            s.completion_status = 0;
            s.completion_event.control &= ~reg::event::kPending;
            break;
        default:
            break;
    }
}

/// "Global Command Register": levels follow the bits, pointers are latched; each completes at once. A write buffer
/// flush has nothing to wait for: tables are read from memory when they are needed.
void Vtd::write_command(u32 value) {
    using namespace reg::global;
    State& s = state_;
    u32 levels = kTranslation | kQueuedInvalidation;
    if ((value & kRootPointer) != 0) {
        s.root = s.root_register;
        s.status |= kRootPointer;
    }
    if (config_.interrupt_remapping) {
        levels |= kInterruptRemapping | kCompatibilityFormat;
        if ((value & kInterruptPointer) != 0) {
            s.interrupt_table = s.interrupt_register;
            s.status |= kInterruptPointer;
        }
    }
    s.status = (s.status & ~levels) | (value & levels);
    if ((s.status & kQueuedInvalidation) == 0) {
        s.queue_head = 0;
        events_.cancel(queue_timer_);
    } else {
        run_queue();
    }
}

/// The four registers of one event. Unmasking sends what was pending.
void Vtd::write_event(Event& event, u32 offset, u32 value) {
    switch (offset) {
        case 0:
            event.control = (event.control & ~reg::event::kMask) | (value & reg::event::kMask);
            if ((event.control & reg::event::kPending) != 0) deliver(event);
            break;
        case 4:
            event.data = value & reg::event::kData;
            break;
        case 8:
            event.address = value & reg::event::kAddress;
            break;
        default:
            event.upper = config_.x2apic ? value : 0;
            break;
    }
}

void Vtd::event_fields(StateVisitor& v, std::string_view name, Event& event) {
    const VisitScope scope(v, name);
    v("control", event.control);
    v("data", event.data);
    v("address", event.address);
    v("upper", event.upper);
}

void Vtd::fields(StateVisitor& v) {
    State& s = state_;
    v("status", s.status);
    v("root_register", s.root_register);
    v("root", s.root);
    v("interrupt_register", s.interrupt_register);
    v("interrupt_table", s.interrupt_table);
    v("context_command", s.context_command);
    v("iotlb_command", s.iotlb_command);
    v("invalidate_address", s.invalidate_address);
    v("fault_status", s.fault_status);
    v("first_record", s.first_record, Fmt::Dec);
    v("next_record", s.next_record, Fmt::Dec);
    for (u32 i = 0; i < kFaultRecords; ++i) {
        const VisitScope scope(v, fmt::format("record{}", i));
        v("low", s.records[i].low);
        v("high", s.records[i].high);
    }
    event_fields(v, "fault_event", s.fault_event);
    event_fields(v, "completion_event", s.completion_event);
    v("completion_status", s.completion_status);
    v("protected_enable", s.protected_enable);
    v("protected_low_base", s.protected_low_base);
    v("protected_low_limit", s.protected_low_limit);
    v("protected_high_base", s.protected_high_base);
    v("protected_high_limit", s.protected_high_limit);
    v("queue_address", s.queue_address);
    v("queue_head", s.queue_head);
    v("queue_tail", s.queue_tail);
    v("queue_error", s.queue_error);
    contexts_.fields(v);
    iotlb_.fields(v);
    interrupts_.fields(v);
    if (v.loading()) {
        s.next_record %= kFaultRecords;
        s.first_record %= kFaultRecords;
        s.queue_head &= reg::kQueueOffset;
        s.queue_tail &= reg::kQueueOffset;
        return;
    }
    for (const auto& [rid, view] : views_) {
        const ContextInfo info = peek_context(rid);
        const bool on = (s.status & reg::global::kTranslation) != 0;
        v.note(fmt::format("device {}", rid_text(rid)),
               !on                                ? "not translated"
               : info.reason != FaultReason::None ? std::string(to_string(info.reason))
               : info.pass_through
                   ? fmt::format("domain {} passes through", info.domain)
                   : fmt::format("domain {} by {} levels at 0x{:x}", info.domain, info.levels, info.table.value));
    }
    for (u32 i = 0; i < history_.faults.size(); ++i) v.note(fmt::format("fault {}", i), describe(history_.faults[i]));
    for (u32 i = 0; i < history_.transfers.size(); ++i) {
        v.note(fmt::format("transfer {}", i), describe(history_.transfers[i]));
    }
}

}  // namespace vg::iommu
