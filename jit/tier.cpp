// What becomes of code that runs often.
#include "jit/tier.h"

#include <algorithm>

#include "jit/engine.h"
#include "jit/x87_unit.h"

namespace vg::jit {

using cpu::VpState;

namespace {

/// One miss of a memo costs as much as this many hits save.
constexpr u32 kMissWeight = 100;
/// Samples that a block's share of them is counted over.
constexpr u64 kSampleWindow = 1024;

}  // namespace

u32* Counters::take(u32 count, u32 start) {
    if (memory_.data() == nullptr || count > kCount - used_) return nullptr;
    u32* first = reinterpret_cast<u32*>(memory_.data()) + used_;
    used_ += count;
    std::fill(first, first + count, start);
    return first;
}

/// The slice has been cut at a block: where that happens often, time is spent.
void JitEngine::sample(cpu::Vp& vp, ModeKey key) {
    u64 page_rip = 0;
    bool global = false;
    Block* const block = find_block(vp, key, page_rip, global);
    ++stats_.samples;
    if (block == nullptr || block->tuning.tier != Tier::Plain || block->memo_checks == 0) return;
    if (stats_.samples - block->sampled_since > kSampleWindow) {
        block->sampled_since = stats_.samples;
        block->samples = 0;
    }
    if (++block->samples < options_.hot_samples || memory_.ram(block->spa) == nullptr) return;
    if (retranslate(vp, *block, {.tier = Tier::Profiled}, page_rip) != nullptr) ++stats_.profiled;
}

/// At the entry of a profiled block that has been entered often enough: goes on in a translation with the memos that
/// hit.
u64 JitEngine::promote(Context& c, u32 number) {
    const Site& site = blocks_.site(number);
    Block& old = *site.block;
    VpState& s = *c.state;
    unload_x87(s);  // either translation begins by loading it
    const u64 as_before = reinterpret_cast<u64>(arena_.executable(site.access));
    *old.counters = kNeverAgain;
    if (!old.valid || memory_.ram(old.spa) == nullptr) return as_before;
    Tuning tuning{.tier = Tier::Tuned, .no_memo = old.tuning.no_memo, .patience = old.tuning.patience};
    for (unsigned k = 0; k < old.memo_checks; ++k) {
        const u32 misses = kMissesStart - old.counters[1 + k];
        if (misses > options_.profile_runs / kMissWeight) tuning.no_memo |= u64{1} << k;
    }
    Block* next = retranslate(*c.vp, old, tuning, s.jit[1]);
    if (next == nullptr) return as_before;
    ++stats_.tuned;
    set_flags(s, status_flags(s, 0));
    s.budget += old.count;
    return reinterpret_cast<u64>(arena_.executable(next->entry));
}

/// A memo of a tuned block has missed often: whether that is more than it hits is measured again. Goes on at the check.
u64 JitEngine::memo_misses(Context& c, u32 number) {
    const Site& site = blocks_.site(number);
    Block& block = *site.block;
    *site.counter = kNeverAgain;
    unload_x87(*c.state);
    if (block.valid && memory_.ram(block.spa) != nullptr) {
        ++stats_.profiled_again;
        const u32 patience = std::min(2 * block.tuning.patience, kMaxPatience);
        (void)retranslate(*c.vp, block, {.tier = Tier::Profiled, .no_memo = block.tuning.no_memo, .patience = patience},
                          c.state->jit[1]);
    }
    if (block.uses_x87) load_x87(*c.state);
    return reinterpret_cast<u64>(arena_.executable(site.access));
}

/// Puts another translation of the same code in the block's place. nullptr: there is no room, or it became something
/// else.
/// @param page_rip  guest address of its page
Block* JitEngine::retranslate(cpu::Vp& vp, Block& old, const Tuning& tuning, u64 page_rip) {
    if (full()) return nullptr;
    const u8* page = memory_.ram(old.spa.page_base());
    Block* next = translate(vp, ModeKey{old.key}, old.spa, page, page_rip, tuning, INT32_MAX);
    if (next == nullptr) return nullptr;
    std::vector<u32>& incoming = incoming_;
    incoming.clear();
    for (u32 number = old.incoming; number != 0; number = blocks_.site(number).next_incoming)
        incoming.push_back(number);
    invalidate(old);
    --stats_.invalidations;
    replace(*next);
    for (const u32 number : incoming) link(number, *next);
    lead_edges(vp, old, *next, page_rip);
    return next;
}

/// What the present bank knows leads to the new translation at once; other banks come to it through the old one's
/// entry.
void JitEngine::lead_edges(cpu::Vp& vp, Block& old, Block& next, u64 page_rip) {
    const u32 entry = open_entry(next);
    if (entry == 0) return;
    const u64 host = reinterpret_cast<u64>(arena_.executable(entry));
    const auto leads_to_old = [&](const mmu::JumpEntry& e) {
        return e.host == reinterpret_cast<u64>(arena_.executable(old.entry)) ||
               (old.settled_entry != 0 && e.host == reinterpret_cast<u64>(arena_.executable(old.settled_entry)));
    };
    mmu::BankTables& bank = *vp.tlb().bank();
    for (u32 number = old.edge_sites; number != 0;) {
        Site& site = blocks_.site(number);
        const u32 following = site.next_edge;
        mmu::JumpEntry& e = bank.edge[site.edge_slot];
        if (site.edge_block == &old) {
            if (leads_to_old(e)) e.host = host;
            site.edge_block = &next;
        }
        site.next_edge = next.edge_sites;
        next.edge_sites = number;
        number = following;
    }
    old.edge_sites = 0;
    const u64 rip = page_rip + old.spa.offset();
    const u32 index = mmu::jump_index(rip);
    for (mmu::JumpEntry* e : {&bank.jump[index], &bank.jump[mmu::other_jump_index(index)]})
        if (e->rip == rip && leads_to_old(*e)) e->host = host;
}

}  // namespace vg::jit
