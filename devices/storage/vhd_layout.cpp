#include "devices/storage/vhd_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace vg::devices::vhd {

namespace {

using Sector = std::array<u8, kSector>;

struct Extent {
    u64 begin, end;
    std::string what;
};

std::string printable(const Text8& text) {
    std::string out;
    for (const char c : text) {
        if (c >= ' ' && c <= '~') {
            out.push_back(c);
        } else {
            out += fmt::format("\\x{:02x}", static_cast<u8>(c));
        }
    }
    return '"' + out + '"';
}

/// Checks that hold for any footer, wherever it was found.
Result<Footer> check_footer(const BlockFile& file, u64 offset, const Sector& bytes) {
    const Footer footer = decode<Footer>(bytes);
    if (footer.cookie != kFooterCookie) {
        return damaged(file, offset, printable(footer.cookie), "a VHD footer, \"conectix\"",
                       fmt::format("if the image is raw, name it without .vhd; else restore it from a backup"));
    }
    if (const u32 sum = checksum(bytes, kFooterChecksumOffset); sum != footer.checksum) {
        return damaged(file, offset + kFooterChecksumOffset, fmt::format("footer checksum 0x{:08x}", footer.checksum),
                       fmt::format("0x{:08x}", sum));
    }
    if (footer.version != kVersion) {
        return damaged(file, offset + 12, fmt::format("format version 0x{:08x}", footer.version), "0x00010000",
                       "convert it with: qemu-img convert -O vpc OLD.vhd NEW.vhd");
    }
    const DiskType type = footer.disk_type;
    if (type != DiskType::Fixed && type != DiskType::Dynamic && type != DiskType::Differencing) {
        return damaged(file, offset + 60, fmt::format("disk type {}", static_cast<u32>(type)),
                       "2 (fixed), 3 (dynamic) or 4 (differencing)");
    }
    if (footer.current_size == 0 || footer.current_size % kSector != 0 || footer.current_size > kMaxDiskBytes) {
        return damaged(file, offset + 48, fmt::format("current size {}", footer.current_size),
                       fmt::format("a multiple of 512 up to {}", kMaxDiskBytes));
    }
    if (footer.saved_state > 1) {
        return damaged(file, offset + 84, fmt::format("saved state {}", footer.saved_state), "0 or 1");
    }
    return footer;
}

bool resembles(const Sector& a, const Sector& b) {
    std::size_t equal = 0;
    for (std::size_t i = 0; i < kSector; ++i) equal += a[i] == b[i] ? 1 : 0;
    return equal >= kSector - 16;
}

struct FoundFooter {
    Footer footer;
    bool at_end;
};

/// The footer at the end decides; a dynamic file that lost it while growing is read by the copy at byte 0. A copy is
/// never trusted over a valid footer of a fixed disk, whose first sector belongs to the guest.
Result<FoundFooter> find_footer(BlockFile& file) {
    if (file.size() < kFooterBytes) {
        return damaged(file, 0, fmt::format("a file of {} bytes", file.size()), "at least a 512-byte footer");
    }
    const u64 last = file.size() - kFooterBytes;
    Sector tail{}, head{};
    if (auto done = file.read(last, tail); !done) return Unexpected{done.error()};
    if (auto done = file.read(0, head); !done) return Unexpected{done.error()};
    const Result<Footer> end = check_footer(file, last, tail);
    if (end && end->disk_type == DiskType::Fixed) return FoundFooter{*end, true};

    const Result<Footer> copy = check_footer(file, 0, head);
    const bool dynamic_copy = copy && copy->disk_type != DiskType::Fixed;
    if (end) {
        if (!copy) return Unexpected{copy.error()};
        if (copy->data_offset != end->data_offset || copy->current_size != end->current_size ||
            copy->disk_type != end->disk_type || copy->unique_id != end->unique_id) {
            return damaged(file, 0, "a footer copy for another disk than the footer",
                           fmt::format("the same 512 bytes as at byte {}", last));
        }
        return FoundFooter{*end, true};
    }
    if (!dynamic_copy) return Unexpected{end.error()};
    if (resembles(head, tail)) {
        return damaged(file, last, "a footer that differs in a few bytes from its copy at byte 0", "the same 512 bytes",
                       fmt::format("the copy is intact, so this restores it: dd if={0} of={0} bs=1 count=512 seek={1} "
                                   "conv=notrunc",
                                   file.name(), last));
    }
    return FoundFooter{*copy, false};
}

Result<Header> load_header(BlockFile& file, u64 offset) {
    if (offset % kSector != 0 || offset < kFooterBytes || !fits(offset, kHeaderBytes, file.size())) {
        return damaged(file, 16, fmt::format("dynamic disk header at byte {}", offset),
                       fmt::format("a multiple of 512 that leaves 1024 bytes in a file of {}", file.size()));
    }
    std::array<u8, kHeaderBytes> bytes{};
    if (auto done = file.read(offset, bytes); !done) return Unexpected{done.error()};
    const Header header = decode<Header>(bytes);
    if (header.cookie != kHeaderCookie) return damaged(file, offset, printable(header.cookie), "\"cxsparse\"");
    if (const u32 sum = checksum(bytes, kHeaderChecksumOffset); sum != header.checksum) {
        return damaged(file, offset + kHeaderChecksumOffset, fmt::format("header checksum 0x{:08x}", header.checksum),
                       fmt::format("0x{:08x}", sum));
    }
    if (header.version != kVersion) {
        return damaged(file, offset + 24, fmt::format("header version 0x{:08x}", header.version), "0x00010000");
    }
    const u32 block = header.block_size;
    if (block < kSector || block > kMaxBlockBytes || (block & (block - 1)) != 0) {
        return damaged(file, offset + 32, fmt::format("block size {}", block),
                       fmt::format("a power of two from 512 to {}", kMaxBlockBytes));
    }
    return header;
}

Result<std::vector<u32>> load_table(BlockFile& file, const Footer& footer, const Header& header) {
    const u64 at = footer.data_offset;
    const u64 blocks = (footer.current_size + header.block_size - 1) / header.block_size;
    if (blocks > kMaxBlocks) {
        return damaged(file, at + 32, fmt::format("{} blocks of {} bytes", blocks, header.block_size),
                       fmt::format("at most {} blocks", kMaxBlocks),
                       "convert it with: qemu-img convert -O vpc OLD.vhd NEW.vhd");
    }
    if (header.max_table_entries < blocks) {
        return damaged(file, at + 28, fmt::format("{} table entries", header.max_table_entries),
                       fmt::format("at least {} for the disk's {} bytes", blocks, footer.current_size));
    }
    const u64 offset = header.table_offset;
    if (offset % kSector != 0 || !fits(offset, table_bytes(header.max_table_entries), file.size())) {
        return damaged(file, at + 16,
                       fmt::format("a block table of {} entries at byte {}", header.max_table_entries, offset),
                       fmt::format("a multiple of 512 with the table inside the file's {} bytes", file.size()));
    }
    std::vector<u8> bytes(static_cast<std::size_t>(blocks * 4));
    if (auto done = file.read(offset, bytes); !done) return Unexpected{done.error()};
    std::vector<u32> table(static_cast<std::size_t>(blocks));
    Codec<true> codec(bytes);
    for (std::size_t i = 0; i < table.size(); ++i) codec.number(i * 4, table[i]);
    return table;
}

/// All ranges but blocks that the file's structures occupy.
Result<std::vector<Extent>> fixed_extents(BlockFile& file, const Layout& layout) {
    std::vector<Extent> extents = {
        {0, kFooterBytes, "the footer copy"},
        {layout.footer.data_offset, layout.footer.data_offset + kHeaderBytes, "the dynamic disk header"},
        {layout.header.table_offset, layout.header.table_offset + table_bytes(layout.header.max_table_entries),
         "the block table"}};
    if (!layout.differencing()) return extents;
    for (std::size_t i = 0; i < kLocatorCount; ++i) {
        const Locator& locator = layout.header.locators[i];
        if (locator.platform == Platform::None || locator.data_length == 0) continue;
        if (locator.data_length > kMaxLocatorBytes || !fits(locator.data_offset, locator.data_length, file.size())) {
            return damaged(
                file, layout.footer.data_offset + 576 + i * 24,
                fmt::format("parent locator of {} bytes at byte {}", locator.data_length, locator.data_offset),
                fmt::format("at most {} bytes inside the file's {}", kMaxLocatorBytes, file.size()));
        }
        extents.push_back({locator.data_offset, align_up(locator.data_offset + locator.data_length, kSector),
                           fmt::format("parent locator {}", i)});
    }
    return extents;
}

/// Places every block and finds the end; no two structures may share a byte.
Result<void> check_extents(BlockFile& file, Layout& layout, u64 limit) {
    auto fixed = fixed_extents(file, layout);
    if (!fixed) return Unexpected{fixed.error()};
    struct Placed {
        u64 begin, end;
        u64 block;  // or kFixed + index into `fixed`
    };
    constexpr u64 kFixed = u64{1} << 32;
    std::vector<Placed> placed;
    for (std::size_t i = 0; i < fixed->size(); ++i) placed.push_back({(*fixed)[i].begin, (*fixed)[i].end, kFixed + i});
    const u64 block_bytes = layout.bitmap_size + layout.header.block_size;
    for (std::size_t i = 0; i < layout.table.size(); ++i) {
        if (layout.table[i] == kUnallocated) continue;
        const u64 begin = u64{layout.table[i]} * kSector;
        if (!fits(begin, block_bytes, limit)) {
            return damaged(file, layout.header.table_offset + i * 4,
                           fmt::format("block {} of {} bytes at byte {}", i, block_bytes, begin),
                           fmt::format("a place inside the {} bytes before the footer; the file was truncated or its "
                                       "table overwritten",
                                       limit));
        }
        placed.push_back({begin, begin + block_bytes, i});
    }
    std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
    const auto label = [&](const Placed& p) {
        return p.block >= kFixed ? (*fixed)[p.block - kFixed].what : fmt::format("block {}", p.block);
    };
    for (std::size_t i = 1; i < placed.size(); ++i) {
        if (placed[i].begin >= placed[i - 1].end) continue;
        const Placed& culprit = placed[i].block < kFixed ? placed[i] : placed[i - 1];
        const u64 where = culprit.block < kFixed ? layout.header.table_offset + culprit.block * 4 : placed[i].begin;
        return damaged(file, where,
                       fmt::format("{} at byte {} over {}, which ends at byte {}", label(placed[i]), placed[i].begin,
                                   label(placed[i - 1]), placed[i - 1].end),
                       "structures that do not overlap");
    }
    layout.end = placed.back().end;
    return {};
}

}  // namespace

Unexpected<Error> damaged(const BlockFile& file, u64 offset, const std::string& found, const std::string& expected,
                          const std::string& remedy) {
    return fail(Error::Code::Damaged,
                fmt::format("{}: at byte {}: found {}, expected {}; {}", file.name(), offset, found, expected,
                            remedy.empty() ? "restore the image from a backup, or recreate it" : remedy));
}

std::string to_string(const Id& id) {
    std::string out;
    for (std::size_t i = 0; i < id.size(); ++i) {
        out += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    }
    return out;
}

u32 time_stamp_now() {
    return static_cast<u32>(std::max<s64>(std::time(nullptr) - static_cast<s64>(kEpochUnixSeconds), 0));
}

Result<Layout> load_layout(BlockFile& file) {
    const auto found = find_footer(file);
    if (!found) return Unexpected{found.error()};
    Layout layout;
    layout.footer = found->footer;
    const u64 before_footer = file.size() - (found->at_end ? kFooterBytes : 0);
    if (layout.fixed()) {
        if (before_footer < layout.footer.current_size) {
            return damaged(file, before_footer, fmt::format("the footer after {} bytes of data", before_footer),
                           fmt::format("{} bytes, the disk's size", layout.footer.current_size));
        }
        layout.end = before_footer;
        return layout;
    }
    auto header = load_header(file, layout.footer.data_offset);
    if (!header) return Unexpected{header.error()};
    layout.header = *header;
    layout.bitmap_size = bitmap_bytes(header->block_size);
    auto table = load_table(file, layout.footer, layout.header);
    if (!table) return Unexpected{table.error()};
    layout.table = *std::move(table);
    if (auto checked = check_extents(file, layout, before_footer); !checked) return Unexpected{checked.error()};
    // Space that a killed writer of ours had claimed is taken back; what others put behind their blocks stays.
    const bool ours = layout.footer.creator_version == kCreatorVersion;
    if (!ours) layout.end = align_up(before_footer, kSector);
    layout.needs_footer = !found->at_end || before_footer != layout.end;
    return layout;
}

}  // namespace vg::devices::vhd
