// One VP in 64-bit mode with a few mapped pages: what the translator's tests run on either engine.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/state.h"
#include "cpu/interp.h"
#include "cpu/spec/bits.h"
#include "cpu/vp.h"
#include "jit/engine.h"

namespace vg::test {

/// Guest layout. Virtual addresses below 2 MiB that are not listed are not mapped.
inline constexpr u64 kCode = 0x400000;      ///< 4 pages, writable, at physical kCodePhysical
inline constexpr u64 kData = 0x600000;      ///< 8 pages, writable; kData + 4 pages is read-only, + 6 not present
inline constexpr u64 kStackTop = 0x708000;  ///< 8 pages below
inline constexpr u64 kHandlers = 0x10000;   ///< one HLT per vector
inline constexpr u64 kIdt = 0x11000, kGdt = 0x12000, kTables = 0x100000;
inline constexpr u64 kCodePhysical = 0x200000, kDataPhysical = 0x210000, kStackPhysical = 0x220000;
inline constexpr u64 kCodeAlias = 0x800000;  ///< the code pages once more

class NoPlatform final : public cpu::Platform {
  public:
    u32 port_read(cpu::Vp&, u16, unsigned) override {
        if (on_port_read) on_port_read();
        return 0xffffffff;
    }
    void port_write(cpu::Vp&, u16, unsigned, u32) override {}
    int acknowledge_external(cpu::Vp&) override { return -1; }
    void shutdown(cpu::Vp&) override {}

    std::function<void()> on_port_read;
};

struct JitMachine {
    mmu::PhysicalMemory memory;
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    cpu::ApicBus bus;
    NoPlatform platform;
    cpu::CpuModel model;
    std::unique_ptr<cpu::Vp> vp;

    explicit JitMachine(const char* model_name = "verdigris-v3-amd") : model(*cpu::CpuModel::create(model_name)) {
        const bool added = memory.add_ram("ram", Spa(0), 4u << 20).has_value();
        VG_ASSERT(added);
        build_tables();
        vp = std::make_unique<cpu::Vp>(cpu::VpEnvironment{memory, events, log, model, bus, platform}, "vp0", 0, 0);
        vp->reset();
        enter_long_mode();
    }

    [[nodiscard]] cpu::VpState& s() { return vp->state(); }

    void load(u64 physical, const std::vector<u8>& bytes) { memory.write(Spa(physical), bytes.data(), bytes.size()); }

    /// Everything architectural, memory included.
    [[nodiscard]] u64 hash() {
        StateHasher hasher;
        const cpu::VpState& state = vp->state();
        hasher.memory(&state, offsetof(cpu::VpState, jit_far));
        hasher.memory(state.gpr, sizeof state.gpr);
        memory.hash(hasher);
        return hasher.digest();
    }

  private:
    void map(u64 va, u64 pa, u64 flags) {
        const u64 l1 = kTables + 0x3000 + (va >> 21) * 0x1000;
        memory.write<u64>(Spa(kTables + 0x2000 + (va >> 21) * 8), l1 | 7);
        memory.write<u64>(Spa(l1 + ((va >> 12) & 511) * 8), pa | flags);
    }
    void build_tables() {
        constexpr u64 kRw = 0x63, kRo = 0x61;  // present, accessed, dirty
        memory.write<u64>(Spa(kTables), (kTables + 0x1000) | 7);
        memory.write<u64>(Spa(kTables + 0x1000), (kTables + 0x2000) | 7);
        for (u64 page = 0x10000; page < 0x13000; page += 0x1000) map(page, page, kRw);
        for (u64 k = 0; k < 4; ++k) map(kCode + k * 0x1000, kCodePhysical + k * 0x1000, kRw);
        for (u64 k = 0; k < 4; ++k) map(kCodeAlias + k * 0x1000, kCodePhysical + k * 0x1000, kRw);
        for (u64 k = 0; k < 8; ++k)
            if (k != 6) map(kData + k * 0x1000, kDataPhysical + k * 0x1000, k == 4 ? kRo : kRw);
        for (u64 k = 0; k < 8; ++k) map(kStackTop - 0x8000 + k * 0x1000, kStackPhysical + k * 0x1000, kRw);
        for (u64 vector = 0; vector < 32; ++vector) {
            const u64 handler = kHandlers + vector * 16;
            memory.write<u8>(Spa(handler), 0xf4);
            memory.write<u64>(Spa(kIdt + vector * 16),
                              (handler & 0xffff) | 0x8u << 16 | u64{0x8e00} << 32 | (handler >> 16) << 48);
            memory.write<u64>(Spa(kIdt + vector * 16 + 8), 0);
        }
        memory.write<u64>(Spa(kGdt + 8), 0x00af9b000000ffff);   // 64-bit code
        memory.write<u64>(Spa(kGdt + 16), 0x00cf93000000ffff);  // data
    }
    void enter_long_mode() {
        cpu::VpState& st = vp->state();
        st.cr0 = cpu::cr0::PE | cpu::cr0::MP | cpu::cr0::ET | cpu::cr0::NE | cpu::cr0::WP | cpu::cr0::PG;
        st.cr3 = kTables;
        st.cr4 = cpu::cr4::PAE | cpu::cr4::OSFXSR | cpu::cr4::OSXMMEXCPT | cpu::cr4::OSXSAVE;
        st.efer = cpu::efer::LME | cpu::efer::LMA | cpu::efer::SCE | cpu::efer::NXE;
        st.xcr0 = 7;
        st.segment(cpu::Seg::CS) = {0, 0xffffffff, 8, 0xa09b};
        for (const cpu::Seg seg : {cpu::Seg::SS, cpu::Seg::DS, cpu::Seg::ES, cpu::Seg::FS, cpu::Seg::GS})
            st.segment(seg) = {0, 0xffffffff, 16, 0xc093};
        st.segment(cpu::Seg::GS).base = kData + 0x100;
        st.gdtr = {kGdt, 23, 0};
        st.idtr = {kIdt, 32 * 16 - 1, 0};
        st.mxcsr = 0x1f80;
        st.rflags = 2;
        st.rip = kCode;
        st.gpr[cpu::RSP] = kStackTop - 0x800;
        vp->update_context();
    }
};

/// The machine with one of the two engines: tests of what both must do the same.
struct EngineMachine : JitMachine {
    explicit EngineMachine(bool translated, const char* model_name = "verdigris-v3") : JitMachine(model_name) {
        if (translated) jit_ = *jit::JitEngine::create(memory, {});
    }
    /// Runs what is at kCode until it halts or `count` instructions are over.
    cpu::Stop run(const std::vector<u8>& code, u64 count = 1000) {
        load(kCodePhysical, code);
        s().rip = kCode;
        return go_on(count);
    }
    cpu::Stop go_on(u64 count = 1000) {
        s().activity = cpu::Activity::Active;
        vp->begin_slice(vp->now(), vp->now() + count);
        return jit_ != nullptr ? jit_->run(*vp) : stepper_.run(*vp);
    }
    [[nodiscard]] cpu::Engine& engine() { return jit_ != nullptr ? static_cast<cpu::Engine&>(*jit_) : stepper_; }
    /// The vector whose handler halted, or -1.
    [[nodiscard]] int faulted() {
        const bool inside = s().rip >= kHandlers && s().rip < kHandlers + 0x200;
        return s().activity == cpu::Activity::Halted && inside ? static_cast<int>((s().rip - kHandlers) / 16) : -1;
    }
    /// RIP that the handler which halted was given (vectors without error code).
    [[nodiscard]] u64 return_rip() {
        u64 rip = 0;
        VG_ASSERT(vp->memory().peek(s().gpr[cpu::RSP], &rip, sizeof rip));
        return rip;
    }

  private:
    cpu::StepEngine stepper_;
    std::unique_ptr<jit::JitEngine> jit_;
};

/// A handler has halted: goes on behind the instruction that faulted, with usable pointers.
inline void recover(JitMachine& m) {
    cpu::VpState& s = m.s();
    s.activity = cpu::Activity::Active;
    if (s.rip < kHandlers || s.rip >= kHandlers + 0x200) return;  // a HLT of the program's own
    const u64 vector = (s.rip - kHandlers) / 16;
    constexpr u64 kWithError = 0x27d00;
    u64 frame[6] = {};
    const u64 sp = s.gpr[cpu::RSP] + ((kWithError >> vector & 1) != 0 ? 8 : 0);
    const bool readable = m.vp->memory().peek(sp, frame, 40);
    s.rip = readable ? frame[0] : kCode;
    s.rflags = (frame[2] & 0xcd5) | 2;
    s.gpr[cpu::RSP] = readable && frame[3] - (kStackTop - 0x7000) < 0x6000 ? frame[3] : kStackTop - 0x4000;
    s.gpr[cpu::RBX] = s.gpr[cpu::R11] = s.gpr[cpu::RBP] = kData + 0x400;
    s.gpr[cpu::RSI] = s.gpr[cpu::R13] = s.gpr[cpu::R14] = kData + 0x1400;
    cpu::Insn insn;
    const bool inside = s.rip >= kCode && s.rip < kCode + 0x2800;
    if (inside && cpu::fetch_decode(*m.vp, insn))
        s.rip += insn.length;
    else
        s.rip = kCode;
    m.vp->clear_failure();
}

/// Runs `count` instructions in slices of `slice`, recovering from faults; returns the last stop.
inline cpu::Stop run_for(JitMachine& m, cpu::Engine& engine, u64 count, u64 slice) {
    cpu::Stop stop = cpu::Stop::Budget;
    u64 now = 0;
    while (now < count) {
        const u64 until = std::min(count, now + slice);
        m.vp->begin_slice(now, until);
        stop = engine.run(*m.vp);
        now = m.vp->now();
        if (stop == cpu::Stop::Halt && m.s().activity == cpu::Activity::Halted)
            recover(m);
        else if (stop != cpu::Stop::Budget)
            break;
    }
    return stop;
}

}  // namespace vg::test
