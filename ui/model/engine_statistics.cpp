#include "ui/model/engine_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "jit/engine.h"
#include "machine/vp_engines.h"

namespace vg::model {

namespace {

constexpr std::string_view kSlowAccessNames[] = {"misaligned", "crosses_page", "non_canonical", "fault", "no_ram"};
static_assert(std::size(kSlowAccessNames) == static_cast<unsigned>(jit::SlowAccess::Count));

/// "VEX 0F38 58 VPBROADCASTD": the row of cpu/isa that an instruction came from.
std::string row_name(u16 index) {
    static constexpr std::string_view kMaps[] = {"", "0F ", "0F38 ", "0F3A ", "VEX 0F ", "VEX 0F38 ", "VEX 0F3A "};
    static_assert(std::size(kMaps) == static_cast<unsigned>(cpu::OpcodeMap::Count));
    if (index == 0) return "(crosses a page)";
    const cpu::Row& row = cpu::row(index);
    return fmt::format("{}{:02X} {}", kMaps[static_cast<unsigned>(row.map)], row.opcode, cpu::op_name(row.op));
}

/// Helper calls by row, most first.
Json helpers_json(const std::vector<u64>& calls) {
    std::vector<u16> rows;
    for (u16 index = 0; index < calls.size(); ++index)
        if (calls[index] != 0) rows.push_back(index);
    std::sort(rows.begin(), rows.end(), [&](u16 a, u16 b) { return calls[a] > calls[b]; });
    Json list = Json::array();
    for (const u16 index : rows) list.push_back({{"row", index}, {"name", row_name(index)}, {"calls", calls[index]}});
    return list;
}

double per(u64 amount, u64 count) { return count == 0 ? 0 : static_cast<double>(amount) / static_cast<double>(count); }

}  // namespace

Json engine_statistics(machine::Machine& machine) {
    const auto* translator = dynamic_cast<const jit::JitEngine*>(&machine.engine());
    const auto* translators = dynamic_cast<const machine::VpEngines*>(&machine.engine());
    if (translator == nullptr && translators == nullptr) return {{"kind", "step"}};
    const jit::Stats s = translator != nullptr ? translator->stats() : translators->stats();
    Json reasons = Json::object();
    for (std::size_t k = 0; k < std::size(kSlowAccessNames); ++k)
        reasons[std::string(kSlowAccessNames[k])] = s.slow_access_reasons[k];
    const u64 by_interpreter = s.steps + s.helpers + s.slow_accesses + s.slow_executes;
    return {{"kind", "jit"},
            {"blocks", s.blocks},
            {"translated_instructions", s.translated_instructions},
            {"translate_ms", static_cast<double>(s.translate_ns) / 1e6},
            {"translate_ns_per_instruction", per(s.translate_ns, s.translated_instructions)},
            {"code_bytes", s.code_bytes},
            {"code_bytes_per_instruction", per(s.code_bytes, s.translated_instructions)},
            {"dispatches", s.dispatches},
            {"redispatches", s.redispatches},
            {"links", s.links},
            {"interpreted", s.steps},
            {"helpers", s.helpers},
            {"interpreter_share", per(by_interpreter, machine.instructions())},
            {"tlb_refills", s.refills},
            {"slow_accesses", s.slow_accesses},
            {"slow_access_reasons", std::move(reasons)},
            {"slow_executes", s.slow_executes},
            {"slow_jumps", s.slow_jumps},
            {"jump_fills", s.jump_fills},
            {"return_misses", s.return_misses},
            {"code_writes", s.code_writes},
            {"invalidations", s.invalidations},
            {"samples", s.samples}, {"profiled", s.profiled},
            {"tuned", s.tuned},
            {"profiled_again", s.profiled_again},
            {"flushes", s.flushes},
            {"helper_rows", helpers_json(s.helper_rows)}};
}

std::string engine_summary(const Json& engine, u64 instructions) {
    if (engine["kind"] != "jit") return "engine: the interpreter\n";
    const auto count = [&engine](const char* key) { return engine[key].get<u64>(); };
    const auto per_million = [&](const char* key) {
        return fmt::format("{} ({:.0f} per million instructions)", count(key), 1e6 * per(count(key), instructions));
    };
    std::string out = fmt::format("translator: {} blocks of {} instructions, {:.0f} ns and {:.0f} bytes per instruction, {:.0f} ms\n",
                                  count("blocks"), count("translated_instructions"),
                                  engine["translate_ns_per_instruction"].get<double>(),
                                  engine["code_bytes_per_instruction"].get<double>(), engine["translate_ms"].get<double>());
    for (const auto& [key, name] : {std::pair{"dispatches", "dispatches"}, {"redispatches", "without the dispatcher"},
                                    {"tlb_refills", "TLB refills"}, {"slow_accesses", "accesses by the interpreter"},
                                    {"slow_jumps", "jump cache misses"}, {"return_misses", "returns not paired"},
                                    {"code_writes", "writes to translated code"},
                                    {"interpreted", "instructions interpreted"}, {"helpers", "helper calls"}})
        out += fmt::format("  {:28} {}\n", name, per_million(key));
    constexpr std::size_t kShown = 12;
    for (std::size_t k = 0; k < std::min(kShown, engine["helper_rows"].size()); ++k) {
        const Json& row = engine["helper_rows"][k];
        out += fmt::format("    {:26} {}\n", row["name"].get<std::string>(), row["calls"].get<u64>());
    }
    return out + fmt::format("  interpreter's share: {:.2f} % of {} instructions\n", 100 * engine["interpreter_share"].get<double>(),
                             instructions);
}

}  // namespace vg::model
