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
    /// Two parts: what blocks execute when all is well, and what they leave it for (stubs, other ways of conditional
    /// jumps). The first stays dense, which the host's instruction caches and TLB thank for.
    struct Part {
        u32 begin = 0, end = 0, used = 0;  ///< offsets; everything below `used` is taken
        u32 ready = 0;                     ///< below it the host has been asked for memory
        [[nodiscard]] u32 room() const { return end - used; }
    };
    Part hot, cold;
    /// Asks the host for the memory that the next block will take, if it is not there yet. Call before emitting.
    void prepare();
    /// Empties both parts; the first `fixed` bytes of the arena stay.
    void reset(u32 fixed);

  private:
    CodeArena() = default;
    u8* writable_ = nullptr;
    u8* executable_ = nullptr;
    u32 size_ = 0;
};

}  // namespace vg::jit
