#include "comparison.h"

#include <fmt/format.h>

#include <cstring>
#include <map>

#include "cpu/fault.h"
#include "cpu/isa/isa.h"
#include "deviations.h"

namespace vg::test {

using namespace cpu;
using namespace legacy_memory;

namespace {

struct Report {
    std::string text;
    void value(std::string_view name, u32 start, u32 oracle, u32 ours) {
        if (oracle != ours) text += fmt::format("  {:8} was {:#010x} unicorn {:#010x} ours {:#010x}\n", name, start, oracle, ours);
    }
};

bool is_trap(const Insn& i) { return i.op == Op::INT || i.op == Op::INT3 || i.op == Op::INTO; }

void compare(Report& report, const LegacyCase& c, const LegacyOutcome& oracle, const LegacyOutcome& ours) {
    static constexpr std::string_view kGpr[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
    static constexpr std::string_view kSeg[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    const LegacyState &u = oracle.state, &v = ours.state, &s = c.state;
    if (oracle.vector != ours.vector)
        report.text += fmt::format("  vector   unicorn {} ours {}\n", oracle.vector, ours.vector);
    report.value("error", 0, oracle.error, ours.error);
    for (unsigned n = 0; n < 8; ++n) report.value(kGpr[n], s.gpr[n], u.gpr[n], v.gpr[n]);
    for (unsigned n = 0; n < 6; ++n) report.value(kSeg[n], s.selector[n], u.selector[n], v.selector[n]);
    report.value("fs base", 0, u.fs_base, v.fs_base);
    report.value("cr2", s.cr2, u.cr2, v.cr2);
    // Unicorn stops before it delivers: a trap returns behind its instruction, a fault to it.
    const bool behind = is_trap(c.insn) && ours.vector >= 0 && ours.vector == oracle.vector;
    report.value("eip", s.eip, behind ? s.eip + c.insn.length : u.eip, v.eip);
    const u32 flags = compared_flags(c, ours.vector);
    report.value("eflags", s.eflags, u.eflags & flags, v.eflags & flags);
    if (oracle.ports != ours.ports)
        report.text += fmt::format("  ports    unicorn {} accesses ours {}\n", oracle.ports.size(), ours.ports.size());
}

}  // namespace

Comparison::Comparison() {
    statistics_.by_deviation.resize(deviations().size());
    for (unsigned n = 0; n < oracles_.size(); ++n) oracles_[n] = std::make_unique<UnicornCpu>(static_cast<Legacy>(n));
    for (unsigned real = 0; real < 2; ++real) {
        image_[real].assign(kSize, 0);
        write_tables(image_[real].data(), real != 0);
    }
}

void Comparison::restore(UnicornCpu& oracle) {
    const u8* const pristine = image_[loaded_ == Legacy::Real].data();
    for (u32 page = kImage; page < kImageEnd; page += 0x1000)
        for (u8* const memory : {oracle.memory(), engine_.memory()})
            if (std::memcmp(memory + page, pristine + page, 0x1000) != 0) std::memcpy(memory + page, pristine + page, 0x1000);
}

std::string Comparison::differences(const LegacyCase& c, const LegacyOutcome& ours, const LegacyOutcome& theirs) const {
    const UnicornCpu& oracle = *oracles_[static_cast<unsigned>(c.mode)];
    const u8* const pristine = image_[c.mode == Legacy::Real].data();
    Report report;
    compare(report, c, theirs, ours);
    if (!engine_.complaint().empty()) report.text += "  " + engine_.complaint() + "\n";
    const u8 *const a = engine_.memory(), *const b = oracle.memory();
    if (std::memcmp(a + kImage, b + kImage, kImageEnd - kImage) != 0)
        for (u32 n = kImage; n < kImageEnd; ++n)
            if (a[n] != b[n])
                report.text += fmt::format("  +{:#x} was {:02x} unicorn {:02x} ours {:02x}\n", n, pristine[n], b[n], a[n]);
    return report.text;
}

/// Whether what Unicorn is known to do differently is all that differs.
bool Comparison::explain(const LegacyCase& c, const LegacyOutcome& ours, LegacyOutcome theirs) {
    UnicornCpu& oracle = *oracles_[static_cast<unsigned>(c.mode)];
    Difference difference{c, ours, image_[c.mode == Legacy::Real].data(), engine_.memory(), theirs, oracle.memory(),
                          [&](const LegacyCase& other, u32 iterations) { return oracle.run(other, iterations); }};
    for (std::size_t n = 0; n < deviations().size(); ++n) {
        if (!correct(difference, n) || !differences(c, ours, theirs).empty()) continue;
        ++statistics_.explained;
        ++statistics_.by_deviation[n];
        return true;
    }
    return false;
}

std::string Comparison::check(const LegacyCase& c) {
    UnicornCpu& oracle = *oracles_[static_cast<unsigned>(c.mode)];
    const u8* const pristine = image_[c.mode == Legacy::Real].data();
    if (loaded_ == Legacy::Count || (loaded_ == Legacy::Real) != (c.mode == Legacy::Real))
        std::memcpy(engine_.memory(), pristine, kSize);
    loaded_ = c.mode;
    restore(oracle);
    const LegacyOutcome ours = engine_.run(c, pristine), theirs = oracle.run(c);
    ++statistics_.cases;
    if (theirs.unmodelled || ours.unmodelled) {
        ++statistics_.unmodelled;
        return {};
    }
    ++(ours.vector < 0 ? statistics_.completed : statistics_.faulted);
    const std::string report = differences(c, ours, theirs);
    if (report.empty() || explain(c, ours, theirs)) return {};
    std::string bytes;
    for (unsigned n = 0; n < c.insn.length; ++n) bytes += fmt::format("{:02x}", c.insn.bytes[n]);
    return fmt::format("{} {} [{}] vector {} ecx {:#x} esp {:#x}\n{}", op_name(c.insn.op), legacy_name(c.mode), bytes,
                       theirs.vector, c.state.gpr[1], c.state.gpr[4], report);
}

void Comparison::start(u64 n, LegacyGenerator& generator) {
    constexpr u64 kCasesPerFill = 256;
    if (n % kCasesPerFill != 0) return;
    for (auto& image : image_) generator.fill(image.data());
    for (auto& oracle : oracles_) std::memcpy(oracle->memory(), image_[oracle == oracles_[0]].data(), kSize);
    loaded_ = Legacy::Count;
}

std::string Comparison::run(u64 seed, u64 count, const char* only) {
    LegacyGenerator generator(seed, only);
    for (u64 n = 0; n < count; ++n) {
        start(n, generator);
        const LegacyCase c = generator.next([&](Legacy mode) { return image_[mode == Legacy::Real].data(); });
        const std::string report = check(c);
        if (!report.empty()) return fmt::format("seed {} case {}: {}", seed, n, report);
    }
    return {};
}

std::string Comparison::survey(u64 seed, u64 count, const char* only) {
    LegacyGenerator generator(seed, only);
    std::map<std::string, std::pair<u64, std::string>> found;
    for (u64 n = 0; n < count; ++n) {
        start(n, generator);
        const LegacyCase c = generator.next([&](Legacy mode) { return image_[mode == Legacy::Real].data(); });
        const std::string report = check(c);
        if (report.empty()) continue;
        auto& entry = found[std::string(op_name(c.insn.op)) + " " + std::string(legacy_name(c.mode))];
        if (entry.first++ == 0) entry.second = report;
    }
    std::string out;
    for (const auto& [name, entry] : found) out += fmt::format("{} times {}", entry.first, entry.second);
    const Statistics& s = statistics_;
    for (std::size_t n = 0; n < deviations().size(); ++n)
        out += fmt::format("{:6} explained by {}\n", s.by_deviation[n], deviations()[n]);
    return out + fmt::format("{} cases, {} completed, {} faulted, {} explained, {} unmodelled\n", s.cases, s.completed,
                             s.faulted, s.explained, s.unmodelled);
}

}  // namespace vg::test
