// The translator as an engine: same semantics as the interpreter, run as translated code.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "cpu/engine.h"
#include "cpu/interp.h"
#include "jit/block.h"
#include "jit/block_trace.h"
#include "jit/code_cache.h"
#include "jit/context.h"
#include "jit/mode_key.h"
#include "jit/statistics.h"
#include "jit/thunks.h"
#include "jit/translator.h"
#include "jit/watcher.h"
#include "mmu/physical_memory.h"

namespace vg::jit {

struct Options {
    static constexpr u32 kLeastCodeBytes = 64u << 10;
    u32 code_bytes = 128u << 20;  ///< size of the code arena, at least kLeastCodeBytes
    unsigned block_limit = 32;    ///< instructions per block, 1..64; in an arena of less than 128 KiB at most 16
    bool link_blocks = true;      ///< patch direct jumps and fill jump caches (off: every block ends in the dispatcher)
    bool native = true;           ///< emit natively (off: every instruction is a helper call)
    u32 sample_every = 100'000;   ///< instructions between looks at where time is spent, 256 at least; 0: never
    u32 hot_samples = 16;         ///< of about a thousand: a block found there so often is translated again, with memos
    u32 profile_runs = 1000;      ///< entries after which it is decided which memos stay; at least 1
    u32 flush_every = 0;          ///< for tests: empty the cache after this many dispatches; 0: never
    bool gated = false;           ///< the VP that it runs has a cpu::GuestGate, and keeps to its rules
    std::vector<TranslationWatcher*> watchers{};  ///< told about every translation; they outlive the engine
};

/// Runs any number of VPs that share one PhysicalMemory, one at a time, on one thread. Several engines may share it; those
/// of different threads run VPs that have a GuestGate.
class JitEngine final : public cpu::Engine, public mmu::CodeObserver {
  public:
    /// Error (Host): no executable memory, or a host processor without AVX2 and BMI. Registers itself as the memory's
    /// code observer; the memory outlives the engine.
    static Result<std::unique_ptr<JitEngine>> create(mmu::PhysicalMemory& memory, const Options& options);
    ~JitEngine() override;

    cpu::Stop run(cpu::Vp& vp) override;
    cpu::Stop step(cpu::Vp& vp) override;

    void code_written(Spa spa, u32 size) override;
    void mark_page(Spa page) override;

    /// Beyond what the interpreter does: instructions at breakpoints are in no translation, so they come to it. Pages with
    /// breakpoints have translations of their own (ModeKey::kStops).
    void breakpoints_changed() override;

    /// All code is made anew: with records for the observer, or without.
    void observer_changed() override;

    void forget(cpu::Vp& vp) override;
    void release_memory() override;
    [[nodiscard]] const Stats& stats() const { return stats_; }
    /// What the cache holds now. Whoever exceeds kLimits by more than one block has found a mistake.
    struct Footprint {
        std::size_t blocks = 0, insns = 0, sites = 0, recipes = 0;
        u64 code_bytes = 0;
    };
    [[nodiscard]] Footprint footprint() const;
    /// Beyond these the cache is emptied even if the arena has room: a guest of tiny blocks must not grow the process.
    static constexpr Footprint kLimits{kMaxBlocks, kMaxInsns, kMaxSites, kMaxRecipes, u64{1} << 30};
    /// Executable bytes of the translation of the code at `spa` in the VP's present mode; empty if there is none. For
    /// tests and tools.
    [[nodiscard]] std::span<const u8> code_of(const cpu::Vp& vp, Spa spa);

    // ---- for the thunks (slow_path.cpp); all on the thread that is in run()
    u64 slow_access(Context& c, u32 site, u64 address);
    u64 slow_jump(Context& c, u32 site, u64 target);
    u64 slow_edge(Context& c, u32 site, u64 key);
    void settle(Context& c);
    u64 slow_execute(Context& c, u32 site);
    u64 promote(Context& c, u32 site);
    u64 memo_misses(Context& c, u32 site);
    u64 ignore_misses(u32 site);
    u64 trace_full(Context& c, u32 site);
    u64 helper_execute(Context& c, u32 site);
    /// Leaves in front of the site's instruction, or behind a jump to `target`, for the dispatcher to look at everything anew.
    u64 abandon(Context& c, u32 site, u64 target);
    /// Where all code lies that is entered or gone back to.
    [[nodiscard]] std::span<const u8> code_range() const {
        return {arena_.executable(Thunks::kSize), options_.code_bytes - Thunks::kSize};
    }

  private:
    JitEngine(mmu::PhysicalMemory& memory, const Options& options, CodeArena arena);

    struct Known {
        cpu::Vp* vp = nullptr;
        u32 model = 0;
    };

    // ---- dispatch (engine.cpp)
    Known& known(cpu::Vp& vp);
    [[nodiscard]] bool dispatch(cpu::Vp& vp, Context& c);
    [[nodiscard]] Block* find_block(cpu::Vp& vp, ModeKey key, u64& page_rip, bool& global);
    [[nodiscard]] Block* translate(cpu::Vp& vp, ModeKey key, Spa spa, const u8* page, u64 page_rip,
                                   const Tuning& tuning, s64 budget, cpu::GuestGate* gate = nullptr);
    [[nodiscard]] bool open_gate(cpu::GuestGate& gate, Spa spa, u32 end, const Translator::Rest& rest);
    [[nodiscard]] Block* translate_new(cpu::Vp& vp, ModeKey key, Spa spa, const u8* page, u64 page_rip);
    /// Whether the next translation might not fit any more.
    [[nodiscard]] bool full() const;
    [[nodiscard]] Block* retranslate(cpu::Vp& vp, Block& old, const Tuning& tuning, u64 page_rip);
    void lead_edges(cpu::Vp& vp, Block& old, Block& next, u64 page_rip);
    void sample(cpu::Vp& vp, ModeKey key);
    [[nodiscard]] cpu::Stop run_part(cpu::Vp& vp);
    [[nodiscard]] u64 next_distance();
    [[nodiscard]] Translator::Rest find_rest(cpu::Vp& vp, ModeKey key, Spa spa, const u8* page, u64 page_rip);
    void finish_exit(Context& c);
    void link(u32 site, Block& target);
    [[nodiscard]] u32 flag_saving_stub(const Block& target);
    /// Where to enter a block if kPending may be set; 0: no room for what that takes.
    [[nodiscard]] u32 open_entry(Block& block);
    /// Status flags where translated code was left. @param recipe  its number; 0: as kPending says
    [[nodiscard]] u64 status_flags(const cpu::VpState& s, u32 recipe) const;
    /// Puts them where translated code expects them at its entry.
    static void set_flags(cpu::VpState& s, u64 rflags) {
        s.jit[0] = (s.jit[0] & ~u64{0xffff}) | pack_flags(rflags);
        s.jit[3] = 0;
    }
    /// Tells translated code, before it runs, whether STI has to look.
    static void note_interrupts(cpu::Vp& vp) {
        constexpr unsigned kByte = static_cast<unsigned>(kInterruptWaits - scratch_disp(0));
        reinterpret_cast<u8*>(&vp.state().jit[0])[kByte] = vp.interrupt_waits() ? 1 : 0;
    }
    /// The key of the blocks that a block may jump to.
    [[nodiscard]] static u32 link_key(const Block& block) { return block.key & ~ModeKey::kSeparate; }
    /// The key of the mode that a block is for.
    [[nodiscard]] static ModeKey mode_of(const Block& block) {
        return {block.key & ~(ModeKey::kSeparate | ModeKey::kStops)};
    }
    /// The key of the block that a link leads to.
    [[nodiscard]] static u32 link_key(const Site& site) {
        return link_key(*site.block) | (site.separate ? ModeKey::kSeparate : 0);
    }
    static void use_jump_cache(cpu::Vp& vp, ModeKey key);
    /// ModeKey::kStops or 0, for code at this linear address.
    [[nodiscard]] u32 stops_key(u64 linear) const;
    /// The instruction there is the interpreter's, which asks whether to stop. @param stops  stops_key of the address
    [[nodiscard]] bool left_to_breakpoints(u64 linear, u32 stops) const;
    /// While memory is watched, the interpreter finds out where code is, if that takes a walk.
    [[nodiscard]] bool leaves_walk(cpu::Vp& vp, u64 linear) const;
    [[nodiscard]] u64 redispatch(Context& c);
    [[nodiscard]] u64 go_on(Context& c, const Site& site);
    [[nodiscard]] ModeKey current_key(const cpu::Vp& vp, u32 model) const;

    // ---- invalidation (invalidate.cpp)
    void flush();
    void invalidate(Block& block);
    void redirect(Block& block);
    void lead_entry_to(u32 entry, u32 target);
    void replace(Block& block);
    static u64 code_id(const Block& block) { return block.spa.value << 16 ^ block.key; }
    [[nodiscard]] static std::size_t redirected_mark(u64 id) { return id * 0x9e3779b97f4a7c15 >> 48; }
    void unlink(u32 site);
    void clear_jump_caches();
    void remark_page(u64 page_number);

    // ---- slow paths
    enum class After : u8 { Continue, Left };
    /// Where the translation of the code at an address is entered.
    struct Entry {
        u32 code = 0;         ///< arena offset; 0: there is none
        bool global = false;  ///< its page is
    };
    void fill_edge(Context& c, u32 site, u64 key, const mmu::Edge& edge);
    u64 check_guard(Context& c, u32 site, u64 key, u64 target);
    void note_group_failure(Block& block, u64 now);
    u64 separate(Context& c, const Site& site);
    [[nodiscard]] Entry entry_at(Context& c, u64 address, u32 key, Block** likely = nullptr);
    After execute_at(Context& c, const Site& site);
    After completed(Context& c, const Site& site, const cpu::Insn& insn, ModeKey key, u64 epoch);
    void expose(Context& c, const Site& site);

    void report_translation(const Block& block, std::span<const u8> guest);

    mmu::PhysicalMemory& memory_;
    Options options_;
    CodeArena arena_;
    BlockMap blocks_;
    Thunks thunks_;
    MemoSlots memos_;
    Counters counters_;
    Translator translator_;
    std::unique_ptr<BlockTrace> trace_;  ///< null: nobody is told
    cpu::StepEngine stepper_;
    std::vector<std::unique_ptr<Known>> known_;
    std::vector<const cpu::CpuModel*> models_;
    Stats stats_;
    std::unordered_set<u64> separate_;         ///< code addresses whose group checks failed too often
    std::unordered_map<u64, u32> redirected_;  ///< entries of invalid blocks by code_id, the last of each
    std::vector<bool> redirected_marks_ = std::vector<bool>(1u << 16);  ///< by a hash: there may be such an entry
    std::vector<u32> incoming_;                ///< scratch
    u32 next_edge_slot_ = 0;
    u32 edge_slots_ = 1;  ///< one more than the largest number given out, ever
    u32 sample_seed_ = 1;
    u32 memo_count_ = 0;    ///< the same for memos of each kind
    u64 epoch_ = 0;         ///< counts invalidations: whoever sees it change leaves translated code
    bool separate_next_ = false;  ///< the block that is looked up next is to have no groups
    u32 pending_link_ = 0;  ///< site whose jump leads to the block that is looked up next
    Known* current_ = nullptr;
};

}  // namespace vg::jit
