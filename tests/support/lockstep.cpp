#include "tests/support/lockstep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <vector>

#include "base/state.h"
#include "cpu/decode.h"
#include "cpu/interp.h"
#include "cpu/isa/isa.h"

namespace vg::test {

namespace {

u64 state_without_memory(machine::Machine& m) {
    StateHasher hasher;
    m.fields(hasher);
    return hasher.digest();
}

/// Both machines, always at the same virtual time.
class Pair {
  public:
    explicit Pair(const MakeMachine& make) : a_(make(0)), b_(make(1)) {}

    [[nodiscard]] machine::Machine& a() { return *a_; }
    [[nodiscard]] machine::Machine& b() { return *b_; }
    /// False: the run is over.
    bool run_until(VTime until) {
        const machine::Pause a = a_->run_until(until), b = b_->run_until(until);
        paused_alike_ = a == b;
        pause_ = a;
        return a == machine::Pause::Reached || a == machine::Pause::Idle;
    }
    [[nodiscard]] bool equal(bool memory) {
        if (!paused_alike_ || a_->now() != b_->now() || a_->outcome().kind != b_->outcome().kind) return false;
        return memory ? a_->state_hash() == b_->state_hash() : state_without_memory(*a_) == state_without_memory(*b_);
    }
    [[nodiscard]] std::string end() const {
        if (!a_->outcome().text.empty()) return a_->outcome().text;
        return pause_ == machine::Pause::Hang ? "every processor waits" : "the limit";
    }

  private:
    std::unique_ptr<machine::Machine> a_, b_;
    bool paused_alike_ = true;
    machine::Pause pause_ = machine::Pause::Reached;
};

/// A new pair, taken to `until` with the same stops on the way as the run that found the difference.
Pair run_again(const MakeMachine& make, const LockstepSettings& settings, VTime until) {
    Pair pair(make);
    for (VTime at = settings.interval; at < until; at += settings.interval) pair.run_until(at);
    pair.run_until(until);
    return pair;
}

std::vector<std::string> lines_of(machine::Machine& m) {
    StatePrinter printer;
    m.fields(printer);
    std::istringstream text(printer.result());
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
}

std::string instructions_at(machine::Machine& m) {
    std::string text;
    for (cpu::Vp* const vp : m.scheduler().processors()) {
        cpu::Insn insn;
        text += fmt::format("  {} at {:#x}:", vp->name(), vp->state().rip);
        u8 bytes[cpu::kMaxInsnLength] = {};
        if (vp->memory().peek(vp->state().rip, bytes, sizeof bytes) &&
            cpu::decode(std::span<const u8>(bytes), vp->code_mode(), insn) == cpu::DecodeStatus::Ok) {
            for (unsigned n = 0; n < insn.length; ++n) text += fmt::format(" {:02x}", bytes[n]);
            text += fmt::format(" {}", cpu::mnemonic(insn.op));
        }
        text += "\n";
    }
    return text;
}

std::string differences(Pair& pair) {
    constexpr unsigned kMost = 40;
    unsigned listed = 0;
    std::string text;
    const std::vector<std::string> a = lines_of(pair.a()), b = lines_of(pair.b());
    for (std::size_t n = 0; n < std::max(a.size(), b.size()) && listed < kMost; ++n) {
        const std::string x = n < a.size() ? a[n] : "", y = n < b.size() ? b[n] : "";
        if (x == y) continue;
        text += fmt::format("  first  {}\n  second {}\n", x, y);
        ++listed;
    }
    if (pair.a().outcome().kind != pair.b().outcome().kind)
        text += fmt::format("  first  ended: {}\n  second ended: {}\n", pair.a().outcome().text, pair.b().outcome().text);
    for (const mmu::Region& region : pair.a().memory().regions()) {
        for (u64 at = 0; at < region.size && listed < kMost; at += kPageSize) {
            const u8* const x = pair.a().memory().ram(region.base + at);
            const u8* const y = pair.b().memory().ram(region.base + at);
            if (x == nullptr || y == nullptr || std::memcmp(x, y, kPageSize) == 0) continue;
            text += fmt::format("  memory differs in the page at {:#x}\n", region.base.value + at);
            ++listed;
        }
    }
    return text.empty() ? "  memory only\n" : text;
}

/// @param good, bad  equal and different, the latter at an interval's end
std::string find_first(const MakeMachine& make, const LockstepSettings& settings, VTime good, VTime bad, bool memory) {
    while (bad - good > 1) {
        const VTime middle = good + (bad - good) / 2;
        Pair pair = run_again(make, settings, middle);
        (pair.equal(memory) ? good : bad) = middle;
    }
    Pair before = run_again(make, settings, good);
    std::string text = fmt::format("equal at {} ns, different at {} ns; about to execute\n{}", good, bad, instructions_at(before.a()));
    Pair after = run_again(make, settings, bad);
    if (after.equal(memory)) return text + "  not repeatable\n";
    return text + differences(after);
}

}  // namespace

LockstepResult run_lockstep(const MakeMachine& make, const LockstepSettings& settings) {
    LockstepResult result;
    Pair pair(make);
    VTime memory_good = 0;
    bool more = true;
    for (VTime at = settings.interval; more; at += settings.interval) {
        at = std::min(at, settings.until);
        more = pair.run_until(at) && at < settings.until;
        ++result.comparisons;
        const bool memory = !more || result.comparisons % settings.memory_every == 0;
        if (!pair.equal(false)) {
            result.report = find_first(make, settings, result.compared, pair.a().now(), false);
            break;
        }
        if (memory) {
            ++result.memory_comparisons;
            if (!pair.equal(true)) {
                result.report = find_first(make, settings, memory_good, pair.a().now(), true);
                break;
            }
            memory_good = pair.a().now();
            if (settings.progress) settings.progress(memory_good);
        }
        result.compared = pair.a().now();
    }
    result.instructions = pair.a().instructions();
    result.end = pair.end();
    result.equal = result.report.empty();
    return result;
}

}  // namespace vg::test
