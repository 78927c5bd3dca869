#include "ui/model/inspect_jit.h"

#include <fmt/format.h>

#include <charconv>

#include "cpu/isa/isa.h"
#include "jit/mode_key.h"
#include "ui/model/disassembler.h"
#include "ui/model/engine_statistics.h"

namespace vg::model {

namespace {

using Entry = jit::Survey::Entry;

constexpr std::size_t kListed = 20, kMostListed = 10'000;
constexpr unsigned kGuestWidth = 56;

std::string mode_text(u32 key) {
    static constexpr unsigned kBits[] = {16, 32, 64};
    const jit::ModeKey mode{key};
    return fmt::format("{} {}-bit", mode.has(jit::ModeKey::kUser) ? "user" : "kernel",
                       kBits[static_cast<unsigned>(mode.code_mode())]);
}

/// Blocks as they are shown: guest instructions with their host code.
class Listing {
  public:
    explicit Listing(const jit::Survey& survey) : survey_(survey), all_(survey.executed()) {}

    Json json(const Entry& entry, bool with_code) {
        Json block = {{"address", fmt::format("{:x}", entry.address)}, {"mode", mode_text(entry.key)},
                      {"spa", fmt::format("{:x}", entry.spa.value)}, {"executions", entry.executions},
                      {"instructions", entry.count}, {"share", share(entry)}, {"helpers", helpers(entry)},
                      {"guest_bytes", entry.guest.size()}, {"host_bytes", entry.host.size()},
                      {"translations", entry.translations}};
        if (with_code) block["code"] = code(entry);
        return block;
    }

    std::string text(const Entry& entry) {
        std::string out = fmt::format("\n{:x} ({}, physical {:x}): {} instructions, entered {} times, {:.2f} % of all; {} of them "
                                      "helper calls, {} host bytes, translated {} times\n",
                                      entry.address, mode_text(entry.key), entry.spa.value, entry.count, entry.executions,
                                      share(entry), helpers(entry), entry.host.size(), entry.translations);
        for (const Json& part : code(entry)) {
            std::string guest = part["guest"].get<std::string>();
            for (const Json& line : part["host"]) {
                out += fmt::format("  {:<{}} | {}\n", guest, kGuestWidth, line.get<std::string>());
                guest.clear();
            }
            if (!guest.empty()) out += fmt::format("  {:<{}} |\n", guest, kGuestWidth);
        }
        return out;
    }

    std::string table(const std::vector<const Entry*>& entries) {
        std::string out = fmt::format("{:>16}  {:13} {:>14} {:>7} {:>6} {:>7} {:>6}\n", "address", "mode", "entered", "share %", "insns",
                                      "helpers", "bytes");
        for (const Entry* entry : entries) {
            out += fmt::format("{:16x}  {:13} {:14} {:7.2f} {:6} {:7} {:6}\n", entry->address, mode_text(entry->key), entry->executions,
                               share(*entry), entry->count, helpers(*entry), entry->host.size());
        }
        return out;
    }

  private:
    double share(const Entry& entry) const {
        return all_ == 0 ? 0 : 100.0 * static_cast<double>(entry.executed()) / static_cast<double>(all_);
    }
    static std::size_t helpers(const Entry& entry) {
        std::size_t native = 0;
        for (const jit::Survey::Instruction& insn : entry.instructions) native += insn.native ? 1 : 0;
        return entry.count - native;
    }

    /// One object per guest instruction (and one for the entry before the first): its text, and its host code's.
    Json code(const Entry& entry) {
        Json parts = Json::array();
        const u32 first = entry.instructions.empty() ? static_cast<u32>(entry.host.size()) : entry.instructions.front().host;
        parts.push_back({{"guest", entry.instructions.empty() ? "(an instruction that crosses a page)" : "(entry)"},
                         {"host", host_code(entry, 0, first)}});
        u32 offset = 0;
        for (std::size_t k = 0; k < entry.instructions.size(); ++k) {
            const jit::Survey::Instruction& insn = entry.instructions[k];
            const bool last = k + 1 == entry.instructions.size();
            const u32 end = last ? static_cast<u32>(entry.host.size()) : entry.instructions[k + 1].host;
            const auto bytes = std::span(entry.guest).subspan(offset, insn.length);
            const jit::ModeKey mode{entry.key};
            const Disassembler::Line line = disassembler_.one(bytes, entry.address + offset, mode.code_mode());
            parts.push_back({{"guest", fmt::format("{:x}  {}{}", entry.address + offset, line.text, insn.native ? "" : "  [helper]")},
                             {"row", cpu::op_name(cpu::row(insn.row).op)},
                             {"native", insn.native},
                             {"host", host_code(entry, insn.host, end)}});
            offset += insn.length;
        }
        return parts;
    }

    Json host_code(const Entry& entry, u32 from, u32 to) {
        Json lines = Json::array();
        const u64 base = reinterpret_cast<u64>(entry.host.data());
        while (from < to && to <= entry.host.size()) {
            const Disassembler::Line line = disassembler_.one(entry.host.subspan(from, to - from), base + from, cpu::CodeMode::Bits64);
            lines.push_back(fmt::format("{:4x}  {}", from, with_target(line.text, entry)));
            from += line.length;
        }
        if (entry.host.empty()) lines.push_back("(no longer in the code cache)");
        return lines;
    }

    /// The target of a jump, which Capstone gives as a host address, by what it belongs to.
    std::string with_target(const std::string& text, const Entry& entry) const {
        const std::size_t at = text.rfind("0x");
        const bool jump = text.front() == 'j' || text.rfind("call", 0) == 0;
        u64 target = 0;
        if (!jump || at == std::string::npos || text.back() == ']') return text;
        std::from_chars(text.data() + at + 2, text.data() + text.size(), target, 16);
        const u8* host = reinterpret_cast<const u8*>(target);
        const auto thunks = survey_.thunk_code();
        if (host >= thunks.data() && host < thunks.data() + thunks.size())
            return text.substr(0, at) + fmt::format("thunk {:x}", host - thunks.data());
        const Entry* owner = survey_.owner(host);
        if (owner == &entry) return text.substr(0, at) + fmt::format("{:x}", host - entry.host.data());
        return owner == nullptr ? text : text.substr(0, at) + fmt::format("block {:x}", owner->address);
    }

    const jit::Survey& survey_;
    u64 all_;
    Disassembler disassembler_;
};

}  // namespace

bool is_jit_path(const std::string& path) { return path == "jit" || path.rfind("jit/", 0) == 0; }

std::string inspect_jit(machine::Machine& machine, const jit::Survey* survey, const std::string& path, bool json) {
    const std::string part = path.size() > 4 ? path.substr(4) : "";
    const Json counters = engine_statistics(machine);
    if (survey == nullptr) {
        if (!part.empty()) return "";
        return json ? counters.dump(2) + "\n"
                    : engine_summary(counters, machine.instructions()) + "blocks are counted in a run with --count-blocks FILE\n";
    }
    Listing listing(*survey);
    std::vector<const Entry*> entries;
    const bool top = part.rfind("top/", 0) == 0;
    const std::string digits = top ? part.substr(4) : part;
    u64 number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, top ? 10 : 16);
    if (!part.empty() && (error != std::errc{} || end != digits.data() + digits.size())) return "";
    if (part.empty()) entries = survey->hottest(kListed);
    else entries = top ? survey->hottest(std::min<u64>(number, kMostListed)) : survey->at(number);
    if (json) {
        Json blocks = Json::array();
        for (const Entry* entry : entries) blocks.push_back(listing.json(*entry, !part.empty()));
        return Json{{"engine", counters}, {"blocks", std::move(blocks)}}.dump(2) + "\n";
    }
    if (part.empty()) return engine_summary(counters, machine.instructions()) + "\n" + listing.table(entries);
    std::string out = top ? listing.table(entries) : "";
    for (const Entry* entry : entries) out += listing.text(*entry);
    return out;
}

}  // namespace vg::model
