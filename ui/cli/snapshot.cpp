// `verdigris snapshot`: what a saved machine's file says; and `verdigris inspect SNAPSHOT`.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <thread>

#include "machine/snapshot.h"
#include "machine/state_record.h"
#include "machine/vmcore.h"
#include "ui/cli/commands.h"
#include "ui/cli/settings.h"
#include "ui/cli/socket_link.h"
#include "ui/model/inspect.h"

namespace vg::cli {

namespace {

using machine::Snapshot;
using machine::snapshot_format::ChunkType;

std::string show_text(const Snapshot& snapshot) {
    const machine::SnapshotInfo& info = snapshot.info();
    std::map<ChunkType, std::pair<u64, u64>> sums;  // stored, raw
    for (const auto& entry : snapshot.file().index()) {
        sums[entry.type].first += entry.stored_size;
        sums[entry.type].second += entry.raw_size;
    }
    std::string out = fmt::format("time {}.{:09} s, {} instructions, state hash {:016x}\n", info.time / kVTimeHz,
                                  info.time % kVTimeHz, info.instructions, info.state_hash);
    if (info.outcome.kind != machine::Outcome::Kind::None) out += fmt::format("ended: {}\n", info.outcome.text);
    for (const auto& region : info.memory)
        out += fmt::format("memory {}: {} MiB at 0x{:x}\n", region.name, region.size >> 20, region.base.value);
    for (const auto& disk : info.disks) {
        out += fmt::format("disk {}{}, {} MiB\n", disk.owner.empty() ? "" : disk.owner + ": ", disk.description,
                           disk.size >> 20);
        for (const auto& file : disk.files)
            out += fmt::format("  needs {} as it was: {} bytes\n", file.path, file.size);
    }
    constexpr std::pair<ChunkType, const char*> kKinds[] = {
        {ChunkType::State, "state"}, {ChunkType::Memory, "memory"}, {ChunkType::Disk, "disks"}};
    for (const auto& [type, name] : kKinds)
        out += fmt::format("{}: {} bytes, {} in the file\n", name, sums[type].second, sums[type].first);
    return out + "\n" + snapshot.config_text();
}

/// The machine behind the socket has its own working directory.
std::string absolute(const std::string& file) {
    std::error_code error;
    return std::filesystem::absolute(file, error).lexically_normal().string();
}

/// A request that waits for the end of a round.
int enter(SocketLink& link, const model::Json& request) {
    constexpr int kTries = 1000, kWait_ms = 10;
    for (int i = 0; i < kTries; ++i) {
        const auto reply = link.call(request);
        if (!reply) return report(reply.error());
        if (reply->value("taken", 0) != 0) return kPass;
        std::this_thread::sleep_for(std::chrono::milliseconds(kWait_ms));
    }
    return report({Error::Code::Usage, "the machine stands in the middle of a round: let it go on"});
}

}  // namespace

int snapshot_show(const std::string& file) {
    const auto snapshot = Snapshot::open(file);
    if (!snapshot) return report(snapshot.error());
    std::fputs(printable(show_text(**snapshot)).c_str(), stdout);
    return kPass;
}

int snapshot_check(const std::string& file) {
    const auto snapshot = Snapshot::open(file);
    if (!snapshot) return report(snapshot.error());
    if (auto ok = (*snapshot)->check(); !ok) return report(ok.error());
    std::printf("%s: %zu parts, all whole\n", printable(file).c_str(), (*snapshot)->file().index().size());
    return kPass;
}

int snapshot_export(const std::string& file, const std::string& partition, const std::string& out) {
    const auto snapshot = Snapshot::open(file);
    if (!snapshot) return report(snapshot.error());
    const auto config = (*snapshot)->config({});
    if (!config) return report(config.error());
    auto machine = (*snapshot)->restore(*config, {});
    if (!machine) return report(machine.error());
    if (auto ok = machine::write_vmcore(**machine, partition, out); !ok) return report(ok.error());
    return kPass;
}

int snapshot_save(const std::string& socket, const std::string& file, const std::string& child, bool off) {
    auto link = SocketLink::connect(socket);
    if (!link) return report(link.error());
    model::Json request = {{"op", "save"}, {"file", absolute(file)}};
    if (off) request["off"] = true;
    if (!child.empty()) {
        const auto partitions = (*link)->call({{"op", "partitions"}});
        if (!partitions) return report(partitions.error());
        for (const model::Json& each : *partitions)
            if (each["name"] == child) request["partition"] = each["id"];
        if (!request.contains("partition"))
            return report({Error::Code::Usage, fmt::format("there is no partition \"{}\"", child)});
    }
    return enter(**link, request);
}

int snapshot_take_in(const std::string& socket, const std::string& file, const std::vector<std::string>& settings) {
    const auto overrides = parse_settings(settings);
    if (!overrides) return report(overrides.error());
    auto link = SocketLink::connect(socket);
    if (!link) return report(link.error());
    model::Json request = {{"op", "take_in"}, {"file", absolute(file)}};
    for (const auto& [key, value] : *overrides) request["settings"][key] = value;
    return enter(**link, request);
}

int inspect_snapshot(const std::string& file, const std::string& path, bool json) {
    const auto snapshot = Snapshot::open(file);
    if (!snapshot) return report(snapshot.error());
    const auto record = (*snapshot)->state();
    if (!record) return report(record.error());
    StatePrinter printer;
    if (auto ok = machine::visit_record(*record, printer); !ok) return report(ok.error().in(file));
    model::InspectSources sources;
    sources.tree = [&] { return printer.result(); };
    sources.jit = [](const std::string&, bool) { return std::string(); };
    sources.walk = [](const std::string&) { return std::string(); };
    const std::string answer = model::inspect(path, json, sources);
    if (answer.empty() || answer == "{}\n") {
        return report(
            {Error::Code::Usage, fmt::format("no state below \"{}\" in it; see: verdigris inspect {}", path, file)});
    }
    std::fputs(json ? answer.c_str() : printable(answer).c_str(), stdout);
    return kPass;
}

}  // namespace vg::cli
