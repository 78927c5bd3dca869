// A processor in VMX operation with a VMCS that launches: host and guest are 64-bit code in the same space.
#pragma once

#include <catch2/catch.hpp>

#include <optional>
#include <vector>

#include "cpu/interp.h"
#include "cpu/spec/bits.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/unit.h"
#include "tests/support/test_vp.h"

namespace vg::test {

using cpu::vmx::Field;

class VmxStage {
  public:
    static constexpr u64 kCode = 0x1000, kPointer = 0x4000, kScratch = 0x5000, kStack = 0x8000, kGuestStack = 0x9000;
    static constexpr u64 kVmxon = 0x10000, kVmcs = 0x11000, kOther = 0x12000, kPages = 0x20000;
    static constexpr u64 kGuestCode = 0x2000, kHostCode = 0x3000;

    /// RIP of a guest that its handler for the vector has halted.
    static constexpr u64 handler(u64 vector) { return TestVp::kHandlers + 16 * vector; }

    enum class Answer { Succeed, FailInvalid, FailValid };

    explicit VmxStage(const char* model = "verdigris-v3-vmx") : machine(model) {
        machine.enter_long_mode(0);
        cpu::VpState& state = s();
        state.cr4 |= cpu::cr4::VMXE;
        state.feature_control = 5;
        state.rip = kCode;
        state.gpr[cpu::RSP] = kStack;
        state.rflags = cpu::flag::Always1;
        machine.vp->update_context();
        for (const u64 region : {kVmxon, kVmcs, kOther}) machine.memory.write<u32>(Spa(region), cpu::vmx::kRevision);
    }

    [[nodiscard]] cpu::Vp& vp() { return *machine.vp; }
    [[nodiscard]] cpu::VpState& s() { return machine.vp->state(); }
    [[nodiscard]] cpu::vmx::Unit& unit() { return *cpu::vmx::unit_of(*machine.vp); }

    /// Executes the bytes at RIP; the vector of the fault, or nothing. What the instruction led to is in `result`.
    std::optional<u8> run(const std::vector<u8>& bytes) {
        machine.write(s().rip, bytes);
        vp().begin_slice(machine.clock.now(), machine.clock.now() + 100000);
        cpu::Insn insn;
        REQUIRE(cpu::fetch_decode(vp(), insn));
        result = cpu::execute(vp().interp(), insn);
        if (result == cpu::Exec::Next) s().rip = vp().interp().next_rip(insn);
        if (result == cpu::Exec::Fault) return vp().fault().vector;
        return std::nullopt;
    }
    [[nodiscard]] Answer answer() {
        if ((s().rflags & cpu::flag::CF) != 0) return Answer::FailInvalid;
        return (s().rflags & cpu::flag::ZF) != 0 ? Answer::FailValid : Answer::Succeed;
    }
    /// An instruction with a pointer in memory, at [RBX].
    std::optional<u8> with_pointer(const std::vector<u8>& bytes, u64 pointer) {
        machine.memory.write<u64>(Spa(kPointer), pointer);
        s().gpr[cpu::RBX] = kPointer;
        return run(bytes);
    }
    std::optional<u8> vmxon(u64 pointer = kVmxon) { return with_pointer({0xf3, 0x0f, 0xc7, 0x33}, pointer); }
    std::optional<u8> vmclear(u64 pointer) { return with_pointer({0x66, 0x0f, 0xc7, 0x33}, pointer); }
    std::optional<u8> vmptrld(u64 pointer) { return with_pointer({0x0f, 0xc7, 0x33}, pointer); }
    std::optional<u8> vmlaunch() { return run({0x0f, 0x01, 0xc2}); }
    std::optional<u8> vmresume() { return run({0x0f, 0x01, 0xc3}); }

    /// VMWRITE and VMREAD in host mode.
    void write_encoding(u64 encoding, u64 value) {
        s().gpr[cpu::RAX] = encoding;
        s().gpr[cpu::RCX] = value;
        REQUIRE_FALSE(run({0x0f, 0x79, 0xc1}));
    }
    void write(Field field, u64 value) {
        write_encoding(cpu::vmx::field_row(field).encoding, value);
        INFO(cpu::vmx::field_row(field).name);
        REQUIRE(answer() == Answer::Succeed);
    }
    [[nodiscard]] u64 read_encoding(u64 encoding) {
        s().gpr[cpu::RAX] = encoding;
        REQUIRE_FALSE(run({0x0f, 0x78, 0xc1}));
        return s().gpr[cpu::RCX];
    }
    [[nodiscard]] u64 read(Field field) { return read_encoding(cpu::vmx::field_row(field).encoding); }

    /// VMX operation with kVmcs current and every field as an entry wants it. The guest begins at kGuestCode, the host goes on
    /// at kHostCode.
    void prepare() {
        REQUIRE_FALSE(vmxon());
        REQUIRE_FALSE(vmclear(kVmcs));
        REQUIRE_FALSE(vmptrld(kVmcs));
        REQUIRE(answer() == Answer::Succeed);
        const cpu::vmx::Capabilities& caps = unit().capabilities();
        write(Field::pin_controls, caps.pin.must);
        write(Field::proc_controls, caps.proc.must | cpu::vmx::proc::kSecondary | cpu::vmx::proc::kHlt);
        write(Field::proc2_controls, 0);
        write(Field::exit_controls, caps.exit.must | cpu::vmx::exits::kHost64);
        write(Field::entry_controls, caps.entry.must | cpu::vmx::entries::kGuest64);
        write_guest();
        write_host();
    }
    void add(Field field, u64 bits) { write(field, read(field) | bits); }

    /// Runs the guest (or the host) until an exit or `steps` instructions are over.
    void step(unsigned steps = 1) {
        vp().begin_slice(machine.clock.now(), machine.clock.now() + 100000);
        for (unsigned n = 0; n < steps; ++n) (void)stepper.step(vp());
    }
    /// Launches the guest with this code and runs it until it exits. The exit's reason.
    u32 exit_of(const std::vector<u8>& code, unsigned most = 50) {
        machine.write(kGuestCode, code);
        write(Field::guest_rip, kGuestCode);
        s().rip = kCode;
        const bool again = unit().current().launched;
        const auto fault = again ? vmresume() : vmlaunch();
        REQUIRE_FALSE(fault);
        INFO((unit().last_violation() ? unit().last_violation()->text : "no rule"));
        if (vp().guest_mode())
            for (unsigned n = 0; n < most && vp().guest_mode(); ++n) step();
        REQUIRE_FALSE(vp().guest_mode());
        REQUIRE(s().rip == kHostCode);
        return static_cast<u32>(read(Field::exit_reason));
    }

    TestVp machine;
    cpu::Exec result{};
    cpu::StepEngine stepper;

  private:
    void write_guest() {
        const cpu::VpState state = s();
        write(Field::guest_cr0, state.cr0);
        write(Field::guest_cr3, state.cr3);
        write(Field::guest_cr4, state.cr4);
        for (unsigned n = 0; n < 8; ++n) {
            using cpu::vmx::operator+;
            const cpu::SegmentReg& seg = state.seg[n];
            write(Field::guest_es_selector + n, seg.selector);
            write(Field::guest_es_base + n, seg.base);
            write(Field::guest_es_limit + n, seg.limit);
            const bool ldtr = n == 6;
            write(Field::guest_es_rights + n, ldtr ? cpu::vmx::kUnusable : seg.attributes);
        }
        write(Field::guest_gdtr_base, state.gdtr.base);
        write(Field::guest_gdtr_limit, state.gdtr.limit);
        write(Field::guest_idtr_base, state.idtr.base);
        write(Field::guest_idtr_limit, state.idtr.limit);
        write(Field::guest_dr7, 0x400);
        write(Field::guest_rsp, kGuestStack);
        write(Field::guest_rip, kGuestCode);
        write(Field::guest_rflags, cpu::flag::Always1);
        write(Field::vmcs_link_pointer, cpu::vmx::kNoVmcs);
    }
    void write_host() {
        const cpu::VpState state = s();
        write(Field::host_cr0, state.cr0);
        write(Field::host_cr3, state.cr3);
        write(Field::host_cr4, state.cr4);
        write(Field::host_cs_selector, TestVp::kKernelCs);
        for (const Field field : {Field::host_ss_selector, Field::host_ds_selector, Field::host_es_selector})
            write(field, TestVp::kKernelSs);
        write(Field::host_tr_selector, TestVp::kTssSelector);
        write(Field::host_tr_base, TestVp::kTss);
        write(Field::host_gdtr_base, TestVp::kGdt);
        write(Field::host_idtr_base, TestVp::kIdt);
        write(Field::host_rsp, kStack);
        write(Field::host_rip, kHostCode);
    }
};

}  // namespace vg::test
