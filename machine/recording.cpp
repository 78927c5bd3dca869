#include "machine/recording.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/state.h"
#include "devices/storage/image_format.h"
#include "machine/recorded_files.h"
#include "machine/recording_file.h"

namespace vg::machine {

namespace format = recording_format;
using Json = nlohmann::ordered_json;

namespace {

/// A recording of more inputs or marks than this is refused: it would not fit into memory.
constexpr std::size_t kMaxEntries = 50'000'000;

u32 short_hash(u64 hash) { return static_cast<u32>(hash ^ hash >> 32); }

/// The value of `key` if it is a T, else `otherwise`.
template <class T>
T value_of(const Json& object, const char* key, T otherwise) {
    const auto found = object.find(key);
    if (found == object.end()) return otherwise;
    if constexpr (std::is_same_v<T, std::string>) {
        return found->is_string() ? found->template get<std::string>() : otherwise;
    } else if constexpr (std::is_same_v<T, bool>) {
        return found->is_boolean() ? found->template get<bool>() : otherwise;
    } else {
        return found->is_number_integer() ? found->template get<T>() : otherwise;
    }
}

/// Content of a stored file, without a name in any folder.
class StoredFile {
  public:
    StoredFile() = default;
    explicit StoredFile(int file) : file_(file) {}
    StoredFile(StoredFile&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
    StoredFile& operator=(StoredFile&& other) noexcept {
        std::swap(file_, other.file_);
        return *this;
    }
    ~StoredFile() {
        if (file_ >= 0) ::close(file_);
    }
    [[nodiscard]] bool there() const { return file_ >= 0; }
    [[nodiscard]] std::string path() const { return fmt::format("/proc/self/fd/{}", file_); }
    [[nodiscard]] bool append(std::span<const u8> data) const {
        while (!data.empty()) {
            const ssize_t done = ::write(file_, data.data(), data.size());
            if (done <= 0) return false;
            data = data.subspan(static_cast<std::size_t>(done));
        }
        return true;
    }

  private:
    int file_ = -1;
};

}  // namespace

struct Recording::Impl {
    std::string path;
    Config config;
    std::vector<RecordedFile> files;
    std::vector<StoredFile> stored;
    std::vector<u64> stored_bytes;
    std::vector<Input> inputs;
    std::vector<StateMark> marks;
    std::vector<std::string> part_names, notes;
    std::optional<RecordedEnd> end;
    VTime journal_time = 0;

    [[nodiscard]] Unexpected<Error> damaged(const std::string& what) const {
        return fail(Error::Code::Damaged, fmt::format("{}: {}; take another copy of it, or record again", path, what));
    }
    Result<void> read();
    Result<void> read_chunk(format::ChunkType type, const std::vector<u8>& raw, bool first);
    Result<void> read_meta(const std::vector<u8>& raw);
    Result<void> read_piece(const std::vector<u8>& raw);
    Result<void> read_journal(const std::vector<u8>& raw);
    bool read_entry(ByteReader& reader);
    Result<void> read_end(const std::vector<u8>& raw);
    Result<void> use_files();
};

Result<void> Recording::Impl::read() {
    auto reader = ChunkReader::open(path);
    if (!reader) return Unexpected{reader.error()};
    std::vector<u8> raw;
    for (bool first = true;; first = false) {
        format::ChunkType type{};
        const auto next = (*reader)->next(type, raw);
        if (!next) {
            if (first || !end) return Unexpected{next.error()};
            break;
        }
        if (*next != ChunkReader::Next::Chunk) {
            if (first) return damaged("holds no configuration");
            if (!end) notes.push_back(path + ": its end is missing (the recorder was killed); it replays up to there");
            break;
        }
        if (end) return damaged("goes on behind its end");
        if (auto ok = read_chunk(type, raw, first); !ok) return ok;
    }
    return use_files();
}

Result<void> Recording::Impl::read_chunk(format::ChunkType type, const std::vector<u8>& raw, bool first) {
    if (first != (type == format::ChunkType::Meta)) return damaged("its configuration is not where it belongs");
    switch (type) {
        case format::ChunkType::Meta:
            return read_meta(raw);
        case format::ChunkType::File:
            return read_piece(raw);
        case format::ChunkType::Journal:
            return read_journal(raw);
        case format::ChunkType::End:
            return read_end(raw);
    }
    return damaged(fmt::format("holds a chunk of unknown type {}", static_cast<u32>(type)));
}

Result<void> Recording::Impl::read_meta(const std::vector<u8>& raw) {
    const Json meta = Json::parse(raw.begin(), raw.end(), nullptr, false);
    if (!meta.is_object()) return damaged("its configuration is not JSON");
    auto parsed = parse_config(value_of<std::string>(meta, "config", ""), path, "/", {});
    if (!parsed) return damaged(parsed.error().text);
    config = std::move(*parsed);
    keep_stored_defaults(config);
    const std::string version = value_of<std::string>(meta, "version", "");
    if (version != VG_VERSION)
        notes.push_back(fmt::format("{}: was recorded by version {}, this is {}: it may run differently", path, version,
                                    VG_VERSION));
    const auto list = meta.find("files");
    if (list == meta.end()) return {};
    if (!list->is_array() || list->size() > 4096) return damaged("its list of files cannot be read");
    u64 total = 0;
    for (const Json& row : *list) {
        if (!row.is_object()) return damaged("its list of files cannot be read");
        RecordedFile file{value_of<std::string>(row, "key", ""), value_of<std::string>(row, "path", ""),
                          value_of<u64>(row, "size", 0), value_of<s64>(row, "modified", 0),
                          value_of<bool>(row, "embedded", false)};
        if (file.embedded) {
            if (file.size > format::kMaxEmbeddedBytes - total)
                return damaged("its stored files are larger than they may be");
            total += file.size;
        }
        files.push_back(std::move(file));
    }
    stored.resize(files.size());
    stored_bytes.resize(files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
        if (!files[i].embedded) continue;
        stored[i] = StoredFile(memfd_create("recorded-file", MFD_CLOEXEC));
        if (!stored[i].there()) return fail(Error::Code::Host, path + ": no memory for its stored files");
    }
    return {};
}

Result<void> Recording::Impl::read_piece(const std::vector<u8>& raw) {
    u32 index = 0;
    if (raw.size() < sizeof index) return damaged("a piece of a stored file has no number");
    std::memcpy(&index, raw.data(), sizeof index);
    const std::span<const u8> data = std::span(raw).subspan(sizeof index);
    if (index >= files.size() || !files[index].embedded || data.size() > files[index].size - stored_bytes[index]) {
        return damaged("a piece of a stored file belongs to none");
    }
    if (!stored[index].append(data)) return fail(Error::Code::Host, path + ": no memory for its stored files");
    stored_bytes[index] += data.size();
    return {};
}

Result<void> Recording::Impl::read_journal(const std::vector<u8>& raw) {
    ByteReader reader(raw);
    while (!reader.done()) {
        if (inputs.size() + marks.size() > kMaxEntries) return damaged("holds more entries than this program can keep");
        if (!read_entry(reader) || reader.failed()) return damaged("a journal entry cannot be read");
    }
    return {};
}

bool Recording::Impl::read_entry(ByteReader& reader) {
    const auto kind = static_cast<format::EntryKind>(reader.number());
    const u64 delta = reader.number();
    if (delta >= kNever - journal_time) return false;
    journal_time += delta;
    switch (kind) {
        case format::EntryKind::Console:
        case format::EntryKind::Frame:
        case format::EntryKind::Command:
        case format::EntryKind::Socket: {
            const u64 target = reader.number(), size = reader.number();
            if (target > 0xffff || size > format::kMaxInputBytes) return false;
            const auto bytes = reader.bytes(size);
            inputs.push_back({journal_time,
                              kind == format::EntryKind::Console ? Input::Kind::Console
                              : kind == format::EntryKind::Frame   ? Input::Kind::Frame
                              : kind == format::EntryKind::Command ? Input::Kind::Command
                                                                   : Input::Kind::Socket,
                              static_cast<u32>(target),
                              {bytes.begin(), bytes.end()}});
            return true;
        }
        case format::EntryKind::Parts: {
            const u64 count = reader.number();
            if (count > format::kMaxParts) return false;
            part_names.clear();
            for (u64 i = 0; i < count; ++i) part_names.push_back(reader.text(256));
            return true;
        }
        case format::EntryKind::Mark:
        case format::EntryKind::FullMark: {
            StateMark mark;
            mark.position = {journal_time, reader.number(), false};
            const u64 count = reader.number();
            if (count > format::kMaxParts) return false;
            for (u64 i = 0; i < count; ++i) mark.parts.push_back(reader.fixed());
            if (kind == format::EntryKind::FullMark) mark.memory = reader.fixed();
            if (!marks.empty() && mark.position.instructions < marks.back().position.instructions) return false;
            marks.push_back(std::move(mark));
            return true;
        }
    }
    return false;
}

Result<void> Recording::Impl::read_end(const std::vector<u8>& raw) {
    const Json json = Json::parse(raw.begin(), raw.end(), nullptr, false);
    if (!json.is_object()) return damaged("its end cannot be read");
    RecordedEnd read;
    read.position = {value_of<u64>(json, "time", 0), value_of<u64>(json, "instructions", 0),
                     value_of<bool>(json, "in_round", false)};
    read.hash = value_of<u64>(json, "hash", 0);
    read.code = value_of<int>(json, "code", 0);
    read.text = value_of<std::string>(json, "text", "");
    if (read.position.time < journal_time ||
        (!marks.empty() && read.position.instructions < marks.back().position.instructions)) {
        return damaged("its end lies before its last entry");
    }
    end = std::move(read);
    return {};
}

/// The configuration reads the stored files; the others must be what they were.
Result<void> Recording::Impl::use_files() {
    const auto keep_name = [](const std::string& kernel, std::string& name) {
        if (name.empty()) name = std::filesystem::path(kernel).filename().string();
    };
    if (config.boot) keep_name(config.boot->kernel, config.boot->kernel_name);
    for (ChildSection& child : config.children) keep_name(child.kernel, child.kernel_name);
    Result<void> failed;
    for_each_file(config, [&](const std::string& key, std::string& file_path, FileUse) {
        if (file_path.empty() || !failed) return;
        const auto about =
            std::find_if(files.begin(), files.end(), [&](const RecordedFile& file) { return file.key == key; });
        if (about == files.end()) {
            failed = damaged(fmt::format("says nothing about {} (\"{}\")", key, file_path));
            return;
        }
        const auto index = static_cast<std::size_t>(about - files.begin());
        if (about->embedded) {
            if (stored_bytes[index] != about->size)
                failed = damaged(fmt::format("its copy of \"{}\" is not whole", file_path));
            file_path = stored[index].path();
            return;
        }
        struct stat now {};
        const bool there = ::stat(about->path.c_str(), &now) == 0;
        if (!there || static_cast<u64>(now.st_size) != about->size ||
            now.st_mtim.tv_sec * 1'000'000'000LL + now.st_mtim.tv_nsec != about->modified) {
            failed = fail(
                Error::Code::Damaged,
                fmt::format("{}: needs \"{}\" as it was when it was recorded, which {}; put it back, or record again",
                            path, about->path, there ? "has changed since" : "is not there"));
        }
    });
    if (!failed) return failed;
    // Stored files have no name that would tell their format.
    const auto name_formats = [&](std::vector<DiskSection>& disks, const std::string& prefix) {
        for (std::size_t i = 0; i < disks.size(); ++i) {
            const std::string key = fmt::format("{}disk.{}.image", prefix, i);
            const auto about =
                std::find_if(files.begin(), files.end(), [&](const RecordedFile& file) { return file.key == key; });
            if (disks[i].format != "auto" || about == files.end()) continue;
            const auto known = devices::format_of_name(about->path);
            if (known) disks[i].format = devices::format_word(*known);
        }
    };
    name_formats(config.disks, "");
    for (std::size_t i = 0; i < config.children.size(); ++i)
        name_formats(config.children[i].disks, fmt::format("child.{}.", i));
    isolate(config);
    return {};
}

Recording::Recording(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Recording::~Recording() = default;

Result<std::shared_ptr<const Recording>> Recording::open(const std::string& path) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    if (auto ok = impl->read(); !ok) return Unexpected{ok.error()};
    return std::shared_ptr<const Recording>(new Recording(std::move(impl)));
}

const Config& Recording::config() const { return impl_->config; }
const std::vector<Input>& Recording::inputs() const { return impl_->inputs; }
const std::vector<StateMark>& Recording::marks() const { return impl_->marks; }
const std::vector<std::string>& Recording::part_names() const { return impl_->part_names; }
const std::optional<RecordedEnd>& Recording::end() const { return impl_->end; }
const std::vector<std::string>& Recording::notes() const { return impl_->notes; }

Position Recording::last() const {
    if (impl_->end) return impl_->end->position;
    Position last;
    if (!impl_->marks.empty()) last = impl_->marks.back().position;
    if (!impl_->inputs.empty()) last.time = std::max(last.time, impl_->inputs.back().time);
    return last;
}

VTime Replay::next() const { return next_ < recording_->inputs().size() ? recording_->inputs()[next_].time : kNever; }
const Input& Replay::take() { return recording_->inputs()[next_++]; }
void Replay::refused(const Input& input) {
    if (difference_.empty())
        difference_ = fmt::format("the input of {} ns was not taken as it was when it was recorded", input.time);
}

bool run_to(Machine& machine, const Position& position) {
    while (true) {
        const bool there = position.in_round ? machine.instructions() >= position.instructions
                                             : machine.now() >= position.time && !machine.scheduler().in_round();
        if (there) return true;
        const Pause pause =
            position.in_round ? machine.run_until(kNever, position.instructions) : machine.run_until(position.time);
        if (pause == Pause::Hang || (pause == Pause::Asked && machine.outcome().kind != Outcome::Kind::None)) {
            return Position::of(machine) == position;
        }
    }
}

std::string compare(Machine& machine, const StateMark& mark, const std::vector<std::string>& part_names) {
    const Position here = Position::of(machine);
    if (here.instructions != mark.position.instructions) {
        return fmt::format("{} instructions were executed by {} ns, {} when it was recorded", here.instructions,
                           here.time, mark.position.instructions);
    }
    std::string differ;
    const auto add = [&](const std::string& name) { differ += (differ.empty() ? "" : ", ") + name; };
    const auto parts = machine.part_hashes();
    for (std::size_t i = 0; i < std::max(parts.size(), mark.parts.size()); ++i) {
        if (i < parts.size() && i < mark.parts.size() && short_hash(parts[i].second) == mark.parts[i]) continue;
        add(i < part_names.size() ? part_names[i] : i < parts.size() ? parts[i].first : "?");
    }
    if (mark.memory) {
        StateHasher hasher;
        machine.memory().hash(hasher);
        if (short_hash(hasher.digest()) != *mark.memory) add("memory");
    }
    return differ.empty() ? ""
                          : fmt::format("at instruction {} ({} ns) other: {}", here.instructions, here.time, differ);
}

}  // namespace vg::machine
