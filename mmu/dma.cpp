#include "mmu/dma.h"

#include <algorithm>
#include <cstring>

namespace vg::mmu {
namespace {

/// Calls `transfer(spa, count)` page by page until it or the second level refuses.
template <class Transfer>
bool by_page(PhysicalMemory& memory, const SlatMode& slat, Iova address, u64 size, Access access, Transfer transfer) {
    while (size != 0) {
        const Translation t = translate_gpa(memory, slat, Gpa(address.value), access);
        if (t.status != Translation::Status::Ok) return false;
        const u64 count = std::min(size, kPageSize - address.offset());
        if (!transfer(t.spa, count)) return false;
        address = address + count;
        size -= count;
    }
    return true;
}

}  // namespace

bool DirectDma::read(Iova address, void* out, u64 size) {
    u8* to = static_cast<u8*>(out);
    return by_page(memory_, slat_, address, size, Access::Read, [&](Spa spa, u64 count) {
        if (memory_.readable(spa) == nullptr) return false;
        memory_.read(spa, to, count, by_);
        to += count;
        return true;
    });
}

bool DirectDma::write(Iova address, const void* data, u64 size) {
    const u8* from = static_cast<const u8*>(data);
    return by_page(memory_, slat_, address, size, Access::Write, [&](Spa spa, u64 count) {
        if (memory_.ram(spa) == nullptr) return false;
        memory_.write(spa, from, count, by_);
        from += count;
        return true;
    });
}

}  // namespace vg::mmu
