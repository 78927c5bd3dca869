#include "devices/virtio/queue.h"

#include <algorithm>

namespace vg::devices {

using namespace virtio;

namespace {

constexpr u64 kRingHeader = 4;  // flags and index, of both rings

/// Walks the pieces of [offset, offset+size) with `copy(address, position, count)`.
template <class Copy>
bool by_piece(const std::vector<VirtioChain::Piece>& pieces, u64 offset, u64 size, Copy copy) {
    u64 done = 0;
    for (const VirtioChain::Piece& piece : pieces) {
        if (done == size) break;
        if (offset >= piece.length) {
            offset -= piece.length;
            continue;
        }
        const u64 count = std::min<u64>(piece.length - offset, size - done);
        if (!copy(piece.address + offset, done, count)) return false;
        done += count;
        offset = 0;
    }
    return done == size;
}

}  // namespace

bool VirtioChain::read(mmu::Dma& memory, u64 offset, std::span<u8> out) const {
    return by_piece(readable, offset, out.size(),
                    [&](u64 address, u64 at, u64 count) { return memory.read(Iova(address), out.data() + at, count); });
}

bool VirtioChain::write(mmu::Dma& memory, u64 offset, std::span<const u8> data) const {
    return by_piece(writable, offset, data.size(), [&](u64 address, u64 at, u64 count) {
        return memory.write(Iova(address), data.data() + at, count);
    });
}

std::optional<u16> VirtioQueue::waiting(mmu::Dma& memory) const {
    u16 index = 0;
    if (!memory.read(Iova(setup.driver + 2), &index, sizeof index)) return std::nullopt;
    const u16 count = static_cast<u16>(index - next_);
    if (count > setup.size) return std::nullopt;
    return count;
}

/// Adds the descriptors of one table, from `first` on. A chain longer than its table is a loop.
bool VirtioQueue::follow(mmu::Dma& memory, u64 table, u32 entries, u16 first, bool may_nest, bool indirect,
                         VirtioChain& chain) const {
    u16 at = first;
    for (u32 count = 0; count < entries; ++count) {
        Descriptor descriptor{};
        if (at >= entries || !memory.read(Iova(table + u64{at} * sizeof descriptor), &descriptor, sizeof descriptor))
            return false;
        if ((descriptor.flags & kIndirectTable) != 0) {
            const u32 nested = descriptor.length / sizeof descriptor;
            if (!may_nest || !indirect || (descriptor.flags & kNext) != 0 ||
                descriptor.length % sizeof descriptor != 0 || nested == 0 || nested > kMaxIndirect) {
                return false;
            }
            return follow(memory, descriptor.address, nested, 0, false, indirect, chain);
        }
        const bool writable = (descriptor.flags & kWrite) != 0;
        if (!writable && !chain.writable.empty()) return false;  // what is written comes last
        (writable ? chain.writable : chain.readable).push_back({descriptor.address, descriptor.length});
        (writable ? chain.writable_bytes : chain.readable_bytes) += descriptor.length;
        if ((descriptor.flags & kNext) == 0) return true;
        at = descriptor.next;
    }
    return false;
}

std::optional<VirtioChain> VirtioQueue::take(mmu::Dma& memory, bool indirect) {
    VirtioChain chain;
    const u64 slot = setup.driver + kRingHeader + u64{next_} % setup.size * sizeof chain.head;
    if (!memory.read(Iova(slot), &chain.head, sizeof chain.head)) return std::nullopt;
    if (!follow(memory, setup.descriptors, setup.size, chain.head, true, indirect, chain)) return std::nullopt;
    ++next_;
    return chain;
}

bool VirtioQueue::give_back(mmu::Dma& memory, u16 head, u32 written) {
    const UsedElement element{head, written};
    const u64 slot = setup.device + kRingHeader + u64{used_} % setup.size * sizeof element;
    if (!memory.write(Iova(slot), &element, sizeof element)) return false;
    ++used_;
    return memory.write(Iova(setup.device + 2), &used_, sizeof used_);
}

/// §2.7.7.2: "if the VIRTIO_F_EVENT_IDX feature bit is negotiated ... when used_event is passed", else the flag.
bool VirtioQueue::wants_interrupt(mmu::Dma& memory, bool event_index) {
    const u16 before = told_;
    told_ = used_;
    if (before == used_) return false;
    u16 word = 0;
    if (!event_index) return memory.read(Iova(setup.driver), &word, sizeof word) && (word & kNoInterrupt) == 0;
    if (!memory.read(Iova(setup.driver + kRingHeader + u64{setup.size} * 2), &word, sizeof word)) return false;
    return static_cast<u16>(used_ - word - 1) < static_cast<u16>(used_ - before);
}

bool VirtioQueue::ask_notification(mmu::Dma& memory) {
    return memory.write(Iova(setup.device + kRingHeader + u64{setup.size} * sizeof(UsedElement)), &next_, sizeof next_);
}

void VirtioQueue::fields(StateVisitor& v) {
    v("size", setup.size, Fmt::Dec);
    v("vector", setup.vector, Fmt::Dec);
    v("enabled", setup.enabled);
    v("descriptors", setup.descriptors);
    v("driver", setup.driver);
    v("device", setup.device);
    v("next", next_, Fmt::Dec);
    v("used", used_, Fmt::Dec);
    v("told", told_, Fmt::Dec);
    if (v.loading() && (setup.size == 0 || setup.size > kMaxSize)) setup.size = kMaxSize;
}

}  // namespace vg::devices
