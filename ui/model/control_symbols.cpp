// Requests about names in a guest: answered by a SymbolSource.
#include <fmt/format.h>

#include "ui/model/control_core.h"
#include "ui/model/vp_registers.h"

namespace vg::model {
namespace {

constexpr u64 kMaxSymbols = 1'000'000, kMaxFrames = 1024;
constexpr std::size_t kMaxAddresses = 4096;

Unexpected<Error> no_symbols() { return fail(Error::Code::Usage, "symbols are not available here"); }

Result<Json> symbols(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const std::string match = arguments.text("match", "");
    const u64 limit = arguments.count("limit", 100, kMaxSymbols);
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (core.options.symbols == nullptr) return no_symbols();
    Json list = Json::array();
    for (const Symbol& symbol : core.options.symbols->list(core.machine, at->place(), match, limit)) {
        list.push_back({{"name", symbol.name}, {"address", hex(symbol.address)}, {"size", symbol.size}, {"module", symbol.module}});
    }
    return list;
}

Result<Json> symbolize(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const std::vector<u64> addresses = arguments.numbers("addresses", kMaxAddresses);
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (core.options.symbols == nullptr) return no_symbols();
    return Json(core.options.symbols->symbolize(core.machine, at->place(), addresses));
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
}

/// A number, a register or a symbol.
Result<u64> resolve_term(ControlCore& core, const FoundVp& at, std::string_view term) {
    if (const auto number = parse_number(term)) return *number;
    const Json registers = read_registers(*at.vp);
    const std::string name(term.substr(0, 1) == "$" ? term.substr(1) : term);
    if (registers.contains(name)) {
        if (const auto number = parse_number(registers[name].get_ref<const std::string&>())) return *number;
    }
    if (core.options.symbols != nullptr) {
        if (const auto address = core.options.symbols->find(core.machine, at.place(), term)) return *address;
    }
    return fail(Error::Code::Usage, fmt::format("\"{}\" is no number, no register and no symbol that is known here", term));
}

/// TERM, or TERM+NUMBER, TERM-NUMBER.
Result<u64> resolve_text(ControlCore& core, const FoundVp& at, std::string_view text) {
    text = trimmed(text);
    const std::size_t sign = text.find_last_of("+-");
    if (sign == std::string_view::npos || sign == 0) return resolve_term(core, at, text);
    const auto offset = parse_number(trimmed(text.substr(sign + 1)));
    if (!offset) return resolve_term(core, at, text);
    const auto base = resolve_text(core, at, text.substr(0, sign));
    if (!base) return base;
    return text[sign] == '+' ? *base + *offset : *base - *offset;
}

Result<Json> resolve(ControlCore& core, Arguments& arguments) {
    constexpr std::size_t kMaxText = 1024;
    const auto at = core.vp(arguments);
    const std::string text = arguments.text("text");
    if (text.size() > kMaxText) arguments.mistake("the text is too long");
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    const auto address = resolve_text(core, *at, text);
    if (!address) return Unexpected{address.error()};
    return Json{{"address", hex(*address)}};
}

Result<Json> stack(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const u64 limit = arguments.count("limit", 64, kMaxFrames);
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (core.options.symbols == nullptr) return no_symbols();
    Json list = Json::array();
    for (const StackFrame& frame : core.options.symbols->stack(core.machine, at->place(), limit)) {
        list.push_back({{"pc", hex(frame.pc)}, {"sp", hex(frame.sp)}, {"symbol", frame.symbol}, {"file", frame.file}, {"line", frame.line}});
    }
    return list;
}

Result<Json> explain(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const std::string what = arguments.text("what", "");
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (core.options.symbols == nullptr) return fail(Error::Code::Usage, "explanations are not available here");
    auto text = core.options.symbols->explain(core.machine, at->place(), what);
    if (!text) return Unexpected{text.error()};
    return Json{{"text", std::move(*text)}};
}

constexpr ControlRow kRows[] = {
    {"symbols", "partition vp match limit", false, symbols},
    {"symbolize", "partition vp addresses", false, symbolize},
    {"resolve", "partition vp text", false, resolve},
    {"stack", "partition vp limit", false, stack},
    {"explain", "partition vp what", false, explain},
};

}  // namespace

std::span<const ControlRow> symbol_requests() { return kRows; }

}  // namespace vg::model
