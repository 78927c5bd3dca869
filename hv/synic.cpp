#include "hv/synic.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "base/assert.h"
#include "base/state.h"
#include "base/tap.h"
#include "hv/hypervisor.h"
#include "hv/spec/intercept.h"
#include "hv/spec/port.h"
#include "hv/stimer.h"
#include "hv/vp.h"

namespace vg::hv {
namespace {

constexpr mmu::SlatPermissions kDataPage{.read = true, .write = true, .execute = false};

/// The guest uses locked instructions on these pages, so the hypervisor's read-modify-writes are atomic too (S-06).
template <class T>
T atomic_or(mmu::PhysicalMemory& memory, Spa where, T bits) {
    T* host = reinterpret_cast<T*>(memory.ram(where));
    VG_ASSERT(host != nullptr);  // a private page
    memory.before_write(where, sizeof(T));
    return std::atomic_ref<T>(*host).fetch_or(bits);
}

template <class T>
T atomic_load(mmu::PhysicalMemory& memory, Spa where) {
    T* host = reinterpret_cast<T*>(memory.ram(where));
    VG_ASSERT(host != nullptr);
    return std::atomic_ref<T>(*host).load();
}

template <class T>
void atomic_store(mmu::PhysicalMemory& memory, Spa where, T value) {
    T* host = reinterpret_cast<T*>(memory.ram(where));
    VG_ASSERT(host != nullptr);
    memory.before_write(where, sizeof(T));
    std::atomic_ref<T>(*host).store(value);
}

}  // namespace

Synic::Synic(Vp& vp) : vp_(vp), message_page_(vp.partition(), kDataPage), event_page_(vp.partition(), kDataPage) {
    sint_.fill(sint::kReset);
    if (vp.partition().config().root) {
        ring_page_ = std::make_unique<OverlayPage>(vp.partition(), kDataPage);
        sirbp_ = ring_page_->preset();
    }
    siefp_ = event_page_.preset();
    simp_ = message_page_.preset();
}

void Synic::show_root_pages() {
    for (OverlayPage* page : {&message_page_, &event_page_, ring_page_.get()}) page->show_at_home();
}

bool Synic::messages_on() const { return (scontrol_ & kScontrolEnable) != 0 && message_page_.placed(); }
bool Synic::events_on() const { return (scontrol_ & kScontrolEnable) != 0 && event_page_.placed(); }

HvStatus Synic::post(u8 sint, u32 type, u64 origin, std::span<const u8> payload) {
    if (sint >= kSintCount || type == kMessageTypeNone || payload.size() > kMessagePayloadMax)
        return HvStatus::InvalidParameter;
    if (!messages_on()) return HvStatus::InvalidSynicState;
    if (queue_[sint].size() >= kQueueLimit) {
        drain(sint);  // the guest may have freed the slot without EOM
        if (queue_[sint].size() >= kQueueLimit) return HvStatus::InsufficientBuffers;
    }
    Message message{type, static_cast<u8>(payload.size()), origin, {}};
    std::copy(payload.begin(), payload.end(), message.payload.begin());
    queue_[sint].push_back(message);
    drain(sint);
    return HvStatus::Success;
}

void Synic::post_own(u8 sint, u32 type, std::span<const u8> payload, u64 origin) {
    VG_ASSERT(sint < kSintCount && type != kMessageTypeNone && payload.size() <= kMessagePayloadMax);
    if (queue_[sint].size() >= kOwnQueueLimit) {
        if (vp_.partition().may_complain())
            vp_.partition().hypervisor().log().warn(Area::Hv,
                                                    "SINT{} of {} takes no messages: one of type {:#x} is lost", sint,
                                                    vp_.processor().name(), type);
        return;
    }
    Message message{type, static_cast<u8>(payload.size()), origin, {}};
    std::copy(payload.begin(), payload.end(), message.payload.begin());
    queue_[sint].push_back(message);
    drain(sint);
}

void Synic::forget_messages_from(u64 origin) {
    for (std::deque<Message>& queue : queue_)
        std::erase_if(queue, [origin](const Message& message) { return message.origin == origin; });
}

void Synic::drain(u8 sint) {
    if (!messages_on()) return;
    std::deque<Message>& queue = queue_[sint];
    const Spa slot = message_page_.page() + sint * kMessageSlotSize;
    // A message that waits behind the one just written finds the slot busy and sets its pending flag.
    while (!queue.empty() && !busy_with_pending(slot)) {
        const Message& message = queue.front();
        deliver(sint, message.type, message.origin, std::span(message.payload).first(message.size));
        queue.pop_front();
    }
}

Synic::Attempt Synic::try_deliver(u8 sint, u32 type, u64 origin, std::span<const u8> payload) {
    VG_ASSERT(sint < kSintCount && type != kMessageTypeNone && payload.size() <= kMessagePayloadMax);
    if (!messages_on()) return Attempt::Off;
    drain(sint);
    const Spa slot = message_page_.page() + sint * kMessageSlotSize;
    if (busy_with_pending(slot)) return Attempt::Busy;
    deliver(sint, type, origin, payload);
    return Attempt::Delivered;
}

bool Synic::busy_with_pending(Spa slot) {
    mmu::PhysicalMemory& memory = vp_.partition().hypervisor().memory();
    const Spa type = slot + offsetof(MessageHeader, type);
    if (atomic_load<u32>(memory, type) == kMessageTypeNone) return false;
    atomic_or<u8>(memory, slot + offsetof(MessageHeader, flags), kMessagePending);
    // The guest may have freed the slot between the test and the flag: then it saw no flag and writes no EOM.
    return atomic_load<u32>(memory, type) != kMessageTypeNone;
}

void Synic::deliver(u8 sint, u32 type, u64 origin, std::span<const u8> payload) {
    mmu::PhysicalMemory& memory = vp_.partition().hypervisor().memory();
    const Spa slot = message_page_.page() + sint * kMessageSlotSize;
    MessageHeader header{};
    header.payload_size = static_cast<u8>(payload.size());
    header.origin = origin;
    constexpr u64 kBehindType = offsetof(MessageHeader, payload_size);
    memory.write(slot + sizeof header, payload.data(), payload.size());
    memory.write(slot + kBehindType, &header.payload_size, sizeof header - kBehindType);
    atomic_store<u32>(memory, slot + offsetof(MessageHeader, type), type);  // last: the guest may poll it (S-02)
    if (Tap& tap = vp_.partition().hypervisor().log().tap(); tap.wants(TapKind::SynicMessage)) {
        tap.tell(
            {TapKind::SynicMessage, vp_.partition().id(), vp_.index(), {sint, type, vp_.index(), origin}, payload});
    }
    interrupt(sint);
}

bool Synic::has_sint_at(u8 vector) const {
    return std::ranges::any_of(
        sint_, [vector](u64 value) { return (value & sint::kMasked) == 0 && sint::vector(value) == vector; });
}

void Synic::interrupt(u8 sint) {
    const u64 value = sint_[sint];
    if ((value & (sint::kMasked | sint::kPolling)) == 0) vp_.processor().apic().accept(sint::vector(value), false);
}

HvStatus Synic::signal(u8 sint, u16 flag, bool* fresh) {
    if (sint >= kSintCount || flag >= kEventFlagsPerSint) return HvStatus::InvalidParameter;
    if (!events_on() || (sint_[sint] & sint::kMasked) != 0) return HvStatus::InvalidSynicState;
    const Spa byte = event_page_.page() + sint * kEventFlagBytesPerSint + flag / 8;
    const u8 mask = static_cast<u8>(1u << (flag % 8));
    const u8 old = atomic_or<u8>(vp_.partition().hypervisor().memory(), byte, mask);
    if (fresh != nullptr) *fresh = (old & mask) == 0;
    vp_.partition().hypervisor().log().trace(Area::Hv, "{}: SINT{} event flag {} {}, vector {:#x}",
                                             vp_.processor().name(), sint, flag,
                                             (old & mask) == 0 ? "set" : "was set already", sint::vector(sint_[sint]));
    if (Tap& tap = vp_.partition().hypervisor().log().tap(); tap.wants(TapKind::SynicEvent)) {
        const u64 fresh_flag = (old & mask) == 0 ? 1 : 0;
        tap.tell({TapKind::SynicEvent, vp_.partition().id(), vp_.index(), {sint, flag, vp_.index(), fresh_flag}, {}});
    }
    if ((old & mask) == 0) interrupt(sint);
    return HvStatus::Success;
}

HvStatus Synic::ring(u8 sint, u32 port_id) {
    if (sint >= kSintCount || port_id == 0) return HvStatus::InvalidParameter;
    if (ring_page_ == nullptr || !ring_page_->placed() || (scontrol_ & kScontrolEnable) == 0)
        return HvStatus::InvalidSynicState;
    mmu::PhysicalMemory& memory = vp_.partition().hypervisor().memory();
    const Spa ring = ring_page_->page() + sint * sizeof(EventRing);
    const Spa slot = ring + offsetof(EventRing, data) + ring_next_[sint] * sizeof(u32);
    if (atomic_load<u32>(memory, slot) != 0) {
        ring_waiting_[sint].insert(port_id);
        atomic_store<u8>(memory, ring + offsetof(EventRing, ring_full), 1);
        return HvStatus::Success;
    }
    atomic_store<u32>(memory, slot, port_id);
    ring_next_[sint] = static_cast<u8>((ring_next_[sint] + 1) % kEventRingSlots);
    // The guest looks again after it has unmasked (S-33), so a masked ring needs no word.
    if (atomic_load<u8>(memory, ring + offsetof(EventRing, signal_masked)) != 0) return HvStatus::Success;
    const SintInterceptNotification notification{sint};
    u8 payload[sizeof notification];
    std::memcpy(payload, &notification, sizeof payload);
    post_own(kInterceptSint, static_cast<u32>(MessageType::SintIntercept), payload, 0);
    return HvStatus::Success;
}

void Synic::ring_empty(u8 sint) {
    if (sint >= kSintCount) return;
    std::set<u32> waiting;
    waiting.swap(ring_waiting_[sint]);
    for (const u32 port : waiting) (void)ring(sint, port);
}

void Synic::rescan() {
    for (u8 sint = 0; sint < kSintCount; ++sint)
        if (!queue_[sint].empty()) drain(sint);
    vp_.timers().retry_pending();
}

void Synic::set_scontrol(u64 value) {
    scontrol_ = value;
    rescan();
}

void Synic::set_siefp(u64 value) {
    siefp_ = value;
    event_page_.place_zeroed(value);
}

void Synic::set_sirbp(u64 value) {
    sirbp_ = value;
    ring_page_->place_zeroed(value);
}

void Synic::set_simp(u64 value) {
    simp_ = value;
    message_page_.place_zeroed(value);
    rescan();
}

bool Synic::set_sint(unsigned index, u64 value) {
    // The reset value, masked with vector 0, must be accepted (M-21).
    if (sint::vector(value) < kFirstLegalVector && (value & sint::kMasked) == 0) return false;
    const u8 old_vector = sint::vector(sint_[index]);
    sint_[index] = value;
    update_auto_eoi(old_vector);
    update_auto_eoi(sint::vector(value));
    rescan();
    return true;
}

void Synic::update_auto_eoi(u8 vector) {
    const bool on = std::any_of(sint_.begin(), sint_.end(), [vector](u64 value) {
        return sint::vector(value) == vector && (value & sint::kMasked) == 0 && (value & sint::kAutoEoi) != 0;
    });
    vp_.processor().apic().set_auto_eoi(vector, on);
}

void Synic::reset() {
    for (std::deque<Message>& queue : queue_) queue.clear();
    for (std::set<u32>& waiting : ring_waiting_) waiting.clear();
    scontrol_ = 0;
    siefp_ = event_page_.preset();
    simp_ = message_page_.preset();
    message_page_.remove();
    event_page_.remove();
    if (ring_page_ != nullptr) {
        sirbp_ = ring_page_->preset();
        ring_page_->remove();
    }
    const std::array<u64, kSintCount> old = sint_;
    sint_.fill(sint::kReset);
    for (const u64 value : old) update_auto_eoi(sint::vector(value));
}

void Synic::fields(StateVisitor& v) {
    v("scontrol", scontrol_);
    v("siefp", siefp_);
    v("simp", simp_);
    v("sint", sint_);
    v("sirbp", sirbp_);
    v("ring_next", ring_next_);
    {
        VisitScope scope(v, "message_page");
        message_page_.fields(v);
    }
    {
        VisitScope scope(v, "event_page");
        event_page_.fields(v);
    }
    for (unsigned i = 0; i < kSintCount; ++i) {
        VisitScope scope(v, "queue" + std::to_string(i));
        u32 count = static_cast<u32>(queue_[i].size());
        v("count", count, Fmt::Dec);
        if (v.loading()) queue_[i].resize(std::min<std::size_t>(count, kOwnQueueLimit));
        for (std::size_t n = 0; n < queue_[i].size(); ++n) {
            VisitScope message_scope(v, std::to_string(n));
            Message& message = queue_[i][n];
            v("type", message.type);
            v("size", message.size, Fmt::Dec);
            v("origin", message.origin);
            v.bytes("payload", message.payload);
            if (message.size > kMessagePayloadMax) message.size = kMessagePayloadMax;
        }
    }
    if (v.loading())
        for (const u64 value : sint_) update_auto_eoi(sint::vector(value));
}

}  // namespace vg::hv
