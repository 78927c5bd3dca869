#include "ui/model/trace_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace vg::model {

using Bound = TraceWindow::Bound;
using Kind = TraceWindow::Bound::Kind;

namespace {

Result<void> check_symbol(const machine::TraceFile& file, const Bound& bound) {
    if (bound.kind != Kind::Symbol) return {};
    for (const machine::TraceSymbol& symbol : file.symbols())
        if (symbol.name == bound.name) return {};
    return fail(Error::Code::Usage, fmt::format("--window: no function '{}' was executed{}", bound.name,
                                                file.symbols().empty() ? " (the trace has no symbols)" : ""));
}

std::vector<std::pair<u64, u64>> entries_of(const machine::TraceFile& file, const Bound& bound) {
    std::vector<std::pair<u64, u64>> out;
    for (const machine::TraceSymbol& symbol : file.symbols())
        if (bound.kind == Kind::Symbol && symbol.name == bound.name) out.emplace_back(symbol.partition, symbol.address);
    return out;
}

}  // namespace

Result<TraceQuery> TraceQuery::create(const machine::TraceFile& file, const TraceWindow& window,
                                      std::string_view filter) {
    TraceQuery out;
    out.window = window;
    for (const Bound* bound : {&window.from, &window.to})
        if (auto ok = check_symbol(file, *bound); !ok) return Unexpected{ok.error()};
    auto compiled = TraceFilter::compile(filter, file.symbols());
    if (!compiled) return Unexpected{compiled.error()};
    out.filter = std::move(*compiled);
    return out;
}

TraceCursor::TraceCursor(machine::TraceFile& file, const TraceQuery& query)
    : file_(file),
      query_(query),
      from_entries_(entries_of(file, query.window.from)),
      to_entries_(entries_of(file, query.window.to)),
      inside_(query.window.from.kind == Kind::None) {
    if (inside_ && !file.chunks().empty()) {
        started_number_ = file.chunks().front().first;
        started_time_ = file.chunks().front().first_time;
    }
}

/// Nothing in the chunk can be in the window, and nothing in it begins the window.
bool TraceCursor::skips(const machine::TraceEncoder::Summary& chunk) const {
    if (inside_) return false;
    switch (query_.window.from.kind) {
        case Kind::Instruction:
            return chunk.first + chunk.count < query_.window.from.value;
        case Kind::Time:
            return chunk.last_time < query_.window.from.value;
        case Kind::Event:
            return (chunk.events & tap_bit(tap_kind(query_.window.from.name))) == 0;
        case Kind::None:
        case Kind::Symbol:
            return false;
    }
    return false;
}

Result<bool> TraceCursor::open_next() {
    decoder_ = nullptr;
    while (chunk_ < file_.chunks().size() && skips(file_.chunks()[chunk_])) ++chunk_;
    if (behind_ || chunk_ >= file_.chunks().size()) return false;
    auto opened = file_.read(chunk_);
    if (!opened) return Unexpected{opened.error()};
    decoder_ = *opened;
    // A symbol that ends or begins the window need not match the filter.
    const bool by_symbol = query_.window.names_symbols();
    if (!by_symbol)
        decoder_->only([this](const machine::TraceContext& context) { return query_.filter.possible(context); });
    return true;
}

/// What the decoder is at meets a bound: the window begins or ends with it.
bool TraceCursor::met(const Bound& bound) const {
    const u64 number = is_event_ ? event().number : instruction().number;
    const u64 time = is_event_ ? event().time : instruction().time;
    switch (bound.kind) {
        case Kind::None:
            return false;
        case Kind::Instruction:
            return number >= bound.value + (bound.relative ? started_number_ : 0);
        case Kind::Time:
            return time >= bound.value + (bound.relative ? started_time_ : 0);
        case Kind::Event:
            return is_event_ && tap_row(event().event.kind).name == bound.name;
        case Kind::Symbol: {
            if (is_event_) return false;
            const auto& entries = &bound == &query_.window.from ? from_entries_ : to_entries_;
            const auto here = std::pair{instruction().context->partition, instruction().linear};
            return std::find(entries.begin(), entries.end(), here) != entries.end();
        }
    }
    return false;
}

bool TraceCursor::within() {
    if (!inside_) {
        if (!met(query_.window.from)) return false;
        inside_ = true;
        started_number_ = is_event_ ? event().number : instruction().number;
        started_time_ = is_event_ ? event().time : instruction().time;
        return true;
    }
    if (!met(query_.window.to)) return true;
    behind_ = true;
    return false;
}

Result<TraceCursor::Item> TraceCursor::next() {
    while (!behind_) {
        if (decoder_ == nullptr) {
            auto more = open_next();
            if (!more) return Unexpected{more.error()};
            if (!*more) return Item::End;
        }
        const machine::TraceDecoder::Item item = decoder_->next();
        if (item == machine::TraceDecoder::Item::Damaged) return Unexpected{file_.damage()};
        if (item == machine::TraceDecoder::Item::End) {
            decoder_ = nullptr;
            ++chunk_;
            continue;
        }
        is_event_ = item == machine::TraceDecoder::Item::Event;
        if (!within()) continue;
        if (is_event_ ? query_.filter.matches(event()) : query_.filter.matches(instruction()))
            return is_event_ ? Item::Event : Item::Instruction;
    }
    return Item::End;
}

Result<void> walk_trace(machine::TraceFile& file, const TraceQuery& query, TraceSink& sink,
                        const std::function<bool(u64 done, u64 total)>& look) {
    TraceCursor cursor(file, query);
    constexpr unsigned kOften = 4096;
    for (u64 count = 0;; ++count) {
        if (count % kOften == 0 && !look(cursor.done(), cursor.total())) return {};
        auto item = cursor.next();
        if (!item) return Unexpected{item.error()};
        if (*item == TraceCursor::Item::End) return {};
        if (*item == TraceCursor::Item::Event)
            sink.event(cursor.event());
        else
            sink.instruction(cursor.instruction());
    }
}

std::string trace_symbol_text(const machine::TraceFile& file, u64 partition, u64 linear) {
    const machine::TraceSymbol* const symbol = file.symbol(partition, linear);
    if (symbol == nullptr) return "";
    std::string out = symbol->name;
    if (linear != symbol->address) out += fmt::format("+{:#x}", linear - symbol->address);
    if (!symbol->module.empty()) out += fmt::format(" [{}]", symbol->module);
    return out;
}

const std::string& TraceDisassembler::text(const machine::TraceInstruction& instruction) {
    Key key{instruction.linear, 0, 0, static_cast<u64>(instruction.context->mode) | instruction.bytes.size() << 8};
    std::memcpy(&key.head, instruction.bytes.data(), std::min<std::size_t>(instruction.bytes.size(), 8));
    if (instruction.bytes.size() > 8)
        std::memcpy(&key.tail, instruction.bytes.data() + 8, instruction.bytes.size() - 8);
    const auto found = known_.find(key);
    if (found != known_.end()) return found->second;
    if (known_.size() >= kMost) known_.clear();
    return known_[key] = disassembler_.one(instruction.bytes, instruction.rip, instruction.context->mode).text;
}

}  // namespace vg::model
