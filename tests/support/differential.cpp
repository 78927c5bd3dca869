#include "tests/support/differential.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cpu/isa/isa.h"
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
        case Op::MASKMOVQ: case Op::MASKMOVDQU: case Op::VMASKMOVDQU:
            return (host == kPageFault || host == kGeneralProtection) && ours < 0;
        default: return false;
    }
}

/// Which of its bytes is the one that faults is the processor's choice for masked stores, and within a page for what is
/// accessed in pieces.
u64 compared_address_bits(const Insn& i) {
    constexpr unsigned kLargest = 32;
    const Operand* const m = i.memory_operand();
    switch (i.op) {
        case Op::MASKMOVQ: case Op::MASKMOVDQU: case Op::VMASKMOVDQU: return 0;
        case Op::FLDENV: case Op::FRSTOR: return ~kPageMask;
        default: return m != nullptr && (m->size == 0 || m->size > kLargest) ? ~kPageMask : ~u64{0};
    }
}

/// These may fault with the x87 already switched to MMX on the host; ours leave nothing behind.
bool ignores_x87(const Row& r, int vector) {
    const bool access = vector == kPageFault || vector == kGeneralProtection;
    return (vector == kSimdError && r.has(attr::Mmx)) || (access && r.op == Op::MASKMOVQ);
}

/// Precision beside an unmasked underflow or overflow is approximate (host_execute.cpp).
constexpr u32 kPrecision = 1 << 5;
bool range_reported(u32 mxcsr) { return (mxcsr & ~(mxcsr >> 7) & 0x18) != 0; }

/// Dot products raise an unmasked exception in the stage that has it, with that stage's flags; ours has those of all.
bool in_stages(Op op) { return op == Op::DPPS || op == Op::DPPD || op == Op::VDPPS || op == Op::VDPPD; }

constexpr u64 kComparedFlags = flag::Status | flag::DF;
/// Write, user, fetch. Not whether the page was present: the host may not have got round to that.
constexpr u64 kComparedErrorBits = 0x16;

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
    if (s.own_bases) text += fmt::format("  fs {:#x} gs {:#x}\n", s.fs_base, s.gs_base);
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
    for (u64 n = 0; n < std::size(NativeRunner::kPages); ++n) {
        const NativeRunner::Page page = NativeRunner::kPages[n];
        if (page == NativeRunner::Page::None) continue;
        machine_.map_user(NativeRunner::kData + n * kPageSize, 1, page == NativeRunner::Page::Writable, false);
    }
    // INT3 ends a sequence: user code may use its gate.
    constexpr u64 kGate = TestVp::kIdt + 3 * 16 + 5;
    machine_.memory.write<u8>(Spa(kGate), 0xee);
    // The host's programs may use no port: a TSS without a permission map. (A jump into an instruction may find an IN.)
    constexpr u32 kWithoutMap = 0x65;
    machine_.vp->state().segment(Seg::TR).limit = kWithoutMap;
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
    v.segment(Seg::FS).base = s.own_bases ? s.fs_base : 0;
    v.segment(Seg::GS).base = s.own_bases ? s.gs_base : 0;
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

void Differential::start_engine(const UserState& state, std::span<const u8> bytes) {
    if (machine_.vp->cpl() != 3) machine_.return_to_user();
    load_vp(state);
    machine_.memory.write(Spa(NativeRunner::kData), pristine_, sizeof pristine_);
    machine_.memory.write(Spa(state.rip), bytes.data(), bytes.size());
}

Differential::EngineOutcome Differential::finish_engine(const UserState& start, std::size_t bytes) {
    EngineOutcome out;
    out.vector = machine_.faulted();
    store_vp(out.state);
    if (out.vector >= 0) {
        const TestVp::Frame frame = machine_.frame();
        out.state.rip = frame.rip;
        out.state.rflags = frame.rflags;
        out.state.gpr[RSP] = frame.rsp;
        out.error_code = frame.error;
        if (out.vector == kPageFault) out.address = machine_.vp->state().cr2;
    }
    const std::vector<u8> fill(bytes, 0xcc);
    machine_.memory.write(Spa(start.rip), fill.data(), fill.size());
    return out;
}

Differential::EngineOutcome Differential::run_engine(const Case& c) {
    Vp& vp = *machine_.vp;
    const VpState& v = vp.state();
    start_engine(c.state, {c.insn.bytes, c.insn.length});
    constexpr unsigned kMaxIterations = 10000;  // of a repeated string instruction
    for (unsigned n = 0; n < kMaxIterations; ++n) {
        machine_.clock.advance(1);
        vp.begin_slice(machine_.clock.now(), machine_.clock.now() + 1);
        (void)engine_.run(vp);
        ++statistics_.instructions;
        if (v.rip != c.state.rip || vp.cpl() != 3 || c.insn.rep == Rep::None) break;
        if (!row(c.insn.row).has(attr::String) || v.gpr[RCX] == 0) break;
    }
    return finish_engine(c.state, c.insn.length);
}

NativeOutcome Differential::run_host(const UserState& start, std::span<const u8> bytes) {
    u8* const at = native_.code() + (start.rip - NativeRunner::kCode);
    std::memcpy(at, bytes.data(), bytes.size());
    const NativeOutcome host = native_.run(start);
    std::memset(at, 0xcc, bytes.size());
    return host;
}

void Differential::count(const NativeOutcome& host) {
    ++statistics_.cases;
    if (host.vector < 0) ++statistics_.completed;
    else ++statistics_.faults[host.vector & 31];
}

std::string Differential::differences(const UserState& start, NativeOutcome host, EngineOutcome ours, const Insn* insn) {
    if (insn != nullptr && host.vector == kSimdError) {
        if (in_stages(insn->op)) ours.state.mxcsr = host.state.mxcsr;
        if (range_reported(host.state.mxcsr)) {
            host.state.mxcsr &= ~kPrecision;
            ours.state.mxcsr &= ~kPrecision;
        }
    }
    Report report;
    if (host.vector != ours.vector) report.text += fmt::format("  vector   host {} ours {}\n", host.vector, ours.vector);
    if (host.vector == kPageFault && ours.vector == kPageFault) {
        report.value("error", 0, host.error_code & kComparedErrorBits, ours.error_code & kComparedErrorBits);
        const u64 mask = insn != nullptr ? compared_address_bits(*insn) : ~u64{0};
        report.value("cr2", 0, host.address & mask, ours.address & mask);
    }
    u64 flags = kComparedFlags;
    const Row* const r = insn != nullptr ? &row(insn->row) : nullptr;
    if (!all_flags_ && host.vector < 0 && r != nullptr) flags &= ~u64{r->flags_undefined};
    compare(report, start, host.state, ours.state, flags, r == nullptr || !ignores_x87(*r, host.vector));
    const u8* const memory = machine_.memory.ram(Spa(NativeRunner::kData));
    const u8* const data = native_.data();
    // The host's ENTER may fault with frames already pushed; ours leaves nothing behind.
    const bool partial = insn != nullptr && insn->op == Op::ENTER && host.vector >= 0;
    if (!partial && std::memcmp(memory, data, NativeRunner::kDataSize) != 0)
        for (u64 n = 0; n < NativeRunner::kDataSize; n += 8)
            report.bytes(fmt::format("+{:#x}", n), pristine_ + n, data + n, memory + n, 8);
    return report.text;
}

std::string Differential::check(const Case& c) {
    std::memcpy(pristine_, native_.data(), sizeof pristine_);
    NativeOutcome host = run_host(c.state, {c.insn.bytes, c.insn.length});
    // A branch that left the code page completed; the fetch behind it did not.
    if (host.vector == kPageFault && host.address == host.state.rip && host.state.rip != c.state.rip) host.vector = -1;
    const EngineOutcome ours = run_engine(c);
    count(host);
    std::string text;
    if (!differs_by_processor(c.insn.op, host.vector, ours.vector)) text = differences(c.state, host, ours, &c.insn);
    std::memcpy(native_.data(), pristine_, sizeof pristine_);
    if (text.empty()) {
        if (host.vector < 0) exercised(c.insn.row, Exercise::Host);
        return {};
    }
    std::string operands;
    if (const Operand* m = c.insn.memory_operand())
        operands = fmt::format(" memory {} bytes at {:#x}", m->size, machine_.vp->interp().effective_address(c.insn));
    return fmt::format("{} [{}]{} rcx {:#x} fcw {:#x} mxcsr {:#x} host vector {}\n{}", op_name(c.insn.op),
                       hex(c.insn.bytes, c.insn.length), operands, c.state.gpr[RCX], c.state.x87.fcw, c.state.mxcsr,
                       host.vector, text);
}

std::string Differential::check(const Sequence& sequence, u64 slice, unsigned runs) {
    constexpr u64 kMaxInstructions = 20'000;
    constexpr int kBreakpoint = 3;
    Vp& vp = *machine_.vp;
    std::memcpy(pristine_, native_.data(), sizeof pristine_);
    NativeOutcome host;
    std::string text;
    for (unsigned run = 0; run < runs && text.empty(); ++run) {
        start_engine(sequence.state, sequence.bytes);
        const u64 start = machine_.clock.now();
        while (machine_.faulted() < 0 && machine_.clock.now() - start < kMaxInstructions) {
            vp.begin_slice(machine_.clock.now(), machine_.clock.now() + std::min(slice, kMaxInstructions));
            (void)engine_.run(vp);
            machine_.clock.advance(vp.now() - machine_.clock.now());
        }
        statistics_.instructions += machine_.clock.now() - start;
        const bool ended = machine_.faulted() >= 0;
        EngineOutcome ours = finish_engine(sequence.state, sequence.bytes.size());
        // Linux executes system calls for whoever jumps to this page: gettimeofday(2) wrote to a sequence's data.
        constexpr u64 kVsyscallPage = 0xffff'ffff'ff60'0000;
        if (!ended || (ours.state.rip & ~kPageMask) == kVsyscallPage) {
            ++statistics_.endless;
            return {};
        }
        if (ours.vector == kBreakpoint) {
            ours.vector = -1;
            --ours.state.rip;
        }
        if (run == 0) {
            host = run_host(sequence.state, sequence.bytes);
            count(host);
        }
        text = differences(sequence.state, host, ours, host.vector < 0 ? nullptr : sequence.find(host.state.rip));
        if (!text.empty() && run != 0) text = fmt::format("  in run {}\n{}", run, text);
    }
    std::memcpy(native_.data(), pristine_, sizeof pristine_);
    if (text.empty()) return {};
    std::string listing;
    for (const Sequence::At& at : sequence.insns)
        listing += fmt::format("  {:#x}{} {} [{}]\n", sequence.state.rip + at.offset,
                               sequence.state.rip + at.offset == host.state.rip ? " *" : "", op_name(at.insn.op),
                               hex(at.insn.bytes, at.insn.length));
    return fmt::format("{}, slice {}, host vector {}\n{}{}", sequence.what, slice, host.vector, listing, text);
}

/// The host is not ours alone: a virtual one was seen to give #UD for an AVX instruction in the middle of a loop, once in
/// a million cases. A repetition tells that from a wrong instruction; more than a few in a million are not believed.
bool Differential::disturbed() {
    constexpr u64 kOften = 200'000;
    return ++statistics_.disturbed <= 2 + statistics_.cases / kOften;
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
        std::string again = check(c);
        if (again.empty() && disturbed()) continue;
        if (again.empty()) again = "  agrees\n";
        return fmt::format("seed {} case {}: {}state before:\n{}once more:\n{}", seed, n, report, describe(c.state), again);
    }
    return {};
}

std::string Differential::run_sequences(u64 seed, u64 count) {
    CaseGenerator parts(machine_.model, seed);
    SequenceGenerator generator(parts, all_flags_);
    const u64 first = statistics_.cases;
    for (u64 n = 0; statistics_.cases - first < count; ++n) {
        if (n % 8 == 0) parts.fill(native_.data(), NativeRunner::kDataSize);
        const u64 slice = parts.random().chance(25) ? 1 + parts.random().below(12) : ~u64{0};
        const unsigned runs = parts.random().chance(20) ? 2 : 1;
        for (const Sequence& sequence : generator.next()) {
            std::string report = check(sequence, slice, runs);
            if (report.empty()) continue;
            std::string again = check(sequence, slice, runs);
            if (again.empty() && disturbed()) continue;
            if (again.empty()) again = "  agrees\n";
            return fmt::format("seed {} sequence {}: {}state before:\n{}once more:\n{}", seed, n, report,
                               describe(sequence.state), again);
        }
    }
    return {};
}

}  // namespace vg::test
