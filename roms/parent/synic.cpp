#include "roms/parent/synic.h"

#include <atomic>
#include <bit>
#include <cstring>

#include "hv/spec/intercept.h"
#include "hv/spec/msr.h"
#include "hv/spec/synic.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {

void nothing(void*) {}  // waking up is enough: the main loop drains

/// the hypervisor has chosen the page.
u64 enable_page(u32 msr) {
    write_msr(msr, read_msr(msr) | hv::kPageEnable);
    return hv::placed_page(read_msr(msr)).value;
}

/// One at a time is taken from a SINT, so that one sender cannot keep this system from its other work for ever.
constexpr unsigned kMessagesAtOnce = 256;

}  // namespace

Synic::Synic() : message_page_(enable_page(hv::msr::SIMP)), event_page_(enable_page(hv::msr::SIEFP)) {
    const u8 vector = allocate_vector(nothing, nullptr);
    for (const u8 sint : {hv::kInterceptSint, kMessageSint, kEventSint}) write_msr(hv::msr::SINT0 + sint, vector);
    write_msr(hv::msr::SCONTROL, hv::kScontrolEnable);
}

bool Synic::drain(SynicListener& listener) {
    bool any = false;
    for (const u8 sint : {hv::kInterceptSint, kMessageSint}) any = drain_messages(sint, listener) || any;
    return drain_events(kEventSint, listener) || any;
}

bool Synic::drain_messages(u8 sint, SynicListener& listener) {
    auto* const slot = at<volatile u32>(message_page_ + u64{sint} * hv::kMessageSlotSize);
    for (unsigned i = 0; i < kMessagesAtOnce; ++i) {
        if (*slot == hv::kMessageTypeNone) return i != 0;
        u8 copy[hv::kMessageSlotSize];
        std::memcpy(copy, const_cast<const u32*>(slot), sizeof copy);
        hv::MessageHeader header;
        std::memcpy(&header, copy, sizeof header);
        // The slot is free before the flag is read, or the hypervisor might wait for an EOM that never comes.
        *slot = hv::kMessageTypeNone;
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const u8 flags = at<volatile hv::MessageHeader>(physical(slot))->flags;
        if ((flags & hv::kMessagePending) != 0) write_msr(hv::msr::EOM, 0);
        const std::size_t size = std::min<std::size_t>(header.payload_size, hv::kMessagePayloadMax);
        listener.on_message(sint, header.type, header.origin, {copy + hv::kMessagePayloadOffset, size});
    }
    return true;
}

bool Synic::drain_events(u8 sint, SynicListener& listener) {
    auto* const words = at<u64>(event_page_ + u64{sint} * hv::kEventFlagBytesPerSint);
    bool any = false;
    for (u32 word = 0; word < hv::kEventFlagsPerSint / 64; ++word) {
        if (std::atomic_ref<u64>(words[word]).load() == 0) continue;
        for (u64 flags = std::atomic_ref<u64>(words[word]).exchange(0); flags != 0; flags &= flags - 1) {
            listener.on_event(sint, word * 64 + static_cast<u32>(std::countr_zero(flags)));
            any = true;
        }
    }
    return any;
}

void Synic::clear_event(u8 sint, u32 flag) {
    auto* const words = at<u64>(event_page_ + u64{sint} * hv::kEventFlagBytesPerSint);
    std::atomic_ref<u64>(words[flag / 64]).fetch_and(~(u64{1} << (flag % 64)));
}

}  // namespace vg::parent
