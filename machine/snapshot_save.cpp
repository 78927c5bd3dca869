// Writing a snapshot.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/host_memory.h"
#include "devices/storage/block_device.h"
#include "machine/disk_list.h"
#include "machine/recorded_files.h"
#include "machine/snapshot.h"
#include "machine/state_record.h"
#include "mmu/shared_pages.h"

namespace vg::machine {

namespace {

using Json = nlohmann::ordered_json;
using snapshot_format::ChunkType;
using snapshot_format::kMaxChunkBytes;

/// It will be read in another folder.
void make_paths_absolute(Config& config) {
    for_each_file(config, [](const std::string&, std::string& path, FileUse) {
        std::error_code error;
        if (!path.empty()) path = std::filesystem::absolute(path, error).lexically_normal().string();
    });
}

Json files_json(const DiskSection& section) {
    Json files = Json::array();
    for (const std::string& path : {section.image, section.overlay}) {
        struct stat about {};
        if (path.empty() || ::stat(path.c_str(), &about) != 0) continue;
        files.push_back({{"path", path},
                         {"size", static_cast<u64>(about.st_size)},
                         {"modified", about.st_mtim.tv_sec * 1'000'000'000LL + about.st_mtim.tv_nsec}});
    }
    return files;
}

std::string meta_text(Machine& machine, Config& config) {
    Json memory = Json::array(), disks = Json::array();
    for (const mmu::Region& region : machine.memory().regions()) {
        if (region.kind == mmu::RegionKind::Ram)
            memory.push_back({{"name", region.name}, {"base", region.base.value}, {"size", region.size}});
    }
    const std::vector<devices::BlockDevice*> devices = machine.disks();
    const std::vector<ListedDisk> sections = list_disks(config);
    for (std::size_t i = 0; i < devices.size() && i < sections.size(); ++i) {
        disks.push_back({{"owner", sections[i].owner},
                         {"description", devices[i]->describe()},
                         {"size", devices[i]->size_bytes()},
                         {"files", files_json(*sections[i].section)}});
    }
    const Outcome& outcome = machine.outcome();
    const Json meta = {
        {"time", machine.now()},
        {"instructions", machine.instructions()},
        {"state_hash", machine.state_hash()},
        {"outcome", {{"kind", static_cast<u32>(outcome.kind)}, {"text", outcome.text}, {"raw", outcome.raw}}},
        {"memory", std::move(memory)},
        {"disks", std::move(disks)}};
    return meta.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::span<const u8> bytes_of(const std::string& text) {
    return {reinterpret_cast<const u8*>(text.data()), text.size()};
}

Result<void> add_parts(SnapshotWriter& writer, ChunkType type, std::span<const u8> data) {
    for (u64 at = 0; at < data.size(); at += kMaxChunkBytes) {
        const auto part = data.subspan(static_cast<std::size_t>(at),
                                       static_cast<std::size_t>(std::min<u64>(kMaxChunkBytes, data.size() - at)));
        if (auto ok = writer.add(type, at, part); !ok) return ok;
    }
    return {};
}

bool is_zero(std::span<const u8> data) {
    return data.empty() || (data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

/// Pieces of RAM that were touched and are not zero, whole chunks each.
Result<void> add_memory(SnapshotWriter& writer, mmu::PhysicalMemory& memory, const mmu::Region& region) {
    u64 next = 0;  // everything before is written, or zero
    PageRun run;
    while ((run = mmu::next_touched(memory, region, run.end)).first < region.size) {
        for (u64 at = std::max(next, run.first / kMaxChunkBytes * kMaxChunkBytes); at < run.end; at += kMaxChunkBytes) {
            const std::span<const u8> part(region.host + at,
                                           static_cast<std::size_t>(std::min<u64>(kMaxChunkBytes, region.size - at)));
            next = at + kMaxChunkBytes;
            if (is_zero(part)) continue;
            if (auto ok = writer.add(ChunkType::Memory, region.base.value + at, part); !ok) return ok;
        }
    }
    return {};
}

Result<void> write_chunks(Machine& machine, Config config, devices::BlockFile& file) {
    SnapshotWriter writer(file);
    make_paths_absolute(config);
    if (auto ok = add_parts(writer, ChunkType::Meta, bytes_of(meta_text(machine, config))); !ok) return ok;
    if (auto ok = add_parts(writer, ChunkType::Config, bytes_of(show_config(config))); !ok) return ok;
    StateRecorder recorder;
    machine.fields(recorder);
    if (auto ok = add_parts(writer, ChunkType::State, recorder.data()); !ok) return ok;
    for (const mmu::Region& region : machine.memory().regions()) {
        if (region.kind != mmu::RegionKind::Ram) continue;
        if (auto ok = add_memory(writer, machine.memory(), region); !ok) return ok;
    }
    u32 number = 0;
    for (devices::BlockDevice* disk : machine.disks()) {
        const auto add = [&](u64 offset, std::span<const u8> data) {
            return writer.add(ChunkType::Disk, offset, data, number);
        };
        if (auto ok = disk->for_each_unsaved(add); !ok) return ok;
        ++number;
    }
    return writer.seal();
}

}  // namespace

Result<void> check_savable(const Config& config) {
    if (!config.hypervisor || !config.boot) return {};
    return fail(Error::Code::Usage,
                fmt::format("{}: a machine whose parent partition is a guest cannot be saved yet; see docs/status.md",
                            config.file));
}

Result<void> save_snapshot(Machine& machine, const std::string& path) {
    if (machine.took_in()) {
        return fail(Error::Code::Usage,
                    "a machine that took a child in cannot be saved as a whole yet; save its children one by one");
    }
    return save_snapshot_as(machine, machine.config(), path);
}

Result<void> save_snapshot_as(Machine& machine, const Config& config, const std::string& path) {
    if (auto ok = check_savable(config); !ok) return ok;
    if (auto ok = machine.flush_disks(); !ok) return ok;
    return devices::create_file(path, [&](devices::BlockFile& file) { return write_chunks(machine, config, file); });
}

}  // namespace vg::machine
