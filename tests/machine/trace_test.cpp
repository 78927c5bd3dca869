// Traces: what was executed comes back from the file as it was, whoever executed it, and damaged files are told.
#include "machine/trace_file.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <random>

#include "machine/recording.h"
#include "machine/tracer.h"
#include "tests/support/typed_run.h"

using namespace vg;
using namespace vg::machine;

namespace {

using World = test::TypedRun;

const std::string kTwoChildren =
    test::kTypedChild + "[[child]]\nname = \"b\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n";

std::string line_of(const TraceInstruction& i) {
    std::string out = fmt::format("{} {} {}.{} {:x} {:x} cpl{} l{} m{} {:x}", i.number, i.time, i.context->partition,
                                  i.context->vp, i.context->cr3, i.context->cs_base, i.context->cpl, i.context->level,
                                  static_cast<int>(i.context->mode), i.linear);
    for (const u8 byte : i.bytes) out += fmt::format(" {:02x}", byte);
    if (i.iterations != 1) out += fmt::format(" x{}", i.iterations);
    for (const TraceAccess& a : i.accesses) {
        out += fmt::format(" {}{:x}:{}/{}", a.write ? "w" : "r", a.address, a.bytes, a.element);
        for (const u8 byte : a.value) out += fmt::format("{:02x}", byte);
    }
    if (i.registers != nullptr)
        for (unsigned k = 0; k < trace_format::kRegisters; ++k) out += fmt::format(" {:x}", (*i.registers)[k]);
    return out;
}

std::string line_of(const TraceEvent& e) {
    std::string out =
        fmt::format("{} {} {}.{} {}", e.number, e.time, e.event.partition, e.event.vp, tap_row(e.event.kind).name);
    for (const u64 value : e.event.values) out += fmt::format(" {:x}", value);
    for (const u8 byte : e.event.payload) out += fmt::format("{:02x}", byte);
    return out;
}

std::vector<std::string> lines_of(TraceFile& file) {
    std::vector<std::string> out;
    for (std::size_t k = 0; k < file.chunks().size(); ++k) {
        auto decoder = file.read(k);
        REQUIRE(decoder);
        while (true) {
            const TraceDecoder::Item item = (*decoder)->next();
            INFO((*decoder)->problem());
            REQUIRE(item != TraceDecoder::Item::Damaged);
            if (item == TraceDecoder::Item::End) break;
            out.push_back(item == TraceDecoder::Item::Event ? line_of((*decoder)->event())
                                                            : line_of((*decoder)->instruction()));
        }
    }
    return out;
}

/// Runs a typed recording again, traced. Returns the lines; checks that it stayed the same run.
std::vector<std::string> trace(World& world, const std::string& recorded, const std::string& path,
                               MachineOptions::EngineKind engine, TraceDetail detail, u64 expected_hash) {
    auto recording = Recording::open(recorded);
    REQUIRE(recording);
    MachineOptions options;
    options.engine = engine;
    auto machine = Machine::create((*recording)->config(), std::move(options));
    REQUIRE(machine);
    Replay replay(*recording);
    replay.attach(**machine);
    auto file = TraceWriter::create(path, detail, kAllTaps);
    REQUIRE(file);
    Tracer tracer(std::move(*file), {detail, kAllTaps});
    tracer.attach(**machine);
    REQUIRE(run_to(**machine, (*recording)->last()));
    tracer.detach();
    REQUIRE(tracer.finish({}));
    CHECK((*machine)->state_hash() == expected_hash);
    CHECK(tracer.executed() > 100'000);
    auto read = TraceFile::open(path);
    REQUIRE(read);
    CHECK((*read)->notes().empty());
    CHECK((*read)->detail() == detail);
    (void)world;
    return lines_of(**read);
}

void check_equal(const std::vector<std::string>& a, const std::vector<std::string>& b) {
    for (std::size_t k = 0; k < std::min(a.size(), b.size()); ++k) {
        if (a[k] == b[k]) continue;
        FAIL_CHECK(fmt::format("line {}\n  {}\n  {}\nbefore\n  {}", k, a[k], b[k], k == 0 ? "" : a[k - 1]));
        return;
    }
    CHECK(a.size() == b.size());
}

constexpr VTime kPause = 20'000;  // a line is kept for each instruction
constexpr auto kStep = MachineOptions::EngineKind::Step, kJit = MachineOptions::EngineKind::Jit;

std::vector<u8> content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
void put(const std::string& path, const std::vector<u8>& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// Reads everything there is; an error's code, or nothing.
std::optional<Error::Code> read_all(const std::string& path, std::string* text = nullptr) {
    auto file = TraceFile::open(path);
    if (!file) {
        if (text != nullptr) *text = file.error().text;
        return file.error().code;
    }
    for (std::size_t k = 0; k < (*file)->chunks().size(); ++k) {
        auto decoder = (*file)->read(k);
        if (!decoder) return decoder.error().code;
        while (true) {
            const TraceDecoder::Item item = (*decoder)->next();
            if (item == TraceDecoder::Item::Damaged) return (*file)->damage().code;
            if (item == TraceDecoder::Item::End) break;
        }
    }
    return std::nullopt;
}

/// A trace of code that was made up: `count` steps of random places.
void write_synthetic(const std::string& path, u64 seed, u64 count, std::vector<std::string>* lines, bool finish) {
    std::mt19937_64 random(seed);
    auto file = TraceWriter::create(path, TraceDetail::Memory, kAllTaps);
    REQUIRE(file);
    TraceEncoder& out = (*file)->encoder();
    std::vector<std::unique_ptr<cpu::TracedCode>> codes;
    std::vector<u64> rips;
    u64 number = 1000, time = 5000;
    for (u64 k = 0; k < count; ++k) {
        if (codes.empty() || (random() % 8 == 0 && codes.size() < 40)) {
            auto code = std::make_unique<cpu::TracedCode>();
            const unsigned insns = static_cast<unsigned>(1 + random() % 6);
            for (unsigned i = 0; i < insns; ++i) {
                code->lengths.push_back(static_cast<u8>(1 + random() % 7));
                for (unsigned b = 0; b < code->lengths.back(); ++b) code->bytes.push_back(static_cast<u8>(random()));
                if (random() % 2 == 0)
                    code->accesses.push_back({.insn = static_cast<u8>(i),
                                              .size = 8,
                                              .write = random() % 2 == 0,
                                              .base = static_cast<u8>(random() % 18)});
            }
            code->calls = random() % 4 == 0;
            code->returns = !code->calls && random() % 4 == 0;
            codes.push_back(std::move(code));
            rips.push_back(0xffffffff81000000 + random() % 0x100000);
        }
        if (k == 0 || random() % 50 == 0) time += random() % 1000;
        const u32 vp = static_cast<u32>(random() % 20 == 0);
        const std::size_t which = random() % codes.size();
        const cpu::TracedCode& code = *codes[which];
        const u32 insns = static_cast<u32>(code.lengths.size());
        const u32 from = random() % 10 == 0 ? static_cast<u32>(random() % insns) : 0;
        const u32 to = random() % 10 == 0 ? from + 1 : insns;
        out.at(1, vp, number, time);
        out.context({1, vp, 0x1000 * (random() % 3), 0, static_cast<u8>(random() % 2 * 3), 1, cpu::CodeMode::Bits64});
        std::vector<u64> addresses(code.accesses.size());
        for (u64& address : addresses) address = 0x7000 + random() % 4 * 8;
        out.ran(code, {rips[which], time, from, to, 1, addresses.data()});
        if (lines != nullptr) {
            u64 rip = rips[which];
            for (u32 i = 0; i < to; rip += code.lengths[i], ++i)
                if (i >= from)
                    lines->push_back(fmt::format("{} {} {} {:x}", number + i - from, time + i - from, vp, rip));
        }
        number += to - from;
        time += to - from;
        if (random() % 300 == 0) (*file)->put_chunk();
    }
    if (finish)
        REQUIRE((*file)->finish({{1, 0xffffffff81000000, 0x1000, "start", ""}}));
    else
        (*file)->put_chunk();
}

}  // namespace

TEST_CASE("trace: what is written is what is read, chunk by chunk", "[machine][trace]") {
    test::TempDir dir;
    for (u64 seed = 0; seed < 20; ++seed) {
        std::vector<std::string> wanted;
        write_synthetic(dir / "t", seed, 2000, &wanted, true);
        auto file = TraceFile::open(dir / "t");
        REQUIRE(file);
        std::vector<std::string> got;
        for (std::size_t k = 0; k < (*file)->chunks().size(); ++k) {
            auto decoder = (*file)->read(k);
            REQUIRE(decoder);
            while ((*decoder)->next() == TraceDecoder::Item::Instruction) {
                const TraceInstruction& i = (*decoder)->instruction();
                got.push_back(fmt::format("{} {} {} {:x}", i.number, i.time, i.context->vp, i.linear));
            }
            CHECK((*decoder)->problem().empty());
        }
        check_equal(wanted, got);
        CHECK((*file)->symbol(1, 0xffffffff81000fff)->name == "start");
        CHECK((*file)->symbol(1, 0xffffffff81001000) == nullptr);
        CHECK((*file)->symbol(2, 0xffffffff81000000) == nullptr);
    }
}

TEST_CASE("trace: both engines make the same one, and the run stays what it was", "[machine][trace]") {
    const std::string text = GENERATE(test::kTypedChild, test::kTypedPc);
    World world;
    const std::string recorded = world.dir / "run.vgr";
    const u64 hash = world.record(world.config(text), recorded, kPause);
    const auto step = trace(world, recorded, world.dir / "step", kStep, TraceDetail::Memory, hash);
    const auto jit = trace(world, recorded, world.dir / "jit", kJit, TraceDetail::Memory, hash);
    check_equal(step, jit);
    const auto flow = trace(world, recorded, world.dir / "flow", kJit, TraceDetail::Flow, hash);
    CHECK(flow.size() == step.size());
}

TEST_CASE("trace: values and registers are those of the machine", "[machine][trace]") {
    World world;
    const std::string recorded = world.dir / "run.vgr";
    const u64 hash = world.record(world.config(test::kTypedPc), recorded, kPause);
    const auto step = trace(world, recorded, world.dir / "step", kStep, TraceDetail::Registers, hash);
    const auto jit = trace(world, recorded, world.dir / "jit", kJit, TraceDetail::Registers, hash);
    check_equal(step, jit);
    // The guest counts in EBX and stores it: each store has the value that the register has.
    auto file = TraceFile::open(world.dir / "jit");
    REQUIRE(file);
    u64 stores = 0;
    for (std::size_t k = 0; k < (*file)->chunks().size(); ++k) {
        auto decoder = (*file)->read(k);
        REQUIRE(decoder);
        for (auto item = (*decoder)->next(); item != TraceDecoder::Item::End; item = (*decoder)->next()) {
            REQUIRE(item != TraceDecoder::Item::Damaged);
            if (item != TraceDecoder::Item::Instruction) continue;
            const TraceInstruction& i = (*decoder)->instruction();
            if (i.linear != test::kEchoStored - 6) continue;
            REQUIRE(i.accesses.size() == 1);
            CHECK(i.accesses[0].address == test::kEchoCounter);
            REQUIRE(i.accesses[0].value.size() == 4);
            u32 value = 0;
            std::copy(i.accesses[0].value.begin(), i.accesses[0].value.end(), reinterpret_cast<u8*>(&value));
            CHECK(value == static_cast<u32>((*i.registers)[cpu::RBX]));
            if (++stores > 1000) return;
        }
    }
    CHECK(stores > 100);
}

TEST_CASE("trace: processors of several partitions keep their order", "[machine][trace]") {
    World world;
    const Config config = world.config(kTwoChildren);
    const auto run = [&](MachineOptions::EngineKind engine, const std::string& path) {
        MachineOptions options;
        options.engine = engine;
        auto machine = Machine::create(config, std::move(options));
        REQUIRE(machine);
        auto file = TraceWriter::create(path, TraceDetail::Memory, kAllTaps);
        REQUIRE(file);
        Tracer tracer(std::move(*file), {});
        tracer.attach(**machine);
        (*machine)->run_until(1'000'000);
        tracer.detach();
        REQUIRE(tracer.finish({}));
        auto read = TraceFile::open(path);
        REQUIRE(read);
        return lines_of(**read);
    };
    const auto step = run(kStep, world.dir / "step"), jit = run(kJit, world.dir / "jit");
    check_equal(step, jit);
    const auto of = [&](const char* who) {
        return std::count_if(step.begin(), step.end(),
                             [&](const std::string& line) { return line.find(who) != std::string::npos; });
    };
    CHECK(of(" 1.0 ") + of(" 2.0 ") + of(" 3.0 ") > 100'000);
}

TEST_CASE("trace: a file that was cut off is good up to its last whole chunk", "[machine][trace]") {
    test::TempDir dir;
    write_synthetic(dir / "whole", 1, 4000, nullptr, true);
    const std::vector<u8> whole = content(dir / "whole");
    auto file = TraceFile::open(dir / "whole");
    REQUIRE(file);
    const auto chunks = (*file)->chunks();
    REQUIRE(chunks.size() > 4);
    for (std::size_t k = 1; k < chunks.size(); ++k) {
        put(dir / "cut", std::vector<u8>(whole.begin(), whole.begin() + static_cast<long>(chunks[k].offset + 5)));
        auto cut = TraceFile::open(dir / "cut");
        REQUIRE(cut);
        CHECK((*cut)->chunks().size() == k);
        REQUIRE((*cut)->notes().size() == 1);
        CHECK((*cut)->chunks().back().first == chunks[k - 1].first);
        CHECK_FALSE(read_all(dir / "cut"));
    }
    write_synthetic(dir / "killed", 1, 4000, nullptr, false);
    auto killed = TraceFile::open(dir / "killed");
    REQUIRE(killed);
    CHECK((*killed)->notes().size() == 1);
    CHECK((*killed)->chunks().size() == chunks.size());
}

TEST_CASE("trace: damaged and foreign files are errors that say so", "[machine][trace]") {
    test::TempDir dir;
    write_synthetic(dir / "whole", 2, 1500, nullptr, true);
    const std::vector<u8> whole = content(dir / "whole");
    std::mt19937_64 random(3);
    unsigned noticed = 0;
    for (unsigned k = 0; k < 400; ++k) {
        std::vector<u8> flipped = whole;
        const std::size_t at = random() % (flipped.size() - 16);
        flipped[at] ^= static_cast<u8>(1u << (random() % 8));
        put(dir / "flipped", flipped);
        const auto code = read_all(dir / "flipped");
        if (code) CHECK(*code == Error::Code::Damaged);
        noticed += code ? 1 : 0;
    }
    CHECK(noticed > 350);  // the rest hit the index, without which the file is good
    put(dir / "foreign", std::vector<u8>(4096, 'x'));
    std::string text;
    CHECK(read_all(dir / "foreign", &text) == Error::Code::Damaged);
    CHECK(text.find("is not a trace") != std::string::npos);
    CHECK(read_all(dir / "missing", &text) == Error::Code::Usage);
    CHECK(text.find("--trace") != std::string::npos);
}

TEST_CASE("trace: chunks made to mislead a reader are damaged, not endless", "[machine][trace]") {
    // Any content behind a checksum that is right.
    test::TempDir dir;
    std::mt19937_64 random(11);
    write_synthetic(dir / "good", 4, 300, nullptr, true);
    auto good = TraceFile::open(dir / "good");
    REQUIRE(good);
    auto reader = ChunkReader::open(dir / "good", kTraceChunks);
    REQUIRE(reader);
    std::vector<std::vector<u8>> chunks;
    trace_format::ChunkType type{};
    std::vector<u8> raw;
    while (*(*reader)->next(type, raw) == ChunkReader::Next::Chunk)
        if (type == trace_format::ChunkType::Code) chunks.push_back(raw);
    REQUIRE_FALSE(chunks.empty());
    unsigned damaged = 0;
    for (unsigned k = 0; k < 3000; ++k) {
        std::vector<u8> bytes = chunks[random() % chunks.size()];
        for (unsigned n = 1 + random() % 4; n != 0; --n) bytes[random() % bytes.size()] = static_cast<u8>(random());
        if (random() % 10 == 0) bytes.resize(random() % bytes.size());
        TraceDecoder decoder(bytes, TraceDetail::Memory);
        TraceDecoder::Item item{};
        do item = decoder.next();
        while (item != TraceDecoder::Item::End && item != TraceDecoder::Item::Damaged);
        damaged += item == TraceDecoder::Item::Damaged ? 1 : 0;
    }
    CHECK(damaged > 1000);
}
