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
    [[nodiscard]] u32 used() const { return used_; }
    [[nodiscard]] u32 room() const { return size_ - used_; }
    /// Everything below `offset` is taken.
    void set_used(u32 offset) { used_ = offset; }

  private:
    CodeArena() = default;
    u8* writable_ = nullptr;
    u8* executable_ = nullptr;
    u32 size_ = 0, used_ = 0;
};

}  // namespace vg::jit
