// Requests that let a machine go on, stop it, and say where it shall stop; the event ring.
#include <fmt/format.h>

#include "ui/model/control_core.h"
#include "ui/model/control_rules.h"

namespace vg::model {
namespace {

Result<Json> break_add(ControlCore& core, Arguments& arguments) {
    // A rule may stand in `rule` or be the request itself.
    const Json& object = arguments.has("rule") ? arguments.object("rule") : arguments.whole();
    if (arguments.has("rule")) arguments.allow_only("id op rule");
    if (!arguments.ok()) return arguments.failure();
    const auto rule = parse_rule(object);
    if (!rule) return Unexpected{rule.error()};
    const auto number = core.debugger.add(*rule);
    if (!number) return Unexpected{number.error()};
    return Json{{"number", *number}};
}

u32 rule_number(ControlCore& core, Arguments& arguments) {
    const u32 number = static_cast<u32>(arguments.count("number", 0, ~u32{0}));
    if (arguments.ok() && core.run.is_own_rule(number)) arguments.mistake(fmt::format("there is no rule {}", number));
    return number;
}

Result<Json> break_remove(ControlCore& core, Arguments& arguments) {
    const u32 number = rule_number(core, arguments);
    if (!arguments.ok()) return arguments.failure();
    if (!core.debugger.remove(number)) return fail(Error::Code::Usage, fmt::format("there is no rule {}", number));
    return Json::object();
}

Result<Json> break_enable(ControlCore& core, Arguments& arguments) {
    const u32 number = rule_number(core, arguments);
    const bool enabled = arguments.flag("enabled", true);
    if (!arguments.ok()) return arguments.failure();
    if (!core.debugger.enable(number, enabled)) return fail(Error::Code::Usage, fmt::format("there is no rule {}", number));
    return Json::object();
}

Result<Json> breaks(ControlCore& core, Arguments&) {
    Json list = Json::array();
    for (const machine::Debugger::Row& row : core.debugger.rules()) {
        if (core.run.is_own_rule(row.number)) continue;
        list.push_back({{"number", row.number}, {"rule", rule_json(row.rule)}, {"hits", row.hits}});
    }
    return list;
}

Unexpected<Error> runs_already() { return fail(Error::Code::Usage, "the machine runs; ask it to stop first"); }

Result<Json> go(ControlCore& core, Arguments& arguments) {
    const u64 time = arguments.number("time", kNever);
    const u64 instructions = arguments.number("instructions", machine::Scheduler::kNoCount);
    if (!arguments.ok()) return arguments.failure();
    if (core.run.running()) return runs_already();
    core.run.go(time, instructions);
    return Json::object();
}

Result<Json> step(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    RunControl::Steps steps;
    steps.count = arguments.number("count", 1);
    steps.over = arguments.flag("over", false);
    if (arguments.has("from") || arguments.has("to")) {
        steps.range = {arguments.number("from"), arguments.number("to")};
        if (!arguments.has("count")) steps.count = ~u64{0};
    }
    if (steps.count == 0) arguments.mistake("\"count\" is at least 1");
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (core.run.running()) return runs_already();
    steps.place = at->place();
    core.run.step(steps);
    return Json::object();
}

Result<Json> stop(ControlCore& core, Arguments&) {
    core.run.stop();
    core.notice_due = true;  // also when it stood already: whoever asked waits for a notice
    return Json::object();
}

Result<Json> watch_events(ControlCore& core, Arguments& arguments) {
    const std::vector<std::string> names = arguments.texts("kinds", static_cast<std::size_t>(TapKind::Count));
    const u64 capacity = arguments.count("capacity", EventLog::kDefaultRows, EventLog::kMaxRows);
    TapMask kinds = 0;
    for (const std::string& name : names) {
        const TapKind kind = tap_kind(name);
        if (kind == TapKind::Count) arguments.mistake(fmt::format("there is no event \"{}\"", name));
        else kinds |= tap_bit(kind);
    }
    if (!arguments.ok()) return arguments.failure();
    core.events.watch(kinds, capacity);
    return Json::object();
}

Result<Json> events(ControlCore& core, Arguments& arguments) {
    constexpr u64 kMaxLimit = 100'000;
    const u64 after = arguments.number("after", 0), limit = arguments.count("limit", 1000, kMaxLimit);
    if (!arguments.ok()) return arguments.failure();
    return core.events.rows(after, limit);
}

Result<Json> needs_recording(ControlCore&, Arguments& arguments) {
    return fail(Error::Code::Usage, fmt::format("\"{}\" needs a recording: this machine is live and only goes forwards",
                                                arguments.text("op")));
}

}  // namespace

std::span<const ControlRow> run_requests() {
    static constexpr ControlRow kRows[] = {
        {"break_add", "*", false, break_add},
        {"break_remove", "number", false, break_remove},
        {"break_enable", "number enabled", false, break_enable},
        {"breaks", "", false, breaks},
        {"continue", "time instructions", false, go},
        {"step", "partition vp count over from to", false, step},
        {"stop", "", false, stop},
        {"watch_events", "kinds capacity", false, watch_events},
        {"events", "after limit", false, events},
        {"reverse_continue", "*", false, needs_recording},
        {"reverse_step", "*", false, needs_recording},
        {"goto", "*", false, needs_recording},
        {"last_write", "*", false, needs_recording},
    };
    return kRows;
}

}  // namespace vg::model
