// Pages of a VHDX file's block table and sector bitmaps: a bounded cache, and what waits for the log.
#pragma once

#include <array>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "devices/storage/block_file.h"
#include "devices/storage/vhdx_format.h"
#include "devices/storage/vhdx_log.h"

namespace vg::devices::vhdx {

class PageCache {
  public:
    /// Clean pages are dropped beyond this many: 4 MiB.
    static constexpr std::size_t kMaxPages = 1024;
    using Page = std::array<u8, kPage>;

    /// @param file  outlives the cache
    explicit PageCache(BlockFile& file) : file_(file) {}

    /// The page that holds byte `offset` of the file. Valid until the next call.
    [[nodiscard]] Result<Page*> get(u64 offset) {
        const u64 at = align_down(offset, kPage);
        if (const auto found = pages_.find(at); found != pages_.end()) return found->second.get();
        if (pages_.size() >= kMaxPages + dirty_.size())
            std::erase_if(pages_, [&](const auto& entry) { return dirty_.count(entry.first) == 0; });
        auto page = std::make_unique<Page>();
        if (auto done = file_.read(at, *page); !done) return Unexpected{done.error()};
        return pages_.emplace(at, std::move(page)).first->second.get();
    }
    /// As get, for a page that is about to be changed.
    [[nodiscard]] Result<Page*> change(u64 offset) {
        auto page = get(offset);
        if (page) dirty_.insert(align_down(offset, kPage));
        return page;
    }
    /// What the file holds where nothing was cached so far is zeroes, as its space was just allocated.
    void forget(u64 begin, u64 size) {
        std::erase_if(pages_, [&](const auto& entry) { return entry.first - begin < size; });
    }
    [[nodiscard]] std::size_t dirty_count() const { return dirty_.size(); }
    /// All changed pages, in the order of the file.
    [[nodiscard]] std::vector<LogPage> dirty() const {
        std::vector<LogPage> out;
        for (const u64 at : dirty_) out.push_back({at, *pages_.at(at)});
        return out;
    }
    void all_written() { dirty_.clear(); }

  private:
    BlockFile& file_;
    std::unordered_map<u64, std::unique_ptr<Page>> pages_;  // by first byte
    std::set<u64> dirty_;
};

}  // namespace vg::devices::vhdx
