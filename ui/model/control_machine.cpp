// Requests about the machine as a whole, and what is attached to it.
#include <fmt/format.h>

#include <vector>

#include "hv/vp.h"
#include "hv/vp_control.h"
#include "ui/model/control_core.h"
#include "ui/model/control_rules.h"
#include "ui/model/hypervisor.h"
#include "ui/model/inspect.h"
#include "ui/model/vmbus_channels.h"

namespace vg::model {
namespace {

constexpr std::size_t kConsoleBytes = 64 * 1024;  ///< of one answer
constexpr u64 kMaxBlocks = 10'000;

std::string_view outcome_name(machine::Outcome::Kind kind) {
    using Kind = machine::Outcome::Kind;
    switch (kind) {
        case Kind::None:
            return "none";
        case Kind::PoweredOff:
            return "powered_off";
        case Kind::Reset:
            return "reset";
        case Kind::Crashed:
            return "crashed";
        case Kind::Shutdown:
            return "shutdown";
        case Kind::DebugExit:
            return "debug_exit";
    }
    return "?";
}

std::string_view activity_name(const FoundVp& at) {
    switch (at.vp->activity()) {
        case cpu::Activity::Active:
            return at.vp->held() ? "suspended" : "runs";
        case cpu::Activity::Halted:
            return "halted";
        case cpu::Activity::Idle:
            return "idle";
        case cpu::Activity::Shutdown:
            return "shut down";
        case cpu::Activity::WaitForSipi:
            return "waits for a start-up";
    }
    return "?";
}

Result<Json> hello(ControlCore& core, Arguments&) {
    Json out = {{"protocol", 1},
                {"version", VG_VERSION},
                {"kind", core.options.live ? "live" : "replay"},
                {"reverse", false},
                {"config", core.options.config}};
    if (core.describe_hello) core.describe_hello(out);
    return out;
}

Result<Json> status(ControlCore& core, Arguments&) { return core.status(); }

Result<Json> partitions(ControlCore& core, Arguments&) {
    static constexpr unsigned kBits[] = {16, 32, 64};
    Json list = Json::array();
    for (const FoundPartition& partition : find_partitions(core.machine)) {
        Json vps = Json::array();
        for (const FoundVp& at : partition.vps) {
            vps.push_back({{"index", at.vp->index()},
                           {"name", at.vp->name()},
                           {"activity", std::string(activity_name(at))},
                           {"rip", hex(at.vp->state().rip)},
                           {"cpl", at.vp->cpl()},
                           {"mode", kBits[static_cast<unsigned>(at.vp->code_mode())]}});
        }
        list.push_back({{"id", partition.id}, {"name", partition.name}, {"kind", partition.kind}, {"vps", std::move(vps)}});
    }
    return list;
}

Result<Json> inspect_path(ControlCore& core, Arguments& arguments) {
    const std::string path = arguments.text("path", "");
    const bool json = arguments.flag("json", false);
    if (!arguments.ok()) return arguments.failure();
    InspectSources sources = inspect_sources(core.machine, core.options.survey);
    sources.symbols = core.options.inspect_symbols;
    std::string text = inspect(path, json, sources);
    if (text.empty() || text == "{}\n") return fail(Error::Code::Usage, fmt::format("there is no state below \"{}\"", path));
    if (!json) return Json{{"text", std::move(text)}};
    return Json{{"tree", Json::parse(text, nullptr, false)}};
}

Result<Json> console(ControlCore& core, Arguments& arguments) {
    const auto partition = core.partition(arguments);
    const u64 after = arguments.number("after", 0);
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    if (core.options.console == nullptr) return fail(Error::Code::Usage, "consoles are not kept here");
    const auto part = core.options.console->read(console_name(*partition), after, kConsoleBytes);
    return Json{{"from", part.from}, {"text", hex_bytes(part.text)}, {"next", part.next}};
}

Result<Json> type(ControlCore& core, Arguments& arguments) {
    const auto partition = core.partition(arguments);
    const std::string text = arguments.text("text");
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    return Json{{"taken", core.machine.console_input(console_name(*partition), text)}};
}

Result<Json> blocks(ControlCore& core, const std::string& part) {
    if (core.options.survey == nullptr) {
        return fail(Error::Code::Usage, "blocks are not counted; run the machine with --count-blocks FILE");
    }
    const auto sources = inspect_sources(core.machine, core.options.survey);
    Json tree = Json::parse(sources.jit(part, true), nullptr, false);
    if (!tree.is_object()) return fail(Error::Code::Usage, "there is no such block");
    return tree;
}

Result<Json> jit_blocks(ControlCore& core, Arguments& arguments) {
    const u64 limit = arguments.count("limit", 20, kMaxBlocks);
    if (!arguments.ok()) return arguments.failure();
    return blocks(core, fmt::format("jit/top/{}", limit));
}

Result<Json> jit_block(ControlCore& core, Arguments& arguments) {
    const u64 address = arguments.number("address");
    if (!arguments.ok()) return arguments.failure();
    return blocks(core, fmt::format("jit/{:x}", address));
}

constexpr ControlRow kRows[] = {
    {"hello", "", false, hello},
    {"status", "", false, status},
    {"partitions", "", false, partitions},
    {"inspect", "path json", false, inspect_path},
    {"console", "partition after", false, console},
    {"type", "partition text", true, type},
    {"vmbus", "", false, [](ControlCore& core, Arguments&) -> Result<Json> { return vmbus_request(core.machine); }},
    {"jit_blocks", "limit", false, jit_blocks},
    {"jit_block", "address", false, jit_block},
};

}  // namespace

Json ControlCore::status() {
    Json out = {{"running", run.running()},
                {"time", machine.now()},
                {"instructions", machine.instructions()},
                {"end", nullptr},
                {"in_round", machine.scheduler().in_round()}};
    const auto place = run.focus();
    out["focus"] = place ? Json{{"partition", place->partition}, {"vp", place->vp}} : Json(nullptr);
    const machine::Outcome& outcome = machine.outcome();
    out["outcome"] = {{"kind", std::string(outcome_name(outcome.kind))}, {"text", outcome.text}, {"raw", outcome.raw}};
    if (run.last_stop()) out["stop"] = stop_json(*run.last_stop());
    else out["stop"] = {{"reason", "start"}, {"text", "the machine has not stopped yet"}};
    out["history"] = nullptr;
    if (describe_status) describe_status(out);
    return out;
}

std::span<const ControlRow> machine_requests() { return kRows; }

}  // namespace vg::model
