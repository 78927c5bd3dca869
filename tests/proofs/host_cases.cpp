// Any number of random user-mode cases on the host processor and on an engine: the long form of the tests in tests/jit and
// tests/diff. Half of the cases are single instructions, half are sequences, each of which comes again with a fault at
// every access. See tools/prove.
#include <fmt/format.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "jit/engine.h"
#include "tests/support/differential.h"
#include "tests/support/isa_coverage.h"

using namespace vg;
using namespace vg::test;

/// Coverage is what the tests record, not this program.
void vg::test::exercised(u16, Exercise) {}

namespace {

/// Cases that share a seed, an engine and a kind.
constexpr u64 kChunk = 50'000;

struct Settings {
    u64 cases = 1'000'000, seed = 1;
    unsigned processes = 1;
    bool jit = true;
};

/// What a process found, as it goes through a pipe.
struct Totals {
    u64 cases = 0, completed = 0, faults[32] = {}, endless = 0, disturbed = 0, instructions = 0, translated = 0, differences = 0;

    void add(const Differential::Statistics& s) {
        cases += s.cases;
        completed += s.completed;
        for (unsigned n = 0; n < 32; ++n) faults[n] += s.faults[n];
        endless += s.endless;
        disturbed += s.disturbed;
        instructions += s.instructions;
    }
    void add(const Totals& o) {
        cases += o.cases;
        completed += o.completed;
        for (unsigned n = 0; n < 32; ++n) faults[n] += o.faults[n];
        endless += o.endless;
        disturbed += o.disturbed;
        instructions += o.instructions;
        translated += o.translated;
        differences += o.differences;
    }
};

/// Chunk `number`: even ones are single instructions, odd ones sequences.
void run_chunk(const Settings& settings, u64 number, Totals& totals) {
    const bool singles = number % 2 == 0;
    const jit::JitEngine* translator = nullptr;
    Differential differential([&](mmu::PhysicalMemory& memory) -> std::unique_ptr<cpu::Engine> {
        if (!settings.jit) return std::make_unique<cpu::StepEngine>();
        jit::Options options;
        // A slice of one instruction runs translated code only if blocks are as short.
        options.block_limit = singles ? 1 : 2 + static_cast<unsigned>(number / 2 % 3) * 31;  // 2, 33, 64
        options.code_bytes = 4u << 20;
        auto made = jit::JitEngine::create(memory, options);
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().text.c_str());
            std::_Exit(3);
        }
        translator = made->get();
        return std::move(*made);
    });
    const u64 seed = settings.seed + number;
    const std::string report = singles ? differential.run(seed, kChunk) : differential.run_sequences(seed, kChunk);
    totals.add(differential.statistics());
    if (translator != nullptr) totals.translated += translator->stats().translated_instructions;
    if (report.empty()) return;
    ++totals.differences;
    std::fprintf(stdout, "difference, %s, chunk of seed %llu:\n%s\n", singles ? "single instruction" : "sequence",
                 static_cast<unsigned long long>(seed), report.c_str());
    std::fflush(stdout);
}

/// Every `processes`-th chunk. @param out  where the totals go
void work(const Settings& settings, unsigned process, int out) {
    const u64 chunks = (settings.cases + kChunk - 1) / kChunk;
    Totals totals;
    for (u64 chunk = process; chunk < chunks; chunk += settings.processes) {
        // A host that does not come back from a case ends the process, which is a difference, too.
        const itimerval limit{{}, {600, 0}};
        ::setitimer(ITIMER_PROF, &limit, nullptr);
        run_chunk(settings, chunk, totals);
        if (chunk / settings.processes % 20 == 19)
            std::fprintf(stderr, "process %u: chunk %llu of %llu, %llu cases, %llu differences\n", process,
                         static_cast<unsigned long long>(chunk), static_cast<unsigned long long>(chunks),
                         static_cast<unsigned long long>(totals.cases), static_cast<unsigned long long>(totals.differences));
    }
    std::_Exit(::write(out, &totals, sizeof totals) == sizeof totals ? 0 : 3);
}

int usage() {
    std::fputs("proof_host [--cases N] [--seed S] [--processes P] [--engine jit|step]\n", stderr);
    return 2;
}

bool parse(int argc, char** argv, Settings& settings) {
    for (int n = 1; n < argc; n += 2) {
        const std::string_view name = argv[n];
        if (n + 1 == argc) return false;
        const char* const value = argv[n + 1];
        char* end = nullptr;
        const u64 number = std::strtoull(value, &end, 0);
        const bool whole = *value != 0 && *end == 0;
        if (name == "--engine") {
            settings.jit = std::string_view(value) == "jit";
            if (!settings.jit && std::string_view(value) != "step") return false;
        } else if (name == "--cases" && whole && number > 0) {
            settings.cases = number;
        } else if (name == "--seed" && whole) {
            settings.seed = number;
        } else if (name == "--processes" && whole && number >= 1 && number <= 64) {
            settings.processes = static_cast<unsigned>(number);
        } else {
            return false;
        }
    }
    return true;
}

void print(const Settings& settings, const Totals& totals, double seconds) {
    fmt::print("{}: seed {}, {} cases ({} completed, {} instructions", settings.jit ? "translator" : "interpreter", settings.seed,
               totals.cases, totals.completed, totals.instructions);
    if (settings.jit) fmt::print(", {} translated", totals.translated);
    fmt::print("), {} endless left out, {} differences of disturbed runs that a repetition did not show, {:.0f} s, {} processes\nfaults by vector:",
               totals.endless, totals.disturbed, seconds, settings.processes);
    for (unsigned n = 0; n < 32; ++n)
        if (totals.faults[n] != 0) fmt::print(" {}: {}", n, totals.faults[n]);
    fmt::print("\ndifferences: {}\n", totals.differences);
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    if (!parse(argc, argv, settings)) return usage();
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::pair<pid_t, int>> children;
    for (unsigned process = 0; process < settings.processes; ++process) {
        int ends[2];
        if (::pipe(ends) != 0) return 3;
        std::fflush(nullptr);
        const pid_t child = ::fork();
        if (child < 0) return 3;
        if (child == 0) {
            ::close(ends[0]);
            work(settings, process, ends[1]);
        }
        ::close(ends[1]);
        children.emplace_back(child, ends[0]);
    }
    Totals all;
    bool failed = false;
    for (const auto& [child, end] : children) {
        Totals totals;
        const bool whole = ::read(end, &totals, sizeof totals) == sizeof totals;
        ::close(end);
        int status = 0;
        ::waitpid(child, &status, 0);
        if (whole && status == 0) {
            all.add(totals);
            continue;
        }
        failed = true;
        fmt::print("a process ended with status {:#x}\n", status);
    }
    print(settings, all, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return failed || all.differences != 0 ? 1 : 0;
}
