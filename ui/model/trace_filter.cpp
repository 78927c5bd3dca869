#include "ui/model/trace_filter.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "machine/config.h"
#include "ui/model/json_text.h"

namespace vg::model {

using machine::TraceContext;
using machine::TraceEvent;
using machine::TraceInstruction;
using machine::TraceSymbol;

namespace {

constexpr std::size_t kMostText = 4096;
constexpr unsigned kMostDepth = 64;

bool word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
           c == '@';
}

}  // namespace

/// Recursive descent over words and signs; the first mistake ends it.
class TraceFilterParser {
  public:
    TraceFilterParser(std::string_view text, const std::vector<TraceSymbol>& symbols)
        : text_(text), symbols_(symbols) {}

    Result<TraceFilter> parse() {
        if (text_.size() > kMostText)
            return fail(Error::Code::Usage, fmt::format("the filter is longer than {} characters", kMostText));
        advance();
        const u32 root = either(0);
        if (problem_.empty() && !word_.empty()) complain(fmt::format("'{}' is left over", word_));
        if (!problem_.empty()) return fail(Error::Code::Usage, problem_);
        out_.root_ = root;
        return std::move(out_);
    }

  private:
    using Field = TraceFilter::Field;
    using Kind = TraceFilter::Kind;
    using Node = TraceFilter::Node;

    u32 complain(const std::string& what) {
        if (problem_.empty()) problem_ = fmt::format("filter, column {}: {}", start_ + 1, what);
        return 0;
    }
    /// The next word or sign becomes word_; "" at the end. Names keep dots only where a range does not begin.
    void advance() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
        start_ = at_;
        if (at_ == text_.size()) {
            word_ = {};
            return;
        }
        if (word_char(text_[at_])) {
            while (at_ < text_.size() && (word_char(text_[at_]) || lone_dot())) ++at_;
        } else {
            static constexpr std::string_view kTwo[] = {"==", "!=", "<=", ">=", "&&", "||", ".."};
            const std::string_view two = text_.substr(at_, 2);
            at_ += std::find(std::begin(kTwo), std::end(kTwo), two) != std::end(kTwo) ? 2 : 1;
        }
        word_ = text_.substr(start_, at_ - start_);
    }
    /// A dot within a name, as in "memcpy.part.0".
    [[nodiscard]] bool lone_dot() const {
        return text_[at_] == '.' && text_.substr(at_, 2) != ".." && (at_ == 0 || text_[at_ - 1] != '.');
    }
    bool take(std::string_view word) {
        if (word_ != word) return false;
        advance();
        return true;
    }
    u32 add(Node node) {
        out_.nodes_.push_back(std::move(node));
        return static_cast<u32>(out_.nodes_.size() - 1);
    }
    u32 join(Kind kind, u32 left, u32 right) {
        Node node;
        node.kind = kind;
        node.left = left;
        node.right = right;
        return add(std::move(node));
    }
    u32 either(unsigned depth) {
        u32 left = both(depth);
        while (problem_.empty() && (take("or") || take("||"))) left = join(Kind::Or, left, both(depth));
        return left;
    }
    u32 both(unsigned depth) {
        u32 left = one(depth);
        while (problem_.empty() && (take("and") || take("&&"))) left = join(Kind::And, left, one(depth));
        return left;
    }
    u32 one(unsigned depth) {
        if (!problem_.empty()) return 0;
        if (depth > kMostDepth) return complain("too many parentheses");
        if (take("not") || take("!")) return join(Kind::Not, one(depth + 1), 0);
        if (!take("(")) return term();
        const u32 inside = either(depth + 1);
        if (problem_.empty() && !take(")")) return complain("a ')' is missing");
        return inside;
    }

    u32 term() {
        struct Alone {
            std::string_view word;
            Field field;
            u64 first, last;
        };
        static constexpr Alone kAlone[] = {{"user", Field::Cpl, 3, 3},
                                           {"kernel", Field::Cpl, 0, 2},
                                           {"instruction", Field::IsInstruction, 0, 0},
                                           {"read", Field::Reads, 0, 0},
                                           {"write", Field::Writes, 0, 0}};
        static constexpr std::pair<std::string_view, Field> kNumbers[] = {
            {"partition", Field::Partition}, {"vp", Field::Vp},   {"cpl", Field::Cpl},
            {"level", Field::Level},         {"cr3", Field::Cr3}, {"pc", Field::Pc},
            {"memory", Field::Memory}};
        if (word_.empty()) return complain("something is missing at the end");
        for (const Alone& each : kAlone) {
            if (!take(each.word)) continue;
            Node node;
            node.field = each.field;
            node.first = each.first;
            node.last = each.last;
            return add(std::move(node));
        }
        for (const auto& [name, field] : kNumbers)
            if (take(name)) return number_test(field);
        if (take("event")) return event_test();
        if (take("symbol")) return name_test(false);
        if (take("module")) return name_test(true);
        static const std::vector<std::string> kKnown = {"partition",   "vp",    "cpl",    "level",  "cr3",  "pc",
                                                        "memory",      "event", "symbol", "module", "user", "kernel",
                                                        "instruction", "read",  "write",  "not"};
        const std::string near = machine::nearest_name(std::string(word_), kKnown);
        return complain(fmt::format("'{}' is nothing to ask for{}", word_,
                                    near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
    }

    bool number(u64& value) {
        const auto parsed = parse_number(word_);
        if (!parsed) {
            complain(word_.empty() ? "a number is missing at the end"
                                   : fmt::format("'{}' is no number (write 4096 or 0x1000)", word_));
            return false;
        }
        value = *parsed;
        advance();
        return true;
    }

    u32 number_test(Field field) {
        Node node;
        node.field = field;
        node.last = ~u64{0};
        u64 value = 0;
        const std::string_view sign = word_;
        const std::size_t sign_at = start_;
        static constexpr std::string_view kSigns[] = {"==", "!=", "<", "<=", ">", ">=", "in"};
        if (std::find(std::begin(kSigns), std::end(kSigns), sign) == std::end(kSigns))
            return complain("one of == != < <= > >= in belongs here");
        if (field == Field::Memory && sign != "==" && sign != "in") return complain("memory is compared with == or in");
        advance();
        if (!number(value)) return 0;
        if (sign == "in") {
            u64 end = 0;
            if (!take("..")) return complain("a range is written A..B");
            if (!number(end)) return 0;
            start_ = sign_at;
            if (end <= value) return complain("the range is empty: its end is not in it");
            node.first = value;
            node.last = end - 1;
        } else if (sign == "==" || sign == "!=") {
            node.first = node.last = value;
            node.outside = sign == "!=";
        } else if (sign == "<" || sign == ">=") {
            node.first = value;
            node.outside = sign == "<";
        } else {
            node.last = value;
            node.outside = sign == ">";
        }
        return add(std::move(node));
    }

    u32 event_test() {
        Node node;
        node.field = Field::IsEvent;
        const bool differs = word_ == "!=";
        if (!differs && word_ != "==") return add(std::move(node));
        advance();
        const TapKind kind = tap_kind(word_);
        if (kind == TapKind::Count) {
            std::vector<std::string> known;
            for (unsigned k = 0; k < static_cast<unsigned>(TapKind::Count); ++k)
                known.emplace_back(machine_name(static_cast<TapKind>(k)));
            const std::string near = machine::nearest_name(std::string(word_), known);
            return complain(fmt::format("there is no event '{}'{}", word_,
                                        near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
        }
        advance();
        node.field = Field::Event;
        node.first = node.last = static_cast<u64>(kind);
        node.outside = differs;
        return add(std::move(node));
    }
    static std::string_view machine_name(TapKind kind) { return tap_row(kind).name; }

    u32 name_test(bool module) {
        Node node;
        node.field = Field::Code;
        node.outside = word_ == "!=";
        if (!node.outside && word_ != "==") return complain("== or != belongs here");
        advance();
        if (word_.empty() || !word_char(word_[0])) return complain("a name is missing");
        for (const TraceSymbol& symbol : symbols_) {
            if ((module ? symbol.module : symbol.name) != word_) continue;
            node.code.push_back({symbol.partition, symbol.address, symbol.address + symbol.size});
        }
        if (node.code.empty())
            return complain(
                fmt::format("nothing that was executed is {} '{}'", module ? "in a module" : "a function", word_));
        advance();
        return add(std::move(node));
    }

    std::string_view text_;
    const std::vector<TraceSymbol>& symbols_;
    std::size_t at_ = 0, start_ = 0;
    std::string_view word_;
    std::string problem_;
    TraceFilter out_;
};

Result<TraceFilter> TraceFilter::compile(std::string_view text, const std::vector<TraceSymbol>& symbols) {
    if (text.empty()) return TraceFilter{};
    return TraceFilterParser(text, symbols).parse();
}

bool TraceFilter::names_symbols(std::string_view text) {
    return text.find("symbol") != std::string_view::npos || text.find("module") != std::string_view::npos;
}

TraceFilter::Truth TraceFilter::test(const Node& node, const Subject& subject) const {
    const auto holds = [&](bool value) { return value != node.outside ? Truth::Yes : Truth::No; };
    const auto within = [&](u64 value) { return holds(value >= node.first && value <= node.last); };
    const TraceContext* const context = subject.context;
    const TraceInstruction* const insn = subject.instruction;
    const TraceEvent* const event = subject.event;
    const Truth unknown = event != nullptr ? Truth::No : Truth::Maybe;
    switch (node.field) {
        case Field::Partition:
            return within(event != nullptr ? event->event.partition : context->partition);
        case Field::Vp:
            if (event != nullptr) return event->event.vp == TapEvent::kNoVp ? Truth::No : within(event->event.vp);
            return within(context->vp);
        case Field::Cpl:
            return event != nullptr ? Truth::No : within(context->cpl);
        case Field::Level:
            return event != nullptr ? Truth::No : within(context->level);
        case Field::Cr3:
            return event != nullptr ? Truth::No : within(context->cr3);
        case Field::Pc:
            return insn == nullptr ? unknown : within(insn->linear);
        case Field::Memory:
            if (insn == nullptr) return unknown;
            return holds(std::any_of(insn->accesses.begin(), insn->accesses.end(), [&](const machine::TraceAccess& a) {
                return a.address <= node.last && (a.address >= node.first || node.first - a.address < a.bytes);
            }));
        case Field::Code:
            if (insn == nullptr) return unknown;
            return holds(std::any_of(node.code.begin(), node.code.end(), [&](const Range& range) {
                return insn->context->partition == range.partition && insn->linear >= range.first &&
                       insn->linear < range.end;
            }));
        case Field::Event:
            return event == nullptr ? Truth::No : within(static_cast<u64>(event->event.kind));
        case Field::IsEvent:
            return event != nullptr ? Truth::Yes : Truth::No;
        case Field::IsInstruction:
            return event != nullptr ? Truth::No : Truth::Yes;
        case Field::Reads:
        case Field::Writes:
            if (insn == nullptr) return unknown;
            return std::any_of(insn->accesses.begin(), insn->accesses.end(),
                               [&](const machine::TraceAccess& a) { return a.write == (node.field == Field::Writes); })
                       ? Truth::Yes
                       : Truth::No;
    }
    return Truth::No;
}

TraceFilter::Truth TraceFilter::evaluate(u32 index, const Subject& subject) const {
    const Node& node = nodes_[index];
    switch (node.kind) {
        case Kind::Test:
            return test(node, subject);
        case Kind::Not: {
            const Truth inside = evaluate(node.left, subject);
            return inside == Truth::Maybe ? inside : inside == Truth::Yes ? Truth::No : Truth::Yes;
        }
        case Kind::And: {
            const Truth left = evaluate(node.left, subject);
            return left == Truth::No ? left : std::min(left, evaluate(node.right, subject));
        }
        case Kind::Or: {
            const Truth left = evaluate(node.left, subject);
            return left == Truth::Yes ? left : std::max(left, evaluate(node.right, subject));
        }
    }
    return Truth::No;
}

bool TraceFilter::matches(const TraceInstruction& instruction) const {
    return nodes_.empty() || evaluate(root_, {instruction.context, &instruction, nullptr}) == Truth::Yes;
}
bool TraceFilter::matches(const TraceEvent& event) const {
    return nodes_.empty() || evaluate(root_, {nullptr, nullptr, &event}) == Truth::Yes;
}
bool TraceFilter::possible(const TraceContext& context) const {
    return nodes_.empty() || evaluate(root_, {&context, nullptr, nullptr}) != Truth::No;
}

namespace {

/// A duration that may have a fraction: "1.5s".
std::optional<u64> parse_time(const std::string& text) {
    const std::size_t dot = text.find('.');
    if (dot == std::string::npos) {
        const auto whole = machine::parse_duration(text);
        return whole ? std::optional<u64>(whole->ns) : std::nullopt;
    }
    const std::size_t end = std::min(text.find_first_not_of("0123456789", dot + 1), text.size());
    constexpr std::size_t kMostDigits = 9;
    if (dot == 0 || end == dot + 1 || end - dot - 1 > kMostDigits) return std::nullopt;
    const std::string unit = text.substr(end);
    const auto whole = machine::parse_duration(text.substr(0, dot) + unit), one = machine::parse_duration("1" + unit);
    const auto fraction = parse_number(text.substr(dot + 1, end - dot - 1));
    if (!whole || !one || !fraction || *fraction > ~u64{0} / one->ns) return std::nullopt;
    u64 scale = 1;
    for (std::size_t k = dot + 1; k < end; ++k) scale *= 10;
    const u64 part = *fraction * one->ns / scale;
    return whole->ns > ~u64{0} - part ? std::nullopt : std::optional<u64>(whole->ns + part);
}

Result<TraceWindow::Bound> parse_bound(std::string text, bool second) {
    using Bound = TraceWindow::Bound;
    Bound out;
    if (text.empty()) return out;
    const auto wrong = [&]() {
        return fail(Error::Code::Usage, fmt::format("--window: '{}' is no bound; write an instruction (5000000, 5M), a "
                                                    "time (1.5s), event:KIND or symbol:NAME{}",
                                                    text, second ? ", or + and a number or a time" : ""));
    };
    const std::string given = text;
    if (text.rfind("event:", 0) == 0) {
        out.kind = Bound::Kind::Event;
        out.name = text.substr(6);
        if (tap_kind(out.name) == TapKind::Count)
            return fail(Error::Code::Usage, fmt::format("--window: there is no event '{}'", out.name));
        return out;
    }
    if (text.rfind("symbol:", 0) == 0) {
        out.kind = Bound::Kind::Symbol;
        out.name = text.substr(7);
        if (out.name.empty()) return wrong();
        return out;
    }
    if (second && text[0] == '+') {
        out.relative = true;
        text.erase(0, 1);
    }
    u64 factor = 1;
    std::string digits = text;
    if (!digits.empty()) {
        const char last = digits.back();
        factor = last == 'k' ? 1000 : last == 'M' ? 1'000'000 : last == 'G' ? 1'000'000'000 : 1;
        if (factor != 1) digits.pop_back();
    }
    if (const auto number = parse_number(digits); number && *number <= ~u64{0} / factor) {
        out.kind = Bound::Kind::Instruction;
        out.value = *number * factor;
        return out;
    }
    const auto time = parse_time(text);
    if (!time) return wrong();
    out.kind = Bound::Kind::Time;
    out.value = *time;
    return out;
}

}  // namespace

Result<TraceWindow> TraceWindow::parse(const std::string& text) {
    if (text.empty()) return TraceWindow{};
    const std::size_t dots = text.find("..");
    if (dots == std::string::npos)
        return fail(
            Error::Code::Usage,
            fmt::format("--window {}: write A..B, for example 1M..2M, 1.5s.., symbol:start_kernel..+10k", text));
    TraceWindow out;
    auto from = parse_bound(text.substr(0, dots), false);
    if (!from) return Unexpected{from.error()};
    auto to = parse_bound(text.substr(dots + 2), true);
    if (!to) return Unexpected{to.error()};
    out.from = std::move(*from);
    out.to = std::move(*to);
    if (out.from.kind == out.to.kind && !out.to.relative &&
        (out.to.kind == Bound::Kind::Instruction || out.to.kind == Bound::Kind::Time) && out.to.value <= out.from.value)
        return fail(Error::Code::Usage, fmt::format("--window {}: it is empty: its end is not in it", text));
    return out;
}

}  // namespace vg::model
