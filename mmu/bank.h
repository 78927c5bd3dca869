// Banks: what translated code addresses from its one base register.
//
// A bank is one address space seen at one privilege: an alias of the VP's state page, then the read table, the
// write table, the jump caches and the memos. The base register points at the start of the read table, so that state
// sits at negative and the tables at positive displacements; switching address space or privilege is loading that
// register. The layout is baked into all emitted code: change it only together with jit/.
#pragma once

#include <cstddef>

#include "base/types.h"

namespace vg::mmu {

/// One direct-mapped software TLB entry. A read (write) through the entry of page number P goes to host address
/// `gva + addend` if `tag == page address of gva`. Absence encodes every special case: not mapped, not permitted,
/// MMIO, holds code, tracked.
struct TlbEntry {
    u64 tag = 0;
    u64 addend = 0;
};

/// Guest linear address to translated code. For indirect jumps `rip` is the target; for direct jumps it is an address that
/// stands for the place jumped from, which the target has a fixed distance to. It is compared in full.
struct JumpEntry {
    u64 rip = 0;
    u64 host = 0;
};

/// What a direct jump to another page leads to.
struct Edge {
    u64 host = 0;         ///< translated code
    u64 target = 0;       ///< its guest address: the entry lives as long as that page's translation
    bool global = false;  ///< that page is: the entry outlives flushes of the address space
};

inline constexpr unsigned kTlbBits = 12;
inline constexpr u32 kTlbEntries = 1u << kTlbBits;
/// Behind them: entries that another page took the place of, by another index, for code that misses.
inline constexpr u32 kSecondEntries = 1024;
inline constexpr u32 kTlbSlots = kTlbEntries + kSecondEntries;
inline constexpr unsigned kJumpBits = 14;
inline constexpr u32 kJumpEntries = 1u << kJumpBits;
inline constexpr u32 kEdgeEntries = 65536;  ///< entry 0 stays empty

/// Memos: copies of TLB entries, each for one place in hot code, which made the copy itself. Those for reads lie in the
/// first half, those for writes in the second: a place must never find a copy of the other kind.
inline constexpr u32 kMemoEntries = 8192;
inline constexpr u32 kMemos = 2 * kMemoEntries;
/// Code that copies an entry notes it for the memos around it, so that dropping entries finds the copies.
inline constexpr u32 kMemosPerMark = 32;

/// What lies at `base` (the value of the base register while the bank is current).
struct BankTables {
    TlbEntry read[kTlbSlots];
    TlbEntry write[kTlbSlots];
    JumpEntry jump[kJumpEntries];
    JumpEntry edge[kEdgeEntries];  ///< the same for direct jumps to other pages: each place in the code has its entry
    TlbEntry memo[kMemos];
    u8 memo_marks[kMemos / kMemosPerMark];  ///< non-zero: there may be copies among these
    /// What an access through an empty memo would reach, could it pass the check (Tlb: kEmptyMemo).
    alignas(kPageSize) u8 sink[2 * kPageSize];
    alignas(kPageSize) u64
        jump_key;  ///< the translator's: what the entries of `jump` are valid for (meaningless while there are none)
};

inline constexpr std::ptrdiff_t kReadTable = offsetof(BankTables, read);
inline constexpr std::ptrdiff_t kWriteTable = offsetof(BankTables, write);
inline constexpr std::ptrdiff_t kJumpTable = offsetof(BankTables, jump);
inline constexpr std::ptrdiff_t kEdgeTable = offsetof(BankTables, edge);
inline constexpr std::ptrdiff_t kMemoTable = offsetof(BankTables, memo);
inline constexpr std::ptrdiff_t kMemoMarks = offsetof(BankTables, memo_marks);

/// Entry number of a page: its low page-number bits.
constexpr u32 tlb_index(u64 gva) { return static_cast<u32>(gva >> 12) & (kTlbEntries - 1); }
/// Entry number of a page among all slots once another page has taken its own.
constexpr u32 second_index(u64 gva) {
    const u64 page = gva >> 12;
    return kTlbEntries + (static_cast<u32>(page ^ page >> kTlbBits) & (kSecondEntries - 1));
}
/// Entry number in the jump cache. Two instructions find the entry's offset; targets of less than four bytes' distance
/// share one. Functions, which begin at multiples of 16, use a quarter of the entries.
constexpr u32 jump_index(u64 rip) { return static_cast<u32>(rip >> 2) & (kJumpEntries - 1); }

/// Where an entry goes that another target takes the place of, for code that does not find it in its own.
constexpr u32 other_jump_index(u32 index) { return index ^ 1; }

/// Tag of an empty entry: a page address whose index differs from the entry's, so that no address can match.
/// It is 0 for every slot but the first of each kind.
constexpr u64 empty_tag(u32 slot) { return slot == 0 || slot == kTlbEntries ? kPageSize : 0; }
/// The same for the jump cache: a rip that is never looked for there.
constexpr u64 empty_rip(u32 index) { return index < 2 ? 8 : 0; }
/// Of an empty entry of the edge table: further from any canonical address than a displacement reaches.
inline constexpr u64 kEmptyEdge = u64{1} << 62;

}  // namespace vg::mmu
