// Requests about what a guest has in its registers and its memory.
#include <fmt/format.h>

#include <algorithm>

#include "ui/model/control_core.h"
#include "ui/model/guest_walk.h"
#include "ui/model/hypervisor.h"
#include "ui/model/vp_memory.h"
#include "ui/model/vp_registers.h"

namespace vg::model {
namespace {

constexpr std::size_t kMaxRead = 65536, kMaxLines = 4096;

Result<Json> registers(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    if (!at) return Unexpected{at.error()};
    return read_registers(*at->vp);
}

Result<Json> set_registers(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const Json& values = arguments.object("values");
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (auto done = write_registers(*at->vp, values); !done) return Unexpected{done.error()};
    return Json::object();
}

Space space_of(Arguments& arguments) {
    const auto space = parse_space(arguments.text("space", "linear"));
    if (!space) arguments.mistake("\"space\" is \"linear\", \"physical\" or \"machine\"");
    return space.value_or(Space::Linear);
}

Result<Json> read(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const Space space = space_of(arguments);
    const u64 address = arguments.number("address");
    const u64 size = arguments.count("size", 16, kMaxRead);
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    return Json{{"data", read_hex(*at, space, address, size)}};
}

Result<Json> write(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const Space space = space_of(arguments);
    const u64 address = arguments.number("address");
    const auto data = parse_hex_bytes(arguments.text("data"));
    if (!data) arguments.mistake("\"data\" is two hexadecimal digits a byte");
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    if (auto done = write_bytes(*at, space, address, *data); !done) return Unexpected{done.error()};
    return Json::object();
}

/// Code around an address, as lines.
class Listing {
  public:
    Listing(ControlCore& core, const FoundVp& at) : core_(core), at_(at), mode_(at.vp->code_mode()) {}

    Json lines(u64 address, u64 count, u64 before) {
        Json list = Json::array();
        for (const Disassembler::Line& line : preceding(address, before)) list.push_back(json(line));
        const std::string code = read_bytes(at_, Space::Linear, address, count * cpu::kMaxInsnLength);
        for (std::size_t offset = 0; offset < code.size() && count > 0; --count) {
            const Disassembler::Line line = one(code, offset, address + offset);
            list.push_back(json(line));
            offset += line.length;
        }
        for (; count > 0 && code.empty(); count = 0) list.push_back({{"address", hex(address)}, {"bytes", "??"}, {"text", "(not in memory)"}});
        return list;
    }

  private:
    Disassembler::Line one(const std::string& code, std::size_t offset, u64 address) {
        const std::span<const u8> bytes(reinterpret_cast<const u8*>(code.data()), code.size());
        const std::size_t size = std::min<std::size_t>(code.size() - offset, cpu::kMaxInsnLength);
        return core_.disassembler.one(bytes.subspan(offset, size), address, mode_);
    }

    /// The last instructions before an address: code can only be read forwards, so the first start from which reading
    /// arrives exactly there is taken. A function's start, where it is known, is right.
    std::vector<Disassembler::Line> preceding(u64 address, u64 count) {
        if (count == 0) return {};
        u64 from = address - std::min<u64>(address, count * cpu::kMaxInsnLength);
        if (const auto begin = function_begin(address); begin && *begin >= from) from = *begin;
        const std::string code = read_bytes(at_, Space::Linear, from, static_cast<std::size_t>(address - from));
        if (code.size() != address - from) return {};
        for (std::size_t start = 0; start < std::min<std::size_t>(code.size(), 2 * cpu::kMaxInsnLength); ++start) {
            std::vector<Disassembler::Line> lines;
            std::size_t offset = start;
            while (offset < code.size()) {
                lines.push_back(one(code, offset, from + offset));
                offset += lines.back().length;
            }
            if (offset != code.size()) continue;
            if (lines.size() > count) lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(count));
            return lines;
        }
        return {};
    }

    std::optional<u64> function_begin(u64 address) {
        const std::string text = symbol(address);
        const std::size_t plus = text.find("+0x");
        if (plus == std::string::npos) return std::nullopt;
        const auto offset = parse_number(text.substr(plus + 1, text.find(' ', plus) - plus - 1));
        return offset && *offset <= address ? std::optional<u64>(address - *offset) : std::nullopt;
    }

    std::string symbol(u64 address) {
        if (core_.options.symbols == nullptr) return {};
        const auto texts = core_.options.symbols->symbolize(core_.machine, at_.place(), std::span(&address, 1));
        return texts.empty() ? std::string() : texts.front();
    }

    Json json(const Disassembler::Line& line) {
        Json out = {{"address", hex(line.address)},
                    {"bytes", read_hex(at_, Space::Linear, line.address, line.length)},
                    {"text", line.text},
                    {"symbol", symbol(line.address)}};
        out["target"] = target(line.text);
        return out;
    }

    /// Of a jump or call to a fixed address.
    static Json target(const std::string& text) {
        const std::size_t space = text.rfind(" 0x");
        if ((text.rfind("j", 0) != 0 && text.rfind("call", 0) != 0 && text.rfind("loop", 0) != 0) || space == std::string::npos) {
            return nullptr;
        }
        const auto address = parse_number(text.substr(space + 1));
        return address ? Json(hex(*address)) : Json(nullptr);
    }

    ControlCore& core_;
    FoundVp at_;
    cpu::CodeMode mode_;
};

Result<Json> disassemble(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const u64 own = at ? at->vp->state().segment(cpu::Seg::CS).base + at->vp->state().rip : 0;
    const u64 address = arguments.number("address", own);
    const u64 count = arguments.count("count", 10, kMaxLines), before = arguments.count("before", 0, kMaxLines);
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    return Listing(core, *at).lines(address, count, before);
}

Json second_level(machine::Machine& machine, u64 partition, Gpa gpa) {
    Json list = Json::array();
    const auto view = walk(machine, partition, gpa);
    if (!view) return list;
    for (const WalkStep& step : view->steps) {
        list.push_back({{"level", step.level},
                        {"entry_address", hex(step.place.value)},
                        {"entry", hex(step.entry)},
                        {"flags", step.meaning},
                        {"next", hex(step.entry & 0x000ffffffffff000)}});
    }
    return list;
}

Result<Json> walk_address(ControlCore& core, Arguments& arguments) {
    const auto at = core.vp(arguments);
    const u64 address = arguments.number("address");
    if (!arguments.ok()) return arguments.failure();
    if (!at) return Unexpected{at.error()};
    const GuestWalk walk = guest_walk(*at, address);
    Json steps = Json::array();
    for (const GuestStep& step : walk.steps) {
        steps.push_back({{"level", step.level},
                         {"entry_address", hex(step.place.value)},
                         {"entry", hex(step.entry)},
                         {"flags", step.flags},
                         {"next", hex(step.next)}});
    }
    Json out = {{"linear", hex(address)}, {"mode", walk.mode}, {"steps", std::move(steps)}};
    out["physical"] = walk.physical ? Json(hex(walk.physical->value)) : Json(nullptr);
    out["fault"] = walk.fault.empty() ? Json(nullptr) : Json(walk.fault);
    const auto machine_address = walk.physical ? physical_to_machine(*at, *walk.physical) : std::nullopt;
    out["machine"] = machine_address ? Json(hex(machine_address->value)) : Json(nullptr);
    out["second"] = walk.physical ? second_level(core.machine, at->partition_id, *walk.physical) : Json::array();
    return out;
}

constexpr ControlRow kRows[] = {
    {"registers", "partition vp", false, registers},
    {"set_registers", "partition vp values", true, set_registers},
    {"read", "partition vp space address size", false, read},
    {"write", "partition vp space address data", true, write},
    {"disassemble", "partition vp address count before", false, disassemble},
    {"walk", "partition vp address", false, walk_address},
};

}  // namespace

Result<FoundVp> ControlCore::vp(Arguments& arguments) {
    const auto place = run.focus();
    SymbolPlace wanted = place.value_or(SymbolPlace{});
    if (arguments.has("partition") || arguments.has("vp")) {
        const u64 index = arguments.count("vp", 0, ~u32{0});
        wanted = {arguments.number("partition", wanted.partition), static_cast<u32>(index)};
    }
    if (!arguments.ok()) return arguments.failure();
    return find_vp(machine, wanted);
}

Result<FoundPartition> ControlCore::partition(Arguments& arguments) {
    const auto place = run.focus();
    const u64 id = arguments.number("partition", place ? place->partition : 0);
    if (!arguments.ok()) return arguments.failure();
    return find_partition(machine, id);
}

std::span<const ControlRow> guest_requests() { return kRows; }

}  // namespace vg::model
