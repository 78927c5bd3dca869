// Invalidation by registers and by the queue. VT-d 4.1 "Invalidation of Translation Caches".
#include "base/bits.h"
#include "iommu/views.h"

namespace vg::iommu {
namespace {

using reg::QueueError;

/// Function bits that a context invalidation ignores. "Context Command Register", FM.
constexpr u16 ignored_function_bits(u64 mask) {
    constexpr u16 kIgnored[] = {0, 4, 6, 7};
    return kIgnored[mask & 3];
}

unsigned max_address_mask(u64 capabilities) { return static_cast<unsigned>(bits(capabilities, 53, 48)); }

}  // namespace

/// "Context Command Register". While the queue is on, a request here is ignored and says so (granularity 0).
void Vtd::invalidate_context(u64 command) {
    u64 done = bits(command, reg::ccmd::kRequestedLow + 1, reg::ccmd::kRequestedLow);
    if ((state_.status & reg::global::kQueuedInvalidation) != 0) done = reg::kReserved;
    const u16 domain = static_cast<u16>(command);
    const u16 source = static_cast<u16>(command >> reg::ccmd::kSourceLow);
    if (done == reg::kGlobal) contexts_.clear();
    if (done == reg::kDomain) contexts_.clear_domain(domain);
    if (done == reg::kSelective) {
        contexts_.clear_source(source, ignored_function_bits(command >> reg::ccmd::kMaskLow), domain);
    }
    state_.context_command =
        with_bits(command & ~reg::ccmd::kInvalidate, reg::ccmd::kActualLow + 1, reg::ccmd::kActualLow, done);
}

/// "IOTLB Invalidate Register". A mask beyond MAMV is an incorrect request, which is ignored.
void Vtd::invalidate_iotlb(u64 command) {
    u64 done = bits(command, reg::iotlb::kRequestedLow + 1, reg::iotlb::kRequestedLow);
    const unsigned mask = static_cast<unsigned>(state_.invalidate_address & reg::iotlb::kMask);
    if ((state_.status & reg::global::kQueuedInvalidation) != 0) done = reg::kReserved;
    if (done == reg::kSelective && mask > max_address_mask(capabilities_)) done = reg::kReserved;
    const u16 domain = static_cast<u16>(command >> reg::iotlb::kDomainLow);
    if (done == reg::kGlobal) iotlb_.clear();
    if (done == reg::kDomain) iotlb_.clear_domain(domain);
    if (done == reg::kSelective) iotlb_.clear_pages(domain, state_.invalidate_address & ~kPageMask, mask);
    state_.iotlb_command =
        with_bits(command & ~reg::iotlb::kInvalidate, reg::iotlb::kActualLow + 1, reg::iotlb::kActualLow, done);
}

/// "Queued Invalidation Interface": descriptors from head to tail, until one is wrong; then nothing is fetched before
/// software clears IQE.
void Vtd::run_queue() {
    State& s = state_;
    const u32 size = static_cast<u32>(kPageSize) << bits(s.queue_address, reg::kQueueSizeHigh, 0);
    for (u32 i = 0; s.queue_head != s.queue_tail; ++i) {
        const bool stopped = (s.fault_status & reg::fsts::kQueueError) != 0;
        if ((s.status & reg::global::kQueuedInvalidation) == 0 || stopped) return;
        if (i == kQueueBurst) {
            events_.arm(queue_timer_, events_.now() + kQueuePause);
            return;
        }
        Descriptor descriptor;
        QueueError error = reg::kNoError;
        if ((s.queue_address & reg::kWideDescriptors) != 0) {
            error = reg::kBadWidth;
        } else if (s.queue_tail >= size || s.queue_head >= size) {
            error = reg::kBadTail;
        } else if (!load((s.queue_address & reg::kTableAddress) + s.queue_head, descriptor)) {
            error = reg::kFetchFailed;
        } else {
            error = run_descriptor(descriptor);
        }
        if (error != reg::kNoError) {
            queue_failed(error);
            return;
        }
        s.queue_head = (s.queue_head + static_cast<u32>(sizeof descriptor)) % size;
    }
}

void Vtd::queue_failed(QueueError error) {
    const u32 before = fault_status();
    state_.queue_error = error;
    state_.fault_status |= reg::fsts::kQueueError;
    if (fault_log_.pass()) {
        log_.info(Area::Iommu, "{}: invalidation queue stops at 0x{:x}: error {}", config_.name, state_.queue_head,
                  static_cast<u32>(error));
    }
    fault_event(before);
}

QueueError Vtd::run_descriptor(const Descriptor& d) {
    using namespace descriptor;
    if (bits(d.low, Descriptor::kTypeUpperHigh, Descriptor::kTypeUpperLow) != 0) return reg::kBadType;
    const u64 granularity = bits(d.low, kGranularityHigh, kGranularityLow);
    const u16 domain = static_cast<u16>(bits(d.low, kDomainHigh, kDomainLow));
    switch (static_cast<DescriptorType>(bits(d.low, Descriptor::kTypeHigh, 0))) {
        case DescriptorType::Context:
            if ((d.low & kContextReservedLow) != 0 || (d.high & kContextReservedHigh) != 0) return reg::kReservedField;
            if (granularity == reg::kReserved) return reg::kReservedField;
            if (granularity == reg::kGlobal) contexts_.clear();
            if (granularity == reg::kDomain) contexts_.clear_domain(domain);
            if (granularity == reg::kSelective) {
                contexts_.clear_source(static_cast<u16>(bits(d.low, kSourceHigh, kSourceLow)),
                                       ignored_function_bits(bits(d.low, kMaskHigh, kMaskLow)), domain);
            }
            return reg::kNoError;
        case DescriptorType::Iotlb:
            return run_iotlb(d);
        case DescriptorType::InterruptEntry: {
            if (!config_.interrupt_remapping) return reg::kBadType;
            const unsigned mask = static_cast<unsigned>(bits(d.low, kIndexMaskHigh, kIndexMaskLow));
            const bool selective = (d.low & kIndexSelective) != 0;
            if ((d.low & kEntryReservedLow) != 0 || (d.high & kEntryReservedHigh) != 0) return reg::kReservedField;
            if (!selective) {
                interrupts_.clear();
            } else if (mask > bits(extended_capabilities_, 23, 20)) {
                return reg::kReservedField;
            } else {
                interrupts_.clear_range(static_cast<u16>(bits(d.low, kIndexHigh, kIndexLow)), mask);
            }
            return reg::kNoError;
        }
        case DescriptorType::Wait:
            return run_wait(d);
    }
    return reg::kBadType;
}

QueueError Vtd::run_iotlb(const Descriptor& d) {
    using namespace descriptor;
    const u64 granularity = bits(d.low, kGranularityHigh, kGranularityLow);
    const u16 domain = static_cast<u16>(bits(d.low, kDomainHigh, kDomainLow));
    const unsigned mask = static_cast<unsigned>(d.high & kAddressMask);
    if ((d.low & kIotlbReservedLow) != 0 || (d.high & kIotlbReservedHigh) != 0) return reg::kReservedField;
    switch (granularity) {
        case reg::kGlobal:
            iotlb_.clear();
            break;
        case reg::kDomain:
            iotlb_.clear_domain(domain);
            break;
        case reg::kSelective:
            if (mask > max_address_mask(capabilities_)) return reg::kReservedField;
            iotlb_.clear_pages(domain, d.high & ~kPageMask, mask);
            break;
        default:
            return reg::kReservedField;
    }
    return reg::kNoError;
}

/// "Invalidation Wait Descriptor": the status is written before the interrupt. A status address without RAM behind it
/// swallows the write.
QueueError Vtd::run_wait(const Descriptor& d) {
    using namespace descriptor;
    if ((d.low & kWaitReservedLow) != 0 || (d.high & kWaitReservedHigh) != 0) return reg::kReservedField;
    if ((d.low & kStatusWrite) != 0) {
        const Spa status(d.high & kStatusAddress);
        if (memory_.ram(status) != nullptr) memory_.write<u32>(status, static_cast<u32>(d.low >> kStatusDataLow));
    }
    if ((d.low & kInterruptFlag) != 0 && (state_.completion_status & reg::kWaitComplete) == 0) {
        state_.completion_status |= reg::kWaitComplete;
        state_.completion_event.control |= reg::event::kPending;
        deliver(state_.completion_event);
    }
    return reg::kNoError;
}

}  // namespace vg::iommu
