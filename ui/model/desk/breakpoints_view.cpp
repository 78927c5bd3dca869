#include "ui/model/desk/breakpoints_view.h"

#include <fmt/format.h>

#include <algorithm>

#include "ui/model/desk/event_log.h"

namespace vg::desk {

namespace {

std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> parts;
    std::size_t at = 0;
    while (at < text.size()) {
        const std::size_t begin = text.find_first_not_of(" \t", at);
        if (begin == std::string_view::npos) break;
        at = std::min(text.find_first_of(" \t", begin), text.size());
        parts.emplace_back(text.substr(begin, at - begin));
    }
    return parts;
}

Unexpected<Error> mistake(std::string text) { return fail(Error::Code::Usage, std::move(text)); }

/// partition=, vp=, ignore=, cr3=: the same in every rule. Nothing: it is none of them.
std::optional<Result<void>> take_common(Json& rule, const std::string& key, const std::string& value) {
    if (key != "partition" && key != "vp" && key != "ignore" && key != "cr3") return {};
    const auto number = parse_number(value, false);
    if (!number) return Result<void>(mistake(fmt::format("{}={}: not a number", key, value)));
    if (key == "cr3")
        rule[key] = hex(*number);
    else
        rule[key] = *number;
    return Result<void>();
}

Result<RuleText> event_rule(TapKind kind, const std::vector<std::string>& parts) {
    const TapRow& row = tap_row(kind);
    Json rule = {{"kind", "event"}, {"event", std::string(row.name)}};
    Json values = Json::object();
    for (std::size_t i = 1; i < parts.size(); ++i) {
        const std::size_t equals = parts[i].find('=');
        if (equals == std::string::npos) return mistake(fmt::format("'{}': write FIELD=VALUE", parts[i]));
        std::string key = parts[i].substr(0, equals);
        const std::string value = parts[i].substr(equals + 1);
        if (const auto common = take_common(rule, key, value)) {
            if (!*common) return mistake(common->error().text);
            continue;
        }
        if (std::find(std::begin(row.fields), std::end(row.fields), key) == std::end(row.fields)) {
            std::string known;
            for (const std::string_view field : row.fields)
                if (!field.empty()) known += (known.empty() ? "" : ", ") + std::string(field);
            return mistake(fmt::format("{} has no field '{}'; it has {}", row.name, key, known));
        }
        const auto number = parse_number(value, false);
        if (!number) return mistake(fmt::format("{}={}: not a number", key, value));
        values[key] = hex(*number);
    }
    if (!values.empty()) rule["values"] = values;
    return RuleText{rule, ""};
}

Result<RuleText> address_rule(const std::vector<std::string>& parts, bool watch) {
    Json rule = {{"kind", watch ? "watch" : "address"}};
    RuleText text;
    const std::size_t place = watch ? 1 : 0;
    if (parts.size() <= place) return mistake("watch what? Write: watch ADDRESS [SIZE] [r|w|rw] [physical]");
    if (const auto address = parse_number(parts[place], false))
        rule["address"] = hex(*address);
    else
        text.resolve = parts[place];
    if (watch) {
        rule["size"] = 8;
        rule["read"] = false;
        rule["write"] = true;
    }
    for (std::size_t i = place + 1; i < parts.size(); ++i) {
        const std::size_t equals = parts[i].find('=');
        if (equals != std::string::npos) {
            const auto common = take_common(rule, parts[i].substr(0, equals), parts[i].substr(equals + 1));
            if (!common)
                return mistake(
                    fmt::format("'{}': known are partition, vp, cr3 and ignore", parts[i].substr(0, equals)));
            if (!*common) return mistake(common->error().text);
        } else if (const auto size = watch ? parse_number(parts[i], false) : std::nullopt) {
            if (*size < 1 || *size > 1 << 20) return mistake("a watched size is 1 byte to 1 MiB");
            rule["size"] = *size;
        } else if (watch && (parts[i] == "r" || parts[i] == "w" || parts[i] == "rw")) {
            rule["read"] = parts[i] != "w";
            rule["write"] = parts[i] != "r";
        } else if (watch && parts[i] == "physical") {
            rule["physical"] = true;
        } else {
            return mistake(fmt::format("'{}' is no part of a breakpoint", parts[i]));
        }
    }
    text.rule = std::move(rule);
    return text;
}

}  // namespace

Result<RuleText> parse_rule(std::string_view text) {
    std::vector<std::string> parts = split(text);
    if (parts.empty())
        return mistake("write an address, a symbol, watch ADDRESS, or an event such as: hypercall code=0x5c");
    // People say code=; the event's number is the whole control word, whose low 16 bits the rule compares.
    for (std::string& part : parts)
        if (parts[0] == "hypercall" && part.rfind("code=", 0) == 0) part = "control=" + part.substr(5);
    if (parts[0] == "watch") return address_rule(parts, true);
    const TapKind kind = tap_kind(parts[0]);
    return kind != TapKind::Count ? event_rule(kind, parts) : address_rule(parts, false);
}

std::string rule_text(const Json& rule) {
    const std::string kind = words(rule, "kind", 16);
    std::string text;
    if (kind == "address") {
        text = hex(number(rule, "address"));
    } else if (kind == "watch") {
        const bool read = truth(rule, "read"), write = truth(rule, "write", true);
        text = fmt::format("watch {:#x} {} {}{}", number(rule, "address"), number(rule, "size", 1),
                           read && write ? "rw"
                           : read        ? "r"
                                         : "w",
                           truth(rule, "physical") ? " physical" : "");
    } else {
        text = words(rule, "event", 32);
        const Json& values = member(rule, "values");
        if (values.is_object())
            for (const auto& [key, value] : values.items())
                text += fmt::format(" {}={:#x}", shown(key, 32), number_of(value));
    }
    for (const char* key : {"partition", "vp", "cr3", "ignore"})
        if (has_number(rule, key) && !(key == std::string_view("ignore") && number(rule, key) == 0))
            text += fmt::format(" {}={:#x}", key, number(rule, key));
    return text;
}

BreakpointsView::BreakpointsView()
    : live_([](const Json& reply) {
          std::vector<BreakRow> rows;
          for (const Json* item : items(reply, 4096)) {
              const Json& rule = member(*item, "rule");
              rows.push_back({static_cast<u32>(number(*item, "number")), rule, rule_text(rule), words(rule, "kind", 16),
                              truth(rule, "enabled", true), number(*item, "hits")});
          }
          return rows;
      }) {}

void BreakpointsView::update(Session& session) {
    live_.update(session, {{"op", "breaks"}});
    if (live_.answers() == taken_) return;
    taken_ = live_.answers();
    if (live_.value()) rows_ = *live_.value();
}

const BreakRow* BreakpointsView::at(u64 address) const {
    for (const BreakRow& row : rows_)
        if (row.kind == "address" && number(row.rule, "address") == address) return &row;
    return nullptr;
}

Result<void> BreakpointsView::add(Session& session, std::string_view text) {
    auto parsed = parse_rule(text);
    if (!parsed) return fail(parsed.error().code, parsed.error().text);
    const auto send = [&session](Json rule) {
        Json request = std::move(rule);
        request["op"] = "break_add";
        session.change(std::move(request), [&session](const Json& reply) {
            session.say(fmt::format("breakpoint {} set", number(reply, "number")), Tone::Good);
        });
    };
    if (parsed->resolve.empty()) {
        send(parsed->rule);
        return {};
    }
    Json request = for_focus(session, {{"op", "resolve"}, {"text", parsed->resolve}});
    session.ask(std::move(request),
                [&session, send, rule = parsed->rule, name = parsed->resolve](Result<Json> answer) mutable {
                    if (!answer) return session.say(shown(answer.error().text, 400), Tone::Bad);
                    const Json& address = answer->is_object() ? member(*answer, "address") : *answer;
                    rule["address"] = hex(number_of(address));
                    send(rule);
                });
    return {};
}

void BreakpointsView::remove(Session& session, u32 number) {
    session.change({{"op", "break_remove"}, {"number", number}});
}
void BreakpointsView::enable(Session& session, u32 number, bool enabled) {
    session.change({{"op", "break_enable"}, {"number", number}, {"enabled", enabled}});
}
void BreakpointsView::toggle(Session& session, u64 address) {
    if (const BreakRow* row = at(address)) return remove(session, row->number);
    if (const auto added = add(session, hex(address)); !added) session.say(added.error().text, Tone::Bad);
}

std::vector<std::string> BreakpointsView::text() const {
    std::vector<std::string> lines;
    for (const BreakRow& row : rows_)
        lines.push_back(fmt::format("{}  {}  hits {}{}", row.number, row.text, row.hits, row.enabled ? "" : "  off"));
    return lines;
}

}  // namespace vg::desk
