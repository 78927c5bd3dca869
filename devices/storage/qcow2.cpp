#include "devices/storage/qcow2.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <vector>

#include "base/bits.h"
#include "devices/storage/raw_image.h"
#include "devices/storage/vhd_layout.h"

namespace vg::devices {

namespace {

constexpr u32 kMagic = 0x514649fb;  // "QFI\xfb"
constexpr u64 kHeaderBytes = 112;
constexpr u64 kMaxDiskBytes = u64{64} << 40;  ///< our limit
constexpr unsigned kMinClusterBits = 9, kMaxClusterBits = 21;
constexpr u64 kPage = 4096;
constexpr std::size_t kMaxTablePages = 256;
/// Bits of `incompatible_features`.
constexpr u64 kDirty = 1, kCorrupt = 2, kDataFile = 4, kCompressionType = 8, kExtendedL2 = 16;
/// Bits of table entries.
constexpr u64 kOffsetMask = 0x00ff'ffff'ffff'fe00;
constexpr u64 kCompressed = u64{1} << 62, kZero = 1;

template <class T>
T big(std::span<const u8> bytes, std::size_t at) {
    T value = 0;
    for (const u8 byte : bytes.subspan(at, sizeof(T))) value = static_cast<T>(value << 8 | byte);
    return value;
}

enum class Compression : u8 { Zlib = 0, Zstd = 1 };

struct Header {
    u32 version = 0;
    unsigned cluster_bits = 0;
    u64 size = 0;
    u64 l1_offset = 0;
    u64 l1_entries = 0;
    Compression compression = Compression::Zlib;

    [[nodiscard]] u64 cluster() const { return u64{1} << cluster_bits; }
    [[nodiscard]] u64 entries_per_table() const { return cluster() / 8; }
};

Unexpected<Error> unsupported(const BlockFile& file, const std::string& what) {
    return fail(Error::Code::Usage,
                fmt::format("{0}: {1}; convert it with: qemu-img convert -O vhdx {0} {0}.vhdx", file.name(), what));
}

Result<void> check_features(const BlockFile& file, std::span<const u8> bytes, Header& header) {
    if (header.version < 3) return {};
    const u64 features = big<u64>(bytes, 72);
    if ((features & kCorrupt) != 0) {
        return vhd::damaged(file, 72, "an image that is marked as corrupt", "a whole one",
                            "repair it with: qemu-img check -r all " + file.name());
    }
    if ((features & kDataFile) != 0) return unsupported(file, "keeps its data in another file");
    if ((features & kExtendedL2) != 0) return unsupported(file, "has extended L2 entries, which are not supported");
    if ((features & ~(kDirty | kCompressionType)) != 0)
        return unsupported(file, fmt::format("needs features {:#x}, which are not supported", features));
    if ((features & kCompressionType) == 0) return {};
    if (bytes[104] > 1) return unsupported(file, fmt::format("has compression type {}", bytes[104]));
    header.compression = static_cast<Compression>(bytes[104]);
    return {};
}

Result<Header> load_header(BlockFile& file) {
    std::array<u8, kHeaderBytes> bytes{};
    // A version 2 header may be all of a small file's first cluster.
    const std::size_t there = static_cast<std::size_t>(std::min<u64>(bytes.size(), file.size()));
    if (auto done = file.read(0, std::span(bytes).first(there)); !done) return Unexpected{done.error()};
    Header out;
    out.version = big<u32>(bytes, 4);
    if (big<u32>(bytes, 0) != kMagic) {
        return vhd::damaged(file, 0, "no qcow2 header", "\"QFI\\xfb\"",
                            "if the image is raw, name it without .qcow2; else restore it from a backup");
    }
    if (out.version != 2 && out.version != 3) return unsupported(file, fmt::format("has version {}", out.version));
    if (big<u64>(bytes, 8) != 0) return unsupported(file, "has a backing file, which is not followed");
    if (big<u32>(bytes, 32) != 0) return unsupported(file, "is encrypted");
    if (auto done = check_features(file, bytes, out); !done) return Unexpected{done.error()};
    out.cluster_bits = big<u32>(bytes, 20);
    out.size = big<u64>(bytes, 24);
    out.l1_entries = big<u32>(bytes, 36);
    out.l1_offset = big<u64>(bytes, 40);
    if (out.cluster_bits < kMinClusterBits || out.cluster_bits > kMaxClusterBits)
        return vhd::damaged(file, 20, fmt::format("clusters of 2^{} bytes", out.cluster_bits), "2^9 to 2^21");
    if (out.size == 0 || out.size % kSectorBytes != 0 || out.size > kMaxDiskBytes)
        return vhd::damaged(file, 24, fmt::format("a disk of {} bytes", out.size), "whole sectors, at most 64 TiB");
    const u64 per_table = out.cluster() * out.entries_per_table();
    if (out.l1_entries < (out.size + per_table - 1) / per_table) {
        return vhd::damaged(file, 36, fmt::format("{} L1 entries", out.l1_entries),
                            fmt::format("at least {}", (out.size + per_table - 1) / per_table));
    }
    if (out.l1_offset % out.cluster() != 0 || out.l1_offset == 0 ||
        !fits(out.l1_offset, out.l1_entries * 8, file.size())) {
        return vhd::damaged(file, 40, fmt::format("an L1 table at byte {}", out.l1_offset),
                            fmt::format("a cluster inside the file's {} bytes", file.size()));
    }
    return out;
}

bool inflate_cluster(std::span<u8> in, std::span<u8> out) {
    z_stream stream{};
    if (inflateInit2(&stream, -12) != Z_OK) return false;
    stream.next_in = in.data();
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    const int result = inflate(&stream, Z_FINISH);
    const bool whole = stream.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR);
    inflateEnd(&stream);
    return whole;
}

/// The compressed data may be followed by others in their last sector.
bool unzstd_cluster(std::span<u8> in, std::span<u8> out) {
    ZSTD_DCtx* context = ZSTD_createDCtx();
    if (context == nullptr) return false;
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, static_cast<int>(kMaxClusterBits) + 6);
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    bool going = true;
    while (going && to.pos < to.size) {
        const std::size_t in_before = from.pos, out_before = to.pos;
        const std::size_t result = ZSTD_decompressStream(context, &to, &from);
        going = ZSTD_isError(result) == 0 && (from.pos != in_before || to.pos != out_before);
    }
    ZSTD_freeDCtx(context);
    return to.pos == to.size;
}

class Qcow2 final : public BlockDevice {
  public:
    Qcow2(std::unique_ptr<BlockFile> file, const Header& header) : file_(std::move(file)), header_(header) {}

    [[nodiscard]] u64 size_bytes() const override { return header_.size; }
    [[nodiscard]] bool read_only() const override { return true; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        if (auto checked = check_range(*this, offset, out.size()); !checked) return checked;
        while (!out.empty()) {
            const u64 within = offset % header_.cluster();
            const auto part =
                out.first(static_cast<std::size_t>(std::min<u64>(out.size(), header_.cluster() - within)));
            if (auto done = read_cluster(offset / header_.cluster(), within, part); !done) return done;
            out = out.subspan(part.size());
            offset += part.size();
        }
        return {};
    }
    [[nodiscard]] Result<void> write(u64, std::span<const u8>) override { return refuse(); }
    [[nodiscard]] Result<void> discard(u64, u64) override { return refuse(); }
    [[nodiscard]] Result<void> flush() override { return {}; }
    [[nodiscard]] std::string describe() const override { return fmt::format("qcow2 ({})", file_->name()); }

  private:
    using Page = std::array<u8, kPage>;

    [[nodiscard]] Result<void> refuse() const {
        return fail(Error::Code::Usage, fmt::format("{}: is open read-only", describe()));
    }
    /// The table entry at byte `at` of the file, which lies inside a table whose place was checked.
    [[nodiscard]] Result<u64> entry(u64 at) {
        const u64 begin = align_down(at, kPage);
        auto found = tables_.find(begin);
        if (found == tables_.end()) {
            if (tables_.size() >= kMaxTablePages) tables_.clear();
            auto page = std::make_unique<Page>();
            const u64 there = std::min(kPage, file_->size() - begin);
            if (auto done = file_->read(begin, std::span(*page).first(static_cast<std::size_t>(there))); !done)
                return Unexpected{done.error()};
            found = tables_.emplace(begin, std::move(page)).first;
        }
        return big<u64>(*found->second, static_cast<std::size_t>(at % kPage));
    }
    [[nodiscard]] Result<void> read_cluster(u64 cluster, u64 within, std::span<u8> out) {
        const u64 l1_at = header_.l1_offset + cluster / header_.entries_per_table() * 8;
        const auto l1 = entry(l1_at);
        if (!l1) return Unexpected{l1.error()};
        const u64 table = *l1 & kOffsetMask;
        if (table == 0) return zeroes(out);
        if (auto checked = check(l1_at, table, header_.cluster()); !checked) return checked;
        const u64 l2_at = table + cluster % header_.entries_per_table() * 8;
        const auto l2 = entry(l2_at);
        if (!l2) return Unexpected{l2.error()};
        if ((*l2 & kCompressed) != 0) return read_compressed(l2_at, *l2, within, out);
        const u64 data = *l2 & kOffsetMask;
        if (data == 0 || (header_.version >= 3 && (*l2 & kZero) != 0)) return zeroes(out);
        if (auto checked = check(l2_at, data, within + out.size()); !checked) return checked;
        return file_->read(data + within, out);
    }
    /// Compressed clusters are read whole; the last one is kept.
    [[nodiscard]] Result<void> read_compressed(u64 at, u64 entry, u64 within, std::span<u8> out) {
        if (entry != held_entry_) {
            const unsigned split = 62 - (header_.cluster_bits - 8);
            const u64 offset = entry & low_mask(split);
            const u64 sectors = bits(entry, 61, split) + 1;
            if (offset >= file_->size()) return wrong(at, offset);
            const u64 size = std::min(sectors * kSectorBytes - offset % kSectorBytes, file_->size() - offset);
            std::vector<u8> packed(static_cast<std::size_t>(size));
            if (auto done = file_->read(offset, packed); !done) return done;
            held_entry_ = 0;
            held_.resize(static_cast<std::size_t>(header_.cluster()));
            const bool whole = header_.compression == Compression::Zlib ? inflate_cluster(packed, held_)
                                                                        : unzstd_cluster(packed, held_);
            if (!whole)
                return vhd::damaged(*file_, offset, "a cluster that does not unpack", "compressed data of one cluster");
            held_entry_ = entry;
        }
        std::copy_n(held_.begin() + static_cast<std::ptrdiff_t>(within), out.size(), out.begin());
        return {};
    }
    [[nodiscard]] Result<void> check(u64 at, u64 offset, u64 size) const {
        if (offset % header_.cluster() == 0 && fits(offset, size, file_->size())) return {};
        return wrong(at, offset);
    }
    [[nodiscard]] Unexpected<Error> wrong(u64 at, u64 offset) const {
        return vhd::damaged(*file_, at, fmt::format("a cluster at byte {}", offset),
                            fmt::format("a place inside the file's {} bytes", file_->size()),
                            "repair it with: qemu-img check -r all " + file_->name());
    }
    static Result<void> zeroes(std::span<u8> out) {
        std::fill(out.begin(), out.end(), u8{0});
        return {};
    }

    std::unique_ptr<BlockFile> file_;
    Header header_;
    std::unordered_map<u64, std::unique_ptr<Page>> tables_;  // by first byte
    std::vector<u8> held_;                                   // a compressed cluster's content
    u64 held_entry_ = 0;                                     // its table entry; 0: none
};

}  // namespace

Result<std::unique_ptr<BlockDevice>> open_qcow2(std::unique_ptr<BlockFile> file) {
    if (file->writable()) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: qcow2 images are only read; write to an overlay instead of write = \"direct\"",
                                file->name()));
    }
    const auto header = load_header(*file);
    if (!header) return Unexpected{header.error()};
    return std::unique_ptr<BlockDevice>(std::make_unique<Qcow2>(std::move(file), *header));
}

}  // namespace vg::devices
