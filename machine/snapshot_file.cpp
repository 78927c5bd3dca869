#include "machine/snapshot_file.h"

#include <fmt/format.h>
#include <xxhash.h>
#include <zstd.h>

#include <cstddef>
#include <cstring>

namespace vg::machine {

using namespace snapshot_format;

namespace {

/// RAM is worth little effort: most of a snapshot's time goes here.
constexpr int kLevel = 1;

template <class T>
std::span<const u8> bytes_of(const T* data, std::size_t count = 1) {
    return {reinterpret_cast<const u8*>(data), count * sizeof(T)};
}

u64 checksum_of(std::span<const u8> data) { return XXH3_64bits(data.data(), data.size()); }

}  // namespace

SnapshotWriter::SnapshotWriter(devices::BlockFile& file)
    : file_(file), stored_(ZSTD_compressBound(kMaxChunkBytes)), compressor_(ZSTD_createCCtx()) {
    VG_ASSERT(compressor_ != nullptr);
}
SnapshotWriter::~SnapshotWriter() { ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(compressor_)); }

Result<void> SnapshotWriter::add(ChunkType type, u64 place, std::span<const u8> raw, u32 number) {
    VG_ASSERT(raw.size() <= kMaxChunkBytes);
    const std::size_t size = ZSTD_compressCCtx(static_cast<ZSTD_CCtx*>(compressor_), stored_.data(), stored_.size(),
                                               raw.data(), raw.size(), kLevel);
    VG_ASSERT(ZSTD_isError(size) == 0);
    const std::span<const u8> stored = std::span<const u8>(stored_).first(size);
    index_.push_back(
        {type, number, place, end_, static_cast<u32>(size), static_cast<u32>(raw.size()), checksum_of(stored)});
    end_ += size;
    return file_.write(index_.back().offset, stored);
}

Result<void> SnapshotWriter::seal() {
    const std::span<const u8> entries = bytes_of(index_.data(), index_.size());
    if (auto ok = file_.write(end_, entries); !ok) return ok;
    Header header{{}, kVersion, static_cast<u32>(index_.size()), end_, checksum_of(entries), 0};
    std::memcpy(header.magic, kMagic, sizeof header.magic);
    header.checksum = checksum_of(bytes_of(&header).first(offsetof(Header, checksum)));
    return file_.write(0, bytes_of(&header));
}

SnapshotReader::SnapshotReader(std::unique_ptr<devices::BlockFile> file)
    : file_(std::move(file)), decompressor_(ZSTD_createDCtx()) {
    VG_ASSERT(decompressor_ != nullptr);
}
SnapshotReader::~SnapshotReader() { ZSTD_freeDCtx(static_cast<ZSTD_DCtx*>(decompressor_)); }

Unexpected<Error> SnapshotReader::damaged(const std::string& what) const {
    return fail(Error::Code::Damaged, fmt::format("{}: {}", file_->name(), what));
}

Result<std::unique_ptr<SnapshotReader>> SnapshotReader::open(std::unique_ptr<devices::BlockFile> file) {
    std::unique_ptr<SnapshotReader> reader(new SnapshotReader(std::move(file)));
    if (auto ok = reader->load_index(); !ok) return Unexpected{ok.error()};
    return reader;
}

Result<void> SnapshotReader::load_index() {
    Header header;
    const u64 size = file_->size();
    if (size < sizeof header) return damaged("is no snapshot: too short");
    if (auto ok = file_->read(0, {reinterpret_cast<u8*>(&header), sizeof header}); !ok) return ok;
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return damaged("is no snapshot");
    if (header.version != kVersion)
        return damaged(fmt::format("has format {}, and this version reads {}", header.version, kVersion));
    if (header.checksum != checksum_of(bytes_of(&header).first(offsetof(Header, checksum))))
        return damaged("the header's checksum is wrong");
    const u64 index_bytes = u64{header.chunk_count} * sizeof(Entry);
    if (header.index_offset < sizeof header || header.index_offset > size ||
        size - header.index_offset != index_bytes) {
        return damaged("truncated: the index does not end the file");
    }
    index_offset_ = header.index_offset;
    index_.resize(header.chunk_count);
    if (auto ok =
            file_->read(index_offset_, {reinterpret_cast<u8*>(index_.data()), static_cast<std::size_t>(index_bytes)});
        !ok)
        return ok;
    if (header.index_checksum != checksum_of(bytes_of(index_.data(), index_.size())))
        return damaged("the index's checksum is wrong");
    for (std::size_t i = 0; i < index_.size(); ++i) {
        if (auto ok = check(index_[i], i == 0 ? nullptr : &index_[i - 1]); !ok) return ok;
    }
    return {};
}

Result<void> SnapshotReader::check(const Entry& entry, const Entry* before) const {
    const auto bad = [&](std::string_view why) {
        return damaged(fmt::format("chunk at offset {}: {}", entry.offset, why));
    };
    if (entry.type < ChunkType::Meta || entry.type > ChunkType::Disk) return bad("its type is unknown");
    if (entry.offset < sizeof(Header) || entry.offset > index_offset_ ||
        entry.stored_size > index_offset_ - entry.offset) {
        return bad("lies outside of the file");
    }
    if (entry.raw_size == 0 || entry.raw_size > kMaxChunkBytes || entry.place > ~u64{0} - entry.raw_size)
        return bad("its size cannot be");
    if (before == nullptr || before->type < entry.type) return {};
    const bool ordered = before->type == entry.type &&
                         (before->number < entry.number ||
                          (before->number == entry.number && before->place + before->raw_size <= entry.place));
    return ordered ? Result<void>{} : bad("is out of order");
}

Result<void> SnapshotReader::read(const Entry& entry, std::vector<u8>& raw) {
    stored_.resize(entry.stored_size);
    if (auto ok = file_->read(entry.offset, stored_); !ok) return ok;
    if (checksum_of(stored_) != entry.checksum)
        return damaged(fmt::format("chunk at offset {}: its checksum is wrong", entry.offset));
    raw.resize(entry.raw_size);
    const std::size_t size = ZSTD_decompressDCtx(static_cast<ZSTD_DCtx*>(decompressor_), raw.data(), raw.size(),
                                                 stored_.data(), stored_.size());
    if (ZSTD_isError(size) != 0 || size != raw.size())
        return damaged(fmt::format("chunk at offset {}: cannot be unpacked", entry.offset));
    return {};
}

Result<std::vector<u8>> SnapshotReader::read_all(ChunkType type, u64 limit) {
    std::vector<u8> all, part;
    for (const Entry& entry : index_) {
        if (entry.type != type) continue;
        if (entry.place != all.size() || entry.number != 0)
            return damaged(fmt::format("chunk at offset {}: a part is missing before it", entry.offset));
        if (all.size() + entry.raw_size > limit) return damaged("has more state than any machine");
        if (auto ok = read(entry, part); !ok) return Unexpected{ok.error()};
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

}  // namespace vg::machine
