// malloc and operator new: powers of two below a page out of shared pages, whole pages above.
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "base/bits.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace {

/// In front of every block. `distance` leads back to where the block begins (aligned ones begin later).
struct Header {
    u32 mark;
    u32 size_class;  ///< log2 of the size, or 0: `pages` counts
    u32 pages, distance;
};
static_assert(sizeof(Header) == 16);
constexpr u32 kMark = 0x70616568;
constexpr u32 kSmallest = 5, kLargest = 11;  // 32 .. 2048 bytes with the header

struct Free {
    Free* next;
};
Free* free_lists[kLargest + 1];  // tidy: the system has one heap

bool refill(u32 size_class) {
    const u64 page = allocate_pages(1);
    if (page == 0) return false;
    for (u64 offset = 0; offset < kPageSize; offset += u64{1} << size_class) {
        auto* const block = at<Free>(page + offset);
        block->next = free_lists[size_class];
        free_lists[size_class] = block;
    }
    return true;
}

/// Null: no memory.
u8* allocate(u64 size) {
    if (size > u64{1} << 40) return nullptr;
    const u64 whole = size + sizeof(Header);
    Header header{kMark, 0, 0, 0};
    u8* block;
    if (whole <= u64{1} << kLargest) {
        header.size_class = whole <= u64{1} << kSmallest ? kSmallest : static_cast<u32>(std::bit_width(whole - 1));
        Free*& list = free_lists[header.size_class];
        if (list == nullptr && !refill(header.size_class)) return nullptr;
        block = reinterpret_cast<u8*>(list);
        list = list->next;
    } else {
        header.pages = static_cast<u32>(align_up(whole, kPageSize) / kPageSize);
        const u64 address = allocate_pages(header.pages);
        if (address == 0) return nullptr;
        block = at<>(address);
    }
    std::memcpy(block, &header, sizeof header);
    return block + sizeof header;
}

u8* allocate_aligned(u64 size, u64 align) {
    if (align <= sizeof(Header)) return allocate(size);
    u8* const block = allocate(size + align);
    if (block == nullptr) return nullptr;
    u8* const aligned = at<>(align_up(physical(block), align));
    if (aligned == block) return block;
    Header header;
    std::memcpy(&header, block - sizeof header, sizeof header);
    header.distance = static_cast<u32>(aligned - block);
    std::memcpy(aligned - sizeof header, &header, sizeof header);
    return aligned;
}

void release(void* pointer) {
    if (pointer == nullptr) return;
    Header header;
    u8* block = static_cast<u8*>(pointer) - sizeof header;
    std::memcpy(&header, block, sizeof header);
    VG_ASSERT(header.mark == kMark);
    std::memset(block, 0, sizeof header);  // a second release is found out
    block -= header.distance;
    if (header.size_class == 0) return free_pages(physical(block), header.pages);
    auto* const entry = reinterpret_cast<Free*>(block);
    std::memset(block, 0, sizeof(Header));
    entry->next = free_lists[header.size_class];
    free_lists[header.size_class] = entry;
}

void* or_panic(u8* block) {
    if (block == nullptr) panic("no memory left");
    return block;
}

}  // namespace

}  // namespace vg::parent

extern "C" void* malloc(std::size_t size) { return vg::parent::allocate(size); }
extern "C" void free(void* pointer) { vg::parent::release(pointer); }

void* operator new(std::size_t size) { return vg::parent::or_panic(vg::parent::allocate(size)); }
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, std::align_val_t align) {
    return vg::parent::or_panic(vg::parent::allocate_aligned(size, static_cast<vg::u64>(align)));
}
void* operator new[](std::size_t size, std::align_val_t align) { return operator new(size, align); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return vg::parent::allocate(size); }
void operator delete(void* pointer) noexcept { vg::parent::release(pointer); }
void operator delete[](void* pointer) noexcept { vg::parent::release(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { vg::parent::release(pointer); }
void operator delete[](void* pointer, std::size_t) noexcept { vg::parent::release(pointer); }
void operator delete(void* pointer, std::align_val_t) noexcept { vg::parent::release(pointer); }
void operator delete[](void* pointer, std::align_val_t) noexcept { vg::parent::release(pointer); }
void operator delete(void* pointer, std::size_t, std::align_val_t) noexcept { vg::parent::release(pointer); }
void operator delete[](void* pointer, std::size_t, std::align_val_t) noexcept { vg::parent::release(pointer); }
