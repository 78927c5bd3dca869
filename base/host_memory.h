// Memory from the host, asked for in ways that cost few page faults: a fault can take ten microseconds where the host
// is itself a virtual machine, and a machine touches tens of thousands of pages while it starts.
#pragma once

#include <new>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "base/types.h"

namespace vg {

/// Size of the host's large pages.
inline constexpr u64 kHostHugePage = u64{2} << 20;

/// Zeroed private memory at a multiple of kHostHugePage, given in large pages where the host has them to give and one is
/// not more than asked for. What is never touched costs nothing.
class HostMemory {
  public:
    HostMemory() = default;
    /// @param size   bytes, rounded up to whole pages
    /// @param front  address space kept free directly below, for other mappings (whole pages)
    /// data() is null if the host has no room.
    explicit HostMemory(u64 size, u64 front = 0, bool huge = true);
    ~HostMemory();
    HostMemory(HostMemory&& other) noexcept { *this = std::move(other); }
    HostMemory& operator=(HostMemory&& other) noexcept;

    [[nodiscard]] u8* data() const { return data_; }
    [[nodiscard]] u64 size() const { return size_; }
    /// It is as it was at first: zero, and costs nothing.
    void release();

  private:
    u8* area_ = nullptr;
    u64 area_size_ = 0;
    u8* data_ = nullptr;
    u64 size_ = 0;
};

enum class Populate : u8 { ForWriting, ForReading };
/// Has the host back these bytes (and the whole pages around them) with memory at once. A refusal only costs speed.
void populate(void* at, u64 size, Populate how = Populate::ForWriting);

/// Bytes of a private mapping become zero; the memory of whole pages among them is the host's again until they are
/// touched.
void give_back(void* at, u64 size);

/// A part of a private mapping; offsets of whole pages.
struct PageRun {
    u64 first = 0, end = 0;
};
/// The first part at or behind `from` that has been touched, or maybe has; {size, size} if there is none.
[[nodiscard]] PageRun next_resident(const u8* data, u64 from, u64 size);

/// Asks the processor for these bytes, which are about to be written and that no cache has.
inline void prefetch_for_writing(const void* at, u64 bytes) {
    constexpr u64 kLine = 64;
    const char* const from = static_cast<const char*>(at);
    for (u64 offset = 0; offset < bytes; offset += kLine) __builtin_prefetch(from + offset, 1);
}

/// A growing list whose elements never move, for millions of them: room for `capacity` is reserved, memory is taken as
/// it is used and kept by clear().
template <class T>
requires(std::is_trivially_destructible_v<T>) class StableVector {
  public:
    /// Asserts that the host has the address space.
    explicit StableVector(u64 capacity) : memory_(capacity * sizeof(T)), capacity_(capacity) {
        VG_ASSERT(memory_.data() != nullptr);
    }
    T& push_back(const T& value) {
        VG_ASSERT(size_ < capacity_);
        return *new (items() + size_++) T(value);
    }
    [[nodiscard]] T& operator[](u64 index) { return items()[index]; }
    [[nodiscard]] const T& operator[](u64 index) const { return items()[index]; }
    [[nodiscard]] u64 size() const { return size_; }
    [[nodiscard]] u64 capacity() const { return capacity_; }
    /// Keeps the first `count`.
    void truncate(u64 count) { size_ = count; }
    /// Asks the processor for the memory that the next elements take, `bytes` of it.
    void prefetch(u64 bytes) const { prefetch_for_writing(items() + size_, bytes); }
    /// Keeps nothing, its memory neither.
    void release() {
        size_ = 0;
        memory_.release();
    }

  private:
    [[nodiscard]] T* items() const { return reinterpret_cast<T*>(memory_.data()); }
    HostMemory memory_;
    u64 capacity_ = 0, size_ = 0;
};

}  // namespace vg
