// Interpreter and translator, or two ways of running either, side by side over a whole machine's run. See tools/prove.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/support/lockstep.h"

using namespace vg;
using namespace vg::test;

namespace {

struct Side {
    bool jit = true;
    std::string stress;
};

struct Settings {
    std::string machine;
    std::vector<machine::Override> overrides;
    Side sides[2] = {{false, ""}, {true, ""}};
    LockstepSettings lockstep;
    bool console = false;
};

int usage() {
    std::fputs("proof_lockstep MACHINE.toml [-s KEY=VALUE]... [--first ENGINE[:STRESS]] [--second ENGINE[:STRESS]]\n"
               "               [--interval NS] [--memory-every N] [--until NS] [--console yes]\n"
               "ENGINE: step (first) or jit (second); STRESS: as machine.stress\n", stderr);
    return 2;
}

bool parse_side(std::string_view text, Side& side) {
    const std::size_t colon = text.find(':');
    const std::string_view engine = text.substr(0, colon);
    side.jit = engine == "jit";
    side.stress = colon == std::string_view::npos ? "" : text.substr(colon + 1);
    return side.jit || engine == "step";
}

bool parse(int argc, char** argv, Settings& settings) {
    if (argc < 2 || argv[1][0] == '-') return false;
    settings.machine = argv[1];
    for (int n = 2; n < argc; n += 2) {
        const std::string_view name = argv[n];
        if (n + 1 == argc) return false;
        const std::string_view text = argv[n + 1];
        char* end = nullptr;
        const u64 number = std::strtoull(argv[n + 1], &end, 0);
        const bool whole = !text.empty() && *end == 0 && number > 0;
        if (const std::size_t equals = text.find('='); name == "-s" && equals != std::string_view::npos)
            settings.overrides.emplace_back(text.substr(0, equals), text.substr(equals + 1));
        else if (name == "--first" || name == "--second") {
            if (!parse_side(text, settings.sides[name == "--second"])) return false;
        } else if (name == "--interval" && whole) settings.lockstep.interval = number;
        else if (name == "--memory-every" && whole) settings.lockstep.memory_every = number;
        else if (name == "--until" && whole) settings.lockstep.until = number;
        else if (name == "--console") settings.console = text == "yes";
        else return false;
    }
    return true;
}

[[noreturn]] void give_up(const Error& error) {
    std::fprintf(stderr, "proof_lockstep: %s\n", error.text.c_str());
    std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    if (!parse(argc, argv, settings)) return usage();
    const auto start = std::chrono::steady_clock::now();
    bool first_run = true;  // later ones look for a difference, quietly
    const MakeMachine make = [&](unsigned which) {
        const Side& side = settings.sides[which];
        auto config = machine::load_config(settings.machine, settings.overrides);
        if (!config) give_up(config.error());
        config->machine.stress = side.stress;
        machine::MachineOptions options;
        options.engine = side.jit ? machine::MachineOptions::EngineKind::Jit : machine::MachineOptions::EngineKind::Step;
        const bool print = settings.console && which == 0 && first_run;
        if (which == 1) first_run = false;
        options.console = [print](const std::string&, u8 byte) {
            if (print) std::fputc(byte, stdout);
        };
        auto made = machine::Machine::create(*config, std::move(options));
        if (!made) give_up(made.error());
        return std::move(*made);
    };
    const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
    double told = 0;
    settings.lockstep.progress = [&](VTime now) {
        constexpr double kBetween = 30;
        if (seconds() - told < kBetween) return;
        told = seconds();
        std::fprintf(stderr, "%.0f s: equal up to %.3f s of guest time\n", told, static_cast<double>(now) / 1e9);
    };
    const LockstepResult result = run_lockstep(make, settings.lockstep);
    fmt::print("{}: {} instructions, equal up to {} ns of guest time, {} comparisons of state, {} of memory, {:.0f} s; end: {}\n{}",
               result.equal ? "equal" : "different", result.instructions, result.compared, result.comparisons,
               result.memory_comparisons, seconds(), result.end, result.report);
    return result.equal ? 0 : 1;
}
