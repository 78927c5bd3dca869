#include "ui/model/control_service.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "ui/model/control_core.h"
#include "ui/model/control_rules.h"

namespace vg::model {
namespace {

/// Virtual time of one stretch of advance(): a few host milliseconds of guest work.
constexpr VTime kStretch = 2'000'000;

const ControlRow* find_row(std::string_view op) {
    for (const auto rows : {machine_requests(), guest_requests(), run_requests(), symbol_requests(), service_requests(), snapshot_requests()})
        for (const ControlRow& row : rows)
            if (row.op == op) return &row;
    return nullptr;
}

/// What it changes enters by the machine's door for input, and so is in a recording.
bool is_input(std::string_view op) { return op == "type" || op == "guest" || op == "keys" || op == "mouse"; }

std::vector<std::string> all_names() {
    std::vector<std::string> names;
    for (const auto rows : {machine_requests(), guest_requests(), run_requests(), symbol_requests(), service_requests(), snapshot_requests()})
        for (const ControlRow& row : rows) names.emplace_back(row.op);
    return names;
}

}  // namespace

struct ControlService::Core : ControlCore {
    using ControlCore::ControlCore;
    struct Provided {
        std::string keys;
        Operation operation;
    };
    std::map<std::string, Provided, std::less<>> provided;
};

ControlService::ControlService(machine::Machine& machine, machine::Debugger& debugger, ControlOptions options)
    : core_(std::make_unique<Core>(machine, debugger, std::move(options))) {}
ControlService::~ControlService() = default;

Result<Json> ControlService::call(const Json& request) {
    if (!request.is_object()) return fail(Error::Code::Usage, "a request is an object");
    Arguments arguments(request);
    const std::string op = arguments.text("op");
    if (!arguments.ok()) return arguments.failure();
    if (const auto own = core_->provided.find(op); own != core_->provided.end()) {
        arguments.allow_only("id op " + own->second.keys);
        return arguments.ok() ? own->second.operation(arguments) : Result<Json>(arguments.failure());
    }
    const ControlRow* row = find_row(op);
    if (row == nullptr) {
        const std::string near = machine::nearest_name(op, all_names());
        return fail(Error::Code::Usage, fmt::format("there is no request \"{}\"{}", op,
                                                    near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near)));
    }
    if (row->keys != "*") arguments.allow_only("id op " + std::string(row->keys));
    if (!arguments.ok()) return arguments.failure();
    if (row->changes && !core_->options.live) {
        return fail(Error::Code::Usage, fmt::format("a recorded run cannot be changed: \"{}\" is for live machines", op));
    }
    if (row->changes && core_->options.recorded && !is_input(row->op)) {
        return fail(Error::Code::Usage, fmt::format("this run is being recorded, and \"{}\" would not be in the recording; change a run without --record", op));
    }
    return row->run(*core_, arguments);
}

void ControlService::provide(const std::string& op, const std::string& keys, Operation operation) {
    core_->provided[op] = {keys, std::move(operation)};
}

void ControlService::describe(std::function<void(Json& hello)> hello, std::function<void(Json& status)> status) {
    core_->describe_hello = std::move(hello);
    core_->describe_status = std::move(status);
}

RunControl::Progress ControlService::run(VTime limit) {
    tell_due();
    const RunControl::Progress progress = core_->run.run(limit);
    if (progress == RunControl::Progress::Stopped) tell_stopped();
    return progress;
}

std::vector<Json> ControlService::advance(int max_host_ms) {
    std::vector<Json> notices;
    const unsigned listener = listen([&notices](const Json& notice) { notices.push_back(notice); });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(max_host_ms);
    while (running() && std::chrono::steady_clock::now() < deadline) {
        const VTime now = core_->machine.now();
        if (run(now > kNever - kStretch ? kNever : now + kStretch) == RunControl::Progress::Hang) {
            settle(machine::DebugStop::Reason::Hang, "every processor waits and nothing will ever wake one");
        }
    }
    remove(listener);
    return notices;
}

bool ControlService::running() const { return core_->run.running(); }
RunControl& ControlService::run_control() { return core_->run; }

void ControlService::settle(machine::DebugStop::Reason reason, std::string text) {
    core_->run.settle(reason, std::move(text));
    tell_stopped();
}

void ControlService::tell_stopped() {
    core_->notice_due = false;
    const Json status = core_->status();
    const Json notice = {{"event", "stopped"}, {"stop", status["stop"]}, {"status", status}};
    notify(notice);
}

void ControlService::tell_due() {
    if (core_->notice_due) tell_stopped();
}

void ControlService::proceed(int max_host_ms) {
    if (running()) (void)advance(max_host_ms);
    else if (max_host_ms > 0) ::poll(nullptr, 0, max_host_ms);
}

}  // namespace vg::model
