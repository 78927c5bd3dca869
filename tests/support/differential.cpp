#include "tests/support/differential.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <cstring>

#include "cpu/isa/isa.h"
#include "cpu/segments.h"
#include "tests/support/isa_coverage.h"

namespace vg::test {

using namespace cpu;

namespace {

bool host_is_zen() {
    unsigned eax, ebx, ecx, edx;
    __cpuid(0, eax, ebx, ecx, edx);
    const bool amd = ebx == 0x68747541;  // "Auth"
    __cpuid(1, eax, ebx, ecx, edx);
    return amd && ((eax >> 8) & 15) + ((eax >> 20) & 255) >= 0x17;
}

std::string hex(const u8* bytes, std::size_t count) {
    std::string out;
    for (std::size_t n = 0; n < count; ++n) out += fmt::format("{:02x}", bytes[n]);
    return out;
}

/// Where processors differ and the engine follows the manuals' common ground, not this host: the case says nothing.
bool differs_by_processor(Op op, int host, int ours) {
    if (host == ours) return false;
    // Zen does not check the alignment of SHA operands.
    if (op_name(op).starts_with("SHA")) return ours == kGeneralProtection;
    switch (op) {
        // Zen has MXCSR.MM (misaligned SSE), bit 17.
        case Op::LDMXCSR: case Op::VLDMXCSR: return host < 0 && ours == kGeneralProtection;
        // Zen reads 32 bits for MOVSXD r16, where the manual says r/m16.
        case Op::MOVSXD: return host == kPageFault && ours < 0;
        // Zen pushes the return address before it checks that the target is canonical.
        case Op::CALL: return (host == kPageFault || host == kStackFault) && ours == kGeneralProtection;
        // "Memory faults on bytes with a mask of zero are implementation-dependent."
        case Op::MASKMOVQ: case Op::MASKMOVDQU: case Op::VMASKMOVDQU: return host == kPageFault && ours < 0;
        default: return false;
    }
}

/// A host that is itself a guest may be unable to run user code with a stack pointer that is not canonical: the return to
/// it faults before the instruction is reached.
bool stack_refused(const Case& c, int host, int ours) {
    return host == kGeneralProtection && ours != host && !canonical(c.state.gpr[RSP]);
}

/// These may fault with the x87 already switched to MMX on the host; ours leave nothing behind.
bool ignores_x87(const Row& r, int vector) {
    return (vector == kSimdError && r.has(attr::Mmx)) || (vector == kPageFault && r.op == Op::MASKMOVQ);
}

/// Precision beside an unmasked underflow or overflow is approximate (host_execute.cpp).
constexpr u32 kPrecision = 1 << 5;
bool range_reported(u32 mxcsr) { return (mxcsr & ~(mxcsr >> 7) & 0x18) != 0; }

/// Dot products raise an unmasked exception in the stage that has it, with that stage's flags; ours has those of all.
bool in_stages(Op op) { return op == Op::DPPS || op == Op::DPPD || op == Op::VDPPS || op == Op::VDPPD; }

constexpr u64 kComparedFlags = flag::Status | flag::DF;

/// Names what differs, one line each.
struct Report {
    std::string text;
    void value(std::string_view name, u64 start, u64 host, u64 ours) {
        if (host != ours) text += fmt::format("  {:8} was {:#018x} host {:#018x} ours {:#018x}\n", name, start, host, ours);
    }
    void bytes(std::string_view name, const u8* start, const u8* host, const u8* ours, std::size_t count) {
        if (std::memcmp(host, ours, count) == 0) return;
        text += fmt::format("  {:8} was  {}\n           host {}\n           ours {}\n", name, hex(start, count),
                            hex(host, count), hex(ours, count));
    }
};

void compare(Report& report, const UserState& start, const UserState& host, const UserState& ours, u64 flags, bool x87) {
    for (unsigned n = 0; n < 16; ++n) report.value(fmt::format("r{}", n), start.gpr[n], host.gpr[n], ours.gpr[n]);
    report.value("rip", start.rip, host.rip, ours.rip);
    report.value("rflags", start.rflags & kComparedFlags, host.rflags & flags, ours.rflags & flags);
    for (unsigned n = 0; n < 16; ++n)
        report.bytes(fmt::format("ymm{}", n), start.ymm[n], host.ymm[n], ours.ymm[n], 32);
    report.value("mxcsr", start.mxcsr, host.mxcsr, ours.mxcsr);
    if (!x87) return;
    report.value("fcw", start.x87.fcw, host.x87.fcw, ours.x87.fcw);
    report.value("fsw", start.x87.fsw, host.x87.fsw, ours.x87.fsw);
    report.value("ftw", start.x87.ftw, host.x87.ftw, ours.x87.ftw);
    for (unsigned n = 0; n < 8; ++n)
        report.bytes(fmt::format("st{}", n), start.x87.st[n], host.x87.st[n], ours.x87.st[n], 10);
}

std::string describe(const UserState& s) {
    std::string text;
    for (unsigned n = 0; n < 16; ++n) text += fmt::format("  r{} {:#x}{}", n, s.gpr[n], n % 4 == 3 ? "\n" : "");
    text += fmt::format("  rip {:#x} rflags {:#x} mxcsr {:#x} fcw {:#x} fsw {:#x} ftw {:#x}\n", s.rip, s.rflags, s.mxcsr,
                        s.x87.fcw, s.x87.fsw, s.x87.ftw);
    for (unsigned n = 0; n < 16; ++n) text += fmt::format("  ymm{} {}\n", n, hex(s.ymm[n], 32));
    for (unsigned n = 0; n < 8; ++n) text += fmt::format("  st{} {}\n", n, hex(s.x87.st[n], 10));
    return text;
}

}  // namespace

Differential::Differential(Engine& engine, const char* model) : machine_(model), engine_(engine), all_flags_(host_is_zen()) { map_pages(); }

Differential::Differential(const MakeEngine& make)
    : owned_(make(machine_.memory)), engine_(*owned_), all_flags_(host_is_zen()) {
    map_pages();
}

void Differential::map_pages() {
    machine_.enter_long_mode(3);
    machine_.map_user(NativeRunner::kCode, 1, false);
    machine_.map_user(NativeRunner::kData, NativeRunner::kDataSize / kPageSize);
    machine_.memory.write(Spa(NativeRunner::kCode), native_.code(), kPageSize);
}

void Differential::load_vp(const UserState& s) {
    VpState& v = machine_.vp->state();
    std::memcpy(v.gpr, s.gpr, sizeof v.gpr);
    v.rip = s.rip;
    v.rflags = flag::Always1 | flag::IF | (s.rflags & kComparedFlags);
    std::memcpy(v.ymm, s.ymm, sizeof v.ymm);
    v.mxcsr = s.mxcsr;
    v.x87 = s.x87;
}

void Differential::store_vp(UserState& s) {
    const VpState& v = machine_.vp->state();
    std::memcpy(s.gpr, v.gpr, sizeof v.gpr);
    s.rip = v.rip;
    s.rflags = v.rflags;
    std::memcpy(s.ymm, v.ymm, sizeof v.ymm);
    s.mxcsr = v.mxcsr;
    s.x87 = v.x87;
}

Differential::EngineOutcome Differential::run_engine(const Case& c) {
    Vp& vp = *machine_.vp;
    VpState& v = vp.state();
    const bool was_faulted = vp.cpl() != 3;
    if (was_faulted) machine_.enter_long_mode(3);
    load_vp(c.state);
    machine_.memory.write(Spa(c.state.rip), c.insn.bytes, c.insn.length);
    constexpr unsigned kMaxIterations = 10000;  // of a repeated string instruction
    for (unsigned n = 0; n < kMaxIterations; ++n) {
        machine_.clock.advance(1);
        vp.begin_slice(machine_.clock.now(), machine_.clock.now() + 1);
        (void)engine_.run(vp);
        if (v.rip != c.state.rip || vp.cpl() != 3 || c.insn.rep == Rep::None) break;
        if (!row(c.insn.row).has(attr::String) || v.gpr[RCX] == 0) break;
    }
    EngineOutcome out;
    out.vector = machine_.faulted();
    store_vp(out.state);
    if (out.vector >= 0) {
        const TestVp::Frame frame = machine_.frame();
        out.state.rip = frame.rip;
        out.state.rflags = frame.rflags;
        out.state.gpr[RSP] = frame.rsp;
    }
    u8 fill[kMaxInsnLength];
    std::memset(fill, 0xcc, sizeof fill);
    machine_.memory.write(Spa(c.state.rip), fill, c.insn.length);
    return out;
}

std::string Differential::check(const Case& c) {
    std::memcpy(pristine_, native_.data(), sizeof pristine_);
    machine_.memory.write(Spa(NativeRunner::kData), pristine_, sizeof pristine_);
    u8* const at = native_.code() + (c.state.rip - NativeRunner::kCode);
    std::memcpy(at, c.insn.bytes, c.insn.length);
    NativeOutcome host = native_.run(c.state);
    std::memset(at, 0xcc, c.insn.length);
    // A branch that left the code page completed; the fetch behind it did not.
    if (host.vector == kPageFault && host.address == host.state.rip && host.state.rip != c.state.rip) host.vector = -1;
    EngineOutcome ours = run_engine(c);

    ++statistics_.cases;
    if (host.vector < 0) ++statistics_.completed;
    else ++statistics_.faults[host.vector & 31];

    if (differs_by_processor(c.insn.op, host.vector, ours.vector) || stack_refused(c, host.vector, ours.vector)) {
        std::memcpy(native_.data(), pristine_, sizeof pristine_);
        return {};
    }
    if (host.vector == kSimdError && range_reported(host.state.mxcsr)) {
        host.state.mxcsr &= ~kPrecision;
        ours.state.mxcsr &= ~kPrecision;
    }
    if (host.vector == kSimdError && in_stages(c.insn.op)) ours.state.mxcsr = host.state.mxcsr;
    Report report;
    if (host.vector != ours.vector) report.text += fmt::format("  vector   host {} ours {}\n", host.vector, ours.vector);
    u64 flags = kComparedFlags;
    if (!all_flags_ && host.vector < 0) flags &= ~u64{row(c.insn.row).flags_undefined};
    compare(report, c.state, host.state, ours.state, flags, !ignores_x87(row(c.insn.row), host.vector));
    const u8* const memory = machine_.memory.ram(Spa(NativeRunner::kData));
    // The host's ENTER may fault with frames already pushed; ours leaves nothing behind.
    const bool partial = c.insn.op == Op::ENTER && host.vector >= 0;
    for (u64 n = 0; n < NativeRunner::kDataSize && !partial; n += 8)
        if (std::memcmp(memory + n, native_.data() + n, 8) != 0)
            report.bytes(fmt::format("+{:#x}", n), pristine_ + n, native_.data() + n, memory + n, 8);
    std::memcpy(native_.data(), pristine_, sizeof pristine_);
    if (report.text.empty()) {
        if (host.vector < 0) exercised(c.insn.row, Exercise::Host);
        return {};
    }
    std::string operands;
    if (const Operand* m = c.insn.memory_operand())
        operands = fmt::format(" memory {} bytes at {:#x}", m->size, machine_.vp->interp().effective_address(c.insn));
    return fmt::format("{} [{}]{} rcx {:#x} fcw {:#x} mxcsr {:#x} host vector {}\n{}", op_name(c.insn.op),
                       hex(c.insn.bytes, c.insn.length), operands, c.state.gpr[RCX], c.state.x87.fcw, c.state.mxcsr,
                       host.vector, report.text);
}

std::string Differential::run(u64 seed, u64 count, const char* only) {
    CaseGenerator generator(machine_.model, seed, only);
    if (generator.rows().empty()) return "no rows";
    for (u64 n = 0; n < count; ++n) {
        constexpr u64 kCasesPerFill = 64;
        if (n % kCasesPerFill == 0) generator.fill(native_.data(), NativeRunner::kDataSize);
        const Case c = generator.next(native_.data());
        std::string report = check(c);
        if (report.empty()) continue;
        // The host is not ours alone: what a repetition says tells a wrong instruction from a disturbed run.
        std::string again = check(c);
        if (again.empty()) again = "  agrees\n";
        return fmt::format("seed {} case {}: {}state before:\n{}once more:\n{}", seed, n, report, describe(c.state), again);
    }
    return {};
}

}  // namespace vg::test
