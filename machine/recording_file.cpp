#include "machine/recording_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace vg::machine {

namespace format = recording_format;

namespace {

u64 checksum_of(const format::ChunkHeader& header, std::span<const u8> stored) {
    XXH3_state_t* const state = XXH3_createState();
    XXH3_64bits_reset(state);
    const u32 head[] = {static_cast<u32>(header.type), header.stored_size, header.raw_size};
    XXH3_64bits_update(state, head, sizeof head);
    XXH3_64bits_update(state, stored.data(), stored.size());
    const u64 sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

/// Speed counts more than size: it runs beside the machine.
constexpr int kCompressionLevel = 1;

}  // namespace

void ByteWriter::number(u64 value) {
    while (value >= 0x80) {
        out_.push_back(static_cast<u8>(value | 0x80));
        value >>= 7;
    }
    out_.push_back(static_cast<u8>(value));
}

void ByteWriter::fixed(u32 value) {
    for (unsigned i = 0; i < 4; ++i) out_.push_back(static_cast<u8>(value >> (8 * i)));
}

void ByteWriter::text(std::string_view text) {
    number(text.size());
    out_.insert(out_.end(), text.begin(), text.end());
}

u64 ByteReader::number() {
    u64 value = 0;
    for (unsigned shift = 0; shift < 64 && !failed_; shift += 7) {
        if (at_ == data_.size()) break;
        const u8 byte = data_[at_++];
        if (shift == 63 && byte > 1) break;
        value |= u64{byte & 0x7fu} << shift;
        if ((byte & 0x80) == 0) return value;
    }
    failed_ = true;
    return 0;
}

u32 ByteReader::fixed() {
    const std::span<const u8> data = bytes(4);
    if (failed_) return 0;
    return data[0] | u32{data[1]} << 8 | u32{data[2]} << 16 | u32{data[3]} << 24;
}

std::span<const u8> ByteReader::bytes(u64 size) {
    if (failed_ || size > data_.size() - at_) {
        failed_ = true;
        return {};
    }
    const auto part = data_.subspan(at_, static_cast<std::size_t>(size));
    at_ += part.size();
    return part;
}

std::string ByteReader::text(u64 limit) {
    const u64 size = number();
    if (size > limit) failed_ = true;
    const auto part = bytes(size);
    return {part.begin(), part.end()};
}

ChunkWriter::ChunkWriter(std::string path, int file, const ChunkFormat& chunks)
    : path_(std::move(path)), file_(file), format_(chunks), compressor_(ZSTD_createCCtx()) {
    VG_ASSERT(compressor_ != nullptr);
    format::Header header{};
    std::memcpy(header.magic, chunks.magic.data(), sizeof header.magic);
    header.version = chunks.version;
    put(&header, sizeof header);
}

ChunkWriter::~ChunkWriter() {
    ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(compressor_));
    ::close(file_);
}

Result<std::unique_ptr<ChunkWriter>> ChunkWriter::create(const std::string& path, const ChunkFormat& chunks) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        return fail(Error::Code::Usage, fmt::format("{}: cannot be written: {}; name a file in a folder that is there",
                                                    path, std::strerror(errno)));
    }
    return on(file, path, chunks);
}

std::unique_ptr<ChunkWriter> ChunkWriter::on(int file, const std::string& path, const ChunkFormat& chunks) {
    return std::unique_ptr<ChunkWriter>(new ChunkWriter(path, file, chunks));
}

void ChunkWriter::put(const void* data, std::size_t size) {
    const auto* at = static_cast<const char*>(data);
    size_ += size;
    while (size != 0 && error_ == 0) {
        const ssize_t done = ::write(file_, at, size);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) {
            error_ = errno;
            return;
        }
        at += done;
        size -= static_cast<std::size_t>(done);
    }
}

u64 ChunkWriter::write_chunk(u32 type, std::span<const u8> raw) {
    VG_ASSERT(raw.size() <= format_.most_raw_bytes);
    // Header and content in one write: a killed process leaves whole chunks.
    stored_.resize(sizeof(format::ChunkHeader) + ZSTD_compressBound(raw.size()));
    u8* const content = stored_.data() + sizeof(format::ChunkHeader);
    const std::size_t size =
        ZSTD_compressCCtx(static_cast<ZSTD_CCtx*>(compressor_), content, stored_.size() - sizeof(format::ChunkHeader),
                          raw.data(), raw.size(), kCompressionLevel);
    VG_ASSERT(ZSTD_isError(size) == 0);
    format::ChunkHeader header{static_cast<format::ChunkType>(type), static_cast<u32>(size), static_cast<u32>(raw.size()), 0, 0};
    header.checksum = checksum_of(header, {content, size});
    std::memcpy(stored_.data(), &header, sizeof header);
    put(stored_.data(), sizeof header + size);
    return sizeof header + size;
}

Result<void> ChunkWriter::status() const {
    if (error_ == 0) return {};
    return fail(Error::Code::Host,
                fmt::format("{}: writing failed: {}; what was written before is good", path_, std::strerror(error_)));
}

ChunkReader::~ChunkReader() { std::fclose(file_); }

Result<std::unique_ptr<ChunkReader>> ChunkReader::open(const std::string& path, const ChunkFormat& chunks) {
    std::FILE* const file = std::fopen(path.c_str(), "rbe");
    if (file == nullptr) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: {}; make {} with: {}", path, std::strerror(errno), chunks.what,
                                fmt::format(fmt::runtime(chunks.made_by), path)));
    }
    std::unique_ptr<ChunkReader> reader(new ChunkReader(path, file, chunks));
    format::Header header{};
    if (std::fread(&header, sizeof header, 1, file) != 1 ||
        std::memcmp(header.magic, chunks.magic.data(), sizeof header.magic) != 0) {
        return fail(Error::Code::Damaged, fmt::format("{}: is not {} (another file type, or damaged at offset 0)", path, chunks.what));
    }
    if (header.version != chunks.version) {
        return fail(Error::Code::Damaged,
                    fmt::format("{}: has format version {}, this program reads {}; use the version that recorded it",
                                path, header.version, chunks.version));
    }
    reader->offset_ = sizeof header;
    return reader;
}

Unexpected<Error> ChunkReader::damaged(const std::string& what) const {
    return fail(Error::Code::Damaged,
                fmt::format("{}: damaged at offset {}: {}; take another copy of it", path_, offset_, what));
}

void ChunkReader::seek(u64 offset) {
    offset_ = offset;
    if (std::fseek(file_, static_cast<long>(offset), SEEK_SET) != 0) (void)std::fseek(file_, 0, SEEK_END);
}

u64 ChunkReader::file_bytes() {
    if (std::fseek(file_, 0, SEEK_END) != 0) return 0;
    const long size = std::ftell(file_);
    seek(offset_);
    return size < 0 ? 0 : static_cast<u64>(size);
}

bool ChunkReader::read_tail(std::span<u8> bytes) {
    const bool whole = std::fseek(file_, -static_cast<long>(bytes.size()), SEEK_END) == 0 &&
                       std::fread(bytes.data(), 1, bytes.size(), file_) == bytes.size();
    seek(offset_);
    return whole;
}

Result<ChunkReader::Next> ChunkReader::next_chunk(u32& type, std::vector<u8>& raw) {
    format::ChunkHeader header{};
    const std::size_t got = std::fread(&header, 1, sizeof header, file_);
    if (got == 0) return Next::End;
    if (got != sizeof header) return Next::Cut;
    if (header.raw_size > format_.most_raw_bytes || header.stored_size > ZSTD_compressBound(format_.most_raw_bytes)) {
        return damaged("a chunk of an impossible size");
    }
    std::vector<u8> stored(header.stored_size);
    if (std::fread(stored.data(), 1, stored.size(), file_) != stored.size()) return Next::Cut;
    if (checksum_of(header, stored) != header.checksum) return damaged("the checksum of a chunk is wrong");
    raw.resize(header.raw_size);
    const std::size_t size = ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
    if (ZSTD_isError(size) != 0 || size != raw.size()) return damaged("a chunk does not decompress to its size");
    type = static_cast<u32>(header.type);
    offset_ += sizeof header + stored.size();
    return Next::Chunk;
}

}  // namespace vg::machine
