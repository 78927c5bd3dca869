#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/state.h"
#include "devices/storage/block_file.h"
#include "machine/recorded_files.h"
#include "machine/recording.h"
#include "machine/recording_file.h"

namespace vg::machine {

namespace format = recording_format;

namespace {

/// Instructions between two marks, and how many marks are one of memory too. A mark of the parts costs about as much as
/// 100,000 instructions, one of memory as many millions.
constexpr u64 kMarkInterval = 50'000'000;
constexpr unsigned kMarksPerFullMark = 40;
/// What was recorded is in the host's hands after so long.
constexpr std::chrono::milliseconds kFlushInterval{500};
constexpr std::size_t kFlushBytes = 256 * 1024;
constexpr u32 kPieceBytes = 1u << 20;

u32 short_hash(u64 hash) { return static_cast<u32>(hash ^ hash >> 32); }

std::span<const u8> as_bytes(const std::string& text) {
    return {reinterpret_cast<const u8*>(text.data()), text.size()};
}

}  // namespace

struct Recorder::Impl {
    using Clock = std::chrono::steady_clock;
    std::unique_ptr<ChunkWriter> file;
    Machine* machine = nullptr;
    ByteWriter journal;
    VTime last_time = 0;
    u64 next_mark = 0, journal_bytes = 0;
    unsigned marks = 0;
    std::vector<std::string> part_names;
    Clock::time_point flushed = Clock::now();

    void begin_entry(format::EntryKind kind, VTime time) {
        journal.number(static_cast<u64>(kind));
        journal.number(time - last_time);
        last_time = time;
    }
    void record(const Input& input) {
        begin_entry(input.kind == Input::Kind::Console ? format::EntryKind::Console
                    : input.kind == Input::Kind::Frame   ? format::EntryKind::Frame
                    : input.kind == Input::Kind::Command ? format::EntryKind::Command
                                                         : format::EntryKind::Socket,
                    input.time);
        journal.number(input.target);
        journal.number(input.bytes.size());
        journal.bytes(input.bytes);
        if (journal.data().size() > kFlushBytes) flush();
    }
    void mark() {
        const auto parts = machine->part_hashes();
        std::vector<std::string> names;
        for (const auto& [name, hash] : parts) names.push_back(name);
        if (names != part_names) {
            begin_entry(format::EntryKind::Parts, machine->now());
            journal.number(names.size());
            for (const std::string& name : names) journal.text(name);
            part_names = std::move(names);
        }
        const bool full = marks++ % kMarksPerFullMark == 0;
        begin_entry(full ? format::EntryKind::FullMark : format::EntryKind::Mark, machine->now());
        journal.number(machine->instructions());
        journal.number(parts.size());
        for (const auto& [name, hash] : parts) journal.fixed(short_hash(hash));
        if (full) journal.fixed(memory_hash(*machine));
        next_mark = machine->instructions() + kMarkInterval;
    }
    void flush() {
        flushed = Clock::now();
        if (journal.data().empty()) return;
        journal_bytes += file->write(format::ChunkType::Journal, journal.data());
        journal.clear();
    }
    static u32 memory_hash(Machine& machine) {
        StateHasher hasher;
        machine.memory().hash(hasher);
        return short_hash(hasher.digest());
    }
};

Recorder::Recorder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Recorder::~Recorder() = default;

namespace {

Result<void> store(ChunkWriter& out, u32 index, const RecordedFile& about) {
    auto file = devices::open_file(about.path, devices::FileAccess::ReadOnly);
    if (!file) return Unexpected{file.error()};
    std::vector<u8> piece;
    for (u64 at = 0; at < about.size; at += kPieceBytes) {
        const u64 size = std::min<u64>(kPieceBytes, about.size - at);
        piece.resize(sizeof index + size);
        std::memcpy(piece.data(), &index, sizeof index);
        if (auto ok = (*file)->read(at, std::span(piece).subspan(sizeof index)); !ok) return ok;
        out.write(format::ChunkType::File, piece);
    }
    return out.status();
}

}  // namespace

Result<std::unique_ptr<Recorder>> Recorder::create(const std::string& path, const Config& config) {
    if (config.machine.scheduler == "parallel")
        return fail(Error::Code::Usage,
                    "no two runs of the parallel scheduler are equal, so that none can be recorded; use --scheduler deterministic");
    Config absolute = config;
    auto files = list_files(absolute);
    if (!files) return Unexpected{files.error()};
    auto impl = std::make_unique<Impl>();
    auto file = ChunkWriter::create(path);
    if (!file) return Unexpected{file.error()};
    impl->file = std::move(*file);
    nlohmann::ordered_json meta;
    meta["version"] = VG_VERSION;
    meta["config"] = show_config(absolute);
    for (const RecordedFile& about : *files) {
        meta["files"].push_back({{"key", about.key},
                                 {"path", about.path},
                                 {"size", about.size},
                                 {"modified", about.modified},
                                 {"embedded", about.embedded}});
    }
    const std::string text = meta.dump();
    if (text.size() > format::kMaxChunkBytes)
        return fail(Error::Code::Usage, "the configuration is too large for a recording");
    impl->file->write(format::ChunkType::Meta, as_bytes(text));
    for (u32 i = 0; i < files->size(); ++i) {
        if (!(*files)[i].embedded) continue;
        if (auto ok = store(*impl->file, i, (*files)[i]); !ok) return Unexpected{ok.error()};
    }
    if (auto ok = impl->file->status(); !ok) return Unexpected{ok.error()};
    return std::unique_ptr<Recorder>(new Recorder(std::move(impl)));
}

void Recorder::attach(Machine& machine) {
    impl_->machine = &machine;
    machine.on_input([this](const Input& input) { impl_->record(input); });
    impl_->mark();
}

void Recorder::look() {
    Machine& machine = *impl_->machine;
    if (machine.instructions() >= impl_->next_mark && !machine.scheduler().in_round()) impl_->mark();
    if (Impl::Clock::now() - impl_->flushed >= kFlushInterval) impl_->flush();
}

Result<void> Recorder::finish(int code, const std::string& text) {
    impl_->flush();
    Machine& machine = *impl_->machine;
    const Position at = Position::of(machine);
    const nlohmann::ordered_json end = {
        {"time", at.time}, {"instructions", at.instructions}, {"in_round", at.in_round}, {"hash", machine.state_hash()},
        {"code", code},    {"text", text.substr(0, 4096)}};
    const std::string dumped = end.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    impl_->file->write(format::ChunkType::End, as_bytes(dumped));
    return impl_->file->status();
}

u64 Recorder::journal_bytes() const { return impl_->journal_bytes; }

}  // namespace vg::machine
