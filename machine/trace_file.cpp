#include "machine/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

namespace vg::machine {

namespace format = trace_format;
using format::ChunkType;
using Json = nlohmann::json;

namespace {

constexpr std::string_view kDetails[] = {"flow", "memory", "values", "registers"};
constexpr std::size_t kMostChunks = 1u << 22, kMostSymbols = 1u << 20;
constexpr u64 kMostNameBytes = 512;
constexpr std::size_t kMetaBytes = 4096;

std::span<const u8> as_bytes(const std::string& text) {
    return {reinterpret_cast<const u8*>(text.data()), text.size()};
}

bool by_address(const TraceSymbol& a, const TraceSymbol& b) {
    return a.partition != b.partition ? a.partition < b.partition : a.address < b.address;
}

}  // namespace

std::string_view name_of(TraceDetail detail) { return kDetails[static_cast<unsigned>(detail)]; }

std::optional<TraceDetail> trace_detail(std::string_view name) {
    for (unsigned k = 0; k < std::size(kDetails); ++k)
        if (kDetails[k] == name) return static_cast<TraceDetail>(k);
    return std::nullopt;
}

TraceWriter::TraceWriter(std::unique_ptr<ChunkWriter> file, TraceDetail detail, TapMask events)
    : file_(std::move(file)), encoder_(detail) {
    Json kinds = Json::array();
    for (unsigned k = 0; k < static_cast<unsigned>(TapKind::Count); ++k)
        if ((events >> k & 1) != 0) kinds.push_back(std::string(tap_row(static_cast<TapKind>(k)).name));
    const Json meta = {{"version", VG_VERSION}, {"detail", std::string(name_of(detail))}, {"events", kinds}};
    const std::string text = meta.dump();
    file_->write(ChunkType::Meta, as_bytes(text));
}

Result<std::unique_ptr<TraceWriter>> TraceWriter::create(const std::string& path, TraceDetail detail, TapMask events) {
    auto file = ChunkWriter::create(path, kTraceChunks);
    if (!file) return Unexpected{file.error()};
    return std::unique_ptr<TraceWriter>(new TraceWriter(std::move(*file), detail, events));
}

std::unique_ptr<TraceWriter> TraceWriter::on(int file, const std::string& path, TraceDetail detail, TapMask events) {
    return std::unique_ptr<TraceWriter>(new TraceWriter(ChunkWriter::on(file, path, kTraceChunks), detail, events));
}

void TraceWriter::put_chunk() {
    if (encoder_.empty()) return;
    TraceEncoder::Summary summary;
    const std::span<const u8> raw = encoder_.take(summary);
    summary.offset = file_->size();
    file_->write(ChunkType::Code, raw);
    executed_ += summary.executed;
    index_.push_back(summary);
}

void TraceWriter::put_symbols(std::vector<TraceSymbol>& symbols) {
    std::sort(symbols.begin(), symbols.end(), by_address);
    if (symbols.size() > kMostSymbols) symbols.resize(kMostSymbols);
    ByteWriter out;
    for (const TraceSymbol& symbol : symbols) {
        out.number(symbol.partition);
        out.number(symbol.address);
        out.number(symbol.size);
        out.text(std::string_view(symbol.name).substr(0, kMostNameBytes));
        out.text(std::string_view(symbol.module).substr(0, kMostNameBytes));
        if (out.data().size() < format::kMostChunkBytes / 2) continue;
        file_->write(ChunkType::Symbols, out.data());
        out.clear();
    }
    if (!out.data().empty()) file_->write(ChunkType::Symbols, out.data());
}

Result<void> TraceWriter::finish(std::vector<TraceSymbol> symbols) {
    put_chunk();
    put_symbols(symbols);
    ByteWriter out;
    u64 before = 0;
    for (const TraceEncoder::Summary& each : index_) {
        out.number(each.offset - before);
        before = each.offset;
        for (const u64 value : {each.first, each.count, each.first_time, each.last_time - each.first_time,
                                each.executed, u64{each.events}})
            out.number(value);
    }
    format::Tail tail{file_->size(), {}};
    std::memcpy(tail.magic, format::kTailMagic, sizeof tail.magic);
    // A trace of more chunks than an index may have is found out by going through it.
    if (out.data().size() <= format::kMostChunkBytes) {
        file_->write(ChunkType::Index, out.data());
        file_->write_tail({reinterpret_cast<const u8*>(&tail), sizeof tail});
    }
    return file_->status();
}

bool TraceFile::is_trace(const std::string& path) {
    std::FILE* const file = std::fopen(path.c_str(), "rbe");
    if (file == nullptr) return false;
    char magic[sizeof format::kMagic] = {};
    const bool read = std::fread(magic, sizeof magic, 1, file) == 1;
    std::fclose(file);
    return read && std::memcmp(magic, format::kMagic, sizeof magic) == 0;
}

Result<std::unique_ptr<TraceFile>> TraceFile::open(const std::string& path) {
    std::unique_ptr<TraceFile> file(new TraceFile);
    file->path_ = path;
    auto reader = ChunkReader::open(path, kTraceChunks);
    if (!reader) return Unexpected{reader.error()};
    file->file_ = std::move(*reader);
    file->file_bytes_ = file->file_->file_bytes();
    if (auto ok = file->read_meta(); !ok) return Unexpected{ok.error()};
    file->first_chunk_ = file->file_->offset();
    if (!file->read_index()) {
        file->chunks_.clear();
        file->symbols_.clear();
        file->notes_.push_back(fmt::format("{}: its end is missing (the tracer was killed); read up to there", path));
        if (auto ok = file->scan(); !ok) return Unexpected{ok.error()};
    }
    std::stable_sort(file->symbols_.begin(), file->symbols_.end(), by_address);
    return file;
}

Result<void> TraceFile::read_meta() {
    ChunkType type{};
    auto next = file_->next(type, raw_);
    if (!next) return Unexpected{next.error()};
    if (*next != ChunkReader::Next::Chunk || type != ChunkType::Meta || raw_.size() > kMetaBytes)
        return file_->damaged("what it holds is not where it belongs");
    const Json meta = Json::parse(raw_.begin(), raw_.end(), nullptr, false);
    const auto text = [](const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); };
    const auto detail = meta.is_object() ? trace_detail(text(meta.value("detail", Json()))) : std::nullopt;
    if (!detail) return file_->damaged("it does not say what it holds");
    detail_ = *detail;
    const Json events = meta.value("events", Json());
    if (events.is_array()) {
        for (const Json& each : events)
            if (const TapKind kind = tap_kind(text(each)); kind != TapKind::Count) events_ |= tap_bit(kind);
    }
    return {};
}

/// False: there is none that can be trusted.
bool TraceFile::read_index() {
    format::Tail tail{};
    if (!file_->read_tail({reinterpret_cast<u8*>(&tail), sizeof tail}) ||
        std::memcmp(tail.magic, format::kTailMagic, sizeof tail.magic) != 0 || tail.index_offset >= file_bytes_)
        return false;
    file_->seek(tail.index_offset);
    ChunkType type{};
    auto next = file_->next(type, raw_);
    if (!next || *next != ChunkReader::Next::Chunk || type != ChunkType::Index) return false;
    ByteReader in(raw_);
    u64 offset = 0;
    while (!in.done() && chunks_.size() < kMostChunks) {
        TraceEncoder::Summary each;
        each.offset = offset += in.number();
        each.first = in.number();
        each.count = in.number();
        each.first_time = in.number();
        each.last_time = each.first_time + in.number();
        each.executed = in.number();
        each.events = static_cast<TapMask>(in.number());
        if (each.offset >= tail.index_offset) return false;
        chunks_.push_back(each);
    }
    if (in.failed()) return false;
    // Symbols lie between the last Code chunk and the index.
    file_->seek(chunks_.empty() ? first_chunk_ : chunks_.back().offset);
    while (file_->offset() < tail.index_offset) {
        next = file_->next(type, raw_);
        if (!next || *next != ChunkReader::Next::Chunk) return false;
        if (type == ChunkType::Symbols && !read_symbols(raw_)) return false;
    }
    return true;
}

Result<void> TraceFile::scan() {
    file_->seek(first_chunk_);
    while (true) {
        TraceEncoder::Summary each;
        each.offset = file_->offset();
        ChunkType type{};
        auto next = file_->next(type, raw_);
        if (!next) return Unexpected{next.error()};
        if (*next != ChunkReader::Next::Chunk) return {};
        if (type == ChunkType::Symbols && !read_symbols(raw_)) return file_->damaged("its symbols");
        if (type == ChunkType::Index) return {};
        if (type != ChunkType::Code) continue;
        const TraceDecoder decoder(raw_, detail_);
        if (!decoder.problem().empty()) return file_->damaged(decoder.problem());
        each.first = decoder.first_number();
        each.count = decoder.end_number() - each.first;
        each.first_time = decoder.first_time();
        each.last_time = decoder.last_time();
        each.executed = each.count;
        each.events = events_;
        if (chunks_.size() < kMostChunks) chunks_.push_back(each);
    }
}

bool TraceFile::read_symbols(std::span<const u8> raw) {
    ByteReader in(raw);
    while (!in.done() && symbols_.size() < kMostSymbols) {
        TraceSymbol symbol;
        symbol.partition = in.number();
        symbol.address = in.number();
        symbol.size = in.number();
        symbol.name = in.text(kMostNameBytes);
        symbol.module = in.text(kMostNameBytes);
        if (!in.failed()) symbols_.push_back(std::move(symbol));
    }
    return !in.failed();
}

const TraceSymbol* TraceFile::symbol(u64 partition, u64 linear) const {
    TraceSymbol key;
    key.partition = partition;
    key.address = linear;
    auto found = std::upper_bound(symbols_.begin(), symbols_.end(), key, by_address);
    if (found == symbols_.begin()) return nullptr;
    --found;
    return found->partition == partition && linear - found->address < found->size ? &*found : nullptr;
}

Result<TraceDecoder*> TraceFile::read(std::size_t index) {
    VG_ASSERT(index < chunks_.size());
    decoder_.reset();
    file_->seek(chunks_[index].offset);
    ChunkType type{};
    auto next = file_->next(type, raw_);
    if (!next) return Unexpected{next.error()};
    file_->seek(chunks_[index].offset);  // what is found damaged in it is said to be there
    if (*next != ChunkReader::Next::Chunk || type != ChunkType::Code)
        return file_->damaged("its index leads to something else");
    decoder_ = std::make_unique<TraceDecoder>(raw_, detail_);
    if (!decoder_->problem().empty()) return Unexpected{damage()};
    return decoder_.get();
}

Error TraceFile::damage() const { return file_->damaged(decoder_->problem()).error; }

}  // namespace vg::machine
