#include "ui/model/trace_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "ui/model/json_text.h"

namespace vg::model {

using machine::TraceAccess;
using machine::TraceEvent;
using machine::TraceInstruction;

void TraceStatistics::instruction(const TraceInstruction& i) {
    ++records_;
    instructions_ += i.count();
    if (i.context->cpl == 3) user_ += i.count();
    const std::pair vp{i.context->partition, i.context->vp};
    if (vp != last_vp_ || i.linear != next_linear_) ++blocks_;
    last_vp_ = vp;
    next_linear_ = i.linear + i.bytes.size();
    for (const TraceAccess& access : i.accesses) ++(access.write ? writes_ : reads_);
    first_time_ = std::min(first_time_, i.time);
    last_time_ = std::max(last_time_, i.time + i.count());
    first_number_ = std::min(first_number_, i.number);
    last_number_ = std::max(last_number_, i.number + i.count());
    // Neighbours share all of these: the tables are looked at only where one changes.
    if (last_count_ == nullptr || vp != counted_vp_) last_count_ = &vps_[counted_vp_ = vp];
    *last_count_ += i.count();
    if (last_symbol_ == nullptr || last_symbol_->partition != vp.first || i.linear - last_symbol_->address >= last_symbol_->size) {
        last_symbol_ = file_.symbol(vp.first, i.linear);
        if (last_symbol_ != nullptr) last_function_ = &functions_[last_symbol_];
    }
    if (last_symbol_ != nullptr) *last_function_ += i.count();
    const std::pair page{vp.first, i.linear >> 12};
    if (last_page_ == nullptr || page != counted_page_) {
        counted_page_ = page;
        last_page_ = pages_.size() < kMostPages || pages_.contains(page) ? &pages_[page] : &other_pages_;
    }
    *last_page_ += i.count();
}

void TraceStatistics::event(const TraceEvent& e) { ++events_[static_cast<unsigned>(e.event.kind)]; }

double TraceStatistics::bytes_per_instruction() const {
    u64 executed = 0;
    for (const auto& chunk : file_.chunks()) executed += chunk.executed;
    return executed == 0 ? 0 : static_cast<double>(file_.file_bytes()) / static_cast<double>(executed);
}

std::vector<TraceStatistics::Named> TraceStatistics::functions(std::size_t top) const {
    std::vector<Named> out;
    for (const auto& [symbol, count] : functions_)
        out.push_back({trace_symbol_text(file_, symbol->partition, symbol->address), count});
    std::sort(out.begin(), out.end(),
              [](const Named& a, const Named& b) { return a.count != b.count ? a.count > b.count : a.name < b.name; });
    if (out.size() > top) out.resize(top);
    return out;
}

std::vector<TraceStatistics::Named> TraceStatistics::pages(std::size_t top) const {
    std::vector<std::pair<u64, std::pair<u64, u64>>> sorted;
    for (const auto& [page, count] : pages_) sorted.push_back({count, page});
    std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    if (sorted.size() > top) sorted.resize(top);
    std::vector<Named> out;
    for (const auto& [count, page] : sorted)
        out.push_back({fmt::format("partition {} {:#x}", page.first, page.second << 12), count});
    return out;
}

std::string TraceStatistics::text(std::size_t top) const {
    std::string out =
        fmt::format("detail {}, {} bytes in {} chunks, {:.3f} bytes an instruction\n", machine::name_of(file_.detail()),
                    file_.file_bytes(), file_.chunks().size(), bytes_per_instruction());
    if (records_ != 0) {
        out += fmt::format("instructions {}..{}, time {} ns to {} ns\n", first_number_, last_number_, first_time_,
                           last_time_);
        out += fmt::format(
            "{} instructions, {} of them user; {} straight runs of {:.1f}; {} reads, {} writes\n", instructions_, user_,
            blocks_, static_cast<double>(records_) / static_cast<double>(std::max<u64>(blocks_, 1)), reads_, writes_);
    }
    for (const auto& [vp, count] : vps_) out += fmt::format("  partition {} VP {}: {}\n", vp.first, vp.second, count);
    const auto list = [&](const char* title, const std::vector<Named>& rows) {
        if (!rows.empty()) out += fmt::format("{}\n", title);
        for (const Named& row : rows)
            out += fmt::format("  {:>12} {:5.1f} %  {}\n", row.count,
                               100.0 * static_cast<double>(row.count) / static_cast<double>(instructions_), row.name);
    };
    list("functions", functions(top));
    list("pages", pages(top));
    bool any = false;
    for (unsigned k = 0; k < events_.size(); ++k) {
        if (events_[k] == 0) continue;
        if (!any) out += "events\n";
        any = true;
        out += fmt::format("  {:>12}  {}\n", events_[k], tap_row(static_cast<TapKind>(k)).name);
    }
    return out;
}

Json TraceStatistics::json(std::size_t top) const {
    Json out = {{"detail", std::string(machine::name_of(file_.detail()))},
                {"bytes", file_.file_bytes()},
                {"bytes_per_instruction", bytes_per_instruction()},
                {"instructions", instructions_},
                {"user_instructions", user_},
                {"runs", blocks_},
                {"reads", reads_},
                {"writes", writes_}};
    if (records_ != 0) {
        out["first_instruction"] = first_number_;
        out["end_instruction"] = last_number_;
        out["first_time"] = first_time_;
        out["end_time"] = last_time_;
    }
    for (const auto& [vp, count] : vps_)
        out["vps"].push_back({{"partition", vp.first}, {"vp", vp.second}, {"instructions", count}});
    for (const Named& row : functions(top))
        out["functions"].push_back({{"name", row.name}, {"instructions", row.count}});
    for (const Named& row : pages(top)) out["pages"].push_back({{"page", row.name}, {"instructions", row.count}});
    Json& events = out["events"] = Json::object();
    for (unsigned k = 0; k < events_.size(); ++k)
        if (events_[k] != 0) events[std::string(tap_row(static_cast<TapKind>(k)).name)] = events_[k];
    return out;
}

namespace {

/// One of the two that are compared: what it holds is what both hold.
class Side {
  public:
    Side(machine::TraceFile& file, const TraceQuery& query, TapMask events)
        : file_(file), cursor_(file, query), events_(events) {}

    Result<void> advance() {
        do {
            auto item = cursor_.next();
            if (!item) return Unexpected{item.error()};
            item_ = *item;
        } while (item_ == TraceCursor::Item::Event && (events_ & tap_bit(cursor_.event().event.kind)) == 0);
        return {};
    }
    [[nodiscard]] bool ended() const { return item_ == TraceCursor::Item::End; }
    [[nodiscard]] bool is_event() const { return item_ == TraceCursor::Item::Event; }
    [[nodiscard]] u64 number() const { return is_event() ? cursor_.event().number : cursor_.instruction().number; }
    [[nodiscard]] std::string line() {
        if (ended()) return "";
        return is_event() ? trace_line(cursor_.event()) : trace_line(file_, disassembler_, cursor_.instruction());
    }
    [[nodiscard]] const TraceCursor& cursor() const { return cursor_; }

  private:
    machine::TraceFile& file_;
    TraceCursor cursor_;
    TapMask events_;
    TraceCursor::Item item_ = TraceCursor::Item::End;
    TraceDisassembler disassembler_;
};

bool same_accesses(const TraceInstruction& a, const TraceInstruction& b, bool values) {
    return std::equal(
        a.accesses.begin(), a.accesses.end(), b.accesses.begin(), b.accesses.end(),
        [&](const TraceAccess& x, const TraceAccess& y) {
            return x.address == y.address && x.bytes == y.bytes && x.write == y.write &&
                   (!values || std::equal(x.value.begin(), x.value.end(), y.value.begin(), y.value.end()));
        });
}

/// "": equal.
std::string difference(const Side& a, const Side& b, machine::TraceDetail detail) {
    if (a.ended() || b.ended()) return a.ended() && b.ended() ? "" : "end";
    if (a.is_event() != b.is_event()) return "event";
    if (a.is_event()) {
        const TraceEvent &x = a.cursor().event(), &y = b.cursor().event();
        const bool same =
            x.number == y.number && x.time == y.time && x.event.kind == y.event.kind &&
            x.event.partition == y.event.partition && x.event.vp == y.event.vp &&
            std::equal(std::begin(x.event.values), std::end(x.event.values), std::begin(y.event.values)) &&
            std::equal(x.event.payload.begin(), x.event.payload.end(), y.event.payload.begin(), y.event.payload.end());
        return same ? "" : "event";
    }
    const TraceInstruction &x = a.cursor().instruction(), &y = b.cursor().instruction();
    if (x.number != y.number || x.time != y.time || !(*x.context == *y.context) || x.linear != y.linear ||
        x.iterations != y.iterations || !std::equal(x.bytes.begin(), x.bytes.end(), y.bytes.begin(), y.bytes.end()))
        return "instruction";
    if (detail >= machine::TraceDetail::Memory && !same_accesses(x, y, detail >= machine::TraceDetail::Values))
        return "accesses";
    if (detail >= machine::TraceDetail::Registers && *x.registers != *y.registers) return "registers";
    return "";
}

Result<std::vector<std::string>> following(Side& side, std::size_t lines, u64& left) {
    std::vector<std::string> out;
    while (!side.ended()) {
        ++left;
        if (auto ok = side.advance(); !ok) return Unexpected{ok.error()};
        if (!side.ended() && out.size() < lines) out.push_back(side.line());
    }
    return out;
}

}  // namespace

Result<TraceDifference> compare_traces(machine::TraceFile& first, machine::TraceFile& second, const TraceWindow& window,
                                       std::string_view filter, std::size_t lines,
                                       const std::function<bool(u64 done, u64 total)>& look) {
    TraceDifference out;
    TraceWindow common = window;
    if (common.from.kind == TraceWindow::Bound::Kind::None && !first.chunks().empty() && !second.chunks().empty()) {
        common.from.kind = TraceWindow::Bound::Kind::Instruction;
        common.from.value = std::max(first.chunks().front().first, second.chunks().front().first);
    }
    auto query_a = TraceQuery::create(first, common, filter), query_b = TraceQuery::create(second, common, filter);
    if (!query_a) return Unexpected{query_a.error()};
    if (!query_b) return Unexpected{query_b.error()};
    const machine::TraceDetail detail = std::min(first.detail(), second.detail());
    const TapMask events = first.events() & second.events();
    Side a(first, *query_a, events), b(second, *query_b, events);
    constexpr u64 kOften = 4096;
    while (true) {
        if (auto ok = a.advance(); !ok) return Unexpected{ok.error()};
        if (auto ok = b.advance(); !ok) return Unexpected{ok.error()};
        out.what = difference(a, b, detail);
        if (!out.what.empty() || a.ended()) break;
        ++out.compared;
        if (out.compared % kOften == 0 && !look(a.cursor().done(), a.cursor().total())) return out;
    }
    if (out.what.empty()) return out;
    out.equal = false;
    out.number = a.ended() ? b.number() : a.number();
    out.first = a.line();
    out.second = b.line();
    auto behind_first = following(a, lines, out.left_first), behind_second = following(b, lines, out.left_second);
    if (!behind_first) return Unexpected{behind_first.error()};
    if (!behind_second) return Unexpected{behind_second.error()};
    out.behind_first = std::move(*behind_first);
    out.behind_second = std::move(*behind_second);
    // Once more up to there, for the lines before it.
    TraceDisassembler disassembler;
    TraceCursor again(first, *query_a);
    std::deque<std::string> kept;
    for (u64 k = 0; k < out.compared;) {
        auto item = again.next();
        if (!item) return Unexpected{item.error()};
        if (*item == TraceCursor::Item::End) break;
        const bool is_event = *item == TraceCursor::Item::Event;
        if (is_event && (events & tap_bit(again.event().event.kind)) == 0) continue;
        if (++k + lines > out.compared)
            kept.push_back(is_event ? trace_line(again.event()) : trace_line(first, disassembler, again.instruction()));
    }
    out.before.assign(kept.begin(), kept.end());
    return out;
}

std::string TraceDifference::text(const std::string& first_name, const std::string& second_name) const {
    if (equal) return fmt::format("equal: {} instructions and events\n", compared);
    std::string out = fmt::format("--- {}\n+++ {}\n@@ {} at instruction {}, behind {} that are equal @@\n", first_name,
                                  second_name, what, number, compared);
    for (const std::string& line : before) out += " " + line + "\n";
    const auto put = [&](char sign, const std::string& line, const std::vector<std::string>& behind) {
        if (!line.empty()) out += fmt::format("{}{}\n", sign, line);
        for (const std::string& each : behind) out += fmt::format("{}{}\n", sign, each);
    };
    put('-', first, behind_first);
    put('+', second, behind_second);
    out += fmt::format("{} has {} more, {} has {}\n", first_name, left_first, second_name, left_second);
    return out;
}

}  // namespace vg::model
