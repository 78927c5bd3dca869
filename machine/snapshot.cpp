// Reading a snapshot, and making a machine of it.
#include "machine/snapshot.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/host_memory.h"
#include "devices/spec/ata.h"
#include "devices/storage/block_device.h"
#include "machine/disk_list.h"
#include "machine/state_record.h"

namespace vg::machine {

namespace {

using Json = nlohmann::json;
using snapshot_format::ChunkType;

constexpr u64 kMaxTextBytes = 4 << 20;
constexpr std::size_t kMaxListed = 4096;

/// Members of an object whose shape nobody has checked.
u64 number_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer() ? found->get<u64>() : 0;
}
std::string text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}
/// The objects of a list.
std::vector<const Json*> objects_of(const Json& object, const char* key) {
    std::vector<const Json*> out;
    const auto found = object.find(key);
    if (found == object.end() || !found->is_array()) return out;
    for (const Json& each : *found) {
        if (each.is_object() && out.size() < kMaxListed) out.push_back(&each);
    }
    return out;
}

SnapshotInfo info_of(const Json& meta) {
    SnapshotInfo info;
    info.time = number_of(meta, "time");
    info.instructions = number_of(meta, "instructions");
    info.state_hash = number_of(meta, "state_hash");
    if (const auto outcome = meta.find("outcome"); outcome != meta.end() && outcome->is_object()) {
        const u64 kind = number_of(*outcome, "kind");
        if (kind <= static_cast<u64>(Outcome::Kind::DebugExit)) info.outcome.kind = static_cast<Outcome::Kind>(kind);
        info.outcome.text = text_of(*outcome, "text");
        info.outcome.raw = static_cast<u32>(number_of(*outcome, "raw"));
    }
    for (const Json* region : objects_of(meta, "memory")) {
        info.memory.push_back({text_of(*region, "name"), Spa(number_of(*region, "base")), number_of(*region, "size")});
    }
    for (const Json* disk : objects_of(meta, "disks")) {
        SnapshotInfo::Disk out{text_of(*disk, "owner"), text_of(*disk, "description"), number_of(*disk, "size"), {}};
        for (const Json* file : objects_of(*disk, "files")) {
            out.files.push_back(
                {text_of(*file, "path"), number_of(*file, "size"), static_cast<s64>(number_of(*file, "modified"))});
        }
        info.disks.push_back(std::move(out));
    }
    return info;
}

bool from_command_line(const Place& place, const char* key) {
    const auto found = place.keys.find(key);
    return found != place.keys.end() && found->second.file.rfind("-s ", 0) == 0;
}

bool is_zero(const u8* page) { return page[0] == 0 && std::memcmp(page, page + 1, kPageSize - 1) == 0; }

/// Makes a region zero, where it is not.
void clear(mmu::PhysicalMemory& memory, const mmu::Region& region) {
    static constexpr u8 kZeroes[kPageSize] = {};
    PageRun run;
    while ((run = next_resident(region.host, run.end, region.size)).first < region.size) {
        for (u64 page = run.first; page < run.end; page += kPageSize) {
            if (!is_zero(region.host + page)) memory.load(region, page, kZeroes, kPageSize);
        }
    }
}

}  // namespace

Unexpected<Error> Snapshot::damaged(const std::string& what) const {
    return fail(Error::Code::Damaged, fmt::format("{}: {}", file_->name(), what));
}

Result<std::unique_ptr<Snapshot>> Snapshot::open(const std::string& path) {
    auto file = devices::open_file(path, devices::FileAccess::ReadOnly);
    if (!file) return Unexpected{file.error()};
    return open(std::move(*file));
}

Result<std::unique_ptr<Snapshot>> Snapshot::open(std::unique_ptr<devices::BlockFile> file) {
    auto reader = SnapshotReader::open(std::move(file));
    if (!reader) return Unexpected{reader.error()};
    std::unique_ptr<Snapshot> snapshot(new Snapshot(std::move(*reader)));
    if (auto ok = snapshot->load_info(); !ok) return Unexpected{ok.error()};
    return snapshot;
}

Result<void> Snapshot::load_info() {
    auto meta = file_->read_all(ChunkType::Meta, kMaxTextBytes);
    if (!meta) return Unexpected{meta.error()};
    const Json json = Json::parse(meta->begin(), meta->end(), nullptr, false);
    if (!json.is_object()) return damaged("its description is not JSON");
    info_ = info_of(json);
    auto text = file_->read_all(ChunkType::Config, kMaxTextBytes);
    if (!text) return Unexpected{text.error()};
    config_text_.assign(text->begin(), text->end());
    return {};
}

Result<Config> Snapshot::config(const std::vector<Override>& overrides) const {
    auto config = parse_config(config_text_, file_->name(), ".", overrides);
    if (!config) {
        // Without overrides the mistake is the file's.
        if (overrides.empty()) return damaged("its configuration cannot be read: " + config.error().text);
        return config;
    }
    config->restoring = true;
    keep_stored_defaults(*config);
    // What was waited for may lie behind.
    const auto of_test = [](const Override& each) { return each.first.rfind("test.", 0) == 0; };
    if (std::none_of(overrides.begin(), overrides.end(), of_test)) config->test.reset();
    for (const ListedDisk& disk : list_disks(*config)) {
        DiskSection& section = *disk.section;
        if (section.write != "none" && !from_command_line(section.at, "write") &&
            !from_command_line(section.at, "overlay"))
            section.write = "memory";
    }
    std::vector<NicSection*> nics;
    for (NicSection& nic : config->nics) nics.push_back(&nic);
    for (ChildSection& child : config->children) {
        for (NicSection& nic : child.nics) nics.push_back(&nic);
        if (!from_command_line(child.devices.at, "socket_path")) child.devices.socket_path.clear();
    }
    for (NicSection* const each : nics) {
        NicSection& nic = *each;
        // Switches and files of frames are inside the machine: their state is in the snapshot.
        if (nic.backend == "slirp" && !from_command_line(nic.at, "backend")) nic.backend = "none";
        if (nic.backend != "slirp") nic.hostfwd.clear();
        if (!from_command_line(nic.at, "host_access")) nic.host_access = false;
        if (!from_command_line(nic.at, "pcap")) nic.pcap.clear();
    }
    return config;
}

Result<std::vector<u8>> Snapshot::state() { return file_->read_all(ChunkType::State, snapshot_format::kMaxStateBytes); }

Result<void> Snapshot::check() {
    std::vector<u8> raw;
    for (const snapshot_format::Entry& entry : file_->index()) {
        if (auto ok = file_->read(entry, raw); !ok) return ok;
    }
    if (auto parsed = config({}); !parsed) return Unexpected{parsed.error()};
    const auto record = state();
    if (!record) return Unexpected{record.error()};
    StatePrinter printer;
    if (auto ok = visit_record(*record, printer); !ok) return Unexpected{ok.error().in(file_->name())};
    return {};
}

Result<void> Snapshot::check_files() const {
    for (const SnapshotInfo::Disk& disk : info_.disks) {
        for (const SnapshotInfo::File& file : disk.files) {
            struct stat about {};
            if (::stat(file.path.c_str(), &about) != 0) {
                return fail(Error::Code::Usage,
                            fmt::format("{}: a disk's image \"{}\" does not exist any more; put it back", file_->name(),
                                        file.path));
            }
            const s64 modified = about.st_mtim.tv_sec * 1'000'000'000LL + about.st_mtim.tv_nsec;
            if (static_cast<u64>(about.st_size) == file.size && modified == file.modified_ns) continue;
            return fail(
                Error::Code::Usage,
                fmt::format("{}: \"{}\" was changed since: the guest would find another disk than it knows. Put back "
                            "the file as it was, with its time (cp -p)",
                            file_->name(), file.path));
        }
    }
    return {};
}

Result<void> Snapshot::load_memory(mmu::PhysicalMemory& memory) {
    auto entry = std::ranges::find(file_->index(), ChunkType::Memory, &snapshot_format::Entry::type);
    const auto end = file_->index().end();
    std::vector<u8> raw;
    for (const mmu::Region& region : memory.regions()) {
        if (region.kind != mmu::RegionKind::Ram) continue;
        clear(memory, region);
        for (; entry != end && entry->type == ChunkType::Memory && entry->place - region.base.value < region.size;
             ++entry) {
            const u64 at = entry->place - region.base.value;
            if (entry->raw_size > region.size - at || (entry->raw_size | at) % kPageSize != 0) break;
            if (auto ok = file_->read(*entry, raw); !ok) return ok;
            for (std::size_t page = 0; page < raw.size(); page += kPageSize) {
                // Zero pages stay untouched: they cost nothing, however many the file has.
                if (!is_zero(raw.data() + page)) memory.load(region, at + page, raw.data() + page, kPageSize);
            }
        }
    }
    if (entry != end && entry->type == ChunkType::Memory) return damaged("has memory where the machine has none");
    return {};
}

Result<void> Snapshot::load_fields(Machine& machine) {
    const auto record = state();
    if (!record) return Unexpected{record.error()};
    StateLoader loader(*record);
    machine.fields(loader);
    if (auto ok = loader.finish(); !ok) return Unexpected{ok.error().in(file_->name())};
    StateRecorder again;
    machine.fields(again);
    if (const std::string where = first_difference(*record, again.data()); !where.empty()) {
        return damaged(fmt::format("a field cannot be what the file says: {}", where));
    }
    return {};
}

Result<void> Snapshot::load_disks(Machine& machine) {
    const std::vector<devices::BlockDevice*> disks = machine.disks();
    if (disks.size() != info_.disks.size()) return damaged("has other disks than its machine");
    for (std::size_t i = 0; i < disks.size(); ++i) {
        if (disks[i]->size_bytes() != info_.disks[i].size)
            return damaged(fmt::format("disk {} has another size than its machine's", i));
    }
    std::vector<u8> raw;
    for (const snapshot_format::Entry& entry : file_->index()) {
        if (entry.type != ChunkType::Disk) continue;
        if (entry.number >= disks.size()) return damaged("has content of a disk that the machine does not have");
        devices::BlockDevice& disk = *disks[entry.number];
        if (disk.read_only()) return damaged("has content of a disk that cannot be written");
        if (auto ok = file_->read(entry, raw); !ok) return ok;
        if (entry.place % devices::ata::kSectorBytes != 0 || raw.size() % devices::ata::kSectorBytes != 0 ||
            entry.place > disk.size_bytes() || raw.size() > disk.size_bytes() - entry.place) {
            return damaged("has content where its disk has none");
        }
        if (auto ok = disk.write(entry.place, raw); !ok) return ok;
    }
    return {};
}

Result<std::unique_ptr<Machine>> Snapshot::restore(const Config& config, MachineOptions options) {
    VG_ASSERT(config.restoring);
    if (auto ok = check_savable(config); !ok) return damaged(ok.error().text);
    if (auto ok = check_files(); !ok) return Unexpected{ok.error()};
    auto made = Machine::create(config, std::move(options));
    if (!made) return made;
    Machine& machine = **made;
    auto region = info_.memory.begin();
    for (const mmu::Region& each : machine.memory().regions()) {
        if (each.kind != mmu::RegionKind::Ram) continue;
        if (region == info_.memory.end() || region->name != each.name || region->base != each.base ||
            region->size != each.size) {
            return fail(
                Error::Code::Usage,
                fmt::format("{}: the machine's memory \"{}\" is another one than in the snapshot; leave out overrides "
                            "that change the machine",
                            file_->name(), each.name));
        }
        ++region;
    }
    if (auto ok = load_memory(machine.memory()); !ok) return Unexpected{ok.error()};
    if (auto ok = load_fields(machine); !ok) return Unexpected{ok.error()};
    if (auto ok = load_disks(machine); !ok) return Unexpected{ok.error()};
    machine.restore_outcome(info_.outcome);
    if (machine.state_hash() != info_.state_hash)
        return damaged("what was restored is not what was saved: the state hashes differ");
    return made;
}

}  // namespace vg::machine
