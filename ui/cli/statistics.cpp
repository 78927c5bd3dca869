#include "ui/cli/statistics.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "hv/hypercall.h"
#include "hv/parent/network_adapter.h"
#include "hv/vmbus/channel.h"
#include "hv/vp.h"
#include "machine/child_machine.h"
#include "ui/model/engine_statistics.h"

namespace vg::cli {

namespace {

using model::Json;

constexpr std::string_view kExitNames[] = {
    "none",      "io",      "msr",     "cpuid",           "hypercall",  "memory",      "halt", "cr", "dr",
    "descriptor_table", "exception", "rdtsc", "rdpmc", "pause", "mwait", "monitor", "invlpg", "invpcid", "wbinvd", "xsetbv",
    "interrupt_window", "nmi_window", "triple_fault", "task_switch", "vmx", "svm",
    "external_interrupt", "nmi", "init", "sipi", "invd", "random", "apic_access", "xsaves", "stacked_flags"};
static_assert(std::size(kExitNames) == cpu::virt::kExitReasons);

constexpr std::pair<u8, std::string_view> kScsiNames[] = {
    {0x00, "TEST UNIT READY"}, {0x03, "REQUEST SENSE"},  {0x12, "INQUIRY"},          {0x1a, "MODE SENSE(6)"},
    {0x1b, "START STOP UNIT"}, {0x25, "READ CAPACITY"},  {0x28, "READ(10)"},         {0x2a, "WRITE(10)"},
    {0x35, "SYNCHRONIZE CACHE"}, {0x42, "UNMAP"},        {0x5a, "MODE SENSE(10)"},   {0x88, "READ(16)"},
    {0x8a, "WRITE(16)"},       {0x9e, "READ CAPACITY(16)"}, {0xa0, "REPORT LUNS"}};

std::string scsi_name(u8 opcode) {
    for (const auto& [code, name] : kScsiNames)
        if (code == opcode) return std::string(name);
    return fmt::format("command 0x{:02x}", opcode);
}

Json vp_json(hv::Vp& vp, mmu::Tlb& tlb) {
    Json exits = Json::object();
    // The last few are reasons that hv does not ask for.
    for (std::size_t i = 0; i < std::min(std::size(kExitNames), vp.exit_counts().size()); ++i) {
        if (vp.exit_counts()[i] != 0) exits[std::string(kExitNames[i])] = vp.exit_counts()[i];
    }
    const mmu::TlbStats& t = tlb.stats();
    return {{"index", vp.index()},
            {"exits", std::move(exits)},
            {"tlb", {{"read_fills", t.read_fills}, {"write_fills", t.write_fills}, {"fetch_walks", t.fetch_walks},
                     {"victim_hits", t.victim_hits}, {"walk_cache_hits", t.walk_cache_hits}, {"flushes_all", t.flushes_all},
                     {"flushes_context", t.flushes_context}, {"flushes_page", t.flushes_page},
                     {"bank_switches", t.bank_switches}, {"bank_evictions", t.bank_evictions}}}};
}

Json channels_json(const hv::vmbus::Server& server) {
    Json channels = Json::array();
    for (const auto& [relid, channel] : server.channels()) {
        const hv::vmbus::ChannelStats& s = channel->stats();
        channels.push_back({{"relid", relid}, {"name", channel->offer().name}, {"open", channel->is_open()},
                            {"packets_in", s.packets_in}, {"bytes_in", s.bytes_in}, {"packets_out", s.packets_out},
                            {"bytes_out", s.bytes_out}, {"signals_in", s.signals_in}, {"signals_out", s.signals_out}});
    }
    return channels;
}

Json child_json(machine::ChildMachine& child) {
    hv::Partition& partition = child.partition();
    Json hypercalls = Json::array();
    for (const auto& [code, count] : partition.hypercall_counts()) {
        hypercalls.push_back({{"code", fmt::format("0x{:04x}", code)}, {"name", std::string(hv::hypercall_name(code))},
                              {"calls", count.calls}, {"failures", count.failures}});
    }
    Json vps = Json::array();
    for (const auto& vp : partition.vps()) vps.push_back(vp_json(*vp, vp->processor().tlb()));
    const hv::vmbus::Server& server = child.parent().server();
    Json disks = Json::array();
    for (const auto& controller : child.parent().storage()) {
        for (const auto& disk : controller->disks()) {
            Json commands = Json::object();
            for (unsigned opcode = 0; opcode < 256; ++opcode) {
                const u64 count = disk.scsi->stats().commands[opcode];
                if (count != 0) commands[scsi_name(static_cast<u8>(opcode))] = count;
            }
            disks.push_back({{"controller", controller->name()}, {"target", disk.target}, {"lun", disk.lun},
                             {"image", disk.description}, {"size_bytes", disk.backend->size_bytes()},
                             {"commands", std::move(commands)}});
        }
    }
    Json networks = Json::array();
    for (const auto* const adapter : child.adapters()) {
        const hv::vsp::NetworkCounters& n = adapter->core().rndis().counters;
        networks.push_back({{"name", adapter->name()}, {"nvsp_version", adapter->core().version()},
                            {"frames_sent", n.frames_sent}, {"bytes_sent", n.bytes_sent},
                            {"frames_received", n.frames_received}, {"bytes_received", n.bytes_received},
                            {"send_errors", n.send_errors}, {"filtered", n.filtered}, {"no_buffer", n.no_buffer},
                            {"oversize", n.oversize}, {"invalid_packets", adapter->core().invalid_packets()}});
    }
    return {{"name", child.name()}, {"id", partition.id()}, {"kernel", child.kernel_kind()}, {"vps", std::move(vps)},
            {"hypercalls", std::move(hypercalls)},
            {"vmbus", {{"version", fmt::format("{}.{}", server.last_version() >> 16, server.last_version() & 0xffff)},
                       {"channels", channels_json(server)}}},
            {"disks", std::move(disks)}, {"networks", std::move(networks)}};
}

double per(u64 amount, u64 count) { return count == 0 ? 0 : static_cast<double>(amount) / static_cast<double>(count); }

}  // namespace

Json collect_statistics(machine::Machine& machine, const Verdict& verdict, double wall_seconds, const std::vector<BootMark>& marks) {
    Json boot = Json::array();
    for (const BootMark& mark : marks) {
        boot.push_back({{"name", mark.name}, {"guest_seconds", mark.guest_seconds}, {"wall_seconds", mark.wall_seconds}});
    }
    Json partitions = Json::array();
    for (const auto& child : machine.children()) partitions.push_back(child_json(*child));
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    Json outcome = {{"exit_code", verdict.code}, {"verdict", verdict.text}};
    if (machine.outcome().kind == machine::Outcome::Kind::DebugExit) outcome["debug_exit_value"] = machine.outcome().raw;
    const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
    const double cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    return {{"outcome", std::move(outcome)},
            {"instructions", machine.instructions()},
            {"guest_seconds", static_cast<double>(machine.now()) / 1e9},
            {"wall_seconds", wall_seconds},
            {"cpu_seconds", cpu_seconds},
            {"cpu_ns_per_instruction", per(static_cast<u64>(cpu_seconds * 1e9), machine.instructions())},
            {"boot", std::move(boot)},
            {"engine", model::engine_statistics(machine)},
            {"memory", {{"guest_touched_bytes", machine.memory().resident_bytes()},
                        {"peak_resident_bytes", static_cast<u64>(usage.ru_maxrss) * 1024}}},
            {"partitions", std::move(partitions)},
            {"state_hash", fmt::format("{:016x}", machine.state_hash())}};
}

std::string summary_text(const Json& statistics) {
    std::string out = "\n";
    const auto line = [&out](std::string text) { out += text + "\n"; };
    const double wall = statistics["wall_seconds"], guest = statistics["guest_seconds"];
    const u64 instructions = statistics["instructions"];
    line(fmt::format("{:.1f} million instructions, {:.2f} s guest time, {:.2f} s wall time ({:.0f} million/s)",
                     static_cast<double>(instructions) / 1e6, guest, wall,
                     wall > 0 ? static_cast<double>(instructions) / 1e6 / wall : 0));
    for (const Json& partition : statistics["partitions"]) {
        line(fmt::format("partition {} \"{}\": {}, {} VP", partition["id"].get<u64>(), partition["name"].get<std::string>(),
                         partition["kernel"].get<std::string>(), partition["vps"].size()));
        for (const Json& vp : partition["vps"]) {
            std::string exits;
            for (const auto& [name, count] : vp["exits"].items()) exits += fmt::format(" {} {}", name, count.get<u64>());
            line(fmt::format("  VP {} exits:{}", vp["index"].get<u32>(), exits.empty() ? " none" : exits));
        }
        for (const Json& call : partition["hypercalls"]) {
            line(fmt::format("  hypercall {} {}: {} calls, {} refused", call["code"].get<std::string>(),
                             call["name"].get<std::string>(), call["calls"].get<u64>(), call["failures"].get<u64>()));
        }
        line(fmt::format("  VMBus {}", partition["vmbus"]["version"].get<std::string>()));
        for (const Json& channel : partition["vmbus"]["channels"]) {
            if (channel["packets_in"] == 0 && channel["packets_out"] == 0) continue;  // of no use to this guest
            line(fmt::format("  channel {} {}: {} packets ({} bytes) in, {} packets ({} bytes) out",
                             channel["relid"].get<u32>(), channel["name"].get<std::string>(), channel["packets_in"].get<u64>(),
                             channel["bytes_in"].get<u64>(), channel["packets_out"].get<u64>(), channel["bytes_out"].get<u64>()));
        }
        for (const Json& network : partition["networks"]) {
            line(fmt::format("  network {}: {} frames sent ({} bytes), {} received ({} bytes), {} filtered, {} lost",
                             network["name"].get<std::string>(), network["frames_sent"].get<u64>(),
                             network["bytes_sent"].get<u64>(), network["frames_received"].get<u64>(),
                             network["bytes_received"].get<u64>(), network["filtered"].get<u64>(),
                             network["no_buffer"].get<u64>() + network["oversize"].get<u64>()));
        }
        for (const Json& disk : partition["disks"]) {
            std::string commands;
            for (const auto& [name, count] : disk["commands"].items()) {
                commands += fmt::format("{}{} {}", commands.empty() ? "" : ", ", name, count.get<u64>());
            }
            line(fmt::format("  disk {} target {} lun {}: {}", disk["controller"].get<std::string>(), disk["target"].get<u32>(),
                             disk["lun"].get<u32>(), disk["image"].get<std::string>()));
            if (!commands.empty()) line("    " + commands);
        }
    }
    line(fmt::format("state hash {}", statistics["state_hash"].get<std::string>()));
    return out;
}

}  // namespace vg::cli
