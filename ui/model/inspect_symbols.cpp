#include "ui/model/inspect_symbols.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/state.h"
#include "hv/hypervisor.h"
#include "hv/vp.h"
#include "machine/pc_machine.h"

namespace vg::model {
namespace {

constexpr std::size_t kMaxListed = 10'000;

std::vector<std::string_view> parts_of(std::string_view path) {
    std::vector<std::string_view> parts;
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        parts.push_back(path.substr(0, slash));
        path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    }
    return parts;
}

std::optional<u64> number(std::string_view text) {
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string where(const StackFrame& frame) {
    std::string text = fmt::format("0x{:016x}", frame.pc);
    if (!frame.symbol.empty()) text += " " + frame.symbol;
    if (!frame.file.empty()) text += fmt::format(" {}:{}", frame.file, frame.line);
    return text;
}

void show(const SymbolOverview& view, StateVisitor& v) {
    v.note("kind", view.kind);
    v.note("symbols", std::to_string(view.symbols));
    if (view.kind == "linux") {
        v.note("text", fmt::format("0x{:x}", view.text));
        v.note("slide", fmt::format("0x{:x}{}", view.slide, view.slide_told ? "" : " (from the usual link address)"));
        v.note("unwinding", view.orc);
        if (!view.no_modules.empty())
            v.note("modules", "not known: " + view.no_modules);
        else
            v.note("modules", fmt::format("{}", fmt::join(view.modules, " ")));
        v.note("module_symbols", std::to_string(view.module_symbols));
    }
    if (!view.file.empty()) v.note("file", view.file);
    if (!view.file_problem.empty()) v.note("file_problem", view.file_problem);
}

void show_overview(machine::Machine& machine, GuestSymbols& symbols, StateVisitor& v) {
    for (const u64 partition : partitions_with_code(machine)) {
        VisitScope scope(v, std::to_string(partition));
        show(symbols.overview(machine, {partition, 0}), v);
    }
}

void show_symbol(machine::Machine& machine, GuestSymbols& symbols, std::string_view name, StateVisitor& v) {
    VisitScope scope(v, std::string(name));
    for (const u64 partition : partitions_with_code(machine))
        if (const auto address = symbols.find(machine, {partition, 0}, name))
            v.note(fmt::format("partition{}", partition), fmt::format("0x{:016x}", *address));
}

void show_matches(machine::Machine& machine, GuestSymbols& symbols, u64 partition, std::string_view match,
                  StateVisitor& v) {
    VisitScope scope(v, std::to_string(partition));
    for (const Symbol& symbol : symbols.list(machine, {partition, 0}, match, kMaxListed)) {
        std::string text = fmt::format("0x{:016x} size 0x{:x}", symbol.address, symbol.size);
        if (!symbol.module.empty()) text += fmt::format(" [{}]", symbol.module);
        v.note(symbol.name, text);
    }
}

void show_stack(machine::Machine& machine, GuestSymbols& symbols, SymbolPlace place, StateVisitor& v) {
    const auto frames = symbols.stack(machine, place, GuestSymbols::kMaxFrames);
    for (std::size_t i = 0; i < frames.size(); ++i) v.note(fmt::format("frame{}", i), where(frames[i]));
}

void show_explanation(machine::Machine& machine, GuestSymbols& symbols, SymbolPlace place, std::string what,
                      StateVisitor& v) {
    VisitScope scope(v, what.empty() ? "all" : what);
    const auto text = symbols.explain(machine, place, what.empty() ? "all" : what);
    std::string_view rest = text ? std::string_view(*text) : std::string_view(text.error().text);
    for (unsigned i = 0; !rest.empty(); ++i) {
        const std::size_t end = rest.find('\n');
        v.note(std::to_string(i), std::string(rest.substr(0, end)));
        rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
}

}  // namespace

std::vector<u64> partitions_with_code(machine::Machine& machine) {
    std::vector<u64> ids;
    if (machine.pc() != nullptr && !machine.pc()->vps().empty()) ids.push_back(0);
    if (machine.hypervisor() == nullptr) return ids;
    for (const auto& node : machine.hypervisor()->nodes())
        if (node->partition != nullptr && !node->partition->vps().empty()) ids.push_back(node->id);
    return ids;
}

bool is_symbol_path(const std::string& path) {
    const std::string first = path.substr(0, path.find('/'));
    return first == "symbols" || first == "stack" || first == "explain";
}

std::string inspect_symbols(machine::Machine& machine, GuestSymbols& symbols, const std::string& path) {
    const std::vector<std::string_view> parts = parts_of(path);
    StatePrinter printer;
    if (parts.empty()) return "";
    {
        VisitScope scope(printer, std::string(parts[0]));
        if (parts[0] == "symbols") {
            const auto partition = parts.size() > 1 ? number(parts[1]) : std::nullopt;
            if (parts.size() == 1)
                show_overview(machine, symbols, printer);
            else if (partition)
                show_matches(machine, symbols, *partition, parts.size() > 2 ? parts[2] : "", printer);
            else
                show_symbol(machine, symbols, parts[1], printer);
            return printer.result();
        }
        const auto partition = parts.size() > 2 ? number(parts[1]) : std::nullopt,
                   vp = parts.size() > 2 ? number(parts[2]) : std::nullopt;
        if (!partition || !vp || *vp > 0xffff) return "";
        const SymbolPlace place{*partition, static_cast<u32>(*vp)};
        if (placed_vp(machine, place).processor == nullptr) return "";
        VisitScope one(printer, std::to_string(*partition));
        VisitScope two(printer, std::to_string(*vp));
        if (parts[0] == "stack")
            show_stack(machine, symbols, place, printer);
        else
            show_explanation(machine, symbols, place, parts.size() > 3 ? std::string(parts[3]) : "", printer);
    }
    return printer.result();
}

std::string describe_stack(machine::Machine& machine, GuestSymbols& symbols, SymbolPlace place, std::size_t frames) {
    std::string text;
    for (const StackFrame& frame : symbols.stack(machine, place, frames)) text += "  " + where(frame) + "\n";
    return text;
}

}  // namespace vg::model
