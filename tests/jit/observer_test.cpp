// What both engines tell of what they execute: the same, and without changing it.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "cpu/execution_observer.h"
#include "cpu/isa/isa.h"
#include "tests/jit/program_generator.h"

using namespace vg;
using namespace vg::test;

namespace {

/// Everything that is told, as one line for each instruction, in a form that does not depend on who tells it.
class Listener final : public cpu::ExecutionObserver {
  public:
    explicit Listener(bool each = false) : ExecutionObserver(false), each_(each) {}

    struct Access {
        bool write;
        u64 address, size, count;
        bool operator<(const Access& b) const {
            return std::tie(write, address, size, count) < std::tie(b.write, b.address, b.size, b.count);
        }
        bool operator==(const Access& b) const = default;
    };
    struct Line {
        u64 time, rip, iterations;
        std::string bytes;
        std::vector<Access> accesses;
        bool repeats = false;
        bool operator==(const Line&) const = default;
    };
    std::vector<Line> lines;
    u64 blocks = 0;

    void enter(cpu::Vp&) override {}
    void ran(cpu::Vp&, const cpu::TracedCode& code, const cpu::TracedRun& run) override {
        ++blocks;
        u64 rip = run.rip, at = 0, time = run.time;
        for (u32 k = 0; k < run.to; rip += code.lengths[k], at += code.lengths[k], ++k) {
            if (k < run.from) continue;
            Line line{time++,
                      rip,
                      1,
                      std::string(code.bytes.begin() + static_cast<long>(at),
                                  code.bytes.begin() + static_cast<long>(at + code.lengths[k])),
                      {}};
            line.repeats = code.repeats && k + 1 == code.lengths.size();
            if (line.repeats) line.iterations = run.iterations;
            for (u32 a = 0; a < code.accesses.size(); ++a) {
                const auto& access = code.accesses[a];
                if (access.insn != k) continue;
                CHECK(access.repeated == line.repeats);
                line.accesses.push_back({access.write, run.addresses[a], access.size, line.iterations});
            }
            put(std::move(line));
        }
    }
    void begin(cpu::Vp& vp, const cpu::Insn&) override {
        log().clear();
        rip_ = vp.state().rip;
        time_ = vp.now();
        count_ = vp.state().gpr[cpu::RCX];
        source_ = vp.state().gpr[cpu::RSI];
        destination_ = vp.state().gpr[cpu::RDI];
    }
    void end(cpu::Vp& vp, const cpu::Insn& insn, bool completed) override {
        Line line{time_, rip_, completed ? u64{1} : 0, std::string(insn.bytes, insn.bytes + insn.length), {}};
        line.repeats = insn.rep != cpu::Rep::None && cpu::row(insn.row).has(cpu::attr::String);
        if (line.repeats) {
            line.iterations += vp.now() - time_;
            if (!completed && line.iterations == 0) return;
            const u64 count = insn.addr_size == 4 ? static_cast<u32>(count_) : count_;
            if (completed && count == 0) line.iterations = 0;
            const u64 size = (insn.bytes[insn.opcode_offset] & 1) != 0 ? insn.op_size : 1;
            const bool source = insn.op == cpu::Op::MOVS || insn.op == cpu::Op::CMPS || insn.op == cpu::Op::LODS;
            if (source) line.accesses.push_back({false, source_, size, line.iterations});
            const bool stores = insn.op == cpu::Op::MOVS || insn.op == cpu::Op::STOS;
            if (insn.op != cpu::Op::LODS) line.accesses.push_back({stores, destination_, size, line.iterations});
        } else {
            if (!completed) return;
            for (const auto& entry : log().entries())
                line.accesses.push_back({entry.write, entry.address, entry.size, 1});
        }
        put(std::move(line));
    }
    [[nodiscard]] bool wants_each() const override { return each_; }
    [[nodiscard]] bool wants_addresses() const override { return true; }

  private:
    void put(Line line) {
        auto& list = line.accesses;
        std::sort(list.begin(), list.end());
        list.erase(std::unique(list.begin(), list.end()), list.end());
        std::erase_if(list, [&](const Access& a) {
            Access written = a;
            written.write = true;
            return !a.write && std::find(list.begin(), list.end(), written) != list.end();
        });
        if (line.repeats && line.iterations == 0) list.clear();
        // Parts of one repetition, however they were cut.
        if (line.repeats && !lines.empty() && lines.back().rip == line.rip && lines.back().repeats &&
            line.iterations != 0 && lines.back().time + lines.back().iterations == line.time) {
            lines.back().iterations += line.iterations;
            for (Access& access : lines.back().accesses) access.count += line.iterations;
            return;
        }
        lines.push_back(std::move(line));
    }

    bool each_;
    u64 rip_ = 0, time_ = 0, count_ = 0, source_ = 0, destination_ = 0;
};

std::string text_of(const Listener::Line& line) {
    std::string out = fmt::format("{} {:#x} x{}", line.time, line.rip, line.iterations);
    for (const char byte : line.bytes) out += fmt::format(" {:02x}", static_cast<u8>(byte));
    for (const auto& a : line.accesses)
        out += fmt::format(" {}{:#x}:{}x{}", a.write ? "w" : "r", a.address, a.size, a.count);
    return out;
}

struct Case {
    u64 seed = 0;
    ProgramGenerator::Weights weights{};
    jit::Options options{};
    u64 slice = ~u64{0} >> 2;
    u64 count = 3000;
};

void prepare(JitMachine& m, const Case& c) {
    ProgramGenerator generator(c.seed, m.model, c.weights);
    m.load(kCodePhysical, generator.program(60));
    generator.initial_state(m);
}

u64 run(JitMachine& m, cpu::Engine& engine, const Case& c, Listener* listener) {
    engine.set_observer(listener);
    (void)run_for(m, engine, c.count, c.slice);
    engine.set_observer(nullptr);
    m.vp->memory().set_log(nullptr);
    return m.hash();
}

void compare(const Case& c) {
    JitMachine a, b, d;
    prepare(a, c);
    prepare(b, c);
    prepare(d, c);
    Listener by_step, by_jit;
    cpu::StepEngine stepper;
    const u64 step = run(a, stepper, c, &by_step);
    auto traced = jit::JitEngine::create(b.memory, c.options), plain = jit::JitEngine::create(d.memory, c.options);
    REQUIRE((traced && plain));
    const u64 jit = run(b, **traced, c, &by_jit);
    INFO(fmt::format("seed {}", c.seed));
    CHECK(step == jit);
    CHECK(jit == run(d, **plain, c, nullptr));
    for (std::size_t k = 0; k < std::min(by_step.lines.size(), by_jit.lines.size()); ++k) {
        if (by_step.lines[k] == by_jit.lines[k]) continue;
        FAIL_CHECK(fmt::format("line {}\n step {}\n jit  {}", k, text_of(by_step.lines[k]), text_of(by_jit.lines[k])));
        return;
    }
    CHECK(by_step.lines.size() == by_jit.lines.size());
}

}  // namespace

TEST_CASE("observer: both engines tell the same of random programs", "[jit][observer]") {
    for (u64 seed = 1; seed <= 60; ++seed) {
        Case c{.seed = seed};
        c.weights.faults = seed % 2 == 0;
        c.weights.self_modifying = seed % 5 == 0;
        c.weights.x87 = seed % 7 == 0;
        if (seed % 3 == 0) c.slice = 1 + seed * 7 % 50;
        if (seed % 4 == 1) c.options.link_blocks = false;
        if (seed % 11 == 0) c.options.flush_every = 5;
        if (seed % 13 == 0) c.options.code_bytes = jit::Options::kLeastCodeBytes;
        if (seed % 6 == 0) c.options.hot_samples = 1, c.options.sample_every = 256, c.options.profile_runs = 20;
        compare(c);
    }
}

TEST_CASE("observer: the translator tells of whole blocks", "[jit][observer]") {
    const Case c{.seed = 3, .count = 20000};
    JitMachine m;
    prepare(m, c);
    auto engine = jit::JitEngine::create(m.memory, {});
    REQUIRE(engine);
    Listener listener;
    (void)run(m, **engine, c, &listener);
    CHECK(listener.lines.size() > 10000);
    CHECK(listener.blocks * 2 < listener.lines.size());
}

TEST_CASE("observer: repeated string instructions are told with their iterations, wherever they are cut",
          "[jit][observer]") {
    // mov ecx, 5000; mov edi, kData+0x10; mov eax, 7; rep stosb (pages 0 to 1); xor ecx, ecx; rep stosq; hlt
    const std::vector<u8> code = {0xb9, 0x88, 0x13, 0x00, 0x00, 0xbf, 0x10, 0x00, 0x60, 0x00, 0xb8, 0x07,
                                  0x00, 0x00, 0x00, 0xf3, 0xaa, 0x31, 0xc9, 0xf3, 0x48, 0xab, 0xf4};
    for (const u64 slice : {u64{100000}, u64{7}, u64{1000}}) {
        for (const bool translated : {false, true}) {
            EngineMachine m(translated);
            Listener listener;
            m.engine().set_observer(&listener);
            m.load(kCodePhysical, code);
            m.s().rip = kCode;
            while (m.s().activity == cpu::Activity::Active) {
                m.vp->begin_slice(m.vp->now(), m.vp->now() + slice);
                (void)m.engine().run(*m.vp);
            }
            m.engine().set_observer(nullptr);
            REQUIRE(listener.lines.size() == 7);
            CHECK(listener.lines[3].iterations == 5000);
            CHECK(listener.lines[3].accesses == std::vector<Listener::Access>{{true, 0x600010, 1, 5000}});
            CHECK(listener.lines[5].iterations == 0);
            CHECK(listener.lines[5].accesses.empty());
            CHECK(listener.lines[6].time == listener.lines[5].time + 1);
        }
    }
}
