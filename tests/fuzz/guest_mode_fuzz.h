// VM entries near the border of what they accept: a VMCS, or a VMCB, that is valid, some fields of which the input changes, and a
// guest of the input's bytes. Shared by the fuzz targets and a short random test. An entry refuses exactly what a rule of the
// table forbids, in the way that the manual gives for the rule's kind, and a host that was left comes back where it said.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "cpu/svm/unit.h"
#include "cpu/vmx/unit.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/test_vp.h"

namespace vg::test {

inline void require_entry(bool condition) {
    if (!condition) std::abort();
}

/// One change of a field: another value, a bit, its neighbours, or a value where rules tend to have their border.
inline u64 change_value(InputBytes& input, u64 old) {
    static constexpr u64 kBorders[] = {0, 1, 2, 0xfff, 0x1000, 0xffff, 0x80000000, 0xffffffff, u64{1} << 46, u64{1} << 47, ~u64{0}};
    const u8 how = input.take<u8>();
    switch (how >> 6) {
        case 0: return input.take<u64>();
        case 1: return old ^ u64{1} << (how & 63);
        case 2: return (how & 1) != 0 ? old + 1 : old - 1;
        default: return kBorders[how % std::size(kBorders)];
    }
}

/// A VMCS. Inputs: the number of changes, each with its field, and the guest's code.
class VmcsFuzz {
  public:
    void run(std::span<const u8> data) {
        using namespace cpu;
        InputBytes input(data);
        machine_.enter_long_mode(0);
        Vp& vp = *machine_.vp;
        VpState& s = vp.state();
        s.cr4 |= cr4::VMXE;
        s.feature_control = 5;
        s.rip = kCode;
        s.gpr[RSP] = 0x8000;
        s.gpr[RBX] = kPointer;
        s.gpr[RCX] = kPointer + 8;
        s.rflags = flag::Always1;
        vp.update_context();
        const vmx::Unit& unit = *vmx::unit_of(vp);
        vmx::Vmcs vmcs = valid(unit.capabilities());
        for (u8 changes = input.take<u8>() & 7; changes > 0; --changes) {
            const auto field = static_cast<vmx::Field>(input.take<u8>() % vmx::kFieldCount);
            vmcs.set(field, change_value(input, vmcs[field]));
        }
        store(vmcs);
        const auto code = input.span(256);
        machine_.write(kGuestCode, {code.begin(), code.end()});
        // vmxon [rbx]; vmptrld [rcx]; vmlaunch; hlt
        machine_.write(kCode, {0xf3, 0x0f, 0xc7, 0x33, 0x0f, 0xc7, 0x31, 0x0f, 0x01, 0xc2, 0xf4});
        vp.begin_slice(machine_.clock.now(), machine_.clock.now() + 100000);
        for (unsigned n = 0; n < 3; ++n) (void)engine_.step(vp);
        judge(vp, unit);
        for (unsigned n = 0; n < kSteps && vp.guest_mode(); ++n) (void)engine_.step(vp);
        const bool host64 = (unit.current().word(vmx::Field::exit_controls) & vmx::exits::kHost64) != 0;
        if (left_ && !vp.guest_mode() && vp.activity() == Activity::Active && host64)
            require_entry(s.rip == unit.current()[vmx::Field::host_rip]);
    }
    /// Entries that came to a guest, and the rules that refused.
    u64 entered = 0, refused = 0;

  private:
    static constexpr u64 kCode = 0x1000, kGuestCode = 0x2000, kHostCode = 0x3000, kPointer = 0x4000, kVmxon = 0x10000, kVmcs = 0x11000;
    static constexpr unsigned kSteps = 200;

    static bool among(std::span<const cpu::vmx::Rule> rules, std::string_view text) {
        return std::any_of(rules.begin(), rules.end(), [text](const cpu::vmx::Rule& rule) { return rule.text == text; });
    }

    void judge(cpu::Vp& vp, const cpu::vmx::Unit& unit) {
        using namespace cpu;
        using enum vmx::Field;
        const VpState& s = vp.state();
        const auto& broken = unit.last_violation();
        left_ = false;
        if (!broken) {
            left_ = s.rip != kCode + 10 || vp.guest_mode();  // not a VMfail for another reason
            ++entered;
            return;
        }
        ++refused;
        require_entry(!vp.guest_mode());
        const bool controls = among(vmx::control_rules(), broken->text), host = among(vmx::host_rules(), broken->text);
        if (s.rip == kCode + 10 && (s.rflags & flag::ZF) != 0) {
            // Some rules are in words that two of the tables share.
            const u64 number = unit.current()[insn_error];
            require_entry((controls && number == vmx::error::kControls) || (host && number == vmx::error::kHostState));
            return;
        }
        require_entry(among(vmx::guest_rules(), broken->text));
        require_entry(unit.current()[exit_reason] == (vmx::reason::kInvalidGuestState | vmx::reason::kEntryFailure));
        require_entry(unit.current()[exit_qualification] == broken->qualification);
        require_entry(vp.activity() == Activity::Shutdown || s.rip == unit.current()[host_rip]);
    }

    cpu::vmx::Vmcs valid(const cpu::vmx::Capabilities& caps) {
        using namespace cpu;
        using enum vmx::Field;
        using vmx::operator+;
        const VpState& s = machine_.vp->state();
        vmx::Vmcs v;
        v.set(pin_controls, caps.pin.must);
        v.set(proc_controls, caps.proc.must | vmx::proc::kSecondary | vmx::proc::kHlt);
        v.set(exit_controls, caps.exit.must | vmx::exits::kHost64);
        v.set(entry_controls, caps.entry.must | vmx::entries::kGuest64);
        for (const auto& [field, value] : {std::pair{guest_cr0, s.cr0}, {guest_cr3, s.cr3}, {guest_cr4, s.cr4}, {host_cr0, s.cr0},
                                           {host_cr3, s.cr3}, {host_cr4, s.cr4}, {guest_gdtr_base, s.gdtr.base},
                                           {guest_idtr_base, s.idtr.base}, {host_gdtr_base, s.gdtr.base}, {host_idtr_base, s.idtr.base}})
            v.set(field, value);
        for (unsigned n = 0; n < 8; ++n) {
            v.set(guest_es_selector + n, s.seg[n].selector);
            v.set(guest_es_base + n, s.seg[n].base);
            v.set(guest_es_limit + n, s.seg[n].limit);
            v.set(guest_es_rights + n, n == 6 ? vmx::kUnusable : s.seg[n].attributes);
        }
        v.set(guest_gdtr_limit, s.gdtr.limit);
        v.set(guest_idtr_limit, s.idtr.limit);
        v.set(guest_dr7, 0x400);
        v.set(guest_rsp, 0x9000);
        v.set(guest_rip, kGuestCode);
        v.set(guest_rflags, flag::Always1);
        v.set(vmcs_link_pointer, vmx::kNoVmcs);
        v.set(host_cs_selector, TestVp::kKernelCs);
        for (const vmx::Field field : {host_ss_selector, host_ds_selector, host_es_selector}) v.set(field, TestVp::kKernelSs);
        v.set(host_tr_selector, TestVp::kTssSelector);
        v.set(host_tr_base, TestVp::kTss);
        v.set(host_rsp, 0x8000);
        v.set(host_rip, kHostCode);
        return v;
    }
    void store(const cpu::vmx::Vmcs& vmcs) {
        std::array<u8, cpu::vmx::Vmcs::kUsedBytes> region{};
        vmcs.write(region);
        machine_.memory.write(Spa(kVmcs), region.data(), cpu::vmx::Vmcs::kUsedBytes);
        machine_.memory.write<u32>(Spa(kVmxon), cpu::vmx::kRevision);
        machine_.memory.write<u64>(Spa(kPointer), kVmxon);
        machine_.memory.write<u64>(Spa(kPointer + 8), kVmcs);
    }

    TestVp machine_{"verdigris-v3-vmx"};
    cpu::StepEngine engine_;
    bool left_ = false;
};

/// The same for a VMCB.
class VmcbFuzz {
  public:
    void run(std::span<const u8> data) {
        using namespace cpu;
        InputBytes input(data);
        machine_.enter_long_mode(0);
        Vp& vp = *machine_.vp;
        VpState& s = vp.state();
        s.efer |= efer::SVME;
        s.rflags = flag::Always1;
        s.rip = kCode;
        vp.update_context();
        write_valid();
        for (u8 changes = input.take<u8>() & 7; changes > 0; --changes) {
            const auto field = static_cast<svm::Field>(input.take<u8>() % svm::kFieldCount);
            const svm::FieldRow& row = svm::field_row(field);
            u64 old = 0;
            machine_.memory.read(Spa(kVmcb + row.offset), &old, row.bytes);
            put(field, change_value(input, old));
        }
        const auto code = input.span(256);
        machine_.write(kGuestCode, {code.begin(), code.end()});
        machine_.write(kCode, {0x0f, 0x01, 0xd8, 0xf4});
        s.gpr[RAX] = kVmcb;
        vp.begin_slice(machine_.clock.now(), machine_.clock.now() + 100000);
        (void)engine_.step(vp);
        const svm::Unit& unit = *svm::unit_of(vp);
        ++(unit.last_violation() ? refused : entered);
        if (unit.last_violation()) {
            require_entry(!vp.guest_mode());
            require_entry(machine_.memory.read<u64>(Spa(kVmcb + svm::field_row(svm::Field::exit_code).offset)) == svm::code::kInvalid);
        }
        for (unsigned n = 0; n < kSteps && vp.guest_mode(); ++n) (void)engine_.step(vp);
        if (!vp.guest_mode() && vp.activity() == Activity::Active)
            require_entry(s.rip == kCode + 3 && !unit.global_interrupts());
    }
    u64 entered = 0, refused = 0;

  private:
    static constexpr u64 kVmcb = 0x11000, kCode = 0x1000, kGuestCode = 0x2000;
    static constexpr unsigned kSteps = 200;

    void put(cpu::svm::Field field, u64 value) {
        const cpu::svm::FieldRow& row = cpu::svm::field_row(field);
        machine_.memory.write(Spa(kVmcb + row.offset), &value, row.bytes);
    }
    void put_segment(cpu::svm::Field selector, const cpu::SegmentReg& segment) {
        using cpu::svm::operator+;
        put(selector, segment.selector);
        put(selector + 1, (segment.attributes & 0xffu) | (segment.attributes >> 4 & 0xf00u));
        put(selector + 2, segment.limit);
        put(selector + 3, segment.base);
    }
    void write_valid() {
        using enum cpu::svm::Field;
        using cpu::Seg;
        const cpu::VpState& s = machine_.vp->state();
        for (u64 at = 0; at < kPageSize; at += 8) machine_.memory.write<u64>(Spa(kVmcb + at), 0);
        put(intercept_3, 1u << 24 | 1u << 31);  // HLT, shutdown
        put(intercept_4, 1);
        put(guest_asid, 1);
        put_segment(es_selector, s.segment(Seg::ES));
        put_segment(cs_selector, s.segment(Seg::CS));
        put_segment(ss_selector, s.segment(Seg::SS));
        put_segment(ds_selector, s.segment(Seg::DS));
        for (const auto& [field, value] : {std::pair{gdtr_base, s.gdtr.base}, {gdtr_limit, u64{s.gdtr.limit}}, {idtr_base, s.idtr.base},
                                           {idtr_limit, u64{s.idtr.limit}}, {guest_efer, s.efer}, {guest_cr0, s.cr0}, {guest_cr3, s.cr3},
                                           {guest_cr4, s.cr4}, {guest_rip, kGuestCode}, {guest_rsp, u64{0x9000}}})
            put(field, value);
    }

    TestVp machine_{"verdigris-v3-amd-svm"};
    cpu::StepEngine engine_;
};

}  // namespace vg::test
