#include "devices/storage/vhd_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "devices/storage/raw_image.h"

namespace vg::devices::vhd {

namespace {

/// Bitmaps kept in memory before they are written and dropped.
constexpr std::size_t kMaxBitmapBytes = 8 << 20;
/// Data of new blocks starts at a multiple of this, which the host's pages like.
constexpr u64 kDataAlignment = 4096;

/// A new modification time in the footer, before the first write: children that were made from what the disk held so
/// far are refused from now on (`check_parent`). Durable when it returns.
Result<void> stamp_footer(BlockFile& file, Layout& layout) {
    layout.footer.time_stamp = std::max(time_stamp_now(), layout.footer.time_stamp + 1);
    const auto bytes = encode(layout.footer);
    if (auto done = file.write(layout.end, bytes); !done) return done;
    if (!layout.fixed()) {
        if (auto done = file.write(0, bytes); !done) return done;
    }
    return file.sync();
}

class Fixed final : public BlockDevice {
  public:
    Fixed(std::unique_ptr<BlockFile> file, Layout layout) : file_(std::move(file)), layout_(std::move(layout)) {}

    [[nodiscard]] u64 size_bytes() const override { return layout_.footer.current_size; }
    [[nodiscard]] bool read_only() const override { return !file_->writable(); }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        if (auto checked = check_range(*this, offset, out.size()); !checked) return checked;
        return file_->read(offset, out);
    }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override {
        if (auto checked = check_writable(*this, offset, data.size()); !checked) return checked;
        if (auto done = before_change(); !done) return done;
        return file_->write(offset, data);
    }
    [[nodiscard]] Result<void> read_parts(u64 offset, Parts parts) override {
        if (auto checked = check_range(*this, offset, size_of(parts)); !checked) return checked;
        return file_->read_parts(offset, parts);
    }
    [[nodiscard]] Result<void> write_parts(u64 offset, Parts parts) override {
        if (auto checked = check_writable(*this, offset, size_of(parts)); !checked) return checked;
        if (auto done = before_change(); !done) return done;
        return file_->write_parts(offset, parts);
    }
    [[nodiscard]] Result<void> discard(u64 offset, u64 size) override {
        if (auto checked = check_writable(*this, offset, size); !checked || size == 0) return checked;
        if (auto done = before_change(); !done) return done;
        return file_->zero(offset, size);
    }
    [[nodiscard]] Result<void> flush() override { return read_only() ? Result<void>{} : file_->sync(); }
    [[nodiscard]] std::string describe() const override { return fmt::format("vhd (fixed, {})", file_->name()); }

  private:
    [[nodiscard]] Result<void> before_change() {
        if (stamped_) return {};
        auto done = stamp_footer(*file_, layout_);
        stamped_ = done.has_value();
        return done;
    }

    std::unique_ptr<BlockFile> file_;
    Layout layout_;
    bool stamped_ = false;
};

/// Part of a request that lies in one block.
struct Piece {
    std::size_t block;
    u64 sector;  ///< first sector within the block
    u64 count;   ///< sectors
};

class Sparse final : public BlockDevice {
  public:
    Sparse(std::unique_ptr<BlockFile> file, Layout layout, std::unique_ptr<BlockDevice> parent)
        : file_(std::move(file)),
          layout_(std::move(layout)),
          parent_(std::move(parent)),
          block_sectors_(layout_.header.block_size / kSector),
          max_bitmaps_(std::max<std::size_t>(kMaxBitmapBytes / layout_.bitmap_size, 4)) {}
    ~Sparse() override {
        if (!read_only()) (void)commit();
    }
    Sparse(const Sparse&) = delete;
    Sparse& operator=(const Sparse&) = delete;

    [[nodiscard]] u64 size_bytes() const override { return layout_.footer.current_size; }
    [[nodiscard]] bool read_only() const override { return !file_->writable(); }
    /// An overlay has its parent's, which need not be a VHD.
    [[nodiscard]] u32 logical_sector_bytes() const override { return parent_ ? parent_->logical_sector_bytes() : 512; }
    [[nodiscard]] u32 physical_sector_bytes() const override { return parent_ ? parent_->physical_sector_bytes() : 512; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override;
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override;
    [[nodiscard]] Result<void> discard(u64 offset, u64 size) override;
    [[nodiscard]] Result<void> flush() override { return read_only() ? Result<void>{} : commit(); }
    [[nodiscard]] std::string describe() const override {
        if (parent_ == nullptr) return fmt::format("vhd (dynamic, {})", file_->name());
        return fmt::format("vhd (differencing, {}, of {})", file_->name(), parent_->describe());
    }

    /// Puts the footer where the layout wants it and gives back what lies behind.
    [[nodiscard]] Result<void> repair_end() {
        if (!layout_.needs_footer || read_only()) return {};
        const u64 size = layout_.end + kFooterBytes;
        if (auto done = file_->write(layout_.end, encode(layout_.footer)); !done) return done;
        if (file_->size() > size) {
            if (auto done = file_->resize(size); !done) return done;
        }
        layout_.needs_footer = false;
        return file_->sync();
    }

  private:
    struct Bitmap {
        std::vector<u8> bits;
        bool dirty = false;
    };

    [[nodiscard]] Piece piece_at(u64 offset, u64 size) const {
        const u64 sector = offset / kSector;
        const u64 inside = sector % block_sectors_;
        return {static_cast<std::size_t>(sector / block_sectors_), inside,
                std::min(size / kSector, block_sectors_ - inside)};
    }
    [[nodiscard]] bool allocated(std::size_t block) const { return layout_.table[block] != kUnallocated; }
    [[nodiscard]] u64 bitmap_offset(std::size_t block) const { return u64{layout_.table[block]} * kSector; }
    [[nodiscard]] u64 data_offset(std::size_t block, u64 sector) const {
        return bitmap_offset(block) + layout_.bitmap_size + sector * kSector;
    }

    [[nodiscard]] Result<void> before_change();
    [[nodiscard]] Result<Bitmap*> bitmap(std::size_t block);
    [[nodiscard]] Result<void> allocate(std::size_t block);
    [[nodiscard]] Result<void> mark(const Piece& piece);
    [[nodiscard]] Result<void> read_below(u64 offset, std::span<u8> out);
    [[nodiscard]] Result<void> read_piece(const Piece& piece, u64 offset, std::span<u8> out);
    [[nodiscard]] Result<void> zero_piece(const Piece& piece);
    [[nodiscard]] Result<void> commit();
    [[nodiscard]] Result<void> write_bitmaps();
    [[nodiscard]] Result<void> write_table();

    std::unique_ptr<BlockFile> file_;
    Layout layout_;
    std::unique_ptr<BlockDevice> parent_;
    u64 block_sectors_;
    std::size_t max_bitmaps_;
    std::unordered_map<std::size_t, Bitmap> bitmaps_;
    std::set<std::size_t> dirty_bitmaps_;
    std::set<std::size_t> dirty_entries_;  // blocks whose table entry is newer here than in the file
    bool unsynced_ = false;  // something was written that no finished commit covers
    bool stamped_ = false;
};

Result<void> Sparse::before_change() {
    unsynced_ = true;
    if (stamped_) return {};
    auto done = stamp_footer(*file_, layout_);
    stamped_ = done.has_value();
    return done;
}

Result<Sparse::Bitmap*> Sparse::bitmap(std::size_t block) {
    if (const auto found = bitmaps_.find(block); found != bitmaps_.end()) return &found->second;
    if (bitmaps_.size() >= max_bitmaps_) {
        if (!dirty_bitmaps_.empty()) {
            if (auto done = commit(); !done) return Unexpected{done.error()};
        }
        bitmaps_.clear();
    }
    Bitmap fresh;
    fresh.bits.resize(static_cast<std::size_t>(layout_.bitmap_size));
    if (auto done = file_->read(bitmap_offset(block), fresh.bits); !done) return Unexpected{done.error()};
    return &bitmaps_.emplace(block, std::move(fresh)).first->second;
}

Result<void> Sparse::allocate(std::size_t block) {
    if (bitmaps_.size() >= max_bitmaps_) {
        if (auto done = commit(); !done) return done;
        bitmaps_.clear();
    }
    const u64 begin = align_up(layout_.end + layout_.bitmap_size, kDataAlignment) - layout_.bitmap_size;
    const u64 end = begin + layout_.bitmap_size + layout_.header.block_size;
    if (begin / kSector >= kUnallocated) {
        return fail(Error::Code::Host, fmt::format("{}: cannot grow past {} bytes, the format's limit", file_->name(),
                                                   u64{kUnallocated} * kSector));
    }
    // The footer comes first: from now on the file ends with one again, and everything before it reads as zeroes.
    if (auto done = file_->write(end, encode(layout_.footer)); !done) return done;
    layout_.end = end;
    layout_.table[block] = static_cast<u32>(begin / kSector);
    dirty_entries_.insert(block);
    // In a dynamic disk a block's unwritten sectors are as good as written zeroes; other programs expect full bitmaps.
    Bitmap fresh{std::vector<u8>(static_cast<std::size_t>(layout_.bitmap_size), parent_ == nullptr ? u8{0xff} : u8{0}),
                 true};
    bitmaps_[block] = std::move(fresh);
    dirty_bitmaps_.insert(block);
    return {};
}

Result<void> Sparse::mark(const Piece& piece) {
    auto found = bitmap(piece.block);
    if (!found) return Unexpected{found.error()};
    Bitmap& map = **found;
    bool changed = false;
    for (u64 sector = piece.sector; sector < piece.sector + piece.count; ++sector) {
        changed = changed || !test_sector(map.bits, sector);
        set_sector(map.bits, sector);
    }
    if (changed && !map.dirty) {
        map.dirty = true;
        dirty_bitmaps_.insert(piece.block);
    }
    return {};
}

Result<void> Sparse::read_below(u64 offset, std::span<u8> out) {
    u64 held = 0;
    if (parent_ != nullptr && offset < parent_->size_bytes()) {
        held = std::min<u64>(out.size(), parent_->size_bytes() - offset);
        if (auto done = parent_->read(offset, out.first(static_cast<std::size_t>(held))); !done) return done;
    }
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(held), out.end(), u8{0});
    return {};
}

Result<void> Sparse::read_piece(const Piece& piece, u64 offset, std::span<u8> out) {
    if (!allocated(piece.block)) return read_below(offset, out);
    auto found = bitmap(piece.block);
    if (!found) return Unexpected{found.error()};
    const std::vector<u8>& bits = (*found)->bits;
    for (u64 done = 0; done < piece.count;) {
        const u64 first = piece.sector + done;
        const bool here = test_sector(bits, first);
        u64 last = first + 1;
        while (last < piece.sector + piece.count && test_sector(bits, last) == here) ++last;
        const auto part =
            out.subspan(static_cast<std::size_t>(done * kSector), static_cast<std::size_t>((last - first) * kSector));
        auto read =
            here ? file_->read(data_offset(piece.block, first), part) : read_below(offset + done * kSector, part);
        if (!read) return read;
        done += last - first;
    }
    return {};
}

Result<void> Sparse::read(u64 offset, std::span<u8> out) {
    if (auto checked = check_range(*this, offset, out.size()); !checked) return checked;
    while (!out.empty()) {
        const Piece piece = piece_at(offset, out.size());
        const std::size_t bytes = static_cast<std::size_t>(piece.count * kSector);
        if (auto done = read_piece(piece, offset, out.first(bytes)); !done) return done;
        out = out.subspan(bytes);
        offset += bytes;
    }
    return {};
}

Result<void> Sparse::write(u64 offset, std::span<const u8> data) {
    if (auto checked = check_writable(*this, offset, data.size()); !checked || data.empty()) return checked;
    if (auto done = before_change(); !done) return done;
    while (!data.empty()) {
        const Piece piece = piece_at(offset, data.size());
        const std::size_t bytes = static_cast<std::size_t>(piece.count * kSector);
        if (!allocated(piece.block)) {
            if (auto done = allocate(piece.block); !done) return done;
        }
        unsynced_ = true;  // `allocate` may have committed
        if (auto done = file_->write(data_offset(piece.block, piece.sector), data.first(bytes)); !done) return done;
        if (auto done = mark(piece); !done) return done;
        data = data.subspan(bytes);
        offset += bytes;
    }
    return {};
}

Result<void> Sparse::zero_piece(const Piece& piece) {
    if (!allocated(piece.block)) {
        if (parent_ == nullptr) return {};
        // The parent must not show through: a block of nothing but a bitmap, as the file is sparse.
        if (auto done = allocate(piece.block); !done) return done;
    }
    unsynced_ = true;
    if (auto done = file_->zero(data_offset(piece.block, piece.sector), piece.count * kSector); !done) return done;
    return mark(piece);
}

Result<void> Sparse::discard(u64 offset, u64 size) {
    if (auto checked = check_writable(*this, offset, size); !checked || size == 0) return checked;
    if (auto done = before_change(); !done) return done;
    while (size != 0) {
        const Piece piece = piece_at(offset, size);
        if (auto done = zero_piece(piece); !done) return done;
        offset += piece.count * kSector;
        size -= piece.count * kSector;
    }
    return {};
}

Result<void> Sparse::write_bitmaps() {
    while (!dirty_bitmaps_.empty()) {
        const std::size_t block = *dirty_bitmaps_.begin();
        Bitmap& map = bitmaps_.at(block);
        if (auto done = file_->write(bitmap_offset(block), map.bits); !done) return done;
        map.dirty = false;
        dirty_bitmaps_.erase(dirty_bitmaps_.begin());
    }
    return {};
}

Result<void> Sparse::write_table() {
    constexpr std::size_t kPerSector = kSector / 4;
    while (!dirty_entries_.empty()) {
        const std::size_t first = *dirty_entries_.begin() / kPerSector * kPerSector;
        const std::size_t count = std::min(kPerSector, layout_.table.size() - first);
        std::vector<u8> bytes(count * 4);
        Codec<false> codec(bytes);
        for (std::size_t i = 0; i < count; ++i) codec.number(i * 4, layout_.table[first + i]);
        if (auto done = file_->write(layout_.header.table_offset + first * 4, bytes); !done) return done;
        dirty_entries_.erase(dirty_entries_.begin(), dirty_entries_.lower_bound(first + count));
    }
    return {};
}

/// A step that failed leaves `unsynced_` set, so that the next commit starts over with a sync.
Result<void> Sparse::commit() {
    if (!unsynced_ && dirty_bitmaps_.empty() && dirty_entries_.empty()) return {};
    unsynced_ = true;
    if (auto done = file_->sync(); !done) return done;
    if (!dirty_bitmaps_.empty()) {
        if (auto done = write_bitmaps(); !done) return done;
        if (auto done = file_->sync(); !done) return done;
    }
    if (!dirty_entries_.empty()) {
        if (auto done = write_table(); !done) return done;
        if (auto done = file_->sync(); !done) return done;
    }
    unsynced_ = false;
    return {};
}

}  // namespace

Result<std::unique_ptr<BlockDevice>> make_image(std::unique_ptr<BlockFile> file, Layout layout,
                                                std::unique_ptr<BlockDevice> parent) {
    VG_ASSERT(layout.differencing() == (parent != nullptr));
    if (layout.footer.saved_state != 0 && file->writable()) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: belongs to a virtual machine in saved state; resume and shut it "
                                "down first, or use an overlay",
                                file->name()));
    }
    if (layout.fixed()) {
        return std::unique_ptr<BlockDevice>(std::make_unique<Fixed>(std::move(file), std::move(layout)));
    }
    auto image = std::make_unique<Sparse>(std::move(file), std::move(layout), std::move(parent));
    if (auto done = image->repair_end(); !done) return Unexpected{done.error()};
    return std::unique_ptr<BlockDevice>(std::move(image));
}

}  // namespace vg::devices::vhd
