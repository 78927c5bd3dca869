#include "engine_cpu.h"

#include <cstring>

#include "base/assert.h"
#include "cpu/isa/isa.h"

namespace vg::test {

using namespace cpu;
using namespace legacy_memory;

namespace {

/// Hidden part of a segment register from the descriptor in memory. SDM 3A "Segment Descriptors".
SegmentReg load_segment(const u8* memory, Legacy mode, u16 sel, bool code) {
    if (mode == Legacy::Real) return {u64{sel} << 4, 0xffff, sel, static_cast<u16>(code ? 0x9b : 0x93)};
    if ((sel & ~3) == 0) return {0, 0, sel, 0};
    u64 d;
    std::memcpy(&d, memory + ((sel & 4) != 0 ? kLdt : kGdt) + (sel & ~7u), 8);
    const u16 attributes = static_cast<u16>(d >> 40 & 0xf0ff);
    const u32 limit = static_cast<u32>((d & 0xffff) | (d >> 32 & 0xf0000));
    return {segment_base(mode, sel), (attributes & 0x8000) != 0 ? limit << 12 | 0xfff : limit, sel, attributes};
}

}  // namespace

EngineCpu::EngineCpu() : model_(CpuModel::create("verdigris-v2").value()) {
    VG_ASSERT(memory_.add_ram("ram", Spa(0), kSize).has_value());
    vp_ = std::make_unique<Vp>(VpEnvironment{memory_, events_, log_, model_, apic_bus_, ports_}, "vp0", 0, 0);
    vp_->reset();
}

void EngineCpu::load(Legacy mode, const LegacyState& s) {
    VpState& v = vp_->state();
    for (unsigned n = 0; n < 8; ++n) v.gpr[n] = s.gpr[n];
    v.rip = s.eip;
    v.rflags = s.eflags;
    v.cr0 = cr0::ET | (mode == Legacy::Real ? 0 : cr0::PE);
    v.cr2 = s.cr2;
    v.cr4 = 0;
    for (unsigned n = 0; n < 6; ++n) v.seg[n] = load_segment(memory(), mode, s.selector[n], n == 1);
    v.segment(Seg::LDTR) = {kLdt, kLdtLimit, selector::Ldt, 0x82};
    v.segment(Seg::TR) = {kTss, kTssLimit, selector::Tss, 0x8b};
    v.gdtr = {kGdt, kGdtLimit, 0};
    v.idtr = {mode == Legacy::Real ? 0 : kIdt, mode == Legacy::Real ? 0x3ffu : 0x7ffu, 0};
    v.cpl = mode == Legacy::User32 ? 3 : 0;
    v.activity = Activity::Active;
    v.interrupt_shadow = v.nmi_blocked = v.debug_pending = 0;
    vp_->update_context();
}

LegacyState EngineCpu::store() const {
    const VpState& v = vp_->state();
    LegacyState s;
    for (unsigned n = 0; n < 8; ++n) s.gpr[n] = static_cast<u32>(v.gpr[n]);
    s.eip = static_cast<u32>(v.rip);
    s.eflags = static_cast<u32>(v.rflags);
    for (unsigned n = 0; n < 6; ++n) s.selector[n] = v.seg[n].selector;
    s.fs_base = static_cast<u32>(v.segment(Seg::FS).base);
    s.cr2 = static_cast<u32>(v.cr2);
    return s;
}

/// Undoes the delivery of a fault: SDM 3A "Stack Usage with Privilege Level Change", SDM 1 "Real-address mode".
void EngineCpu::take_back(const LegacyCase& c, LegacyOutcome& out, const u8* pristine) {
    VpState& v = vp_->state();
    const u64 handler = v.segment(Seg::CS).base + v.rip - kHandlers;
    if (v.segment(Seg::TR).selector != selector::Tss) {
        out.unmodelled = true;  // a task switch: another task's state
        return;
    }
    if (v.activity == Activity::Shutdown) {
        complaint_ = "shutdown";
        return;
    }
    // A fault's handler has run its HLT; a software interrupt is an instruction of its own.
    const bool software = c.insn.op == Op::INT || c.insn.op == Op::INT3 || c.insn.op == Op::INTO;
    if ((v.activity != Activity::Halted && !(software && handler % 16 == 0)) || handler >= 256 * 16) return;
    out.vector = static_cast<int>(handler / 16);
    const bool real = c.mode == Legacy::Real, inner = c.mode == Legacy::User32;
    const bool error = !real && !software && has_error_code(out.vector);
    const u32 width = real ? 2 : 4, words = (error ? 4u : 3u) + (inner ? 2u : 0u);
    u32 sp = static_cast<u32>(v.gpr[RSP]);
    if (!v.segment(Seg::SS).db()) sp &= 0xffff;
    const u32 at = static_cast<u32>(v.segment(Seg::SS).base) + sp;
    if (at < kImage || at + words * width > kImageEnd) {
        complaint_ = "the frame is outside the image";
        return;
    }
    u32 frame[6] = {};
    for (u32 n = 0; n < words; ++n) std::memcpy(&frame[n], memory() + at + n * width, width);
    std::memcpy(memory() + at, pristine + at, words * width);
    if (error) out.error = frame[0];
    const u32* f = frame + (error ? 1 : 0);
    out.state.eip = f[0];
    out.state.selector[1] = static_cast<u16>(f[1]);
    out.state.eflags = f[2] | (real ? out.state.eflags & 0xffff0000 : 0);
    if (inner) {
        out.state.gpr[RSP] = f[3];
        out.state.selector[2] = static_cast<u16>(f[4]);
    } else if (real || c.mode == Legacy::Protected16) {
        out.state.gpr[RSP] = (out.state.gpr[RSP] & 0xffff0000) | ((out.state.gpr[RSP] + words * width) & 0xffff);
    } else {
        out.state.gpr[RSP] += words * width;
    }
}

LegacyOutcome EngineCpu::run(const LegacyCase& c, const u8* pristine) {
    complaint_.clear();
    ports_.accesses.clear();
    load(c.mode, c.state);
    std::memcpy(memory() + c.code_base + c.state.eip, c.insn.bytes, c.insn.length);
    VpState& v = vp_->state();
    const bool repeats = c.insn.rep != Rep::None && row(c.insn.row).has(attr::String);
    constexpr unsigned kMaxIterations = 64;
    for (unsigned n = 0; n < kMaxIterations; ++n) {
        clock_.advance(1);
        vp_->begin_slice(clock_.now(), clock_.now() + 1);
        (void)engine_.run(*vp_);
        if (!repeats || v.rip != c.state.eip || v.activity != Activity::Active) break;
    }
    LegacyOutcome out;
    out.state = store();
    take_back(c, out, pristine);
    out.ports = ports_.accesses;
    return out;
}

LegacyState EngineCpu::run_program(const LegacyState& s, u64 limit) {
    load(Legacy::Real, s);
    clock_.advance(1);
    vp_->begin_slice(clock_.now(), clock_.now() + limit);
    (void)engine_.run(*vp_);
    return store();
}

}  // namespace vg::test
