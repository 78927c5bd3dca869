// Traces as text: a line for people, and a JSON object a line for programs.
#include <fmt/format.h>

#include "ui/model/json_text.h"
#include "ui/model/trace_output.h"

namespace vg::model {

using machine::TraceAccess;
using machine::TraceEvent;
using machine::TraceInstruction;

namespace {

std::string hex_of(std::span<const u8> bytes) {
    return hex_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::string_view mode_name(cpu::CodeMode mode) {
    switch (mode) {
        case cpu::CodeMode::Bits16:
            return "16";
        case cpu::CodeMode::Bits32:
            return "32";
        case cpu::CodeMode::Bits64:
            return "64";
    }
    return "";
}

std::string seconds(u64 ns) { return fmt::format("{}.{:09}", ns / 1'000'000'000, ns % 1'000'000'000); }

/// Keeps what is written together until it is worth a call.
class Buffered : public TraceOutput {
  public:
    explicit Buffered(TraceWrite write) : write_(std::move(write)) {}
    void finish() override {
        if (!buffer_.empty()) write_(buffer_);
        buffer_.clear();
    }

  protected:
    void put(std::string_view line) {
        constexpr std::size_t kEnough = 1u << 16;
        buffer_ += line;
        buffer_ += '\n';
        if (buffer_.size() >= kEnough) finish();
    }

  private:
    TraceWrite write_;
    std::string buffer_;
};

class TextOutput final : public Buffered {
  public:
    TextOutput(const machine::TraceFile& file, TraceWrite write) : Buffered(std::move(write)), file_(file) {}
    void instruction(const TraceInstruction& instruction) override {
        put(trace_line(file_, disassembler_, instruction));
    }
    void event(const TraceEvent& event) override { put(trace_line(event)); }

  private:
    const machine::TraceFile& file_;
    TraceDisassembler disassembler_;
};

Json access_json(const TraceAccess& access) {
    Json out = {{"address", hex(access.address)}, {"bytes", access.bytes}, {"write", access.write}};
    if (access.bytes != access.element) out["element"] = access.element;
    if (!access.value.empty()) out["value"] = hex_of(access.value);
    return out;
}

class JsonlOutput final : public Buffered {
  public:
    JsonlOutput(const machine::TraceFile& file, TraceWrite write) : Buffered(std::move(write)), file_(file) {}

    void instruction(const TraceInstruction& i) override {
        Json out = {{"instruction", i.number},
                    {"time", i.time},
                    {"partition", i.context->partition},
                    {"vp", i.context->vp},
                    {"cpl", i.context->cpl},
                    {"level", i.context->level},
                    {"cr3", hex(i.context->cr3)},
                    {"mode", std::string(mode_name(i.context->mode))},
                    {"pc", hex(i.linear)},
                    {"code", hex_of(i.bytes)},
                    {"text", disassembler_.text(i)}};
        if (i.rip != i.linear) out["rip"] = hex(i.rip);
        if (i.iterations != 1) out["iterations"] = i.iterations;
        const std::string symbol = trace_symbol_text(file_, i.context->partition, i.linear);
        if (!symbol.empty()) out["symbol"] = symbol;
        for (const TraceAccess& access : i.accesses) out["accesses"].push_back(access_json(access));
        if (i.registers != nullptr) {
            Json& registers = out["registers"] = Json::object();
            for (unsigned k = 0; k < machine::trace_format::kRegisters; ++k)
                if ((i.changed >> k & 1) != 0) registers[std::string(trace_register_name(k))] = hex((*i.registers)[k]);
        }
        put(json_line(out));
    }
    void event(const TraceEvent& e) override {
        const TapRow& row = tap_row(e.event.kind);
        Json out = {{"event", std::string(row.name)},
                    {"instruction", e.number},
                    {"time", e.time},
                    {"partition", e.event.partition}};
        if (e.event.vp != TapEvent::kNoVp) out["vp"] = e.event.vp;
        Json& values = out["values"] = Json::object();
        for (unsigned k = 0; k < 4; ++k)
            if (!row.fields[k].empty()) values[std::string(row.fields[k])] = hex(e.event.values[k]);
        if (!e.event.payload.empty()) out["payload"] = hex_of(e.event.payload);
        put(json_line(out));
    }

  private:
    const machine::TraceFile& file_;
    TraceDisassembler disassembler_;
};

}  // namespace

std::string_view trace_register_name(unsigned number) {
    static constexpr std::string_view kNames[] = {"rax", "rcx", "rdx",    "rbx",     "rsp",    "rbp", "rsi",
                                                  "rdi", "r8",  "r9",     "r10",     "r11",    "r12", "r13",
                                                  "r14", "r15", "rflags", "fs_base", "gs_base"};
    static_assert(std::size(kNames) == machine::trace_format::kRegisters);
    return kNames[number];
}

/// Each line says everything, so that windows can be put together.
std::string trace_line(const machine::TraceFile& file, TraceDisassembler& disassembler, const TraceInstruction& i) {
    const machine::TraceContext& context = *i.context;
    std::string out = fmt::format("{:>12} {} {}.{} {} {:012x} ", i.number, seconds(i.time), context.partition,
                                  context.vp, context.cpl == 3 ? "u" : "k", context.cr3);
    if (context.level != 0) out += fmt::format("l{} ", context.level);
    out += fmt::format("{:016x}", i.linear);
    const std::string symbol = trace_symbol_text(file, context.partition, i.linear);
    if (!symbol.empty()) out += fmt::format(" <{}>", symbol);
    out += fmt::format("  {:<20}  {}", hex_of(i.bytes), disassembler.text(i));
    if (i.iterations != 1) out += fmt::format("  x{}", i.iterations);
    for (const TraceAccess& access : i.accesses) {
        out += fmt::format("  {} {:x}:{}", access.write ? "w" : "r", access.address, access.bytes);
        if (!access.value.empty()) out += "=" + hex_of(access.value);
    }
    if (i.registers != nullptr) {
        for (unsigned k = 0; k < machine::trace_format::kRegisters; ++k)
            if ((i.changed >> k & 1) != 0) out += fmt::format("  {}={:x}", trace_register_name(k), (*i.registers)[k]);
    }
    return out;
}

std::string trace_line(const TraceEvent& e) {
    const TapRow& row = tap_row(e.event.kind);
    const std::string vp = e.event.vp == TapEvent::kNoVp ? "-" : std::to_string(e.event.vp);
    std::string out = fmt::format("{:>12} {} {}.{} * {}", e.number, seconds(e.time), e.event.partition, vp, row.name);
    for (unsigned k = 0; k < 4; ++k)
        if (!row.fields[k].empty()) out += fmt::format(" {} {:#x}", row.fields[k], e.event.values[k]);
    if (!e.event.payload.empty()) {
        constexpr std::size_t kShown = 32;
        const auto shown = e.event.payload.first(std::min(kShown, e.event.payload.size()));
        out += fmt::format(" {} {}{}", row.payload, hex_of(shown), shown.size() < e.event.payload.size() ? "..." : "");
    }
    return out;
}

std::unique_ptr<TraceOutput> make_text_output(const machine::TraceFile& file, TraceWrite write) {
    return std::make_unique<TextOutput>(file, std::move(write));
}
std::unique_ptr<TraceOutput> make_jsonl_output(const machine::TraceFile& file, TraceWrite write) {
    return std::make_unique<JsonlOutput>(file, std::move(write));
}

bool is_trace_format(const std::string& format) {
    for (const char* const known : {"text", "jsonl", "tenet", "drcov", "perfetto"})
        if (format == known) return true;
    return false;
}

machine::TraceDetail detail_for(const std::string& format) {
    if (format == "tenet") return machine::TraceDetail::Registers;
    return format == "drcov" || format == "perfetto" ? machine::TraceDetail::Flow : machine::TraceDetail::Memory;
}

Result<std::unique_ptr<TraceOutput>> make_trace_output(const std::string& format, const machine::TraceFile& file,
                                                       TraceWrite write) {
    if (format == "text") return make_text_output(file, std::move(write));
    if (format == "jsonl") return make_jsonl_output(file, std::move(write));
    if (format == "drcov") return make_drcov_output(file, std::move(write));
    if (format == "perfetto") return make_perfetto_output(file, std::move(write));
    if (format != "tenet")
        return fail(Error::Code::Usage,
                    fmt::format("--format {}: there are text, jsonl, tenet, drcov and perfetto", format));
    if (file.detail() < machine::TraceDetail::Registers) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: has detail '{}', and tenet wants registers; trace again with --detail registers",
                                file.path(), machine::name_of(file.detail())));
    }
    return make_tenet_output(std::move(write));
}

}  // namespace vg::model
