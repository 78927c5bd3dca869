#include "ui/model/control_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "machine/config.h"
#include "ui/model/arguments.h"

namespace vg::model {
namespace {

using machine::DebugStop;
using machine::StopRule;

std::vector<std::string> event_names() {
    std::vector<std::string> names;
    for (unsigned i = 0; i < static_cast<unsigned>(TapKind::Count); ++i)
        names.emplace_back(tap_row(static_cast<TapKind>(i)).name);
    return names;
}

void parse_event(Arguments& arguments, StopRule& rule) {
    const std::string name = arguments.text("event");
    rule.event = tap_kind(name);
    if (rule.event == TapKind::Count) {
        return arguments.mistake(fmt::format("there is no event \"{}\"; events are {}", name, fmt::join(event_names(), " ")));
    }
    if (!arguments.has("values")) return;
    const Json& object = arguments.object("values");
    Arguments values(object);
    std::string words;
    const TapRow& row = tap_row(rule.event);
    for (unsigned i = 0; i < 4; ++i) {
        if (row.fields[i].empty()) continue;
        const std::string field(row.fields[i]);
        words += field + " ";
        rule.values[i] = values.optional_number(field.c_str());
    }
    values.allow_only(words);
    if (!values.ok()) arguments.mistake(values.failure().error.text);
}

}  // namespace

Result<StopRule> parse_rule(const Json& object) {
    Arguments arguments(object);
    arguments.allow_only("id op kind address partition vp cr3 size read write physical event values enabled ignore");
    StopRule rule;
    const std::string kind = arguments.text("kind");
    if (kind == "address") {
        rule.kind = StopRule::Kind::Address;
        rule.address = arguments.number("address");
        rule.cr3 = arguments.optional_number("cr3");
    } else if (kind == "watch") {
        rule.kind = StopRule::Kind::Watch;
        rule.address = arguments.number("address");
        rule.size = arguments.number("size", 1);
        rule.on_read = arguments.flag("read", false);
        rule.on_write = arguments.flag("write", true);
        rule.physical = arguments.flag("physical", false);
        if (rule.size == 0 || rule.size > StopRule::kMaxWatchBytes) {
            arguments.mistake(fmt::format("\"size\" is 1 to {}", StopRule::kMaxWatchBytes));
        }
        if (!rule.on_read && !rule.on_write) arguments.mistake("a watch is for \"read\", \"write\" or both");
    } else if (kind == "event") {
        rule.kind = StopRule::Kind::Event;
        parse_event(arguments, rule);
    } else {
        arguments.mistake("\"kind\" is \"address\", \"watch\" or \"event\"");
    }
    rule.partition = arguments.optional_number("partition");
    if (const auto vp = arguments.optional_number("vp")) rule.vp = static_cast<u32>(std::min<u64>(*vp, ~u32{0}));
    rule.enabled = arguments.flag("enabled", true);
    rule.ignore = arguments.number("ignore", 0);
    if (!arguments.ok()) return arguments.failure();
    return rule;
}

Json rule_json(const StopRule& rule) {
    Json out;
    switch (rule.kind) {
        case StopRule::Kind::Address:
            out = {{"kind", "address"}, {"address", hex(rule.address)}};
            if (rule.cr3) out["cr3"] = hex(*rule.cr3);
            break;
        case StopRule::Kind::Watch:
            out = {{"kind", "watch"},         {"address", hex(rule.address)}, {"size", rule.size},
                   {"read", rule.on_read}, {"write", rule.on_write},       {"physical", rule.physical}};
            break;
        case StopRule::Kind::Event: {
            const TapRow& row = tap_row(rule.event);
            out = {{"kind", "event"}, {"event", std::string(row.name)}};
            Json values = Json::object();
            for (unsigned i = 0; i < 4; ++i)
                if (rule.values[i]) values[std::string(row.fields[i])] = hex(*rule.values[i]);
            out["values"] = std::move(values);
            break;
        }
    }
    if (rule.partition) out["partition"] = *rule.partition;
    if (rule.vp) out["vp"] = *rule.vp;
    out["enabled"] = rule.enabled;
    out["ignore"] = rule.ignore;
    return out;
}

std::string_view reason_name(DebugStop::Reason reason) {
    switch (reason) {
        case DebugStop::Reason::Limit:
            return "limit";
        case DebugStop::Reason::Idle:
            return "idle";
        case DebugStop::Reason::Hang:
            return "hang";
        case DebugStop::Reason::Ended:
            return "ended";
        case DebugStop::Reason::Asked:
            return "asked";
        case DebugStop::Reason::Step:
            return "step";
        case DebugStop::Reason::Rule:
            return "rule";
    }
    return "?";
}

Json stop_json(const DebugStop& stop) {
    Json out = {{"reason", std::string(reason_name(stop.reason))}};
    if (stop.reason == DebugStop::Reason::Rule) out["rule"] = stop.rule;
    out["partition"] = stop.partition;
    if (stop.vp) out["vp"] = *stop.vp;
    if (!stop.who.empty()) out["who"] = stop.who;
    if (stop.reason == DebugStop::Reason::Rule) {
        out["address"] = hex(stop.address);
        out["write"] = stop.write;
    }
    out["text"] = stop.text;
    return out;
}

}  // namespace vg::model
