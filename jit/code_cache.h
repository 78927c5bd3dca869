// The code arena: shared anonymous memory mapped twice, writable where code is emitted, executable where it runs.
#pragma once

#include "base/result.h"
#include "base/types.h"

namespace vg::jit {

/// Bump-allocated; emptied as a whole. Pages that were never used cost nothing.
class CodeArena {
  public:
    /// Error (Host): the host refuses executable memory.
    static Result<CodeArena> create(u32 size);
    CodeArena(CodeArena&& other) noexcept;
    CodeArena& operator=(CodeArena&& other) noexcept;
    ~CodeArena();

    /// Where byte `offset` is written, and where it is executed.
    [[nodiscard]] u8* writable() const { return writable_; }
    [[nodiscard]] const u8* executable(u32 offset) const { return executable_ + offset; }
    [[nodiscard]] u32 size() const { return size_; }
    /// Three parts: what blocks execute when all is well, the other ways of their conditional jumps, and what is hardly ever
    /// executed (stubs). The first two stay dense, which the host's instruction caches and TLB thank for.
    struct Part {
        u32 begin = 0, end = 0, used = 0;  ///< offsets; everything below `used` is taken
        u32 ready = 0;                     ///< below it the host has been asked for memory
        [[nodiscard]] u32 room() const { return end - used; }
    };
    Part hot, warm, cold;
    /// Bytes taken, the fixed ones apart.
    [[nodiscard]] u32 used() const { return hot.used - hot.begin + (warm.used - warm.begin) + (cold.used - cold.begin); }
    /// Asks the host for the memory that the next block will take, if it is not there yet. Call before emitting.
    void prepare();
    /// Asks the processor for the places that a block of usual size will take.
    void prefetch() const;
    /// Empties them; the first `fixed` bytes of the arena stay.
    void reset(u32 fixed);
    /// Gives their memory back to the host. They are empty.
    void release();

  private:
    CodeArena() = default;
    u8* writable_ = nullptr;
    u8* executable_ = nullptr;
    u32 size_ = 0;
};

}  // namespace vg::jit
