// What gdb does to a machine: registers, memory, stop rules, going on; and what it hears when the machine stops.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ui/cli/gdb_registers.h"
#include "ui/cli/gdb_stub.h"
#include "ui/model/json_text.h"

namespace vg::cli {
namespace {

using model::Json;

/// Signals as gdb numbers them. GDB manual, "Stop Reply Packets".
constexpr const char *kSigInt = "02", *kSigTrap = "05", *kSigAbort = "06", *kSigSegv = "0b";
constexpr std::size_t kMaxMemory = 0x1800;  ///< bytes of one answer

std::optional<u64> parse_hex(std::string_view text) {
    if (text.empty() || text.size() > 16) return std::nullopt;
    return model::parse_number("0x" + std::string(text));
}

std::string refusal(const Error& error) { return "E." + error.text; }

/// The parts of a text between separators.
std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (true) {
        const std::size_t end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

}  // namespace

Json GdbStub::at_place(Json request, const std::optional<Place>& place) const {
    if (!place) return request;
    request["partition"] = place->partition;
    request["vp"] = place->vp;
    return request;
}

std::string GdbStub::read_registers() {
    const auto registers = ask(at_place({{"op", "registers"}}, general_));
    return registers ? gdb_registers(*registers) : refusal(registers.error());
}

std::string GdbStub::write_registers(std::string_view hex) {
    const auto registers = ask(at_place({{"op", "registers"}}, general_));
    if (!registers) return refusal(registers.error());
    const auto values = gdb_write_registers(hex, *registers);
    if (!values) return refusal(values.error());
    if (values->empty()) return "OK";
    const auto done = ask(at_place({{"op", "set_registers"}, {"values", *values}}, general_));
    return done ? "OK" : refusal(done.error());
}

std::string GdbStub::read_register(std::string_view rest) {
    const auto number = parse_hex(rest);
    if (!number || *number >= gdb_register_count()) return "E01";
    const auto registers = ask(at_place({{"op", "registers"}}, general_));
    return registers ? gdb_register(*number, *registers) : refusal(registers.error());
}

std::string GdbStub::write_register(std::string_view rest) {
    const std::size_t equals = rest.find('=');
    if (equals == std::string_view::npos) return "E01";
    const auto number = parse_hex(rest.substr(0, equals));
    if (!number) return "E01";
    const auto registers = ask(at_place({{"op", "registers"}}, general_));
    if (!registers) return refusal(registers.error());
    const auto change = gdb_write_register(*number, rest.substr(equals + 1), *registers);
    if (!change) return refusal(change.error());
    if (!*change) return "OK";
    Json values = Json::object();
    values[(*change)->first] = (*change)->second;
    const auto done = ask(at_place({{"op", "set_registers"}, {"values", values}}, general_));
    return done ? "OK" : refusal(done.error());
}

/// ADDRESS,LENGTH. What lies behind a gap is left out; gdb asks again.
std::string GdbStub::read_memory(std::string_view rest, bool binary) {
    const auto parts = split(rest, ',');
    if (parts.size() != 2) return "E01";
    const auto address = parse_hex(parts[0]), size = parse_hex(parts[1]);
    if (!address || !size) return "E01";
    const u64 count = std::min<u64>(*size, kMaxMemory);
    const std::string start = binary ? "b" : "";
    if (count == 0) return start.empty() ? "OK" : start;
    const auto answer = ask(at_place({{"op", "read"}, {"address", *address}, {"size", count}}, general_));
    if (!answer) return refusal(answer.error());
    std::string hex = answer->value("data", "");
    hex.erase(std::min(hex.find('?'), hex.size()));
    if (hex.empty()) return "E14";  // EFAULT
    return binary ? start + model::parse_hex_bytes(hex).value_or("") : hex;
}

/// ADDRESS,LENGTH:DATA
std::string GdbStub::write_memory(std::string_view rest, bool binary) {
    const std::size_t comma = rest.find(','), colon = rest.find(':');
    if (comma == std::string_view::npos || colon == std::string_view::npos || colon < comma) return "E01";
    const auto address = parse_hex(rest.substr(0, comma)), size = parse_hex(rest.substr(comma + 1, colon - comma - 1));
    const std::string_view data = rest.substr(colon + 1);
    if (!address || !size || data.size() != (binary ? *size : *size * 2)) return "E01";
    if (*size == 0) return "OK";
    const std::string hex = binary ? model::hex_bytes(data) : std::string(data);
    const auto done = ask(at_place({{"op", "write"}, {"address", *address}, {"data", hex}}, general_));
    return done ? "OK" : "E14";
}

/// Z0..Z4 and z0..z4: TYPE,ADDRESS,KIND. Memory stays as it is, so there may be any number of each.
std::string GdbStub::change_rule(std::string_view packet) {
    const bool add = packet[0] == 'Z';
    const std::string_view body = packet.substr(1, packet.find(';') - 1);  // conditions are gdb's to check
    const auto parts = split(body, ',');
    if (parts.size() != 3 || parts[0].size() != 1 || parts[0][0] < '0' || parts[0][0] > '4') return "";
    const auto address = parse_hex(parts[1]), kind = parse_hex(parts[2]);
    if (!address || !kind) return "E01";
    std::optional<Place> place = general_;
    if (!place) (void)parse_thread("0", place);
    const u64 partition = place ? place->partition : 0;
    const std::string name = fmt::format("{} of {}", body, partition);
    const auto old = rules_.find(name);
    if (!add) {
        if (old == rules_.end()) return "OK";
        (void)ask({{"op", "break_remove"}, {"number", old->second}});
        rule_types_.erase(old->second);
        rules_.erase(old);
        return "OK";
    }
    if (old != rules_.end()) return "OK";
    const char type = parts[0][0];
    Json rule = {{"op", "break_add"}, {"address", *address}, {"partition", partition}};
    if (type == '0' || type == '1') {
        rule["kind"] = "address";
    } else {
        rule["kind"] = "watch";
        rule["size"] = *kind;
        rule["read"] = type != '2';
        rule["write"] = type != '3';
        if (place) rule["vp"] = place->vp;  // whose tables translate the address
    }
    const auto number = ask(rule);
    if (!number) return refusal(number.error());
    rules_[name] = number->value("number", 0u);
    rule_types_[rules_[name]] = type;
    return "OK";
}

/// The actions of vCont. All VPs go on; a step counts the instructions of the VP that it names.
std::string GdbStub::resume(std::string_view actions) {
    std::optional<Place> place;
    for (const std::string_view action : split(actions, ';')) {
        const std::size_t colon = action.find(':');
        const std::string_view verb = action.substr(0, colon);
        if (verb.empty()) return "E01";
        if (verb[0] == 't') return go("stop", Json::object());
        if (verb[0] != 's' && verb[0] != 'S' && verb[0] != 'r') continue;
        if (colon == std::string_view::npos) place = general_;
        else if (!parse_thread(action.substr(colon + 1), place)) return "E01";
        Json request = at_place(Json::object(), place);
        if (verb[0] == 'r') {
            const auto range = split(verb.substr(1), ',');
            const auto from = parse_hex(range[0]), to = range.size() == 2 ? parse_hex(range[1]) : std::nullopt;
            if (!from || !to) return "E01";
            request["from"] = *from;
            request["to"] = *to;
            if (*from >= *to) request["count"] = 1;
        }
        return go("step", std::move(request));
    }
    return go("continue", Json::object());
}

/// The reply is the stop.
std::string GdbStub::go(std::string_view op, Json request) {
    request["op"] = std::string(op);
    const auto done = ask(std::move(request));
    if (!done) return refusal(done.error());
    waiting_ = true;
    return {};
}

std::string GdbStub::stop_signal_and_reason(const Json& stop) {
    const std::string reason = stop.value("reason", "start");
    if (reason == "asked") return kSigInt;
    if (reason == "limit" && reverse_) {
        const Json history = last_status_.value("history", Json());
        const bool first = history.is_object() && history.value("first", Json()).value("instructions", ~u64{0}) == last_status_.value("instructions", u64{0});
        return std::string(kSigTrap) + (first ? "replaylog:begin;" : "replaylog:end;");
    }
    if (reason != "rule") return kSigTrap;
    const auto type = rule_types_.find(stop.value("rule", 0u));
    if (type == rule_types_.end()) return kSigTrap;
    switch (type->second) {
        case '0':
            return std::string(kSigTrap) + (software_reason_ ? "swbreak:;" : "");
        case '1':
            return std::string(kSigTrap) + (hardware_reason_ ? "hwbreak:;" : "");
        default: {
            const char* what = type->second == '2' ? "watch" : type->second == '3' ? "rwatch" : "awatch";
            const std::string address = stop.value("address", "0x0");
            return fmt::format("{}{}:{};", kSigTrap, what, address.substr(std::min<std::size_t>(2, address.size())));
        }
    }
}

std::string GdbStub::end_reply(const Json& status) {
    const Json outcome = status.is_object() ? status.value("outcome", Json::object()) : Json::object();
    const std::string kind = outcome.value("kind", "none");
    const u64 process = process_of(general_ ? general_->partition : bare_ ? 0 : last_stop_.value("partition", u64{1}));
    const std::string suffix = multiprocess_ ? fmt::format(";process:{:x}", process) : "";
    if (kind == "crashed") return std::string("X") + kSigAbort + suffix;
    if (kind == "shutdown") return std::string("X") + kSigSegv + suffix;
    const u32 code = kind == "debug_exit" ? outcome.value("raw", 0u) : kind == "powered_off" || kind == "none" ? 0 : 1;
    return fmt::format("W{:02x}{}", code & 0xff, suffix);
}

std::string GdbStub::stop_reply() {
    if (last_stop_.value("reason", "") == "ended") {
        const std::string text = last_stop_.value("text", "") + "\n";
        out_ += GdbPackets::packet("O" + model::hex_bytes(text));
        return end_reply(last_status_);
    }
    const Json focus = last_status_.is_object() ? last_status_.value("focus", Json()) : Json();
    if (!focus.is_object()) return std::string("S") + kSigTrap;
    const Place place{focus.value("partition", u64{0}), focus.value("vp", 0u)};
    std::string out = "T" + stop_signal_and_reason(last_stop_) + "thread:" + thread_text(place) + ";";
    if (const auto registers = ask(at_place({{"op", "registers"}}, place))) {
        for (const std::size_t number : {gdb_rip(), gdb_rsp()}) out += fmt::format("{:x}:{};", number, gdb_register(number, *registers));
    }
    return out;
}

}  // namespace vg::cli
