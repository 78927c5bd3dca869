#include "devices/core/msix.h"

#include <algorithm>
#include <string>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/spec/pci.h"

namespace vg::devices {

MsixTable::MsixTable(u32 vectors, u32 table_offset, u32 pba_offset, Send send)
    : entries_(vectors), pending_(vectors), table_(table_offset), pba_(pba_offset), send_(std::move(send)) {
    VG_ASSERT(vectors >= 1 && vectors <= 2048 && table_offset % 8 == 0 && pba_offset % 8 == 0);
}

void MsixTable::reset() {
    for (Entry& entry : entries_) entry = Entry{};
    pending_.assign(pending_.size(), 0);
    active_ = false;
}

void MsixTable::fields(StateVisitor& v) {
    VisitScope scope(v, "msix");
    v("active", active_);
    v.bytes("pending", pending_);
    for (u32 i = 0; i < entries_.size(); ++i) {
        VisitScope vector(v, std::to_string(i));
        v("address", entries_[i].address);
        v("data", entries_[i].data);
        v("control", entries_[i].control);
    }
}

bool MsixTable::claims(u64 offset) const {
    return offset - table_ < entries_.size() * pci::kMsixEntrySize || offset - pba_ < align_up(entries_.size(), 64) / 8;
}

/// The 32-bit register at an aligned offset.
u32 MsixTable::word(u64 offset) const {
    if (const u64 at = offset - table_; at < entries_.size() * pci::kMsixEntrySize) {
        const Entry& entry = entries_[at / pci::kMsixEntrySize];
        switch (at % pci::kMsixEntrySize / 4) {
            case 0:
                return static_cast<u32>(entry.address);
            case 1:
                return static_cast<u32>(entry.address >> 32);
            case 2:
                return entry.data;
            default:
                return entry.control;
        }
    }
    u32 value = 0;
    const u64 first = (offset - pba_) * 8;
    for (u32 i = 0; i < 32 && first + i < pending_.size(); ++i) value |= u32{pending_[first + i]} << i;
    return value;
}

void MsixTable::write_word(u64 offset, u32 value, u32 mask) {
    const u64 at = offset - table_;
    if (at >= entries_.size() * pci::kMsixEntrySize) return;  // pending bits are read-only
    const u32 vector = static_cast<u32>(at / pci::kMsixEntrySize);
    Entry& entry = entries_[vector];
    const u32 next = (word(offset) & ~mask) | (value & mask);
    switch (at % pci::kMsixEntrySize / 4) {
        case 0:
            entry.address = with_bits(entry.address, 31, 0, next);
            break;
        case 1:
            entry.address = with_bits(entry.address, 63, 32, next);
            break;
        case 2:
            entry.data = next;
            break;
        default:
            entry.control = next & pci::kMsixEntryMasked;
            deliver(vector);
            break;
    }
}

u64 MsixTable::read(u64 offset, unsigned size) const {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) {
        const u64 at = offset + i;
        if (claims(at)) value |= u64{(word(align_down(at, 4)) >> (at % 4 * 8)) & 0xff} << (i * 8);
    }
    return value;
}

void MsixTable::write(u64 offset, unsigned size, u64 value) {
    for (unsigned i = 0; i < size;) {
        const u64 at = offset + i;
        const unsigned in_word = static_cast<unsigned>(at % 4), count = std::min(4 - in_word, size - i);
        const u32 mask = static_cast<u32>(low_mask(count * 8) << (in_word * 8));
        if (claims(at)) write_word(align_down(at, 4), static_cast<u32>(value >> (i * 8) << (in_word * 8)), mask);
        i += count;
    }
}

void MsixTable::set_active(bool active) {
    active_ = active;
    if (!active) return;
    for (u32 i = 0; i < pending_.size(); ++i) deliver(i);
}

void MsixTable::signal(u32 vector) {
    if (vector >= pending_.size()) return;
    pending_[vector] = 1;
    deliver(vector);
}

void MsixTable::deliver(u32 vector) {
    const Entry& entry = entries_[vector];
    if (pending_[vector] == 0 || !active_ || (entry.control & pci::kMsixEntryMasked) != 0) return;
    pending_[vector] = 0;
    send_(entry.address, entry.data);
}

}  // namespace vg::devices
