// Translated blocks and what is known about places in their code.
#pragma once

#include <unordered_map>
#include <vector>

#include "base/bits.h"
#include "base/host_memory.h"
#include "base/types.h"
#include "cpu/insn.h"
#include "jit/flags.h"
#include "jit/tier.h"

namespace vg::jit {

struct Block;

/// What the stub of a memory check pushes, so that the thunk behind it need not look at the site, which is far from all
/// caches: the site's number, and above it what the check was of.
struct MissWord {
    static constexpr unsigned kSiteBits = 23;  ///< the site's number
    static constexpr u32 kSizeMask = 127;      ///< then seven bits: bytes checked, minus one
    static constexpr u32 kSum = 128;           ///< then: Site::sum
    static constexpr u32 kAligned = 256;       ///< then: misalignment is size - 1, not 0
    static constexpr u32 pack(u32 site, u32 size, bool sum, bool aligned) {
        return site | ((size - 1) | (sum ? kSum : 0) | (aligned ? kAligned : 0)) << kSiteBits;
    }
};

/// A place where translated code calls out or leaves: which guest instruction it belongs to and where to go on.
/// Offsets are into the code arena; 0 means none (the arena begins with the thunks).
struct alignas(64) Site {
    Block* block = nullptr;
    union {
        const cpu::Insn* insn = nullptr;  ///< the record to execute; nullptr: fetch it again (not if `counts`)
        u32* counter;                     ///< misses of a memo (if `counts`)
    };
    // A link (a jump within the page) or an edge (a jump to another one).
    union {
        Block* linked = nullptr;  ///< link: the block that `patch` leads to now
        Block* edge_block;        ///< edge: where it led the last time
    };
    u32 access = 0;  ///< memory check: where the access is done once its host address is known
    union {
        u32 next = 0;      ///< behind the instruction
        u32 stub;          ///< link: the code that leaves through this site
        u32 edge_compare;  ///< edge: the displacement (disp32) that names the entry
    };
    u32 recipe = 0;      ///< how to compute the status flags here; 0: as kPending says
    s32 rip_offset = 0;  ///< RIP of the instruction (or the link's target) relative to the code page base
    u32 patch = 0;       ///< link: the rel32 that leads here; 0: this is no link
    union {
        u32 next_incoming = 0;  ///< link: next site in the target's list of patched links
        u32 next_edge;          ///< edge: next site in a block's list
    };
    union {
        u32 edge_recipe = 0;  ///< link: what kPending is set to on the way (the flags are in the hardware, too); 0: nothing
        u32 edge_slot;        ///< edge: its entry in the bank's edge table; 0: it has not been taken yet
    };
    union {
        u32 memo = kNoMemo;  ///< memory check: its place in the banks' memo tables (not if `edge`)
        s32 edge_distance;   ///< edge: from the address that is looked up to the target
    };
    u16 edge_jump = 0;              ///< edge: from edge_compare to the displacement of the jump; 0: there is none
    u8 size = 0;                    ///< memory check: bytes
    u8 misalignment = 0;            ///< memory check: address bits that must be zero
    u8 index = 0;                   ///< instructions of the block before this one
    bool sum : 1 = false;           ///< memory check: T0 wants the host address itself, not the guest address
    bool write : 1 = false;
    bool counts : 1 = false;        ///< `counter` is meant
    bool edge : 1 = false;          ///< this is an edge
    bool edge_pending : 1 = false;  ///< link: kPending may be set, to a recipe that does not depend on registers
    bool edge_listed : 1 = false;   ///< it is in one: that of the block it led to the first time, or that one's successor
    bool rip_in_t0 : 1 = false;     ///< slow jump: RIP is the target, not rip_offset
    bool rip_in_stash : 1 = false;  ///< leaving: RIP is the value in the stash, not rip_offset
    bool guard : 1 = false;         ///< edge check that the page behind is still Block::rest_page
    bool group : 1 = false;         ///< memory check for several accesses of the block
    bool separate : 1 = false;      ///< link: to a translation without groups (ModeKey::kSeparate)
    bool check_key : 1 = false;     ///< the instruction may change what the mode key is made of

    [[nodiscard]] const cpu::Insn* instruction() const { return counts ? nullptr : insn; }
    [[nodiscard]] u32 behind() const { return edge || patch != 0 ? 0 : next; }
    [[nodiscard]] u32 memo_place() const { return edge ? kNoMemo : memo; }
};
static_assert(sizeof(Site) == 64, "a line of the host's caches: sites are far from all of them when they are needed");

/// One translation: straight-line guest code within one physical page, for one mode key.
struct Block {
    Spa spa;  // with the next three: what look-ups touch
    Block* hash_next = nullptr;
    u32 key = 0;
    u32 entry = 0;  ///< arena offset
    Block* page_next = nullptr;
    u16 size = 0;   ///< guest bytes
    u8 count = 0;   ///< guest instructions
    bool valid = true;
    bool needs_flags = true;        ///< to be entered with the flags in the slot
    bool uses_x87 = false;          ///< has native x87 or MMX instructions: they are in the host's unit from its entry on
    bool passes_flags = true;       ///< else: it may leave them to the next block as they are
    u16 changed_while_pending = 0;  ///< else: registers that a pending recipe must not name
    u32 incoming = 0;               ///< first site linked to this block
    u32 first_site = 0, site_end = 0;
    Tuning tuning;
    u32* counters = nullptr;  ///< Profiled: of entries, and of misses of each check's memo
    u64 sampled_since = 0;    ///< sample from which on `samples` were counted
    u32 samples = 0;
    u8 memo_checks = 0;      ///< checks that might have memos
    u32 edge_sites = 0;      ///< first of the jumps to other pages that have led here
    u32 group_failures = 0;  ///< of its group checks, since virtual time `failures_since`
    u64 failures_since = 0;
    u32 settled_entry = 0;  ///< code that puts pending flags in the slot first; 0: not made yet
    /// An instruction that crosses the page's end: the page that its rest was in when it was translated. That page's
    /// list has a record for the rest, whose `owner` is this block.
    Spa rest_page{0};
    Block* owner = nullptr;
};

/// Beyond these the cache is emptied even if the arena has room: a guest of tiny blocks must not grow the process.
inline constexpr u32 kMaxBlocks = 1u << 20, kMaxInsns = 1u << 20, kMaxSites = 2u << 20, kMaxRecipes = 2u << 20;
/// Room beyond them: for what one more block needs, and for a site of every block that needs no translation
/// (redirect).
inline constexpr u32 kSpare = 1u << 14, kSpareSites = kMaxBlocks + kSpare;
static_assert(kMaxSites + kSpareSites <= 1u << MissWord::kSiteBits);

/// All blocks, by address and by page. Emptied as a whole; single blocks only become unreachable.
class BlockMap {
  public:
    BlockMap();

    [[nodiscard]] Block* find(Spa spa, u32 key) const {
        const u64 hash = hash_of(spa, key), head = heads_[bucket(hash)];
        if ((head & mark(hash)) == 0) return nullptr;
        Block* b = first_of(head);
        while (b != nullptr && (b->spa != spa || b->key != key)) b = b->hash_next;
        return b;
    }
    Block& add(Spa spa, u32 key);
    /// A record in the list of the page at `page` for the `size` bytes there that belong to `owner`.
    void add_rest(Block& owner, Spa page, u16 size);
    /// Takes the block out of both indexes; the record stays until clear().
    void remove(Block& block);
    void clear();
    /// The same, and its memory is the host's again.
    void release();

    /// First block of a page; the others by page_next.
    [[nodiscard]] Block* page(u64 page_number) const {
        const auto found = pages_.find(page_number);
        return found == pages_.end() ? nullptr : found->second;
    }
    [[nodiscard]] const std::unordered_map<u64, Block*>& pages() const { return pages_; }

    // ---- sites, by number (0 is none)
    u32 add_site(const Site& site) {
        sites_.push_back(site);
        return site_count() - 1;
    }
    [[nodiscard]] Site& site(u32 number) { return sites_[number]; }
    [[nodiscard]] u32 site_count() const { return static_cast<u32>(sites_.size()); }
    void truncate_sites(u32 count) { sites_.truncate(count); }

    /// Recipes, by number (0 is none).
    u32 add_recipe(const FlagRecipe& recipe) {
        if (const u32 packed = recipe.packed(); packed != 0) return packed;
        recipes_.push_back(recipe);
        return static_cast<u32>(recipes_.size() - 1);
    }
    [[nodiscard]] FlagRecipe recipe(u32 number) const {
        return (number & FlagRecipe::kPacked) != 0 ? FlagRecipe::unpacked(number) : recipes_[number];
    }
    [[nodiscard]] u64 recipe_count() const { return recipes_.size(); }

    const cpu::Insn* keep(const cpu::Insn& insn) { return &insns_.push_back(insn); }
    /// Address space that one of these takes. What of it is used becomes memory.
    [[nodiscard]] static constexpr u64 reserved_bytes() {
        return (u64{1} << kBucketBits) * sizeof(u64) + (2 * kMaxBlocks + kSpare) * sizeof(Block) +
               (kMaxSites + kSpareSites) * sizeof(Site) + (kMaxInsns + kSpare) * sizeof(cpu::Insn) +
               (kMaxRecipes + kSpare) * sizeof(FlagRecipe);
    }
    /// Asks the processor for the places that the next block and its sites will take.
    void prefetch() const {
        blocks_.prefetch(sizeof(Block));
        sites_.prefetch(6 * sizeof(Site));
    }
    [[nodiscard]] u64 block_count() const { return blocks_.size(); }
    [[nodiscard]] u64 insn_count() const { return insns_.size(); }

  private:
    void remove_from_page(Block& block);
    void start();

    static constexpr unsigned kBucketBits = 18;
    static u64 hash_of(Spa spa, u32 key) { return (spa.value + key) * 0x9e3779b97f4a7c15; }
    static std::size_t bucket(u64 hash) { return hash >> (64 - kBucketBits); }
    // The head of a bucket's list: the first block's address, and above it a mark for each of the blocks, by other bits of
    // the hash. Most look-ups for code that is not translated yet end there, without a look at a block far from all caches.
    static constexpr unsigned kMarksShift = 48;
    static u64 mark(u64 hash) { return u64{1} << (kMarksShift + (hash >> 32 & 15)); }
    static Block* first_of(u64 head) { return reinterpret_cast<Block*>(head & low_mask(kMarksShift)); }

    HostMemory head_memory_{(u64{1} << kBucketBits) * sizeof(u64)};
    u64* heads_ = nullptr;
    std::unordered_map<u64, Block*> pages_;
    StableVector<Block> blocks_{2 * kMaxBlocks + kSpare};  // with a record for each rest in the next page
    StableVector<Site> sites_{kMaxSites + kSpareSites};
    StableVector<cpu::Insn> insns_{kMaxInsns + kSpare};
    StableVector<FlagRecipe> recipes_{kMaxRecipes + kSpare};
};

}  // namespace vg::jit
