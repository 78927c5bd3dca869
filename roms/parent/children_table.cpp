#include "roms/parent/children_table.h"

#include <algorithm>
#include <charconv>

namespace vg::parent {

namespace {

using Problem = std::string;  // empty: none

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

std::string quoted(std::string_view text) {
    constexpr std::size_t kShown = 40;
    std::string out = "\"";
    for (const char c : text.substr(0, kShown)) out += c >= ' ' && c <= '~' ? c : '?';
    return out + (text.size() > kShown ? "...\"" : "\"");
}

/// Letters, digits, '-' and '_': a name is typed at the console and printed in front of lines.
bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= ChildrenTable::kMaxNameBytes &&
           std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                      c == '_';
           });
}

Problem set_text(std::string& field, std::string_view value, u32 limit) {
    if (value.empty()) return "has no value";
    if (value.size() > limit) return "is longer than " + std::to_string(limit) + " bytes";
    field = value;
    return {};
}

Problem set_number(u64& field, std::string_view value, u64 low, u64 high) {
    u64 number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size() || number < low || number > high) {
        return "is " + quoted(value) + ", not a number from " + std::to_string(low) + " to " + std::to_string(high);
    }
    field = number;
    return {};
}

Problem set_flag(bool& field, std::string_view value) {
    if (value != "yes" && value != "no") return "is " + quoted(value) + ", not yes or no";
    field = value == "yes";
    return {};
}

/// Line by line; `section` is the child that keys belong to.
class Parser {
  public:
    Problem line(std::string_view text) {
        text = trimmed(text);
        if (text.empty() || text.front() == '#') return {};
        if (text.front() == '[') return section(text);
        const std::size_t equals = text.find('=');
        if (equals == std::string_view::npos) return quoted(text) + " is neither [child NAME] nor KEY = VALUE";
        const std::string_view key = trimmed(text.substr(0, equals)), value = trimmed(text.substr(equals + 1));
        const Problem problem =
            table_.children.empty() ? top_key(key, value) : child_key(table_.children.back(), key, value);
        return problem.empty() ? problem : std::string(key.substr(0, 40)) + ' ' + problem;
    }
    /// A section ends: what it must have.
    [[nodiscard]] Problem end_of_section() const {
        if (table_.children.empty() || !table_.children.back().kernel.empty()) return {};
        return "child " + table_.children.back().name + " has no kernel";
    }
    ChildrenTable& table() { return table_; }

  private:
    Problem section(std::string_view text) {
        if (Problem problem = end_of_section(); !problem.empty()) return problem;
        constexpr std::string_view kBegin = "[child";
        if (text.back() != ']' || text.substr(0, kBegin.size()) != kBegin || text.size() < kBegin.size() + 1 ||
            !is_space(text[kBegin.size()])) {
            return quoted(text) + " is not [child NAME]";
        }
        const std::string_view name = trimmed(text.substr(kBegin.size(), text.size() - kBegin.size() - 1));
        if (!is_name(name)) {
            return "a name has 1 to " + std::to_string(ChildrenTable::kMaxNameBytes) +
                   " letters, digits, '-' and '_', which " + quoted(name) + " has not";
        }
        for (const ChildEntry& child : table_.children) {
            if (child.name == name) return "child " + child.name + " is there twice";
        }
        if (table_.children.size() == ChildrenTable::kMaxChildren) {
            return "more than " + std::to_string(ChildrenTable::kMaxChildren) + " children";
        }
        table_.children.emplace_back().name = name;
        seen_.clear();
        return {};
    }

    Problem top_key(std::string_view key, std::string_view value) {
        if (key != "exit") return "is not a key in front of the first [child NAME]; there is: exit";
        if (Problem problem = once(key); !problem.empty()) return problem;
        if (value == "when-children-stop") {
            table_.exit = ExitRule::WhenChildrenStop;
        } else if (value == "never") {
            table_.exit = ExitRule::Never;
        } else {
            return "is " + quoted(value) + ", not when-children-stop or never";
        }
        return {};
    }

    Problem child_key(ChildEntry& child, std::string_view key, std::string_view value) {
        if (key == "disk") {
            if (child.disks.size() == ChildrenTable::kMaxDisks) {
                return "is there more than " + std::to_string(ChildrenTable::kMaxDisks) + " times";
            }
            for (const ChildEntry& other : table_.children) {
                if (std::find(other.disks.begin(), other.disks.end(), value) == other.disks.end()) continue;
                return quoted(value) + " is a disk of child " + other.name + " already; two writers would destroy it";
            }
            return set_text(child.disks.emplace_back(), value, ChildrenTable::kMaxPathBytes);
        }
        if (Problem problem = once(key); !problem.empty()) return problem;
        if (key == "kernel") return set_text(child.kernel, value, ChildrenTable::kMaxPathBytes);
        if (key == "initrd") return set_text(child.initrd, value, ChildrenTable::kMaxPathBytes);
        if (key == "cmdline") return set_text(child.cmdline, value, ChildrenTable::kMaxCmdlineBytes);
        if (key == "autostart") return set_flag(child.autostart, value);
        u64 number = 0;
        if (key == "memory") {
            Problem problem = set_number(number, value, ChildrenTable::kMinMemoryMib, ChildrenTable::kMaxMemoryMib);
            if (problem.empty()) child.memory_bytes = number << 20;
            return problem;
        }
        if (key == "processors") {
            Problem problem = set_number(number, value, 1, ChildrenTable::kMaxProcessors);
            if (problem.empty()) child.processors = static_cast<u32>(number);
            return problem;
        }
        return "is not a key of a child; there are: kernel, initrd, cmdline, memory, processors, disk, autostart";
    }

    Problem once(std::string_view key) {
        if (std::find(seen_.begin(), seen_.end(), key) != seen_.end()) return "given twice";
        seen_.emplace_back(key);
        return {};
    }

    ChildrenTable table_;
    std::vector<std::string> seen_;  // keys of this section
};

}  // namespace

Result<ChildrenTable> ChildrenTable::parse(std::string_view text) {
    if (text.size() > kMaxBytes) {
        return fail(Error::Code::Usage, "more than " + std::to_string(kMaxBytes) + " bytes");
    }
    Parser parser;
    u32 number = 0;
    const auto at_line = [&](const Problem& problem) {
        return fail(Error::Code::Usage, "line " + std::to_string(number) + ": " + problem);
    };
    while (!text.empty()) {
        ++number;
        const std::size_t end = text.find('\n');
        const Problem problem = parser.line(text.substr(0, end));
        if (!problem.empty()) return at_line(problem);
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    if (const Problem problem = parser.end_of_section(); !problem.empty()) return at_line(problem);
    return std::move(parser.table());
}

}  // namespace vg::parent
