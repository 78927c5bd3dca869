#include "hv/vmbus/ring.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "hv/vmbus/server.h"

namespace vg::hv::vmbus {

namespace {

constexpr u32 kDescriptorSize = sizeof(PacketDescriptor);

constexpr u32 kWriteIndex = offsetof(RingControl, write_index), kReadIndex = offsetof(RingControl, read_index);
constexpr u32 kInterruptMask = offsetof(RingControl, interrupt_mask);
constexpr u32 kPendingSendSize = offsetof(RingControl, pending_send_size);

/// Between publishing an index and looking at the peer's: without it a signal can be lost when VPs run in parallel.
void full_barrier() { std::atomic_thread_fence(std::memory_order_seq_cst); }
/// Between two looks whose order matters.
void read_barrier() { std::atomic_thread_fence(std::memory_order_acquire); }

/// Bytes from `from` forward to `to` in a ring.
u32 distance(u32 from, u32 to, u32 size) { return to >= from ? to - from : size - (from - to); }

}  // namespace

RingMemory::RingMemory(Notifier& memory, std::span<const u64> pfns) : memory_(&memory) {
    VG_ASSERT(pfns.size() >= 2);
    pages_.reserve(pfns.size());
    for (const u64 pfn : pfns) pages_.push_back(pfn << 12);
    data_size_ = static_cast<u32>((pfns.size() - 1) * kPageSize);
}

bool RingMemory::read_control(u32 offset, u32& value) const {
    return memory_->read_guest(pages_[0] + offset, &value, sizeof value);
}
bool RingMemory::write_control(u32 offset, u32 value) const {
    return memory_->write_guest(pages_[0] + offset, &value, sizeof value);
}
bool RingMemory::read_indices(u32& read_index, u32& write_index) const {
    return read_control(kReadIndex, read_index) && read_control(kWriteIndex, write_index) && plausible(read_index) &&
           plausible(write_index);
}

template <class Access>
bool RingMemory::pieces(u32 index, u32 size, Access&& access) const {
    u32 done = 0;
    while (done < size) {
        const u32 offset = static_cast<u32>(index & kPageMask);
        const u32 length = std::min(size - done, static_cast<u32>(kPageSize) - offset);
        if (!access(pages_[1 + index / kPageSize] + offset, done, length)) return false;
        done += length;
        index = advance(index, length);
    }
    return true;
}

bool RingMemory::read_data(u32 index, void* out, u32 size) const {
    return pieces(index, size, [&](u64 gpa, u32 at, u32 length) {
        return memory_->read_guest(gpa, static_cast<u8*>(out) + at, length);
    });
}
bool RingMemory::write_data(u32 index, const void* data, u32 size) const {
    return pieces(index, size, [&](u64 gpa, u32 at, u32 length) {
        return memory_->write_guest(gpa, static_cast<const u8*>(data) + at, length);
    });
}

// ---- guest to host

bool IncomingRing::open() {
    if (!memory_.read_indices(read_, write_)) return false;
    published_ = read_;
    return true;
}

u32 IncomingRing::used() const { return distance(read_, write_, memory_.data_size()); }

IncomingRing::Status IncomingRing::read(Packet& packet) {
    if (broken_) return Status::Broken;
    if (read_ == write_) {
        u32 write_index;
        if (!memory_.read_control(kWriteIndex, write_index) || !memory_.plausible(write_index)) return broken();
        write_ = write_index;
        if (read_ == write_) return Status::Empty;
        read_barrier();
    }
    // Lengths are multiples of 8, so the subtraction below cannot wrap: at least one unit is in use.
    const u32 available = used();
    if (available < kDescriptorSize + kRingTrailerSize) return broken();
    PacketDescriptor descriptor;
    if (!memory_.read_data(read_, &descriptor, kDescriptorSize)) return broken();
    const u32 total = u32{descriptor.total_length8} * 8;
    const u32 data_offset = u32{descriptor.data_offset8} * 8;
    if (data_offset < kDescriptorSize || data_offset > total || total > available - kRingTrailerSize) return broken();
    packet_.resize(total - kDescriptorSize);
    if (!memory_.read_data(memory_.advance(read_, kDescriptorSize), packet_.data(), total - kDescriptorSize))
        return broken();
    read_ = memory_.advance(read_, total + kRingTrailerSize);
    packet.type = static_cast<PacketType>(descriptor.type);
    packet.flags = descriptor.flags;
    packet.transaction_id = descriptor.transaction_id;
    const std::span<const u8> bytes(packet_);
    packet.extension = bytes.first(data_offset - kDescriptorSize);
    packet.payload = bytes.subspan(data_offset - kDescriptorSize);
    return Status::Packet;
}

bool IncomingRing::commit() {
    if (broken_ || published_ == read_) return false;
    const u32 consumed = distance(published_, read_, memory_.data_size());
    if (!memory_.write_control(kReadIndex, read_)) {
        broken_ = true;
        return false;
    }
    published_ = read_;
    full_barrier();
    u32 pending, features, write_index;
    if (!memory_.read_control(kPendingSendSize, pending) || pending == 0) return false;
    if (!memory_.read_control(kRingFeatureOffset, features) || (features & kRingFeaturePendingSize) == 0) return false;
    // With an older write index the ring would look emptier than it was when the guest set the pending size.
    read_barrier();
    if (!memory_.read_control(kWriteIndex, write_index) || !memory_.plausible(write_index)) return false;
    // Signal only when the free space crosses from "<= pending" to "> pending" by what was just consumed.
    const u32 free_now = memory_.data_size() - distance(read_, write_index, memory_.data_size());
    if (free_now <= pending) return false;
    return free_now < consumed || free_now - consumed <= pending;
}

void IncomingRing::fields(StateVisitor& v) {
    v("read", read_);
    v("published", published_);
    v("write", write_);
    v("broken", broken_);
    const bool possible = memory_.plausible(read_) && memory_.plausible(published_) && memory_.plausible(write_);
    if (v.loading() && memory_.data_size() != 0 && !possible) broken_ = true;
}

// ---- host to guest

bool OutgoingRing::open() {
    u32 read_index, features;
    if (!memory_.read_indices(read_index, write_) || !memory_.read_control(kRingFeatureOffset, features)) return false;
    return memory_.write_control(kRingFeatureOffset, features | kRingFeaturePendingSize);
}

u32 OutgoingRing::free_bytes(u32 read_index) const {
    return memory_.data_size() - distance(read_index, write_, memory_.data_size());
}

bool OutgoingRing::set_pending(u32 size) {
    if (pending_ == size) return true;
    pending_ = size;
    return memory_.write_control(kPendingSendSize, size);
}

OutgoingRing::Status OutgoingRing::write(PacketType type, u16 flags, u64 transaction_id, std::span<const u8> payload,
                                         std::span<const u8> extension) {
    if (broken_) return Status::Broken;
    VG_ASSERT(extension.size() % 8 == 0 && payload.size() + extension.size() <= 0xffff * 8 - kDescriptorSize);
    const u32 padded = static_cast<u32>(align_up(payload.size(), 8));
    const u32 data_offset = kDescriptorSize + static_cast<u32>(extension.size());
    const u32 total = data_offset + padded;
    const u32 needed = total + kRingTrailerSize;
    if (needed >= memory_.data_size()) return broken();  // the guest opened a ring that can never hold an answer
    u32 read_index;
    const auto fetch_read_index = [&] {
        return memory_.read_control(kReadIndex, read_index) && memory_.plausible(read_index);
    };
    if (!fetch_read_index()) return broken();
    if (free_bytes(read_index) <= needed) {
        // Ask for the signal first, then look again: the guest may have freed space between the two.
        if (!set_pending(needed)) return broken();
        full_barrier();
        if (!fetch_read_index()) return broken();
        if (free_bytes(read_index) <= needed) return Status::NoRoom;
    }
    if (!set_pending(0)) return broken();

    const PacketDescriptor descriptor = {static_cast<u16>(type), static_cast<u16>(data_offset / 8),
                                         static_cast<u16>(total / 8), flags, transaction_id};
    constexpr u64 kZero = 0;
    const u32 start = write_;
    const u64 trailer = u64{start} << 32;
    u32 at = start;
    const auto put = [&](const void* data, std::size_t size) {
        const bool done = memory_.write_data(at, data, static_cast<u32>(size));
        at = memory_.advance(at, static_cast<u32>(size));
        return done;
    };
    const bool stored = put(&descriptor, sizeof descriptor) && put(extension.data(), extension.size()) &&
                        put(payload.data(), payload.size()) && put(&kZero, padded - payload.size()) && put(&trailer, sizeof trailer);
    full_barrier();
    if (!stored || !memory_.write_control(kWriteIndex, at)) return broken();
    write_ = at;
    full_barrier();
    u32 mask;
    if (!memory_.read_control(kInterruptMask, mask)) return broken();
    if (mask != 0) return Status::Written;
    read_barrier();
    if (!memory_.read_control(kReadIndex, read_index)) return broken();
    return read_index == start ? Status::Signal : Status::Written;
}

bool OutgoingRing::all_consumed() const {
    u32 read_index;
    return broken_ || !memory_.read_control(kReadIndex, read_index) || read_index == write_;
}

void OutgoingRing::fields(StateVisitor& v) {
    v("write", write_);
    v("pending_send_size", pending_);
    v("broken", broken_);
    if (v.loading() && memory_.data_size() != 0 && !memory_.plausible(write_)) broken_ = true;
}

}  // namespace vg::hv::vmbus
