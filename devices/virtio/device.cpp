#include "devices/virtio/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace virtio;

namespace {

// The one BAR, a page for each structure.
constexpr u32 kBar = 0, kPage = 0x1000, kCommonAt = 0, kIsrAt = 0x1000, kConfigAt = 0x2000, kNotifyAt = 0x3000,
              kMsixAt = 0x4000, kPendingAt = 0x5000, kNotifyMultiplier = 4;

}  // namespace

VirtioDevice::VirtioDevice(const PciSlot& slot, EventQueue& events, Kind kind)
    : name_(std::move(kind.name)),
      events_(events),
      pci_(slot, {.vendor = kVendor,
                  .device = static_cast<u16>(kFirstDevice + kind.type),
                  .class_code = kind.class_code,
                  .revision = 1,
                  .subsystem_vendor = kVendor,
                  .subsystem = static_cast<u16>(kFirstDevice + kind.type)}),
      timer_(events.add(name_, [this](VTime) { run(); })),
      features_(kind.features | kIndirect | kEventIndex | kVersion1 | kAccessPlatform),
      queues_(kind.queues) {
    pci_.add_memory_bar(kBar, kRegisterBytes, PciFunction::Memory::Bits64Prefetchable, *this);
    pci_.set_interrupt_pin(1);
    add_capabilities();
    pci_.add_msix(kind.queues + 1, kBar, kMsixAt, kPendingAt);
    pci_.add_power_management();
    pci_.add_express([this] { reset(); });
}

void VirtioDevice::add_capabilities() {
    const auto body_of = [](u8 type, u32 offset, u32 length, u32 extra_words) {
        const Capability capability{type, kBar, 0, {}, offset, length};
        std::vector<u8> body(sizeof capability + extra_words * 4);
        std::memcpy(body.data(), &capability, sizeof capability);
        return body;
    };
    pci_.add_vendor_capability(body_of(kCommonConfig, kCommonAt, kCommonSize, 0));
    pci_.add_vendor_capability(body_of(kIsrConfig, kIsrAt, kPage, 0));
    pci_.add_vendor_capability(body_of(kDeviceConfig, kConfigAt, kPage, 0));
    std::vector<u8> notify = body_of(kNotifyConfig, kNotifyAt, kPage, 1);
    notify[sizeof(Capability)] = kNotifyMultiplier;
    pci_.add_vendor_capability(notify);
    // Access to the BAR through configuration space, for software that cannot reach it (§4.1.4.9).
    config_capability_ = pci_.add_vendor_capability(body_of(kPciConfig, 0, 0, 1));
    pci_.set_register(config_capability_ + kCapabilityBar, 1, 0, 0xff);
    pci_.set_register(config_capability_ + kCapabilityOffset, 4, 0, ~u32{0});
    pci_.set_register(config_capability_ + kCapabilityLength, 4, 0, ~u32{0});
    pci_.set_register(config_capability_ + kCapabilityData, 4, 0, ~u32{0});
    pci_.on_config_read(config_capability_ + kCapabilityData, 4,
                        [this](u32 offset, unsigned size) { return access_by_config(offset, size); });
    pci_.on_config_write([this](u32 offset, unsigned size) { written_by_config(offset, size); });
}

/// Reads what the capability points at. Only whole, aligned accesses of its length reach the BAR.
u32 VirtioDevice::access_by_config(u32 offset, unsigned size) {
    const u32 at = pci_.peek(config_capability_ + kCapabilityOffset, 4);
    const u32 length = pci_.peek(config_capability_ + kCapabilityLength, 4);
    const bool possible = pci_.peek(config_capability_ + kCapabilityBar, 1) == kBar &&
                          (length == 1 || length == 2 || length == 4) && at % length == 0 &&
                          fits(at, length, kRegisterBytes);
    const u32 value = possible ? static_cast<u32>(pci_.memory_read(kBar, at, length)) : 0;
    return static_cast<u32>(value >> ((offset - config_capability_ - kCapabilityData) * 8) & low_mask(size * 8));
}

void VirtioDevice::written_by_config(u32 offset, unsigned size) {
    const u32 data = config_capability_ + kCapabilityData;
    if (offset != data) return;
    const u32 at = pci_.peek(config_capability_ + kCapabilityOffset, 4);
    const u32 length = pci_.peek(config_capability_ + kCapabilityLength, 4);
    if (pci_.peek(config_capability_ + kCapabilityBar, 1) != kBar || (length != 1 && length != 2 && length != 4) ||
        length > size || at % length != 0 || !fits(at, length, kRegisterBytes)) {
        return;
    }
    pci_.memory_write(kBar, at, length, pci_.peek(data, 4) & low_mask(length * 8));
}

void VirtioDevice::reset_all() {
    events_.cancel(timer_);
    state_ = State{};
    for (VirtioQueue& queue : queues_) queue.reset();
    pci_.set_intx(false);
    reset_device();
}

void VirtioDevice::reset() {
    reset_all();
    pci_.reset();
}

void VirtioDevice::fields(StateVisitor& v) {
    pci_.fields(v);
    v("driver_features", state_.driver_features);
    v("device_select", state_.device_select);
    v("driver_select", state_.driver_select);
    v("config_vector", state_.config_vector);
    v("queue_select", state_.queue_select);
    v("status", state_.status, Fmt::Bin);
    v("isr", state_.isr, Fmt::Bin);
    for (u32 i = 0; i < queues_.size(); ++i) {
        VisitScope scope(v, fmt::format("queue{}", i));
        queues_[i].fields(v);
    }
    device_fields(v);
}

// ---- Registers

u32 VirtioDevice::read_common(u32 offset) {
    const bool there = state_.queue_select < queues_.size();
    const VirtioQueue::Setup queue = there ? queues_[state_.queue_select].setup : VirtioQueue::Setup{.size = 0};
    switch (offset) {
        case kDeviceFeatureSelect:
            return state_.device_select;
        case kDeviceFeature:
            return state_.device_select < 2 ? static_cast<u32>(features_ >> (state_.device_select * 32)) : 0;
        case kDriverFeatureSelect:
            return state_.driver_select;
        case kDriverFeature:
            return state_.driver_select < 2 ? static_cast<u32>(state_.driver_features >> (state_.driver_select * 32))
                                            : 0;
        case kConfigVector:
            return state_.config_vector;
        case kNumQueues:
            return static_cast<u32>(queues_.size());
        case kDeviceStatus:
            return state_.status;
        case kConfigGeneration:
            return 0;  // nothing of the configuration changes by itself
        case kQueueSelect:
            return state_.queue_select;
        case kQueueSize:
            return queue.size;
        case kQueueVector:
            return queue.vector;
        case kQueueEnable:
            return queue.enabled ? 1 : 0;
        case kQueueNotifyOffset:
            return state_.queue_select;
        case kQueueDescriptors:
            return static_cast<u32>(queue.descriptors);
        case kQueueDescriptors + 4:
            return static_cast<u32>(queue.descriptors >> 32);
        case kQueueDriver:
            return static_cast<u32>(queue.driver);
        case kQueueDriver + 4:
            return static_cast<u32>(queue.driver >> 32);
        case kQueueDevice:
            return static_cast<u32>(queue.device);
        case kQueueDevice + 4:
            return static_cast<u32>(queue.device >> 32);
        default:
            return 0;
    }
}

u16 VirtioDevice::valid_vector(u32 value) const {
    return value <= queues_.size() ? static_cast<u16>(value) : kNoVector;
}

void VirtioDevice::set_features(u32 value) {
    if (state_.driver_select >= 2 || (state_.status & kFeaturesOk) != 0) return;
    const u32 low = state_.driver_select * 32;
    state_.driver_features = with_bits(state_.driver_features, low + 31, low, value);
}

/// The driver takes steps forward only; zero is a reset.
void VirtioDevice::write_status(u8 value) {
    if (value == 0) return reset_all();
    const bool features_chosen = (value & ~state_.status & kFeaturesOk) != 0;
    if (features_chosen && ((state_.driver_features & ~features_) != 0 || (state_.driver_features & kVersion1) == 0))
        value &= static_cast<u8>(~kFeaturesOk);
    state_.status = static_cast<u8>((state_.status & kNeedsReset) | value);
    wake();
}

void VirtioDevice::write_common(u32 offset, unsigned size, u32 value) {
    switch (offset) {
        case kDeviceFeatureSelect:
            state_.device_select = value;
            return;
        case kDriverFeatureSelect:
            state_.driver_select = value;
            return;
        case kDriverFeature:
            return set_features(value);
        case kConfigVector:
            state_.config_vector = valid_vector(value & 0xffff);
            return;
        case kDeviceStatus:
            return write_status(static_cast<u8>(value));
        case kQueueSelect:
            state_.queue_select = static_cast<u16>(value);
            return;
        default:
            break;
    }
    if (state_.queue_select >= queues_.size()) return;
    VirtioQueue::Setup& queue = queues_[state_.queue_select].setup;
    if (offset == kQueueVector) {
        queue.vector = valid_vector(value & 0xffff);
        return;
    }
    if (queue.enabled) return;  // "The driver MUST NOT" change any of the rest
    const auto half = [&](u64& address, bool high) {
        if (size == 4) address = with_bits(address, high ? 63 : 31, high ? 32 : 0, value);
    };
    switch (offset) {
        case kQueueSize: {
            const u16 wanted = static_cast<u16>(value);
            if (std::has_single_bit(wanted) && wanted <= VirtioQueue::kMaxSize) queue.size = wanted;
            break;
        }
        case kQueueEnable:
            queue.enabled = (value & 0xffff) == 1;
            break;
        case kQueueDescriptors:
        case kQueueDescriptors + 4:
            half(queue.descriptors, offset != kQueueDescriptors);
            break;
        case kQueueDriver:
        case kQueueDriver + 4:
            half(queue.driver, offset != kQueueDriver);
            break;
        case kQueueDevice:
        case kQueueDevice + 4:
            half(queue.device, offset != kQueueDevice);
            break;
        default:
            break;
    }
}

u8 VirtioDevice::read_isr() {
    const u8 value = state_.isr;
    state_.isr = 0;
    pci_.set_intx(false);
    return value;
}

u64 VirtioDevice::mmio_read(u64 offset, unsigned size) {
    if (size == 8) return mmio_read(offset, 4) | mmio_read(offset + 4, 4) << 32;
    if (offset < kCommonSize) {
        const u32 at = static_cast<u32>(offset);
        const u32 value = read_common(at);
        if (value != 0 || size != 1) return value & low_mask(size * 8);
        return read_common(static_cast<u32>(align_down(at, 4))) >> (at % 4 * 8) & low_mask(size * 8);
    }
    if (offset == kIsrAt) return read_isr();
    if (offset - kConfigAt < kPage) {
        const std::span<const u8> config = device_config();
        u64 value = 0;
        for (unsigned i = 0; i < size; ++i)
            if (const u64 at = offset - kConfigAt + i; at < config.size()) value |= u64{config[at]} << (i * 8);
        return value;
    }
    return 0;
}

void VirtioDevice::mmio_write(u64 offset, unsigned size, u64 value) {
    if (size == 8) {
        mmio_write(offset, 4, value & low_mask(32));
        mmio_write(offset + 4, 4, value >> 32);
        return;
    }
    if (offset < kCommonSize) return write_common(static_cast<u32>(offset), size, static_cast<u32>(value));
    if (offset - kNotifyAt < queues_.size() * kNotifyMultiplier && offset % kNotifyMultiplier == 0) wake();
}

// ---- Work

void VirtioDevice::wake() {
    if (running() && !events_.armed(timer_)) events_.arm(timer_, events_.now() + kLatency);
}

void VirtioDevice::run() {
    if (!running()) return;
    const VTime next = work();
    if (running() && next != kNever) events_.arm(timer_, std::max(next, events_.now() + 1));
}

void VirtioDevice::broken() {
    if ((state_.status & kNeedsReset) != 0) return;
    state_.status |= kNeedsReset;
    interrupt(kIsrConfigChange, state_.config_vector);
}

bool VirtioDevice::has_chain(u32 number) {
    VirtioQueue& queue = queues_[number];
    if (!running() || !queue.setup.enabled) return false;
    const auto waiting = queue.waiting(dma());
    if (!waiting) broken();
    return waiting && *waiting != 0;
}

std::optional<VirtioChain> VirtioDevice::take(u32 number) {
    VirtioQueue& queue = queues_[number];
    if (!has_chain(number)) {
        if (!running() || !queue.setup.enabled || !has(kEventIndex)) return std::nullopt;
        if (!queue.ask_notification(dma())) {
            broken();
            return std::nullopt;
        }
        if (!has_chain(number)) return std::nullopt;  // nothing came before the wish was seen
    }
    auto chain = queue.take(dma(), has(kIndirect));
    if (!chain) broken();
    return chain;
}

void VirtioDevice::give_back(u32 number, const VirtioChain& chain, u32 written) {
    VirtioQueue& queue = queues_[number];
    if (!queue.give_back(dma(), chain.head, written)) return broken();
    if (queue.wants_interrupt(dma(), has(kEventIndex))) interrupt(kIsrQueue, queue.setup.vector);
}

void VirtioDevice::interrupt(u8 isr, u16 vector) {
    if (pci_.msix_enabled()) {
        if (vector != kNoVector) pci_.signal(vector);
        return;
    }
    state_.isr |= isr;
    pci_.set_intx(true);
}

}  // namespace vg::devices
