// Filters, windows and forms of traces.
#include "ui/model/trace_view.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "machine/trace_file.h"
#include "tests/support/temp_dir.h"
#include "ui/model/trace_output.h"
#include "ui/model/trace_report.h"

using namespace vg;
using namespace vg::model;
using machine::TraceContext;
using machine::TraceEvent;
using machine::TraceInstruction;

namespace {

const std::vector<machine::TraceSymbol> kSymbols = {{1, 0x1000, 0x100, "start", ""},
                                                    {1, 0x2000, 0x80, "probe.part.0", "virtio"}};

struct Subject {
    TraceContext context{1, 0, 0x5000, 0, 0, 1, cpu::CodeMode::Bits64};
    std::vector<machine::TraceAccess> accesses = {{0x8000, 8, 8, false, {}}, {0x9ffc, 8, 8, true, {}}};
    TraceInstruction instruction;
    Subject() {
        instruction.context = &context;
        instruction.rip = instruction.linear = 0x1010;
        instruction.accesses = accesses;
    }
};

bool matches(const std::string& text) {
    const Subject subject;
    auto filter = TraceFilter::compile(text, kSymbols);
    INFO(text << (filter ? "" : ": " + filter.error().text));
    REQUIRE(filter);
    const bool result = filter->matches(subject.instruction);
    if (result) CHECK(filter->possible(subject.context));
    return result;
}

std::string mistake(const std::string& text) {
    auto filter = TraceFilter::compile(text, kSymbols);
    REQUIRE_FALSE(filter);
    CHECK(filter.error().code == Error::Code::Usage);
    return filter.error().text;
}

TraceEvent exit_event() {
    TraceEvent out;
    out.number = 7;
    out.event.kind = TapKind::Exit;
    out.event.partition = 1;
    out.event.vp = 0;
    return out;
}

/// Forty instructions of two functions, with an event in the middle.
void write_trace(const std::string& path, u64 accessed, u64 first = 100) {
    auto file = machine::TraceWriter::create(path, machine::TraceDetail::Memory, kAllTaps);
    REQUIRE(file);
    cpu::TracedCode code;  // push rbp; mov rax, [rdi]; ret
    code.lengths = {1, 3, 1};
    code.bytes = {0x55, 0x48, 0x8b, 0x07, 0xc3};
    code.accesses = {{.insn = 0, .size = 8, .write = true, .base = 4},
                     {.insn = 1, .size = 8, .base = 7},
                     {.insn = 2, .size = 8, .base = 4}};
    code.returns = true;
    machine::TraceEncoder& out = (*file)->encoder();
    for (u64 k = 0; k < 20; ++k) {
        const u64 number = first + 3 * k, time = 1000 + 3 * k;
        out.at(1, 0, number, time);
        out.context({1, 0, 0x5000, 0, static_cast<u8>(k < 10 ? 0 : 3), 1, cpu::CodeMode::Bits64});
        const u64 addresses[] = {0x7ff8, k == 15 ? accessed : 0x100 * k, 0x7ff8};
        out.ran(code, {k % 2 == 0 ? 0x1000u : 0x2000u, time, 0, 3, 1, addresses});
        if (k == 9) out.event(number + 3, time + 3, exit_event().event);
        if (k % 7 == 6) (*file)->put_chunk();
    }
    REQUIRE((*file)->finish(kSymbols));
}

std::string written(const std::string& path, const std::string& format, const std::string& window,
                    const std::string& filter) {
    auto file = machine::TraceFile::open(path);
    REQUIRE(file);
    auto parsed = TraceWindow::parse(window);
    REQUIRE(parsed);
    auto query = TraceQuery::create(**file, *parsed, filter);
    INFO((query ? "" : query.error().text));
    REQUIRE(query);
    std::string out;
    auto form = make_trace_output(format, **file, [&](std::string_view bytes) { out += bytes; });
    REQUIRE(form);
    REQUIRE(walk_trace(**file, *query, **form, [](u64, u64) { return true; }));
    (*form)->finish();
    return out;
}

std::size_t lines(const std::string& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_CASE("trace filter: terms are about instructions, contexts and accesses", "[ui][trace]") {
    for (const char* const yes :
         {"partition == 1", "vp != 1", "cpl < 3", "level >= 1", "cr3 == 0x5000", "pc in 0x1000..0x1011", "kernel",
          "read", "write", "memory == 0x8007", "memory in 0xa000..0xa001", "symbol == start", "module != virtio",
          "not user", "!user && (kernel or vp == 9)", "instruction", "not event", "event != exit or kernel",
          "partition==1 and not (cpl>0 or level==2)"})
        CHECK(matches(yes));
    for (const char* const no :
         {"partition == 2", "pc in 0x1000..0x1010", "user", "memory == 0x8008", "memory in 0xa004..0xb000",
          "symbol == probe.part.0", "module == virtio", "event", "event == exit", "kernel and user", "cr3 > 0x5000"})
        CHECK_FALSE(matches(no));
}

TEST_CASE("trace filter: events have kinds, partitions and processors", "[ui][trace]") {
    const auto takes = [](const std::string& text) {
        auto filter = TraceFilter::compile(text, kSymbols);
        REQUIRE(filter);
        return filter->matches(exit_event());
    };
    CHECK(takes(""));
    CHECK(takes("event == exit and partition == 1 and vp == 0"));
    CHECK(takes("event != msr"));
    CHECK_FALSE(takes("event == msr"));
    CHECK_FALSE(takes("cpl == 0"));
    CHECK_FALSE(takes("instruction"));
}

TEST_CASE("trace filter: a mistake is told with its column", "[ui][trace]") {
    CHECK(mistake("cpl == 3 and simbol == x").find("column 14: 'simbol'") != std::string::npos);
    CHECK(mistake("cpl == 3 and simbol == x").find("did you mean 'symbol'") != std::string::npos);
    CHECK(mistake("cpl = 3").find("column 5") != std::string::npos);
    CHECK(mistake("event == exlt").find("did you mean 'exit'") != std::string::npos);
    CHECK(mistake("symbol == nothing").find("nothing that was executed") != std::string::npos);
    CHECK(mistake("pc in 5..5").find("empty") != std::string::npos);
    CHECK(mistake("(kernel").find("')' is missing") != std::string::npos);
    CHECK(mistake("kernel user").find("left over") != std::string::npos);
    CHECK(mistake("kernel and").find("missing at the end") != std::string::npos);
    CHECK(mistake(std::string(200, '(') + "kernel").find("too many") != std::string::npos);
    CHECK(mistake(std::string(5000, ' ')).find("longer") != std::string::npos);
}

TEST_CASE("trace window: bounds are instructions, times, events and symbols", "[ui][trace]") {
    using Kind = TraceWindow::Bound::Kind;
    const auto window = [](const std::string& text) {
        auto parsed = TraceWindow::parse(text);
        INFO(text);
        REQUIRE(parsed);
        return *parsed;
    };
    CHECK(window("5M..+2k").from.value == 5'000'000);
    CHECK(window("5M..+2k").to.value == 2000);
    CHECK(window("5M..+2k").to.relative);
    CHECK(window("1.5s..").from.kind == Kind::Time);
    CHECK(window("1.5s..").from.value == 1'500'000'000);
    CHECK(window("..7").from.kind == Kind::None);
    CHECK(window("symbol:a.b..event:exit").from.name == "a.b");
    for (const char* const wrong : {"5", "5..5", "9..3", "x..", "event:nothing..", "symbol:..", "2s..1s"})
        CHECK_FALSE(TraceWindow::parse(wrong));
}

TEST_CASE("trace view: windows put together are the whole, filters leave out the rest", "[ui][trace]") {
    test::TempDir dir;
    const std::string path = dir / "t";
    write_trace(path, 0);
    const std::string whole = written(path, "text", "", "");
    CHECK(lines(whole) == 61);
    for (const u64 cut : {101, 114, 121, 130, 131, 159})
        CHECK(written(path, "text", fmt::format("..{}", cut), "") +
                  written(path, "text", fmt::format("{}..", cut), "") ==
              whole);
    CHECK(lines(written(path, "text", "", "user")) == 30);
    CHECK(lines(written(path, "text", "", "event")) == 1);
    CHECK(lines(written(path, "text", "", "symbol == start")) == 30);
    CHECK(lines(written(path, "text", "1010ns..1020ns", "")) == 10);
    CHECK(lines(written(path, "text", "event:exit..+4", "")) == 5);
    CHECK(lines(written(path, "text", "symbol:probe.part.0..symbol:start", "")) == 3);
    CHECK(whole.find("         100 0.000001000 1.0 k 000000005000 l1 0000000000001000 <start>  55                    "
                     "push rbp  w 7ff8:8\n") == 0);
    CHECK(whole.find("1.0 * exit reason 0x0") != std::string::npos);
}

TEST_CASE("trace view: forms say what was executed", "[ui][trace]") {
    test::TempDir dir;
    const std::string path = dir / "t";
    write_trace(path, 0);
    const auto first = nlohmann::json::parse(written(path, "jsonl", "100..101", ""));
    CHECK(first["pc"] == "0x1000");
    CHECK(first["code"] == "55");
    CHECK(first["symbol"] == "start");
    CHECK(first["accesses"][0]["write"] == true);
    const std::string drcov = written(path, "drcov", "", "");
    CHECK(drcov.find("Module Table: version 2, count 2\n") != std::string::npos);
    CHECK(drcov.find("BB Table: 2 bbs\n") != std::string::npos);
    CHECK(drcov.substr(drcov.size() - 16) == std::string("\0\0\0\0\5\0\1\0\0\0\0\0\5\0\0\0", 16));
    const auto lanes = nlohmann::json::parse(written(path, "perfetto", "", ""));
    CHECK(lanes["traceEvents"].size() > 20);
    auto file = machine::TraceFile::open(path);
    REQUIRE(file);
    const auto refused = make_trace_output("tenet", **file, [](std::string_view) {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Error::Code::Usage);
}

TEST_CASE("trace diff: the first difference is told with what is around it", "[ui][trace]") {
    test::TempDir dir;
    write_trace(dir / "a", 0x1234);
    write_trace(dir / "b", 0x1234);
    write_trace(dir / "c", 0x9999);
    const auto compare = [&](const char* one, const char* other) {
        auto a = machine::TraceFile::open(dir / one), b = machine::TraceFile::open(dir / other);
        REQUIRE((a && b));
        auto out = compare_traces(**a, **b, {}, "", 3, [](u64, u64) { return true; });
        REQUIRE(out);
        return *out;
    };
    CHECK(compare("a", "b").equal);
    CHECK(compare("a", "b").compared == 61);
    const TraceDifference difference = compare("a", "c");
    CHECK_FALSE(difference.equal);
    CHECK(difference.what == "accesses");
    CHECK(difference.number == 146);
    CHECK(difference.before.size() == 3);
    CHECK(difference.first.find("r 1234:8") != std::string::npos);
    CHECK(difference.second.find("r 9999:8") != std::string::npos);
    CHECK(difference.left_first == 14);
    CHECK(difference.text("a", "c").find("@@ accesses at instruction 146, behind 47") != std::string::npos);
}

TEST_CASE("trace stat: instructions, functions, pages and events are counted", "[ui][trace]") {
    test::TempDir dir;
    write_trace(dir / "t", 0);
    auto file = machine::TraceFile::open(dir / "t");
    REQUIRE(file);
    TraceStatistics statistics(**file);
    const TraceQuery query;
    REQUIRE(walk_trace(**file, query, statistics, [](u64, u64) { return true; }));
    const Json all = statistics.json(5);
    CHECK(all["instructions"] == 60);
    CHECK(all["user_instructions"] == 30);
    CHECK(all["reads"] == 40);
    CHECK(all["writes"] == 20);
    CHECK(all["functions"][0]["instructions"] == 30);
    CHECK(all["events"]["exit"] == 1);
    CHECK(statistics.text(5).find("probe.part.0 [virtio]") != std::string::npos);
}
