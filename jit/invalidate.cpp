// Code that changed, and the cache that is full.
#include "jit/engine.h"

namespace vg::jit {

void JitEngine::code_written(Spa spa, u32 size) {
    const u64 page = spa.page();
    bool any = false;
    for (Block* block = blocks_.page(page); block != nullptr;) {
        Block* next = block->page_next;
        if (block->spa.value < spa.value + size && spa.value < block->spa.value + block->size) {
            invalidate(*block);
            any = true;
        }
        block = next;
    }
    if (!any) return;
    ++epoch_;
    clear_jump_caches();
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
        if (site.linked == nullptr) continue;
        u32* link = &site.linked->incoming;
        while (*link != number) link = &blocks_.site(*link).next_incoming;
        *link = site.next_incoming;
        unlink(number);
    }
    blocks_.remove(block);
    ++stats_.invalidations;
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
    if (memory_.ram(page) == nullptr) return;
    memory_.clear_code(page);
    for (const Block* block = blocks_.page(page_number); block != nullptr; block = block->page_next)
        memory_.mark_code(block->spa, block->size);
}

void JitEngine::clear_jump_caches() {
    for (const auto& k : known_) k->vp->tlb().clear_jump_caches();
}

void JitEngine::flush() {
    for (const auto& [page, block] : blocks_.pages()) {
        const Spa spa(page << 12);
        if (memory_.ram(spa) != nullptr) memory_.clear_code(spa);
    }
    blocks_.clear();
    arena_.set_used(Thunks::kSize);
    pending_link_ = 0;
    ++epoch_;
    ++stats_.flushes;
    clear_jump_caches();
}

}  // namespace vg::jit
