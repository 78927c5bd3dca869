// SVM of one processor: the global interrupt flag, VMRUN and #VMEXIT, the guest's VMCB. AMD APM 2 "Secure Virtual
// Machine".
#pragma once

#include <optional>

#include "cpu/interp.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/checks.h"
#include "cpu/svm/vmcb.h"

namespace vg::cpu::svm {

/// What an exit leaves in the VMCB besides the guest's state.
struct ExitRecord {
    u64 code = 0, info_1 = 0, info_2 = 0;
    u64 next_rip = 0;             ///< 0 unless an instruction was intercepted
    const Insn* bytes = nullptr;  ///< whose bytes are told (decode assists)
};

/// The extension of a model with SVM. Belongs to its VP and to the VP's thread.
class Unit final : public virt::Extension {
  public:
    explicit Unit(Vp& vp) : vp_(vp), s_(vp.state()) {}
    Unit(const Unit&) = delete;
    Unit& operator=(const Unit&) = delete;

    // ---- the instructions, complete with their exits and faults
    Exec vmrun(Interp& in, const Insn& i);
    Exec vmload(Interp& in, const Insn& i);
    Exec vmsave(Interp& in, const Insn& i);
    Exec set_gif(Interp& in, const Insn& i, bool on);  ///< STGI, CLGI
    [[nodiscard]] static Exec skinit(Interp& in, const Insn& i);
    Exec invlpga(Interp& in, const Insn& i);

    // ---- MSRs: VM_HSAVE_PA and the TSC ratio. False: #GP(0)
    [[nodiscard]] u64 host_save_address() const { return hsave_; }
    [[nodiscard]] bool write_host_save_address(u64 value);
    [[nodiscard]] u64 tsc_ratio() const { return tsc_ratio_; }
    [[nodiscard]] bool write_tsc_ratio(u64 value);

    // ---- virt::Extension
    void reset() override;
    [[nodiscard]] bool blocks_init() const override { return !gif_; }
    [[nodiscard]] bool event_pending(const Vp& vp) const override;
    Exec take_event(Vp& vp, virt::Boundary where, u8 shadow) override;
    virt::Action on_exit(Vp& vp, virt::Exit& exit) override;
    void fields(StateVisitor& v) override;
    void loaded(Vp& vp) override;

    // ---- for tools
    [[nodiscard]] bool global_interrupts() const { return gif_; }
    /// The VMCB of the guest that runs, or ran last, as the processor has it.
    [[nodiscard]] const Vmcb& vmcb() const { return vmcb_; }
    [[nodiscard]] u64 vmcb_pointer() const { return pointer_; }
    /// The second level of the guest that the VMCB describes, whether it runs or not.
    [[nodiscard]] mmu::SlatMode second_level() const { return slat_mode(); }
    /// The rule that the last VMRUN broke, if it failed by one.
    [[nodiscard]] const std::optional<Violation>& last_violation() const { return violation_; }

  private:
    /// What VMRUN keeps for #VMEXIT. Its place in memory and its format are the processor's own business (VM_HSAVE_PA).
    struct HostState {
        SegmentReg seg[4] = {};  ///< ES CS SS DS
        TableReg gdtr = {}, idtr = {};
        u64 efer = 0, cr0 = 0, cr3 = 0, cr4 = 0, rflags = 0, rip = 0, rsp = 0, rax = 0, pat = 0;
        u64 debugctl = 0, last_branch[4] = {};
        u8 nmi_blocked = 0;
    };

    [[nodiscard]] bool refused(Interp& in, const Insn& i, Exec& out);
    [[nodiscard]] bool read_pointer(Interp& in, const Insn& i, u64& pointer, Exec& out);
    [[nodiscard]] bool state_page(Interp& in, const Insn& i, mmu::Access access, Spa& page, Exec& out);
    void set_global_interrupts(bool on);

    // entries
    Exec fail_entry();
    void save_host(u64 resume_at);
    [[nodiscard]] bool pdptes_valid() const;
    void load_guest();
    void load_guest_branches();
    void load_guest_segments();
    [[nodiscard]] bool guest_is_pae() const;
    [[nodiscard]] std::optional<mmu::SlatFault> load_guest_pdptes();
    void flush_as_asked();
    void inject_event();
    [[nodiscard]] mmu::SlatMode slat_mode() const;
    [[nodiscard]] virt::Controls level_controls() const;
    void enter_level();
    void leave_level();

    // exits
    void exit_guest(const ExitRecord& record);
    void describe_delivery();
    void save_guest();
    void store(bool guest_state);
    void load_host();
    virt::Action leave(const ExitRecord& record);
    [[nodiscard]] u64 behind(const Insn& insn) const;
    [[nodiscard]] ExitRecord record_of(u32 code, const virt::Exit& exit) const;
    [[nodiscard]] ExitRecord nested_page_fault(const mmu::SlatFault& fault) const;
    virt::Action leave_if(u32 code, const virt::Exit& exit);
    virt::Action on_io(const virt::Exit& exit);
    virt::Action on_msr(virt::Exit& exit);
    virt::Action on_cr(virt::Exit& exit);
    virt::Action on_cr8(virt::Exit& exit);
    virt::Action on_dr(const virt::Exit& exit);
    virt::Action on_memory(const virt::Exit& exit);
    virt::Action on_exception(const virt::Exit& exit);
    virt::Action on_task_switch(const virt::Exit& exit);
    virt::Action on_pause(const virt::Exit& exit);
    virt::Action on_time_stamp(virt::Exit& exit);
    virt::Action on_instruction(const virt::Exit& exit);

    [[nodiscard]] bool intercepts(u32 code) const {
        return (vmcb_.word(Field::intercept_cr + code / 32) >> code % 32 & 1) != 0;
    }
    [[nodiscard]] bool intercepts_any(u32 first, u32 last) const;
    [[nodiscard]] bool nested_paging() const { return (vmcb_[Field::nested_control] & kNestedPaging) != 0; }
    [[nodiscard]] bool masks_interrupts() const { return (vmcb_[Field::int_ctl] & virq::kMasking) != 0; }
    [[nodiscard]] bool virtual_branches() const { return (vmcb_[Field::virt_ext] & extras::kLbr) != 0; }
    [[nodiscard]] bool virtual_nmis() const { return (vmcb_[Field::int_ctl] & virq::kNmiEnable) != 0; }
    [[nodiscard]] bool virtual_interrupt_due() const;
    [[nodiscard]] bool virtual_nmi_due() const;
    Exec take_virtual_nmi(Vp& vp);
    [[nodiscard]] u64 host_tsc() const { return vp_.tsc() - vp_.guest_tsc_offset(); }
    [[nodiscard]] u64 scaled_tsc() const;

    Vp& vp_;
    VpState& s_;
    bool gif_ = true;
    u64 hsave_ = 0, tsc_ratio_ = kTscRatioOne;
    u64 pointer_ = 0;  ///< of the VMCB
    Vmcb vmcb_;
    HostState host_;
    u64 pause_count_ = 0, last_pause_ = 0;  ///< PAUSEs left until one exits; virtual time of the last
    std::optional<Violation> violation_;
};

/// The VP's unit; null if the model has no SVM.
[[nodiscard]] Unit* unit_of(Vp& vp);

}  // namespace vg::cpu::svm
