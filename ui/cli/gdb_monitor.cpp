#include "ui/cli/gdb_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "ui/model/json_text.h"

namespace vg::cli {
namespace {

using model::Json;

constexpr const char* kHelp =
    "monitor registers [NAME...]        all registers of the VP, or these, with hidden parts and MSRs\n"
    "monitor walk [ADDRESS]             the guest's page walk and the second level's (default: rip)\n"
    "monitor lin|phys|machine ADDRESS [SIZE]   memory: linear, of the partition, of the whole machine\n"
    "monitor disassemble [ADDRESS [COUNT]]     in the VP's own mode, also 16 and 32 bits\n"
    "monitor stack, symbols TEXT        call stack; symbols whose names contain TEXT\n"
    "monitor explain [WHAT]             why the VP is where it is\n"
    "monitor events [off | KIND...]     keep events of these kinds; without an argument, show those that were kept\n"
    "monitor break [KIND FIELD=VALUE...]   stop at events, e.g. hypercall control=0x5c; without an argument, list all rules\n"
    "monitor delete NUMBER              take back a rule of `monitor break`\n"
    "monitor inspect [PATH]             a part of the machine's state\n"
    "monitor partitions, status         what there is; where the machine is\n"
    "monitor type TEXT                  to the partition's console, with a line end\n"
    "monitor goto INSTRUCTIONS          to this place of a recording\n"
    "monitor last-write ADDRESS [SIZE]  to the last write to these bytes, in a recording\n"
    "Addresses are numbers, registers, symbols, and these with +0x10 or -0x10.\n";

class Command {
  public:
    Command(model::ControlLink& link, const std::optional<model::SymbolPlace>& place, std::string_view text)
        : link_(link), place_(place) {
        std::istringstream in{std::string(text)};
        for (std::string word; in >> word;) words_.push_back(std::move(word));
    }

    std::string run() {
        static constexpr struct {
            std::string_view name;
            std::string (Command::*run)();
        } kCommands[] = {{"help", &Command::help},
                         {"registers", &Command::registers},
                         {"walk", &Command::walk},
                         {"lin", &Command::linear},
                         {"phys", &Command::physical},
                         {"machine", &Command::machine_memory},
                         {"disassemble", &Command::disassemble},
                         {"stack", &Command::stack},
                         {"symbols", &Command::symbols},
                         {"explain", &Command::explain},
                         {"events", &Command::events},
                         {"break", &Command::add_rule},
                         {"delete", &Command::remove_rule},
                         {"inspect", &Command::inspect},
                         {"partitions", &Command::partitions},
                         {"status", &Command::status},
                         {"type", &Command::type},
                         {"goto", &Command::go_to},
                         {"last-write", &Command::last_write},
                         {"snapshot", &Command::snapshot}};
        if (words_.empty()) return kHelp;
        for (const auto& command : kCommands)
            if (command.name == words_[0]) return (this->*command.run)();
        return fmt::format("there is no command \"{}\"; see: monitor help\n", words_[0]);
    }

  private:
    [[nodiscard]] std::string word(std::size_t index) const { return index < words_.size() ? words_[index] : std::string(); }
    [[nodiscard]] std::string rest() const {
        std::string text;
        for (std::size_t i = 1; i < words_.size(); ++i) text += (i > 1 ? " " : "") + words_[i];
        return text;
    }
    Result<Json> ask(Json request) { return link_.call(request); }
    /// The same, about the VP that is selected.
    Result<Json> ask_here(Json request) {
        if (place_) {
            request["partition"] = place_->partition;
            request["vp"] = place_->vp;
        }
        return link_.call(request);
    }
    static std::string mistake(const Error& error) { return error.text + "\n"; }

    /// Calls `use` with the answer.
    template <class Use>
    std::string with(const Result<Json>& answer, Use use) {
        return answer ? use(*answer) : mistake(answer.error());
    }
    /// The same with the address that a text means.
    template <class Use>
    std::string with_address(const std::string& text, Use use) {
        return with(ask_here({{"op", "resolve"}, {"text", text}}), [&](const Json& found) {
            return use(found.value("address", "0x0"));
        });
    }

    std::string help() { return kHelp; }

    std::string registers() {
        return with(ask_here({{"op", "registers"}}), [&](const Json& all) {
            std::string out;
            for (const auto& [name, value] : all.items()) {
                if (words_.size() > 1 && std::find(words_.begin() + 1, words_.end(), name) == words_.end()) continue;
                out += fmt::format("{:16} {}\n", name, value.get<std::string>());
            }
            return out.empty() ? "there is no such register\n" : out;
        });
    }

    static std::string steps(const Json& list, std::string_view title) {
        std::string out;
        for (const Json& step : list) {
            out += fmt::format("{} level {}  entry at {} = {}  {}\n", title, step.value("level", 0), step.value("entry_address", ""),
                               step.value("entry", ""), step.value("flags", ""));
        }
        return out;
    }

    std::string walk() {
        return with_address(words_.size() > 1 ? rest() : "rip", [&](const std::string& address) {
            return with(ask_here({{"op", "walk"}, {"address", address}}), [&](const Json& walk) {
                const auto text = [&](const char* key) { return model::member(walk, key).is_string() ? model::member(walk, key).get<std::string>() : std::string("none"); };
                std::string out = fmt::format("linear {}, paging {}\n", text("linear"), text("mode"));
                out += steps(model::member(walk, "steps"), "guest ") + steps(model::member(walk, "second"), "second");
                out += fmt::format("physical {}, machine {}\n", text("physical"), text("machine"));
                if (model::member(walk, "fault").is_string()) out += fmt::format("fault: {}\n", text("fault"));
                return out;
            });
        });
    }

    std::string memory(const char* space) {
        const auto size = words_.size() > 2 ? model::parse_number(word(2)) : std::optional<u64>(64);
        if (words_.size() < 2 || !size) return fmt::format("write: monitor {} ADDRESS [SIZE]\n", words_[0]);
        return with_address(word(1), [&](const std::string& address) {
            return with(ask_here({{"op", "read"}, {"space", space}, {"address", address}, {"size", *size}}), [&](const Json& answer) {
                return dump(model::parse_number(address).value_or(0), answer.value("data", ""));
            });
        });
    }
    static std::string dump(u64 address, const std::string& hex) {
        std::string out;
        for (std::size_t i = 0; i < hex.size(); i += 32) {
            std::string line, text;
            for (std::size_t k = i; k + 1 < std::min(i + 32, hex.size()); k += 2) {
                line += hex.substr(k, 2) + " ";
                const std::string byte = model::parse_hex_bytes(hex.substr(k, 2)).value_or("?");
                text += byte[0] >= ' ' && byte[0] < 0x7f ? byte[0] : '.';
            }
            out += fmt::format("{:016x}  {:48} {}\n", address + i / 2, line, text);
        }
        return out;
    }
    std::string linear() { return memory("linear"); }
    std::string physical() { return memory("physical"); }
    std::string machine_memory() { return memory("machine"); }

    std::string disassemble() {
        const auto count = words_.size() > 2 ? model::parse_number(word(2)) : std::optional<u64>(10);
        Json request = {{"op", "disassemble"}, {"count", count.value_or(10)}};
        const auto list = [&] {
            return with(ask_here(request), [](const Json& lines) {
                std::string out;
                for (const Json& line : lines) {
                    out += fmt::format("{:18}  {:30} {} {}\n", line.value("address", ""), line.value("bytes", ""), line.value("text", ""), line.value("symbol", ""));
                }
                return out;
            });
        };
        if (words_.size() < 2) return list();
        return with_address(word(1), [&](const std::string& address) {
            request["address"] = address;
            return list();
        });
    }

    std::string stack() {
        return with(ask_here({{"op", "stack"}}), [](const Json& frames) {
            std::string out;
            for (const Json& frame : frames) {
                out += fmt::format("{:18}  {:18}  {}", frame.value("pc", ""), frame.value("sp", ""), frame.value("symbol", ""));
                if (const std::string file = frame.value("file", ""); !file.empty()) out += fmt::format("  {}:{}", file, frame.value("line", 0));
                out += "\n";
            }
            return out;
        });
    }

    std::string symbols() {
        return with(ask_here({{"op", "symbols"}, {"match", rest()}}), [](const Json& list) {
            std::string out;
            for (const Json& symbol : list) out += fmt::format("{:18}  {} {}\n", symbol.value("address", ""), symbol.value("name", ""), symbol.value("module", ""));
            return out.empty() ? "no symbol\n" : out;
        });
    }

    std::string explain() {
        return with(ask_here({{"op", "explain"}, {"what", rest()}}), [](const Json& answer) { return answer.value("text", "") + "\n"; });
    }

    std::string events() {
        if (words_.size() > 1) {
            Json kinds = Json::array();
            if (words_[1] != "off")
                for (std::size_t i = 1; i < words_.size(); ++i) kinds.push_back(words_[i]);
            return with(ask({{"op", "watch_events"}, {"kinds", kinds}}), [](const Json&) { return std::string(); });
        }
        std::string out;
        u64 after = 0;
        while (true) {
            const auto answer = ask({{"op", "events"}, {"after", after}});
            if (!answer) return out + mistake(answer.error());
            for (const Json& row : model::member(*answer, "rows")) out += event_line(row);
            const u64 next = answer->value("next", after);
            if (next == after) return out.empty() ? "no events; choose some with: monitor events KIND...\n" : out;
            after = next;
        }
    }
    static std::string event_line(const Json& row) {
        std::string out = fmt::format("{:>15} ns  {:14} partition {}", row.value("time", u64{0}), row.value("kind", ""), row.value("partition", u64{0}));
        if (row.contains("vp")) out += fmt::format(" VP {}", row.value("vp", 0u));
        for (const auto& [name, value] : model::member(row, "values").items()) out += fmt::format("  {} {}", name, value.get<std::string>());
        return out + "\n";
    }

    std::string add_rule() {
        if (words_.size() == 1) {
            return with(ask({{"op", "breaks"}}), [](const Json& list) {
                std::string out;
                for (const Json& row : list) out += fmt::format("{:4}  hits {:6}  {}\n", row.value("number", 0u), row.value("hits", u64{0}), model::json_line(model::member(row, "rule")));
                return out.empty() ? "no rules\n" : out;
            });
        }
        Json values = Json::object();
        for (std::size_t i = 2; i < words_.size(); ++i) {
            const std::size_t equals = words_[i].find('=');
            if (equals == std::string::npos) return "write FIELD=VALUE\n";
            values[words_[i].substr(0, equals)] = words_[i].substr(equals + 1);
        }
        return with(ask({{"op", "break_add"}, {"kind", "event"}, {"event", words_[1]}, {"values", values}}), [](const Json& answer) {
            return fmt::format("rule {}\n", answer.value("number", 0u));
        });
    }
    std::string remove_rule() {
        return with(ask({{"op", "break_remove"}, {"number", word(1)}}), [](const Json&) { return std::string("removed\n"); });
    }

    std::string inspect() {
        return with(ask({{"op", "inspect"}, {"path", rest()}}), [](const Json& answer) { return answer.value("text", ""); });
    }

    std::string partitions() {
        return with(ask({{"op", "partitions"}}), [](const Json& list) {
            std::string out;
            for (const Json& partition : list) {
                out += fmt::format("partition {} \"{}\" ({})\n", partition.value("id", u64{0}), partition.value("name", ""), partition.value("kind", ""));
                for (const Json& vp : model::member(partition, "vps")) {
                    out += fmt::format("  VP {}: {}, rip {}, CPL {}, {}-bit\n", vp.value("index", 0u), vp.value("activity", ""), vp.value("rip", ""),
                                       vp.value("cpl", 0), vp.value("mode", 0));
                }
            }
            return out;
        });
    }

    std::string status() {
        return with(ask({{"op", "status"}}), [](const Json& answer) { return model::json_text(answer); });
    }

    std::string type() {
        Json request = {{"op", "type"}, {"text", rest() + "\n"}};
        if (place_) request["partition"] = place_->partition;
        return with(ask(request), [](const Json& answer) { return fmt::format("{} bytes taken\n", answer.value("taken", u64{0})); });
    }

    std::string go_to() {
        return with(ask({{"op", "goto"}, {"instructions", word(1)}}), [this](const Json&) { return arrival(); });
    }
    /// Waits until the machine is where it was sent.
    std::string arrival() {
        constexpr int kMostLooks = 600, kLookMs = 200;
        for (int i = 0; i < kMostLooks; ++i) {
            const auto notice = link_.notice(kLookMs);
            if (!notice || model::member(*notice, "event") != "stopped") continue;
            return model::member(model::member(*notice, "stop"), "text").get<std::string>() + "\ngdb sees it after: maintenance flush register-cache\n";
        }
        return "it is still on its way; see: monitor status\n";
    }
    std::string last_write() {
        const auto size = words_.size() > 2 ? model::parse_number(word(2)) : std::optional<u64>(1);
        return with_address(word(1), [&](const std::string& address) {
            return with(ask_here({{"op", "last_write"}, {"space", "linear"}, {"address", address}, {"size", size.value_or(1)}}),
                        [this](const Json&) { return arrival(); });
        });
    }
    std::string snapshot() { return "snapshots are not available yet; see docs/status.md\n"; }

    model::ControlLink& link_;
    const std::optional<model::SymbolPlace>& place_;
    std::vector<std::string> words_;
};

}  // namespace

std::string gdb_monitor(model::ControlLink& link, const std::optional<model::SymbolPlace>& place, std::string_view command) {
    return Command(link, place, command).run();
}

}  // namespace vg::cli
