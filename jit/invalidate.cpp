// Code that changed, and the cache that is full.
#include <cstring>

#include "base/bits.h"
#include "cpu/breakpoints.h"
#include "jit/engine.h"

namespace vg::jit {

void JitEngine::code_written(Spa spa, u32 size) {
    const u64 page = spa.page();
    bool any = false;
    for (Block* block = blocks_.page(page); block != nullptr;) {
        Block* next = block->page_next;
        if (block->spa.value < spa.value + size && spa.value < block->spa.value + block->size) {
            Block* whole = block->owner != nullptr ? block->owner : block;
            if (whole->valid) invalidate(*whole);
            if (block != whole) blocks_.remove(*block);
            any = true;
        }
        block = next;
    }
    if (!any) {
        // Marked too much (open_gate), or another engine's.
        if (options_.gated) remark_page(page);
        return;
    }
    ++stats_.code_writes;
    ++epoch_;
    remark_page(page);
}

void JitEngine::invalidate(Block& block) {
    while (block.incoming != 0) {
        const u32 number = block.incoming;
        block.incoming = blocks_.site(number).next_incoming;
        unlink(number);
    }
    // Its own jumps may stay: nothing enters the block any more, and a VP that is in it leaves at its end. But their
    // targets must not patch them later.
    for (u32 number = block.first_site; number < block.site_end; ++number) {
        Site& site = blocks_.site(number);
        if (site.patch == 0 || site.linked == nullptr) continue;
        u32* link = &site.linked->incoming;
        while (*link != number) link = &blocks_.site(*link).next_incoming;
        *link = site.next_incoming;
        unlink(number);
    }
    for (u32 number = block.first_site; number < block.site_end; ++number)
        if (const u32 memo = blocks_.site(number).memo_place(); memo != kNoMemo) memos_.give_back(memo);
    redirect(block);
    blocks_.remove(block);
    ++stats_.invalidations;
}

/// Jump caches may still lead to the block: its entry now leaves to the dispatcher, which fills in the new one. Costs a
/// few bytes where emptying every jump cache would cost thousands of look-ups.
void JitEngine::redirect(Block& block) {
    constexpr u32 kStubSize = 16;
    if (arena_.cold.room() < kStubSize) {
        clear_jump_caches();
        return;
    }
    Site site;
    site.block = &block;
    site.rip_offset = static_cast<s32>(block.spa.offset());
    site.index = block.count;
    Assembler stub;
    stub.attach(arena_.writable(), arena_.cold.used);
    const u32 target = stub.offset();
    stub.push_imm(blocks_.add_site(site));
    stub.jmp(thunks_.leave);
    arena_.cold.used = stub.offset();
    lead_entry_to(block.entry, target);
    redirected_[code_id(block)] = block.entry;
    redirected_marks_[redirected_mark(code_id(block))] = true;
}

/// One store of the eight bytes at the entry, which is aligned: nobody is between them.
void JitEngine::lead_entry_to(u32 entry, u32 target) {
    u8* at = arena_.writable() + entry;
    u64 word;
    std::memcpy(&word, at, sizeof word);
    constexpr u64 kJmp = 0xe9, kJmpBytes = 5;
    const u64 displacement = static_cast<u32>(target - (entry + kJmpBytes));
    word = (word & ~low_mask(8 * kJmpBytes)) | displacement << 8 | kJmp;
    __atomic_store_n(reinterpret_cast<u64*>(at), word, __ATOMIC_RELEASE);
}

/// A block that replaces an invalid one: whoever still comes to that one (edge tables, jump caches) goes on there.
void JitEngine::replace(Block& block) {
    if (!redirected_marks_[redirected_mark(code_id(block))]) return;
    const auto old = redirected_.find(code_id(block));
    if (old == redirected_.end()) return;
    if (const u32 entry = open_entry(block)) lead_entry_to(old->second, entry);
    redirected_.erase(old);
}

void JitEngine::unlink(u32 number) {
    Site& site = blocks_.site(number);
    Assembler::patch(arena_.writable(), site.patch, site.stub);
    site.linked = nullptr;
    site.next_incoming = 0;
}

/// The page's granules again, from the blocks that are left.
void JitEngine::remark_page(u64 page_number) {
    const Spa page(page_number << 12);
    if (memory_.ram(page) != nullptr) memory_.remark_code(page);
}

void JitEngine::mark_page(Spa page) {
    for (const Block* block = blocks_.page(page.page()); block != nullptr; block = block->page_next)
        memory_.mark_code(block->spa, block->size);
}

void JitEngine::clear_jump_caches() {
    for (const auto& k : known_) k->vp->tlb().clear_jump_caches();
}

u32 JitEngine::stops_key(u64 linear) const {
    return breakpoints() != nullptr && breakpoints()->in_page(linear) ? ModeKey::kStops : 0;
}

/// A translation serves every linear page that its page is mapped at, so that the offset alone decides.
bool JitEngine::left_to_breakpoints(u64 linear, u32 stops) const {
    return stops != 0 && breakpoints()->has_offset(static_cast<u32>(linear & kPageMask));
}

bool JitEngine::leaves_walk(cpu::Vp& vp, u64 linear) const {
    return memory_.watching() && vp.tlb().may_walk(linear, mmu::Access::Fetch);
}

/// Translations for pages with breakpoints are made anew. All others stay: whoever comes to a page again, which takes a
/// jump cache or the dispatcher, finds those that it is to have now.
void JitEngine::breakpoints_changed() {
    stepper_.set_breakpoints(breakpoints());
    std::vector<Block*> gone;
    for (const auto& [page, first] : blocks_.pages()) {
        for (Block* block = first; block != nullptr; block = block->page_next)
            if (((block->owner != nullptr ? block->owner : block)->key & ModeKey::kStops) != 0) gone.push_back(block);
    }
    for (Block* block : gone) {
        if (!block->valid) continue;
        if (block->owner != nullptr)
            blocks_.remove(*block);
        else
            invalidate(*block);
        remark_page(block->spa.page());
    }
    pending_link_ = 0;
    separate_next_ = false;
    ++epoch_;
    clear_jump_caches();
}

void JitEngine::observer_changed() {
    stepper_.set_observer(observer());
    flush();
    trace_.reset();
    if (observer() != nullptr && !observer()->wants_each()) trace_ = std::make_unique<BlockTrace>(*observer());
    translator_.set_trace(trace_.get());
}

void JitEngine::flush() {
    std::vector<u64> pages;
    for (const auto& [page, block] : blocks_.pages()) pages.push_back(page);
    blocks_.clear();
    for (const u64 page : pages) remark_page(page);
    arena_.reset(Thunks::kSize);
    separate_.clear();
    redirected_.clear();
    redirected_marks_.assign(redirected_marks_.size(), false);
    memos_.reset();
    counters_.reset();
    next_edge_slot_ = 0;
    pending_link_ = 0;
    ++epoch_;
    ++stats_.flushes;
    if (trace_) trace_->clear();
    for (TranslationWatcher* watcher : options_.watchers) watcher->flushed();
    clear_jump_caches();
}

void JitEngine::release_memory() {
    flush();
    blocks_.release();
    arena_.release();
    counters_.release();
    edge_slots_ = 1;
    memo_count_ = 0;
    for (const auto& k : known_) k->vp->tlb().release_memory();
}

}  // namespace vg::jit
