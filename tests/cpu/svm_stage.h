// A processor with SVM enabled and a VMCB that VMRUN accepts: host and guest are 64-bit code in the same space.
#pragma once

#include <catch2/catch.hpp>

#include <optional>
#include <vector>

#include "cpu/interp.h"
#include "cpu/spec/bits.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/unit.h"
#include "tests/support/test_vp.h"

namespace vg::test {

using cpu::svm::Field;

class SvmStage {
  public:
    static constexpr u64 kCode = 0x1000, kStack = 0x8000, kGuestStack = 0x9000, kGuestCode = 0x2000;
    static constexpr u64 kVmcb = 0x11000, kOther = 0x12000, kMsrpm = 0x30000, kIopm = 0x34000;
    static constexpr u64 kNestedTables = 0x40000;
    /// RIP of the host behind its VMRUN.
    static constexpr u64 kHostCode = kCode + 3;

    /// RIP of a guest that its handler for the vector has halted.
    static constexpr u64 handler(u64 vector) { return TestVp::kHandlers + 16 * vector; }

    explicit SvmStage(const char* model = "verdigris-v3-amd-svm") : machine(model) {
        machine.enter_long_mode(0);
        cpu::VpState& state = s();
        state.efer |= cpu::efer::SVME;
        state.rip = kCode;
        state.gpr[cpu::RSP] = kStack;
        state.rflags = cpu::flag::Always1;
        machine.vp->update_context();
        write_vmcb();
    }

    [[nodiscard]] cpu::Vp& vp() { return *machine.vp; }
    [[nodiscard]] cpu::VpState& s() { return machine.vp->state(); }
    [[nodiscard]] cpu::svm::Unit& unit() { return *cpu::svm::unit_of(*machine.vp); }

    /// A field of the VMCB in memory.
    void set(Field field, u64 value) {
        const cpu::svm::FieldRow& row = cpu::svm::field_row(field);
        machine.memory.write(Spa(kVmcb + row.offset), &value, row.bytes);
    }
    [[nodiscard]] u64 get(Field field) {
        const cpu::svm::FieldRow& row = cpu::svm::field_row(field);
        u64 value = 0;
        machine.memory.read(Spa(kVmcb + row.offset), &value, row.bytes);
        return value;
    }
    void add(Field field, u64 bits) { set(field, get(field) | bits); }
    void intercept(u32 code, bool on = true) {
        using cpu::svm::operator+;
        const Field field = Field::intercept_cr + code / 32;
        const u64 bit = u64{1} << code % 32;
        set(field, on ? get(field) | bit : get(field) & ~bit);
    }

    /// Executes the bytes at RIP; the vector of the fault, or nothing. What the instruction led to is in `result`.
    std::optional<u8> run(const std::vector<u8>& bytes) {
        machine.write(s().rip, bytes);
        vp().begin_slice(vp().now(), vp().now() + 100000);
        cpu::Insn insn;
        REQUIRE(cpu::fetch_decode(vp(), insn));
        result = cpu::execute(vp().interp(), insn);
        if (result == cpu::Exec::Next) s().rip = vp().interp().next_rip(insn);
        if (result == cpu::Exec::Fault) return vp().fault().vector;
        return std::nullopt;
    }
    std::optional<u8> vmrun(u64 pointer = kVmcb) {
        s().gpr[cpu::RAX] = pointer;
        return run({0x0f, 0x01, 0xd8});
    }
    /// Runs the guest (or the host) until `steps` instructions or events are over.
    void step(unsigned steps = 1) {
        vp().begin_slice(vp().now(), vp().now() + 100000);
        for (unsigned n = 0; n < steps; ++n) (void)stepper.step(vp());
    }
    /// Runs the guest with this code until it exits. The exit code.
    u64 exit_of(const std::vector<u8>& code, unsigned most = 50) {
        machine.write(kGuestCode, code);
        set(Field::guest_rip, kGuestCode);
        s().rip = kCode;
        REQUIRE_FALSE(vmrun());
        INFO((unit().last_violation() ? unit().last_violation()->text : "no rule"));
        for (unsigned n = 0; n < most && vp().guest_mode(); ++n) step();
        REQUIRE_FALSE(vp().guest_mode());
        REQUIRE(s().rip == kHostCode);
        return get(Field::exit_code);
    }

    /// Nested paging that maps the low GiB to itself, its first 2 MiB in small pages.
    void nest() {
        mmu::PhysicalMemory& memory = machine.memory;
        memory.write<u64>(Spa(kNestedTables), (kNestedTables + 0x1000) | 7);
        memory.write<u64>(Spa(kNestedTables + 0x1000), (kNestedTables + 0x2000) | 7);
        for (u64 n = 0; n < 512; ++n) memory.write<u64>(Spa(kNestedTables + 0x2000 + 8 * n), n << 21 | 0x87);
        memory.write<u64>(Spa(kNestedTables + 0x2000), (kNestedTables + 0x3000) | 7);
        for (u64 n = 0; n < 512; ++n) set_nested(n << 12, n << 12 | 7);
        set(Field::nested_control, cpu::svm::kNestedPaging);
        set(Field::nested_cr3, kNestedTables);
    }
    void set_nested(u64 page, u64 entry) {
        machine.memory.write<u64>(Spa(kNestedTables + 0x3000 + 8 * (page >> 12)), entry);
    }

    TestVp machine;
    cpu::Exec result{};
    cpu::StepEngine stepper;

  private:
    void write_segment(Field selector, const cpu::SegmentReg& segment) {
        using cpu::svm::operator+;
        set(selector, segment.selector);
        set(selector + 1, (segment.attributes & 0xffu) | (segment.attributes >> 4 & 0xf00u));
        set(selector + 2, segment.limit);
        set(selector + 3, segment.base);
    }
    void write_vmcb() {
        using enum Field;
        const cpu::VpState state = s();
        intercept(cpu::svm::code::kVmrun);
        intercept(cpu::svm::code::kHlt);
        set(guest_asid, 1);
        set(msrpm_base, kMsrpm);
        set(iopm_base, kIopm);
        set(g_pat, 0x0007040600070406);
        write_segment(es_selector, state.segment(cpu::Seg::ES));
        write_segment(cs_selector, state.segment(cpu::Seg::CS));
        write_segment(ss_selector, state.segment(cpu::Seg::SS));
        write_segment(ds_selector, state.segment(cpu::Seg::DS));
        set(gdtr_base, state.gdtr.base);
        set(gdtr_limit, state.gdtr.limit);
        set(idtr_base, state.idtr.base);
        set(idtr_limit, state.idtr.limit);
        set(guest_efer, state.efer);
        set(guest_cr0, state.cr0);
        set(guest_cr3, state.cr3);
        set(guest_cr4, state.cr4);
        set(guest_dr6, 0xffff0ff0);
        set(guest_dr7, 0x400);
        set(guest_rflags, cpu::flag::Always1);
        set(guest_rip, kGuestCode);
        set(guest_rsp, kGuestStack);
    }
};

}  // namespace vg::test
