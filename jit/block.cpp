#include "jit/block.h"

#include <algorithm>

namespace vg::jit {

BlockMap::BlockMap() : heads_(reinterpret_cast<u64*>(head_memory_.data())) {
    VG_ASSERT(heads_ != nullptr);
    clear();
}

Block& BlockMap::add(Spa spa, u32 key) {
    Block& block = blocks_.push_back({});
    block.spa = spa;
    block.key = key;
    const u64 hash = hash_of(spa, key);
    u64& head = heads_[bucket(hash)];
    block.hash_next = first_of(head);
    head = (head & ~low_mask(kMarksShift)) | mark(hash) | reinterpret_cast<u64>(&block);
    Block*& page_head = pages_[spa.page()];
    block.page_next = page_head;
    page_head = &block;
    return block;
}

void BlockMap::add_rest(Block& owner, Spa page, u16 size) {
    Block& rest = blocks_.push_back({});
    rest.spa = page;
    rest.size = size;
    rest.owner = &owner;
    Block*& head = pages_[page.page()];
    rest.page_next = head;
    head = &rest;
    owner.rest_page = page;
}

void BlockMap::remove(Block& block) {
    if (!block.valid) return;
    if (block.owner != nullptr) return remove_from_page(block);
    u64& head = heads_[bucket(hash_of(block.spa, block.key))];
    if (first_of(head) == &block) {  // the marks of others may stay: they only cost a look
        head = block.hash_next == nullptr ? 0 : (head & ~low_mask(kMarksShift)) | reinterpret_cast<u64>(block.hash_next);
    } else {
        Block* before = first_of(head);
        while (before->hash_next != &block) before = before->hash_next;
        before->hash_next = block.hash_next;
    }
    remove_from_page(block);
}

void BlockMap::remove_from_page(Block& block) {
    const auto page = pages_.find(block.spa.page());
    Block** link = &page->second;
    while (*link != &block) link = &(*link)->page_next;
    *link = block.page_next;
    if (page->second == nullptr) pages_.erase(page);
    block.valid = false;
}

void BlockMap::release() {
    blocks_.release();
    sites_.release();
    insns_.release();
    recipes_.release();
    head_memory_.release();
    start();
}

void BlockMap::clear() {
    std::fill(heads_, heads_ + (u64{1} << kBucketBits), u64{0});
    start();
}

/// All empty; number 0 of sites and recipes is none.
void BlockMap::start() {
    pages_.clear();
    blocks_.truncate(0);
    sites_.truncate(0);
    sites_.push_back({});
    insns_.truncate(0);
    recipes_.truncate(0);
    recipes_.push_back({});
}

}  // namespace vg::jit
