#include "jit/survey.h"

#include <algorithm>

namespace vg::jit {

namespace {

u64 place(Spa spa, u32 key) { return spa.value * 0x9e3779b97f4a7c15 ^ key; }

}  // namespace

u64 Survey::Entry::executed() const {
    u64 sum = executions * count;
    for (const Exit& exit : exits) sum -= exit.taken * (count - 1 - exit.index);
    return sum;
}

u64* Survey::begin(const Block& block, std::span<const u8> guest) {
    current_ = nullptr;
    const auto [first, last] = by_place_.equal_range(place(block.spa, block.key));
    for (auto it = first; it != last; ++it) {
        Entry& entry = entries_[it->second];
        if (entry.spa == block.spa && entry.key == block.key && std::ranges::equal(entry.guest, guest)) current_ = &entry;
    }
    if (current_ == nullptr) {
        if (entries_.size() >= kMaxEntries) return nullptr;
        by_place_.emplace(place(block.spa, block.key), entries_.size());
        current_ = &entries_.emplace_back();
        current_->spa = block.spa;
        current_->key = block.key;
        current_->guest.assign(guest.begin(), guest.end());
    }
    start_ = block.entry;
    current_->count = block.count;
    current_->instructions.clear();
    return &current_->executions;
}

u64* Survey::side_exit(unsigned index) {
    if (current_ == nullptr) return nullptr;
    for (Entry::Exit& exit : current_->exits)
        if (exit.index == index) return &exit.taken;
    return &current_->exits.emplace_back(Entry::Exit{index, 0}).taken;
}

void Survey::instruction(const cpu::Insn& insn, u32 code, bool native) {
    if (current_ != nullptr) current_->instructions.push_back({insn.row, insn.length, native, code - start_});
}

void Survey::end(const Translation& translation) {
    if (current_ == nullptr) return;
    ++current_->translations;
    current_->address = translation.address;
    current_->host = translation.host;
    current_ = nullptr;
}

void Survey::flushed() {
    for (Entry& entry : entries_) entry.host = {};
}

std::vector<const Survey::Entry*> Survey::hottest(std::size_t limit) const {
    std::vector<const Entry*> sorted;
    for (const Entry& entry : entries_) sorted.push_back(&entry);
    limit = std::min(limit, sorted.size());
    std::partial_sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(limit), sorted.end(),
                      [](const Entry* a, const Entry* b) { return a->executed() > b->executed(); });
    sorted.resize(limit);
    return sorted;
}

std::vector<const Survey::Entry*> Survey::at(u64 address) const {
    std::vector<const Entry*> found;
    for (const Entry& entry : entries_)
        if (entry.address == address) found.push_back(&entry);
    return found;
}

u64 Survey::executed() const {
    u64 sum = 0;
    for (const Entry& entry : entries_) sum += entry.executed();
    return sum;
}

const Survey::Entry* Survey::owner(const u8* host) const {
    for (const Entry& entry : entries_)
        if (host >= entry.host.data() && host < entry.host.data() + entry.host.size()) return &entry;
    return nullptr;
}

}  // namespace vg::jit
