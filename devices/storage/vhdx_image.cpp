#include "devices/storage/vhdx_image.h"

#include <fmt/format.h>

#include <algorithm>

#include "devices/storage/raw_image.h"
#include "devices/storage/vhd_layout.h"
#include "devices/storage/vhdx_log.h"
#include "devices/storage/vhdx_pages.h"

namespace vg::devices::vhdx {

namespace {

/// A write commits first once this many pages wait; one block's write adds at most 19: two of the table, and 17 of the
/// bitmap of a block of 256 MiB.
constexpr std::size_t kCommitPages = 96;
static_assert(kCommitPages + 19 <= LogWriter::kMaxPages);

/// Part of a request that lies in one block; sectors are the disk's logical ones.
struct Piece {
    u64 block;
    u64 sector;  ///< first sector within the block
    u64 count;
};

class Image final : public BlockDevice {
  public:
    Image(Opened opened, std::unique_ptr<BlockDevice> parent)
        : file_(std::move(opened.file)),
          layout_(std::move(opened.layout)),
          shape_(layout_.shape),
          parent_(std::move(parent)),
          sector_(shape_.sector_bytes),
          block_sectors_(shape_.block_bytes / sector_),
          pages_(*file_),
          log_(*file_, layout_.header.log_offset, layout_.header.log_length) {}
    ~Image() override {
        if (started_ && commit()) (void)close_log();
    }
    Image(const Image&) = delete;
    Image& operator=(const Image&) = delete;

    [[nodiscard]] u64 size_bytes() const override { return shape_.disk_bytes; }
    [[nodiscard]] bool read_only() const override { return !file_->writable(); }
    [[nodiscard]] u32 logical_sector_bytes() const override { return sector_; }
    [[nodiscard]] u32 physical_sector_bytes() const override { return layout_.physical_sector_bytes; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override;
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override;
    [[nodiscard]] Result<void> discard(u64 offset, u64 size) override;
    [[nodiscard]] Result<void> flush() override { return read_only() ? Result<void>{} : commit(); }
    [[nodiscard]] Result<void> settle() override {
        if (read_only()) return {};
        if (auto done = commit(); !done || !started_) return done;
        return close_log();
    }
    [[nodiscard]] std::string describe() const override {
        if (parent_ != nullptr)
            return fmt::format("vhdx (differencing, {}, of {})", file_->name(), parent_->describe());
        return fmt::format("vhdx ({}, {})", layout_.leave_blocks_allocated ? "fixed" : "dynamic", file_->name());
    }

  private:
    [[nodiscard]] Piece piece_at(u64 offset, u64 size) const {
        const u64 sector = offset / sector_, inside = sector % block_sectors_;
        return {sector / block_sectors_, inside, std::min(size / sector_, block_sectors_ - inside)};
    }
    /// Whether the piece is all of its block that belongs to the disk.
    [[nodiscard]] bool whole(const Piece& piece) const {
        const u64 disk_sectors = (shape_.disk_bytes - piece.block * shape_.block_bytes) / sector_;
        return piece.count == std::min(block_sectors_, disk_sectors);
    }
    [[nodiscard]] u64 data_offset(BatEntry entry, u64 sector) const { return entry.offset() + sector * sector_; }
    /// Of a piece's first sector within its sector bitmap block.
    [[nodiscard]] u64 bit_of(const Piece& piece) const {
        return piece.block % shape_.chunk_ratio() * block_sectors_ + piece.sector;
    }

    [[nodiscard]] Result<BatEntry> entry(u64 index);
    [[nodiscard]] Result<void> set_entry(u64 index, BatEntry entry);
    [[nodiscard]] Result<BatEntry> block_entry(const Piece& piece) { return entry(shape_.entry_of_block(piece.block)); }
    /// The bitmap block of the piece's chunk; with `make` one is made where none is.
    [[nodiscard]] Result<u64> bitmap_offset(const Piece& piece, bool make);
    [[nodiscard]] Result<void> set_bits(const Piece& piece, bool value);
    [[nodiscard]] Result<u64> allocate(u64 size);
    [[nodiscard]] Result<BatEntry> allocate_block(const Piece& piece, BatEntry old);

    [[nodiscard]] Result<void> check(u64 offset, u64 size) const;
    [[nodiscard]] Result<void> before_change();
    [[nodiscard]] Result<void> read_below(u64 offset, std::span<u8> out);
    [[nodiscard]] Result<void> read_partial(const Piece& piece, BatEntry entry, u64 offset, std::span<u8> out);
    [[nodiscard]] Result<void> read_piece(const Piece& piece, u64 offset, std::span<u8> out);
    [[nodiscard]] Result<void> write_piece(const Piece& piece, std::span<const u8> data);
    [[nodiscard]] Result<void> zero_piece(const Piece& piece);
    [[nodiscard]] Result<void> commit();
    [[nodiscard]] Result<void> close_log();

    std::unique_ptr<BlockFile> file_;
    Layout layout_;
    BatShape shape_;
    std::unique_ptr<BlockDevice> parent_;
    u32 sector_;
    u64 block_sectors_;
    PageCache pages_;
    LogWriter log_;
    bool unsynced_ = false;  // something was written that no finished commit covers
    bool started_ = false;   // the header names our log
};

Result<BatEntry> Image::entry(u64 index) {
    const u64 at = layout_.bat_offset + index * 8;
    auto page = pages_.get(at);
    if (!page) return Unexpected{page.error()};
    return BatEntry{load<u64>(**page, at % kPage)};
}

Result<void> Image::set_entry(u64 index, BatEntry entry) {
    const u64 at = layout_.bat_offset + index * 8;
    auto page = pages_.change(at);
    if (!page) return Unexpected{page.error()};
    store(**page, at % kPage, entry.raw);
    return {};
}

/// Space that reads as zeroes at the end, where a killed writer may have left something.
Result<u64> Image::allocate(u64 size) {
    const u64 begin = layout_.end, end = begin + align_up(size, kMiB);
    if (end > kMaxFileBytes) {
        return fail(Error::Code::Host, fmt::format("{}: cannot grow past {} bytes", file_->name(), kMaxFileBytes));
    }
    if (const u64 left = file_->size(); left > begin) {
        if (auto done = file_->zero(begin, std::min(left, end) - begin); !done) return Unexpected{done.error()};
    }
    if (file_->size() < end) {
        if (auto done = file_->resize(end); !done) return Unexpected{done.error()};
    }
    pages_.forget(begin, end - begin);
    layout_.end = end;
    return begin;
}

Result<u64> Image::bitmap_offset(const Piece& piece, bool make) {
    const u64 index = shape_.entry_of_bitmap(piece.block / shape_.chunk_ratio());
    auto found = entry(index);
    if (!found) return Unexpected{found.error()};
    if (found->holds_data()) return found->offset();
    // Opening has checked that a partially present block has a bitmap.
    if (!make) return fail(Error::Code::Internal, fmt::format("{}: a block lost its bitmap", file_->name()));
    auto place = allocate(kBitmapBlockBytes);
    if (!place) return place;
    if (auto done = set_entry(index, BatEntry::make(BlockState::FullyPresent, *place)); !done)
        return Unexpected{done.error()};
    return place;
}

/// Bits are numbered from the lowest one of the first byte.
Result<void> Image::set_bits(const Piece& piece, bool value) {
    auto place = bitmap_offset(piece, true);
    if (!place) return Unexpected{place.error()};
    u64 bit = bit_of(piece);
    const u64 end = bit + piece.count;
    while (bit < end) {
        auto page = pages_.change(*place + bit / 8);
        if (!page) return Unexpected{page.error()};
        const u64 page_end = std::min(end, (bit / (kPage * 8) + 1) * kPage * 8);
        for (; bit < page_end; ++bit) {
            u8& byte = (**page)[bit / 8 % kPage];
            const u8 mask = static_cast<u8>(1u << (bit % 8));
            byte = static_cast<u8>(value ? byte | mask : byte & ~mask);
        }
    }
    return {};
}

Result<void> Image::check(u64 offset, u64 size) const {
    if (auto checked = check_range(*this, offset, size); !checked) return checked;
    if (offset % sector_ == 0 && size % sector_ == 0) return {};
    return fail(Error::Code::Internal,
                fmt::format("{}: {} bytes at byte {} are not whole sectors of {}", describe(), size, offset, sector_));
}

Result<void> Image::before_change() {
    if (read_only()) return fail(Error::Code::Usage, fmt::format("{}: is open read-only", describe()));
    unsynced_ = true;
    if (started_) return {};
    // The entry first: a header that names a log without one would make the file a damaged one.
    Header header = layout_.header;
    header.file_write_guid = random_guid();
    header.data_write_guid = random_guid();
    header.log_guid = random_guid();
    if (auto done = log_.start(header.log_guid); !done) return done;
    if (auto done = file_->sync(); !done) return done;
    if (auto done = write_header(*file_, layout_, header); !done) return done;
    auto done = file_->sync();
    started_ = done.has_value();
    return done;
}

Result<void> Image::read_below(u64 offset, std::span<u8> out) {
    u64 held = 0;
    if (parent_ != nullptr && offset < parent_->size_bytes()) {
        held = std::min<u64>(out.size(), parent_->size_bytes() - offset);
        if (auto done = parent_->read(offset, out.first(static_cast<std::size_t>(held))); !done) return done;
    }
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(held), out.end(), u8{0});
    return {};
}

Result<void> Image::read_partial(const Piece& piece, BatEntry entry, u64 offset, std::span<u8> out) {
    auto place = bitmap_offset(piece, false);
    if (!place) return Unexpected{place.error()};
    const u64 first_bit = bit_of(piece);
    for (u64 done = 0; done < piece.count;) {
        auto page = pages_.get(*place + (first_bit + done) / 8);
        if (!page) return Unexpected{page.error()};
        const auto here = [&](u64 sector) {
            const u64 at = first_bit + sector;
            return bit((**page)[at / 8 % kPage], static_cast<unsigned>(at % 8));
        };
        const u64 page_end = ((first_bit + done) / (kPage * 8) + 1) * kPage * 8 - first_bit;
        const u64 limit = std::min(piece.count, page_end);
        const bool ours = here(done);
        u64 last = done + 1;
        while (last < limit && here(last) == ours) ++last;
        const auto part =
            out.subspan(static_cast<std::size_t>(done * sector_), static_cast<std::size_t>((last - done) * sector_));
        auto read = ours ? file_->read(data_offset(entry, piece.sector + done), part)
                         : read_below(offset + done * sector_, part);
        if (!read) return read;
        done = last;
    }
    return {};
}

Result<void> Image::read_piece(const Piece& piece, u64 offset, std::span<u8> out) {
    const auto entry = block_entry(piece);
    if (!entry) return Unexpected{entry.error()};
    switch (entry->state()) {
        case BlockState::FullyPresent:
            return file_->read(data_offset(*entry, piece.sector), out);
        case BlockState::PartiallyPresent:
            return read_partial(piece, *entry, offset, out);
        case BlockState::NotPresent:
            return read_below(offset, out);
        case BlockState::Undefined:
        case BlockState::Zero:
        case BlockState::Unmapped:
            break;
    }
    std::fill(out.begin(), out.end(), u8{0});
    return {};
}

Result<void> Image::read(u64 offset, std::span<u8> out) {
    if (auto checked = check(offset, out.size()); !checked) return checked;
    while (!out.empty()) {
        const Piece piece = piece_at(offset, out.size());
        const std::size_t bytes = static_cast<std::size_t>(piece.count * sector_);
        if (auto done = read_piece(piece, offset, out.first(bytes)); !done) return done;
        out = out.subspan(bytes);
        offset += bytes;
    }
    return {};
}

/// Room for a block that has none, for a change of `piece`; its other sectors read as before.
Result<BatEntry> Image::allocate_block(const Piece& piece, BatEntry old) {
    auto place = allocate(shape_.block_bytes);
    if (!place) return Unexpected{place.error()};
    const bool shows_parent = parent_ != nullptr && old.state() == BlockState::NotPresent && !whole(piece);
    const auto fresh = BatEntry::make(shows_parent ? BlockState::PartiallyPresent : BlockState::FullyPresent, *place);
    if (shows_parent) {
        // Bits of an earlier life that ended before its table entry was written.
        if (auto done = set_bits({piece.block, 0, block_sectors_}, false); !done) return Unexpected{done.error()};
    }
    if (auto done = set_entry(shape_.entry_of_block(piece.block), fresh); !done) return Unexpected{done.error()};
    return fresh;
}

Result<void> Image::write_piece(const Piece& piece, std::span<const u8> data) {
    auto entry = block_entry(piece);
    if (entry && !entry->holds_data()) entry = allocate_block(piece, *entry);
    if (!entry) return Unexpected{entry.error()};
    if (auto done = file_->write(data_offset(*entry, piece.sector), data); !done) return done;
    return entry->state() == BlockState::PartiallyPresent ? set_bits(piece, true) : Result<void>{};
}

Result<void> Image::write(u64 offset, std::span<const u8> data) {
    if (auto checked = check(offset, data.size()); !checked || data.empty()) return checked;
    while (!data.empty()) {
        if (pages_.dirty_count() >= kCommitPages) {
            if (auto done = commit(); !done) return done;
        }
        if (auto done = before_change(); !done) return done;
        const Piece piece = piece_at(offset, data.size());
        const std::size_t bytes = static_cast<std::size_t>(piece.count * sector_);
        if (auto done = write_piece(piece, data.first(bytes)); !done) return done;
        data = data.subspan(bytes);
        offset += bytes;
    }
    return {};
}

Result<void> Image::zero_piece(const Piece& piece) {
    auto entry = block_entry(piece);
    if (!entry) return Unexpected{entry.error()};
    const u64 index = shape_.entry_of_block(piece.block);
    if (!entry->holds_data()) {
        // Zeroes already, or the parent must not show through.
        if (parent_ == nullptr || entry->state() != BlockState::NotPresent) return {};
        if (whole(piece)) return set_entry(index, BatEntry::make(BlockState::Zero, 0));
        entry = allocate_block(piece, *entry);
        if (!entry) return Unexpected{entry.error()};
    }
    const u64 at = data_offset(*entry, piece.sector);
    if (auto done = file_->zero(at, piece.count * sector_); !done) return done;
    if (entry->state() != BlockState::PartiallyPresent) return {};
    if (whole(piece)) return set_entry(index, BatEntry::make(BlockState::FullyPresent, entry->offset()));
    return set_bits(piece, true);
}

Result<void> Image::discard(u64 offset, u64 size) {
    if (auto checked = check(offset, size); !checked || size == 0) return checked;
    while (size != 0) {
        if (pages_.dirty_count() >= kCommitPages) {
            if (auto done = commit(); !done) return done;
        }
        if (auto done = before_change(); !done) return done;
        const Piece piece = piece_at(offset, size);
        if (auto done = zero_piece(piece); !done) return done;
        offset += piece.count * sector_;
        size -= piece.count * sector_;
    }
    return {};
}

/// A step that failed leaves `unsynced_` set, so that the next commit starts over with a sync.
Result<void> Image::commit() {
    if (!unsynced_ && pages_.dirty_count() == 0) return {};
    unsynced_ = true;
    if (auto done = file_->sync(); !done) return done;
    if (const std::vector<LogPage> changed = pages_.dirty(); !changed.empty()) {
        if (auto done = log_.append(changed); !done) return done;
        if (auto done = file_->sync(); !done) return done;
        for (const LogPage& page : changed) {
            if (auto done = file_->write(page.offset, page.bytes); !done) return done;
        }
        pages_.all_written();
    }
    unsynced_ = false;
    return {};
}

Result<void> Image::close_log() {
    if (auto done = file_->sync(); !done) return done;
    Header header = layout_.header;
    header.log_guid = {};
    if (auto done = write_header(*file_, layout_, header); !done) return done;
    started_ = false;  // whatever comes of the sync: the next write begins a log of its own
    return file_->sync();
}

}  // namespace

std::unique_ptr<BlockDevice> make_image(Opened opened, std::unique_ptr<BlockDevice> parent) {
    VG_ASSERT(opened.layout.shape.has_parent == (parent != nullptr));
    return std::make_unique<Image>(std::move(opened), std::move(parent));
}

}  // namespace vg::devices::vhdx
