#include "ui/cli/gdb_stub.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ui/cli/gdb_monitor.h"
#include "ui/cli/gdb_registers.h"
#include "ui/model/json_text.h"

namespace vg::cli {
namespace {

using model::hex_bytes;
using model::parse_hex_bytes;

/// Bytes of a packet that gdb may send and that we send at most.
constexpr std::size_t kPacketSize = 0x4000;
/// Text of a monitor command in one packet.
constexpr std::size_t kTextChunk = 2000;

bool begins(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

std::optional<u64> parse_hex(std::string_view text) {
    if (text.empty() || text.size() > 16) return std::nullopt;
    return model::parse_number("0x" + std::string(text));
}

std::string xml_text(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '&') out += "&amp;";
        else if (c == '<') out += "&lt;";
        else if (c == '>') out += "&gt;";
        else if (c == '"') out += "&quot;";
        else out += static_cast<u8>(c) >= ' ' && static_cast<u8>(c) < 0x7f ? c : '?';
    }
    return out;
}

}  // namespace

GdbStub::GdbStub(model::ControlLink& link) : link_(link) {
    guarded([this] { begin(); });
}

GdbStub::~GdbStub() { leave(); }

/// What the other side says may have another shape than the protocol's: then it is as if nothing had been said.
void GdbStub::guarded(const std::function<void()>& action) {
    try {
        action();
    } catch (const Json::exception&) {
        closing_ = true;
    }
}

void GdbStub::begin() {
    if (const auto hello = ask({{"op", "hello"}})) reverse_ = hello->value("reverse", false);
    const Json list = partitions();
    bare_ = list.size() == 1 && list[0].value("id", u64{1}) == 0;
    if (const auto status = ask({{"op", "status"}})) {
        last_status_ = *status;
        last_stop_ = model::member(*status, "stop");
        if (status->value("running", false)) (void)ask({{"op", "stop"}});
    }
}

void GdbStub::leave() {
    if (left_) return;
    left_ = closing_ = true;
    guarded([this] { let_go(); });
}

void GdbStub::let_go() {
    for (const auto& [name, number] : rules_) (void)ask({{"op", "break_remove"}, {"number", number}});
    rules_.clear();
    const auto status = ask({{"op", "status"}});
    if (!status || killed_ || model::member(*status, "running") != false) return;
    if (model::member(model::member(*status, "outcome"), "kind") == "none") (void)ask({{"op", "continue"}});
}

std::string GdbStub::take_output() { return std::exchange(out_, {}); }

void GdbStub::feed(std::string_view bytes) {
    for (const GdbPackets::Item& item : packets_.feed(bytes)) {
        if (closing_) return;
        switch (item.kind) {
            case GdbPackets::Item::Kind::Packet:
                if (!no_ack_) out_ += '+';
                handle(item.body);
                break;
            case GdbPackets::Item::Kind::Damaged:
                if (!no_ack_) out_ += '-';
                break;
            case GdbPackets::Item::Kind::Interrupt:
                if (waiting_) (void)ask({{"op", "stop"}});
                break;
            case GdbPackets::Item::Kind::Ack:
                break;
            case GdbPackets::Item::Kind::Again:
                if (!no_ack_) out_ += last_packet_;
                break;
        }
    }
}

void GdbStub::poll(int wait_ms) {
    while (const auto notice = link_.notice(wait_ms)) {
        wait_ms = 0;
        if (model::member(*notice, "event") != "stopped") continue;
        last_stop_ = model::member(*notice, "stop");
        last_status_ = model::member(*notice, "status");
        general_.reset();
        if (!waiting_) continue;
        waiting_ = false;
        guarded([this] {
            last_packet_ = GdbPackets::packet(stop_reply());
            out_ += last_packet_;
        });
    }
}

void GdbStub::handle(const std::string& packet) {
    std::string reply;
    try {
        reply = answer(packet);
    } catch (const Json::exception&) {
        reply = "E.the other side does not speak the control protocol";
    }
    if (waiting_ || killed_) return;  // the answer is the stop; or there is nobody left to tell
    last_packet_ = GdbPackets::packet(reply);
    out_ += last_packet_;
}

std::string GdbStub::answer(const std::string& packet) {
    const std::string_view text = packet, rest = text.substr(std::min<std::size_t>(1, text.size()));
    switch (packet.empty() ? '\0' : packet[0]) {
        case '?': {
            const auto status = ask({{"op", "status"}});
            if (status && status->value("running", false)) {
                waiting_ = true;
                (void)ask({{"op", "stop"}});
                return {};
            }
            if (status) {
                last_status_ = *status;
                last_stop_ = model::member(*status, "stop");
            }
            return stop_reply();
        }
        case '!':
            return "OK";
        case 'g':
            return read_registers();
        case 'G':
            return write_registers(rest);
        case 'p':
            return read_register(rest);
        case 'P':
            return write_register(rest);
        case 'm':
            return read_memory(rest, false);
        case 'x':
            return read_memory(rest, true);
        case 'M':
            return write_memory(rest, false);
        case 'X':
            return write_memory(rest, true);
        case 'Z':
        case 'z':
            return change_rule(text);
        case 'H':
            return select_thread(rest);
        case 'T': {
            std::optional<Place> place;
            if (!parse_thread(rest, place) || !place) return "E01";
            return ask(at_place({{"op", "registers"}}, place)) ? "OK" : "E01";
        }
        case 'c':
            return resume("c");
        case 's':
            return resume("s");
        case 'b':
            if (!reverse_ || (rest != "s" && rest != "c")) return "";
            return rest == "s" ? go("reverse_step", at_place(Json::object(), general_)) : go("reverse_continue", Json::object());
        case 'D':
            return detach(rest);
        case 'k':
            killed_ = closing_ = true;
            return {};
        case 'v':
            if (text == "vCont?") return "vCont;c;C;s;S;t;r";
            if (begins(text, "vCont;")) return resume(text.substr(6));
            if (begins(text, "vKill")) {
                // The machine is one program: it ends with any of its partitions.
                out_ += GdbPackets::packet("OK");
                killed_ = closing_ = true;
                return {};
            }
            if (begins(text, "vAttach;")) {
                const auto process = parse_hex(text.substr(8));
                if (!process) return "E01";
                detached_.erase(bare_ && *process == 1 ? 0 : *process);
                return stop_reply();
            }
            return "";
        case 'q':
        case 'Q':
            return query(packet);
        default:
            return "";
    }
}

std::string GdbStub::query(const std::string& packet) {
    const std::string_view text = packet;
    if (begins(text, "qSupported")) return supported(text.substr(10));
    if (text == "QStartNoAckMode") {
        no_ack_ = true;
        return "OK";
    }
    if (begins(text, "qAttached")) return "1";
    if (text == "qC") {
        std::optional<Place> place = general_;
        if (!place) (void)parse_thread("0", place);
        return place ? "QC" + thread_text(*place) : "E01";
    }
    if (text == "qfThreadInfo") {
        thread_list_ = list_threads();
        return thread_list_.empty() ? "l" : "m" + std::exchange(thread_list_, {});
    }
    if (text == "qsThreadInfo") return "l";
    if (begins(text, "qThreadExtraInfo,")) {
        std::optional<Place> place;
        if (!parse_thread(text.substr(17), place) || !place) return "E01";
        for (const Json& partition : partitions()) {
            if (partition.value("id", ~u64{0}) != place->partition) continue;
            for (const Json& vp : model::member(partition, "vps")) {
                if (vp.value("index", ~u32{0}) != place->vp) continue;
                return hex_bytes(fmt::format("VP {} of \"{}\", {}, {}-bit", place->vp, partition.value("name", ""),
                                             vp.value("activity", ""), vp.value("mode", 0)));
            }
        }
        return "E01";
    }
    if (begins(text, "qXfer:")) return transfer(text.substr(6));
    if (begins(text, "qRcmd,")) return monitor(text.substr(6));
    return "";
}

std::string GdbStub::supported(std::string_view offered) {
    const auto offers = [&](std::string_view feature) { return offered.find(feature) != std::string_view::npos; };
    multiprocess_ = offers("multiprocess+");
    software_reason_ = offers("swbreak+");
    hardware_reason_ = offers("hwbreak+");
    return fmt::format("PacketSize={:x};QStartNoAckMode+;multiprocess+;qXfer:features:read+;qXfer:threads:read+;swbreak+;hwbreak+;"
                       "vContSupported+;binary-upload+;ReverseStep{};ReverseContinue{}",
                       kPacketSize, reverse_ ? '+' : '-', reverse_ ? '+' : '-');
}

/// qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH
std::string GdbStub::transfer(std::string_view rest) {
    std::string content;
    if (begins(rest, "features:read:target.xml:")) content = gdb_target_xml();
    else if (begins(rest, "threads:read::")) content = threads_xml();
    else if (begins(rest, "features:read:")) return "E00";
    else return "";
    const std::string_view range = rest.substr(rest.rfind(':') + 1);
    const std::size_t comma = range.find(',');
    if (comma == std::string_view::npos) return "E00";
    const auto offset = parse_hex(range.substr(0, comma)), length = parse_hex(range.substr(comma + 1));
    if (!offset || !length || *offset > content.size()) return "E00";
    const std::string part = content.substr(*offset, std::min<u64>(*length, kPacketSize / 2));
    return (*offset + part.size() < content.size() ? "m" : "l") + part;
}

model::Json GdbStub::partitions() {
    auto list = ask({{"op", "partitions"}});
    return list && list->is_array() ? *list : Json::array();
}

std::string GdbStub::threads_xml() {
    std::string out = "<?xml version=\"1.0\"?>\n<threads>\n";
    for (const Json& partition : partitions()) {
        if (detached_.count(partition.value("id", u64{0})) != 0) continue;
        for (const Json& vp : model::member(partition, "vps")) {
            const Place place{partition.value("id", u64{0}), vp.value("index", 0u)};
            out += fmt::format("<thread id=\"{}\" core=\"{}\" name=\"{}\">{}</thread>\n", thread_text(place), place.vp,
                               xml_text(fmt::format("{} VP {}", partition.value("name", ""), place.vp)),
                               xml_text(fmt::format("{}, {}-bit, CPL {}", vp.value("activity", ""), vp.value("mode", 0), vp.value("cpl", 0))));
        }
    }
    return out + "</threads>\n";
}

std::string GdbStub::list_threads() {
    std::string list;
    for (const Json& partition : partitions()) {
        if (detached_.count(partition.value("id", u64{0})) != 0) continue;
        for (const Json& vp : model::member(partition, "vps"))
            list += (list.empty() ? "" : ",") + thread_text({partition.value("id", u64{0}), vp.value("index", 0u)});
    }
    return list;
}

std::string GdbStub::thread_text(const Place& place) const {
    return multiprocess_ ? fmt::format("p{:x}.{:x}", process_of(place.partition), place.vp + 1) : fmt::format("{:x}", place.vp + 1);
}

bool GdbStub::parse_thread(std::string_view text, std::optional<Place>& place) {
    std::optional<u64> process;
    std::string_view thread = text;
    if (begins(text, "p")) {
        const std::size_t dot = text.find('.');
        const std::string_view id = text.substr(1, dot == std::string_view::npos ? dot : dot - 1);
        thread = dot == std::string_view::npos ? "-1" : text.substr(dot + 1);
        if (id != "-1" && id != "0") {
            process = parse_hex(id);
            if (!process) return false;
        }
    }
    const bool any = thread == "-1" || thread == "0";
    const auto number = any ? std::optional<u64>(0) : parse_hex(thread);
    if (!number || *number > ~u32{0}) return false;
    // Without a process, the one that the machine stopped in.
    const Json focus = last_status_.is_object() ? last_status_.value("focus", Json()) : Json();
    const u64 here = focus.is_object() ? focus.value("partition", u64{0}) : 0;
    const u64 partition = process ? (bare_ && *process == 1 ? 0 : *process) : here;
    if (!any) {
        place = Place{partition, static_cast<u32>(*number - 1)};
        return true;
    }
    if (focus.is_object() && partition == here) {
        place = Place{here, focus.value("vp", 0u)};
        return true;
    }
    for (const Json& listed : partitions()) {
        if (listed.value("id", ~u64{0}) != partition || !model::member(listed, "vps").is_array() || model::member(listed, "vps").empty()) continue;
        place = Place{partition, model::member(listed, "vps")[0].value("index", 0u)};
        return true;
    }
    return !process;
}

std::string GdbStub::select_thread(std::string_view rest) {
    if (rest.empty()) return "E01";
    std::optional<Place> place;
    if (!parse_thread(rest.substr(1), place)) return "E01";
    if (place && !ask(at_place({{"op", "registers"}}, place))) return "E01";
    if (rest[0] == 'g') general_ = place;
    return "OK";
}

std::string GdbStub::monitor(std::string_view hex) {
    const auto command = parse_hex_bytes(hex);
    if (!command) return "E01";
    std::string text = gdb_monitor(link_, general_, *command);
    for (std::size_t i = 0; i < text.size(); i += kTextChunk)
        out_ += GdbPackets::packet("O" + hex_bytes(std::string_view(text).substr(i, kTextChunk)));
    return "OK";
}

/// D, or D;PROCESS: the machine goes on once no partition is attached any more.
std::string GdbStub::detach(std::string_view rest) {
    if (begins(rest, ";")) {
        const auto process = parse_hex(rest.substr(1));
        if (!process) return "E01";
        const u64 partition = bare_ && *process == 1 ? 0 : *process;
        detached_.insert(partition);
        const std::string suffix = fmt::format(" of {}", partition);
        std::erase_if(rules_, [&](const auto& rule) {
            const bool its = rule.first.size() > suffix.size() && rule.first.compare(rule.first.size() - suffix.size(), suffix.size(), suffix) == 0;
            if (its) (void)ask({{"op", "break_remove"}, {"number", rule.second}});
            return its;
        });
        if (!list_threads().empty()) return "OK";
    }
    leave();
    return "OK";
}

}  // namespace vg::cli
