// VMX of one processor: operation, the current VMCS, entries and exits. SDM 3C "Introduction to Virtual Machine Extensions" and
// the chapters behind it.
#pragma once

#include <array>
#include <optional>

#include "base/events.h"
#include "cpu/interp.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/checks.h"
#include "cpu/vmx/vmcs.h"

namespace vg::cpu::vmx {

/// What an exit leaves in the VMCS besides the guest's state.
struct ExitRecord {
    u32 reason = 0;
    u64 qualification = 0;
    u32 interruption = 0, error_code = 0;  ///< VM-exit interruption information
    u32 insn_length = 0, insn_info = 0;
    u64 linear = 0, physical = 0;          ///< guest-linear and guest-physical address
    bool has_linear = false, has_physical = false;
};

/// The extension of a model with VMX. Belongs to its VP and to the VP's thread.
class Unit final : public virt::Extension {
  public:
    explicit Unit(Vp& vp);
    ~Unit() override;
    Unit(const Unit&) = delete;
    Unit& operator=(const Unit&) = delete;

    // ---- the instructions, complete with their exits, faults and VMfails
    Exec vmxon(Interp& in, const Insn& i);
    Exec vmxoff(Interp& in, const Insn& i);
    Exec vmclear(Interp& in, const Insn& i);
    Exec vmptrld(Interp& in, const Insn& i);
    Exec vmptrst(Interp& in, const Insn& i);
    Exec vmread(Interp& in, const Insn& i);
    Exec vmwrite(Interp& in, const Insn& i);
    Exec enter(Interp& in, const Insn& i, bool launch);
    Exec vmcall(Interp& in, const Insn& i);
    Exec vmfunc(Interp& in, const Insn& i);
    Exec invept(Interp& in, const Insn& i);
    Exec invvpid(Interp& in, const Insn& i);

    // ---- virt::Extension
    void reset() override;
    [[nodiscard]] bool blocks_init() const override { return on_; }
    [[nodiscard]] bool event_pending(const Vp& vp) const override;
    Exec take_event(Vp& vp, virt::Boundary where, u8 shadow) override;
    virt::Action on_exit(Vp& vp, virt::Exit& exit) override;
    void fields(StateVisitor& v) override;
    void loaded(Vp& vp) override;

    // ---- for tools
    [[nodiscard]] const Capabilities& capabilities() const { return caps_; }
    [[nodiscard]] bool in_operation() const { return on_; }
    /// kNoVmcs: none.
    [[nodiscard]] u64 current_pointer() const { return current_; }
    [[nodiscard]] const Vmcs& current() const { return vmcs_; }
    [[nodiscard]] bool enlightened() const { return enlightened_; }
    /// The second level of the guest that the current VMCS describes, whether it runs or not.
    [[nodiscard]] mmu::SlatMode second_level() { return slat_mode(); }
    [[nodiscard]] u8 requesting_vector() const { return virtual_pending_ ? requesting() : u8{0}; }
    /// The rule that the last entry broke, if it failed by one.
    [[nodiscard]] const std::optional<Violation>& last_violation() const { return violation_; }

  private:
    // memory, by physical addresses of whoever runs VMX operation
    void read_physical(u64 address, void* out, u32 size);
    void write_physical(u64 address, const void* data, u32 size);
    template <class T>
    [[nodiscard]] T read_physical(u64 address) {
        T value{};
        read_physical(address, &value, sizeof value);
        return value;
    }

    [[nodiscard]] mmu::SlatMode host_slat() const;
    [[nodiscard]] bool tpr_below_threshold();

    // instructions
    [[nodiscard]] bool refused(Interp& in, const Insn& i, Exec& out);
    Exec succeed(Interp& in, const Insn& i);
    Exec fail_invalid(Interp& in, const Insn& i);
    Exec fail(Interp& in, const Insn& i, u32 error);
    [[nodiscard]] bool read_pointer(Interp& in, const Insn& i, u64& pointer);
    void write_back();
    void make_current(u64 pointer);
    [[nodiscard]] bool take_enlightened(u64 pointer);
    void store_enlightened();
    [[nodiscard]] bool field_of(u64 encoding, Field& field, bool& high) const;
    [[nodiscard]] bool plain(const Interp& in) const;
    Exec vmread_shadow(Interp& in, const Insn& i);
    Exec vmwrite_shadow(Interp& in, const Insn& i);
    [[nodiscard]] bool shadowed(Interp& in, const Insn& i);

    // entries
    Exec fail_entry(u32 reason, u64 qualification);
    [[nodiscard]] EntryContext entry_context();
    void load_guest();
    void load_guest_registers();
    void load_guest_segments();
    void load_guest_msrs();
    void load_guest_events();
    void begin_guest();
    void inject_event();
    [[nodiscard]] virt::Controls level_controls();
    void update_controls(const FieldSet& changed);
    void enter_level();
    void leave_level();
    [[nodiscard]] mmu::SlatMode slat_mode();
    [[nodiscard]] u64 load_msrs(Field address, Field count);
    [[nodiscard]] bool store_msrs();
    void arm_preemption_timer();

    // exits
    void exit_guest(const ExitRecord& record);
    void describe_vectoring(ExitRecord& record);
    void save_guest(const ExitRecord& record);
    void save_guest_segments();
    void save_guest_events(const ExitRecord& record);
    void load_host();
    void load_host_segments();
    void load_host_msrs();
    void abort(u32 indicator);
    virt::Action leave(const ExitRecord& record);
    [[nodiscard]] ExitRecord record_of(u32 reason, const virt::Exit& exit) const;
    virt::Action on_io(const virt::Exit& exit);
    virt::Action on_msr(virt::Exit& exit);
    virt::Action on_x2apic(virt::Exit& exit);
    virt::Action on_cr(virt::Exit& exit);
    virt::Action on_cr8(virt::Exit& exit);
    virt::Action on_dr(const virt::Exit& exit);
    virt::Action on_memory(virt::Exit& exit);
    [[nodiscard]] bool converts(const virt::Exit& exit);
    virt::Action virtualization_exception(virt::Exit& exit, const ExitRecord& violation);
    virt::Action on_apic_access(virt::Exit& exit);
    virt::Action on_exception(const virt::Exit& exit);
    virt::Action on_descriptor_table(const virt::Exit& exit);
    virt::Action on_task_switch(const virt::Exit& exit);
    virt::Action on_external_interrupt(const virt::Exit& exit);
    virt::Action on_pause(const virt::Exit& exit);
    virt::Action on_instruction(virt::Exit& exit);
    [[nodiscard]] bool iret_unblocked() const;

    // the virtual-APIC page
    [[nodiscard]] u32 virtual_register(u32 offset);
    void set_virtual_register(u32 offset, u32 value);
    void set_virtual_bit(u32 base, u8 vector, bool on);
    [[nodiscard]] u8 highest_virtual(u32 base);
    [[nodiscard]] u8 requesting() const;  ///< RVI
    [[nodiscard]] u8 servicing() const;   ///< SVI
    void set_virtual_status(u8 rvi, u8 svi);
    void virtualize_ppr();
    [[nodiscard]] bool virtualize_tpr();
    [[nodiscard]] int virtualize_eoi();
    void virtualize_self_ipi(u8 vector);
    void evaluate_virtual();
    void begin_virtual_apic();
    Exec deliver_virtual();
    void process_posted();
    [[nodiscard]] bool apic_access_is_virtual(u32 offset, u32 size, bool write) const;
    [[nodiscard]] std::optional<ExitRecord> emulate_apic_write();

    // controls of the current VMCS
    [[nodiscard]] bool pin(u32 bits) const { return (vmcs_.word(Field::pin_controls) & bits) != 0; }
    [[nodiscard]] bool proc(u32 bits) const { return (vmcs_.word(Field::proc_controls) & bits) != 0; }
    [[nodiscard]] u32 proc2_word() const { return proc(proc::kSecondary) ? vmcs_.word(Field::proc2_controls) : 0; }
    [[nodiscard]] bool proc2(u32 bits) const { return (proc2_word() & bits) != 0; }
    [[nodiscard]] bool exits(u32 bits) const { return (vmcs_.word(Field::exit_controls) & bits) != 0; }
    [[nodiscard]] bool entries(u32 bits) const { return (vmcs_.word(Field::entry_controls) & bits) != 0; }
    [[nodiscard]] u16 tag() const { return proc2(proc2::kVpid) ? static_cast<u16>(vmcs_[Field::vpid]) : u16{0}; }
    [[nodiscard]] u64 host_tsc() const;
    /// With a multiplier of 1 an offset is all that there is.
    [[nodiscard]] bool scales_tsc() const {
        constexpr u64 kOne = u64{1} << 48;
        return proc(proc::kTscOffset) && proc2(proc2::kTscScaling) && vmcs_[Field::tsc_multiplier] != kOne;
    }
    [[nodiscard]] u64 scaled_tsc() const;
    void note_page_log();
    [[nodiscard]] bool guest_is_pae() const;

    Vp& vp_;
    VpState& s_;
    const Capabilities caps_;
    EventQueue::TimerId timer_;
    bool on_ = false;          ///< in VMX operation
    u64 vmxon_pointer_ = kNoVmcs, current_ = kNoVmcs;
    Vmcs vmcs_;                ///< the current VMCS; its region is written when it ceases to be current
    // What the last entry was made of: derived from the VMCS, and of use to the next.
    EntryChecks checks_;
    virt::Controls controls_;
    mmu::SlatMode controls_below_;  ///< what the level below was then
    bool controls_known_ = false;
    const FieldTable fields_;
    bool enlightened_ = false; ///< the current VMCS is an enlightened one, and its page is written by every exit
    mmu::PageLog log_;         ///< of the guest that runs, if pages are logged
    u64 timer_end_ = 0;        ///< TSC at which the preemption timer reaches 0
    bool timer_runs_ = false, timer_expired_ = false;
    bool monitor_trap_pending_ = false;
    bool tpr_exit_pending_ = false;
    bool virtual_pending_ = false;  ///< a virtual interrupt waits for RFLAGS.IF
    static constexpr u32 kNoRegister = ~u32{0};
    u32 apic_written_ = kNoRegister;  ///< offset of the APIC register that the instruction has written
    u64 last_pause_ = 0, first_pause_ = 0;  ///< TSC of the last and the first PAUSE of a loop (pause-loop exiting)
    std::optional<Violation> violation_;
};

/// The VP's unit; null if the model has no VMX.
[[nodiscard]] Unit* unit_of(Vp& vp);

}  // namespace vg::cpu::vmx
