// Tiers of a translation: code is translated at once, again with memos if much of the time goes there, and a third time
// when it is known which memos pay.
#pragma once

#include <array>
#include <vector>

#include "base/host_memory.h"
#include "base/types.h"
#include "mmu/bank.h"

namespace vg::jit {

enum class Tier : u8 {
    Plain,     ///< no memos
    Profiled,  ///< memos everywhere; counts entries, and misses of each memo
    Tuned      ///< memos where they hit
};

/// Misses of a tuned memo that are accepted at first.
inline constexpr u32 kFirstPatience = 1024, kMaxPatience = 1u << 30;

/// What a translation is to be like.
struct Tuning {
    Tier tier = Tier::Plain;
    u64 no_memo = 0;  ///< bit k: the k-th check of the block has no memo
    /// Tuned: misses of a memo after which the block is profiled again. Doubles each time, so that what changes its
    /// ways is noticed soon and what is as good as it gets is left alone.
    u32 patience = kFirstPatience;
};

/// Checks of one block that may have memos.
inline constexpr unsigned kMaxMemoChecks = 64;
inline constexpr u32 kNoMemo = ~u32{0};

/// Where counters start: of a memo's misses while it is profiled, and afterwards; of a block that stays as it is.
inline constexpr u32 kMissesStart = 0x7fffffff, kNeverAgain = 0x7fffffff;

/// Places in the banks' memo tables, each given to one check of one block.
class MemoSlots {
  public:
    /// kNoMemo: all are taken.
    [[nodiscard]] u32 take(bool write) {
        std::vector<u32>& free = free_[write];
        if (!free.empty()) {
            const u32 slot = free.back();
            free.pop_back();
            return slot;
        }
        return next_[write] == mmu::kMemoEntries ? kNoMemo : next_[write]++ + (write ? mmu::kMemoEntries : 0);
    }
    /// What the banks hold there is good for the next taker: copies of the same kind.
    void give_back(u32 slot) { free_[slot >= mmu::kMemoEntries].push_back(slot); }
    void reset() {
        for (auto& list : free_) list.clear();
        next_ = {};
    }
    /// Every place ever given out is below this, for each kind.
    [[nodiscard]] u32 used() const { return next_[0] > next_[1] ? next_[0] : next_[1]; }

  private:
    std::array<std::vector<u32>, 2> free_;
    std::array<u32, 2> next_{};
};

/// Double words that translated code counts down in.
class Counters {
  public:
    static constexpr u32 kCount = 1u << 22;
    /// The first of `count` counters, all at `start`; nullptr: none are left.
    [[nodiscard]] u32* take(u32 count, u32 start);
    void reset() { used_ = 0; }
    /// The same, and its memory is the host's again.
    void release() {
        used_ = 0;
        memory_.release();
    }
    [[nodiscard]] u32 used() const { return used_; }
    /// Takes back all that was taken since `used()` was `used`.
    void rewind(u32 used) { used_ = used; }

  private:
    HostMemory memory_{u64{kCount} * sizeof(u32)};
    u32 used_ = 0;
};

}  // namespace vg::jit
