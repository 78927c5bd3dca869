// A virtual processor: state, memory view, pending events, local APIC, levels.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "base/types.h"
#include "cpu/apic.h"
#include "cpu/exec.h"
#include "cpu/fault.h"
#include "cpu/linear_memory.h"
#include "cpu/model.h"
#include "cpu/platform.h"
#include "cpu/spec/bits.h"
#include "cpu/virt/controls.h"
#include "cpu/virt/extension.h"
#include "cpu/vp_state.h"
#include "mmu/tlb.h"

namespace vg {
class StateVisitor;
}

namespace vg::cpu {

class GuestGate;
class Interp;

/// Everything a VP is built from; references outlive it.
struct VpEnvironment {
    mmu::PhysicalMemory& memory;
    EventQueue& events;
    Log& log;
    const CpuModel& model;
    ApicBus& apic_bus;
    Platform& platform;
    u64 partition = 0;  ///< id of the partition that the VP belongs to; 0: none, the bare PC
};

/// One virtual processor. Belongs to one thread while it runs. Not copyable; state() is its whole architectural state.
class Vp {
  public:
    /// @param index    VP index within its partition: 0 is the bootstrap processor
    /// @param apic_id  initial APIC id
    Vp(VpEnvironment environment, std::string name, u32 index, u32 apic_id);
    ~Vp();
    Vp(const Vp&) = delete;
    Vp& operator=(const Vp&) = delete;

    /// Power-on reset: real mode at F000:FFF0, the APs wait for SIPI. SDM 3A "Processor State After Reset".
    void reset();
    /// INIT: as reset, but caches, FP state and most MSRs stay.
    void init();

    [[nodiscard]] VpState& state() { return *state_; }
    [[nodiscard]] const VpState& state() const { return *state_; }
    [[nodiscard]] u32 index() const { return index_; }
    [[nodiscard]] u64 partition() const { return env_.partition; }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] mmu::Tlb& tlb() { return *tlb_; }
    [[nodiscard]] LinearMemory& memory() { return memory_; }
    [[nodiscard]] mmu::PhysicalMemory& physical() { return env_.memory; }
    [[nodiscard]] Apic& apic() { return *apic_; }
    /// Context of instruction bodies, with the caches of decoded instructions and host stubs. Made at first use.
    [[nodiscard]] Interp& interp();
    [[nodiscard]] const Apic& apic() const { return *apic_; }
    [[nodiscard]] const ApicBus& apic_bus() const { return env_.apic_bus; }
    [[nodiscard]] const CpuModel& model() const { return env_.model; }
    [[nodiscard]] EventQueue& events() { return env_.events; }
    [[nodiscard]] Log& log() { return env_.log; }
    [[nodiscard]] Platform& platform() { return env_.platform; }

    /// Tells the machine's event stream what this VP does. Values as in base/tap_kinds.def. Of an interrupt, `source` is
    /// its EventType: an external one, an NMI, or INT n; of an exit, `reason` its ExitReason and `qualifier` the port,
    /// MSR, leaf, register, vector or guest-physical address.
    void tell(TapKind kind, u64 a, u64 b = 0, u64 c = 0, u64 d = 0) {
        if (env_.log.tap().wants(kind)) [[unlikely]]
            env_.log.tap().tell({.kind = kind, .partition = env_.partition, .vp = index_, .values = {a, b, c, d}});
    }

    // ---- time
    /// Virtual time at this instruction: exact inside bodies.
    [[nodiscard]] VTime now() const { return state_->deadline - static_cast<u64>(state_->budget); }
    [[nodiscard]] u64 tsc() const { return now() + state_->tsc_offset; }
    /// Virtual time since reset that this VP spent executing, in ns: what passes while it is halted does not count.
    [[nodiscard]] u64 run_time_ns() const { return now() - state_->idle_ns; }
    /// Starts a slice: runs from `from` until `until`.
    void begin_slice(VTime from, VTime until) {
        state_->idle_ns += from - now();
        state_->deadline = slice_end_ = until;
        state_->budget = static_cast<s64>(until - from);
    }
    /// What is left of the slice is given back: afterwards nothing tells how the time was divided into slices.
    void end_slice() {
        state_->deadline = slice_end_ = now();
        state_->budget = 0;
    }
    /// Makes the running slice end no later than `when` (called when a timer is armed during the slice).
    void shorten_slice(VTime when);
    /// The rest of the slice is run in parts, the first of at most `instructions`; shorten_slice means the whole.
    void begin_parts(u64 instructions) {
        slice_end_ = state_->deadline;
        next_part(instructions);
    }
    /// The next part begins here; all that is left of the slice with ~0.
    void next_part(u64 instructions);
    /// Whether there is more of the slice behind this part.
    [[nodiscard]] bool in_parts() const { return state_->deadline < slice_end_; }

    // ---- mode
    [[nodiscard]] bool long_mode() const { return (state_->efer & efer::LMA) != 0; }
    [[nodiscard]] bool protected_mode() const { return (state_->cr0 & cr0::PE) != 0; }
    [[nodiscard]] bool v8086() const { return (state_->rflags & flag::VM) != 0; }
    [[nodiscard]] unsigned cpl() const { return state_->cpl; }
    /// Code size from CS and EFER.
    [[nodiscard]] CodeMode code_mode() const {
        const SegmentReg& cs = state_->segment(Seg::CS);
        if (long_mode() && cs.l()) return CodeMode::Bits64;
        return cs.db() ? CodeMode::Bits32 : CodeMode::Bits16;
    }
    /// Linear address of the instruction at rip.
    [[nodiscard]] u64 linear_rip() const;
    /// Re-derives paging mode, privilege and bank from CR0/CR3/CR4/EFER/CPL/AC/levels. Call after changing any.
    void update_context();
    /// The same, when nothing but CPL and AC changed: the common case, and a quick one.
    void update_privilege();
    /// Tells the TLB where the xAPIC page is, if there is one. Call after changing IA32_APIC_BASE.
    void update_apic_page();
    [[nodiscard]] mmu::PagingMode paging_mode() const;

    // ---- faults and exits
    /// Records a fault and returns Exec::Fault.
    Exec raise(u8 vector);
    Exec raise(u8 vector, u32 error_code);
    Exec raise_page_fault(u64 address, u32 error_code);
    Exec raise(const Fault& fault);
    [[nodiscard]] const Fault& fault() const { return fault_; }
    /// After LinearMemory returned false: Exec::Fault, Exec::Leave or Exec::Switch.
    [[nodiscard]] Exec failed() const { return switched_ ? Exec::Switch : leaving_ ? Exec::Leave : Exec::Fault; }
    [[nodiscard]] virt::Exit& exit() { return exit_; }
    /// Whose exits are meant: string I/O is offered to those that switch worlds first, before memory is touched.
    enum class Offer : u8 { All, Switching, Answering };
    /// Offers exit() to the innermost level that intercepts. Default if no level does. On Inject the fault is recorded;
    /// on Leave the VP is marked as leaving, on Switch as switched.
    virt::Action offer_exit(Offer to = Offer::All);
    /// An instruction begins, or an event is about to be delivered (null): what an exit in its middle says of it.
    void begin(const Insn* insn) {
        executing_ = insn;
        switched_ = iret_unblocked_ = false;
    }
    [[nodiscard]] const Insn* executing() const { return executing_; }
    /// A VM exit or entry took place since begin().
    [[nodiscard]] bool switched() const { return switched_; }
    void mark_switched() {
        switched_ = true;
        leaving_ = false;
        access_dr6_ = 0;
        skip_step_ = false;
    }
    /// The shadow ends at this boundary; the instruction behind it is the last that it covers.
    void end_shadow() {
        shadow_time_ = state_->interrupt_shadow != 0 ? now() : kNever;
        shadow_ended_ = state_->interrupt_shadow;
        state_->interrupt_shadow = 0;
    }
    void forget_shadow() { shadow_time_ = kNever; }
    /// What covers the instruction that is executing, or this boundary: what an exit says of it.
    [[nodiscard]] u8 shadow_in_force() const {
        return state_->interrupt_shadow != 0 ? state_->interrupt_shadow : shadow_time_ == now() ? shadow_ended_ : u8{0};
    }
    /// RF as it was before the instruction that is executing.
    void note_resume_flag(bool set) { resume_flag_ = set; }
    [[nodiscard]] bool resume_flag() const { return resume_flag_; }
    /// The IRET that is executing has unblocked NMIs.
    void note_nmi_unblocked() { iret_unblocked_ = true; }
    [[nodiscard]] bool iret_unblocked_nmi() const { return iret_unblocked_; }
    void mark_leaving() { leaving_ = true; }
    void clear_failure() { leaving_ = false; }
    [[nodiscard]] bool leaving() const { return leaving_; }
    /// Delivers fault() (with double- and triple-fault rules) or an interrupt through IDT/IVT.
    /// @param next_rip  return address of traps and software interrupts; faults return to rip.
    /// @return false if nothing was delivered: the VP shut down (activity() says so), or an owner asked to unwind
    ///         (leaving() says so; architectural state is as before, so that the event occurs again). True also behind a
    ///         VM exit, which switched() tells.
    [[nodiscard]] bool deliver(const Fault& fault, u64 next_rip);

    // ---- pending events
    [[nodiscard]] Activity activity() const { return state_->activity; }
    /// True if take_event would do something now (an unmasked interrupt, NMI, INIT, SIPI, #DB trap or instruction
    /// breakpoint is due, or a shadow must end). When it is still true after take_event returned Next, an event waits
    /// behind a shadow: execute one instruction and ask again.
    [[nodiscard]] bool event_pending() const;
    /// An interrupt or NMI is there and waits for nothing but RFLAGS.IF, a shadow or IRET (or for less).
    [[nodiscard]] bool interrupt_waits() const;
    /// True while every instruction must be executed by itself (StepEngine): TF, RF, an enabled breakpoint, or records of
    /// branches.
    [[nodiscard]] bool stepping() const {
        return (state_->rflags & (flag::TF | flag::RF)) != 0 || (state_->dr[7] & 0xff) != 0 || records_branches();
    }
    /// Control transfers are recorded: DEBUGCTL.LBR, on models that have the records (those with SVM).
    [[nodiscard]] bool records_branches() const {
        return (state_->debugctl & debugctl::Lbr) != 0 && env_.model.has(CpuFlag::SVM);
    }
    /// Control went from the instruction at `from` to rip. AMD APM 2 "Control-Transfer Recording MSRs".
    void record_branch(u64 from) {
        state_->last_branch[0] = from;
        state_->last_branch[1] = state_->rip;
    }
    /// The same for an interrupt or exception: the record of the branch before it is kept.
    void record_interrupt(u64 from) {
        state_->last_branch[2] = state_->last_branch[0];
        state_->last_branch[3] = state_->last_branch[1];
        record_branch(from);
    }
    /// After an instruction, or an iteration of a string instruction, that began with TF set: arms its trap.
    /// @param branched  control was transferred: with DEBUGCTL.BTF nothing else single-steps
    void single_step(bool branched);
    /// Compares an access with the data breakpoints in DR0-3; what matches waits for the end of the instruction.
    void note_access(u64 address, u32 size, bool write);
    /// The same for an access to an I/O port and the I/O breakpoints, which exist with CR4.DE.
    void note_port(u16 port, u32 size);
    /// The instruction that is executing met a data or I/O breakpoint.
    [[nodiscard]] bool access_noted() const { return access_dr6_ != 0; }
    /// The instruction that made the noted accesses is over: its data breakpoints trap, or are forgotten if it faulted.
    void settle_accesses(bool completed) {
        if (access_dr6_ != 0) [[unlikely]]
            trap_accesses(completed);
    }
    /// A single-step trap is due at the boundary after the instruction that is executing, whatever TF was before it.
    void request_single_step();
    /// The instruction that is executing (INT n, SYSCALL...) loses its single-step trap.
    void cancel_single_step() { skip_step_ = (state_->rflags & flag::TF) != 0; }
    /// At an instruction boundary: clears shadows, delivers at most one pending event, wakes from HLT.
    /// Returns Next if nothing was due, Resync if state changed, Leave if a level's owner took it.
    Exec take_event();
    /// A fault or an event is being delivered. Two at the same time have no completed instruction between them (a
    /// handler that itself faults, a breakpoint on the first instruction of its own handler): behind the first few each
    /// is charged one instruction, so that time goes on and the slice ends.
    void charge_delivery();
    void request_nmi();
    void request_init();
    void request_sipi(u8 vector);
    /// Level of the external interrupt line (ExtINT of an 8259).
    void set_external_line(bool level);
    /// Asks a running VP to stop at the next boundary with Stop::Request. Any thread.
    void request_stop();
    [[nodiscard]] bool stop_requested() const { return __atomic_load_n(&state_->request, __ATOMIC_ACQUIRE) != 0; }
    /// How the VP's translated code goes together with the rest of the machine; null (as at first): one thread runs all.
    void set_gate(GuestGate* gate) { gate_ = gate; }
    [[nodiscard]] GuestGate* gate() const { return gate_; }
    /// Somebody else, of any thread that holds the machine's lock, is about to change what belongs to this VP.
    void hold_off() {
        if (gate_ != nullptr) [[unlikely]] hold_off_at_gate();
    }
    /// This VP is about to do in several steps what the others must see as one.
    void hold_off_others() {
        if (gate_ != nullptr) [[unlikely]] hold_off_all_at_gate();
    }
    /// A held VP executes nothing, whatever wakes it, until it is let go: whoever runs VPs asks (hv suspends VPs so).
    void hold(bool held) { held_ = held; }
    [[nodiscard]] bool held() const { return held_; }

    // ---- event injection by whoever runs this processor as a guest
    /// Delivered before anything else at the next boundary, whatever RFLAGS.IF says. One at a time.
    struct Injection {
        Fault fault;
        u64 insn_length = 0;  ///< software interrupts and exceptions return behind the instruction
    };
    void inject(const std::optional<Injection>& injection) { injected_ = injection; }
    [[nodiscard]] const std::optional<Injection>& injected() const { return injected_; }
    /// The event in the middle of whose delivery an exit comes; none otherwise, and none for what follows from a double
    /// fault. SDM 3C "Information for VM Exits During Event Delivery".
    [[nodiscard]] const std::optional<Injection>& delivering() const { return delivering_; }

    // ---- levels
    [[nodiscard]] std::vector<virt::Level>& levels() { return levels_; }
    [[nodiscard]] const std::vector<virt::Level>& levels() const { return levels_; }
    /// What the innermost level intercepts; nothing if there is none.
    [[nodiscard]] const virt::Controls& controls() const { return levels_.empty() ? kNoControls : levels_.back().controls; }

    // ---- VMX or SVM
    /// Null if the model has neither.
    [[nodiscard]] virt::Extension* extension() const { return extension_.get(); }
    /// A guest of the extension runs: its level is the innermost.
    [[nodiscard]] bool guest_mode() const { return guest_mode_; }
    void set_guest_mode(bool on) { guest_mode_ = on; }
    /// Bits of CR0 and CR4 that must stay set: VMX operation.
    struct RequiredBits {
        u64 cr0 = 0, cr4 = 0;
    };
    [[nodiscard]] const RequiredBits& required() const { return required_; }
    void require(const RequiredBits& bits) { required_ = bits; }
    /// What the extension added to the TSC for its guest: VpState::tsc_offset includes it, timers do without.
    [[nodiscard]] u64 guest_tsc_offset() const { return guest_tsc_offset_; }
    void set_guest_tsc_offset(u64 offset) {
        state_->tsc_offset += offset - guest_tsc_offset_;
        guest_tsc_offset_ = offset;
    }
    /// Interrupts, NMIs and breakpoints wait: the extension's global interrupt flag (SVM) is clear.
    void hold_events(bool held) { events_held_ = held; }
    /// An interrupt of this priority would be taken if nothing masked it: what external-interrupt exits wait for.
    [[nodiscard]] bool external_interrupt_waits() const;
    /// Takes the interrupt that waits, as an acknowledge cycle does. -1: none any more.
    int acknowledge_interrupt();

    void fields(StateVisitor& v);

  private:
    [[nodiscard]] mmu::Privilege privilege() const;
    static const virt::Controls kNoControls;
    [[nodiscard]] bool breakpoint_at_rip(u64& dr6_bits) const;
    [[nodiscard]] bool guest_event_pending() const;
    [[nodiscard]] bool init_is_due() const;
    [[nodiscard]] bool nmi_is_due() const;
    [[nodiscard]] bool exits_now(virt::ExitReason reason, u8 shadow);
    Exec guest_event(virt::Boundary where, u8 shadow);
    Exec take_init();
    Exec take_sipi();
    Exec take_trap();
    Exec take_nmi();
    Exec take_interrupt();
    [[nodiscard]] bool exception_exits(Fault& event, u64 next_rip, bool& delivered);
    [[nodiscard]] bool external_interrupt_due() const;
    Exec start_from_sipi();
    Exec deliver_injected();
    Exec deliver_debug(u64 dr6_bits);
    void reset_common();
    void tell_delivery(const Fault& fault, u64 rip);
    template <class Watches>
    void compare_breakpoints(u64 address, u32 size, Watches watches);
    void trap_accesses(bool completed);
    void shut_down();
    void hold_off_at_gate();
    void hold_off_all_at_gate();

    VpEnvironment env_;
    std::string name_;
    u32 index_;
    int state_fd_ = -1;
    VpState* state_ = nullptr;
    std::unique_ptr<mmu::Tlb> tlb_;
    LinearMemory memory_;
    std::unique_ptr<Apic> apic_;
    std::unique_ptr<Interp> interp_;
    std::vector<virt::Level> levels_;
    GuestGate* gate_ = nullptr;
    Fault fault_;
    virt::Exit exit_;
    bool leaving_ = false, switched_ = false;
    bool resume_flag_ = false, iret_unblocked_ = false;
    u8 shadow_ended_ = 0;
    VTime shadow_time_ = kNever;  ///< when shadow_ended_ ended
    const Insn* executing_ = nullptr;
    std::optional<Injection> delivering_;
    std::unique_ptr<virt::Extension> extension_;
    bool guest_mode_ = false, events_held_ = false;
    RequiredBits required_;
    u64 guest_tsc_offset_ = 0;
    VTime slice_end_ = 0;
    bool held_ = false;
    std::optional<Injection> injected_;
    bool external_line_ = false;
    bool skip_step_ = false;
    VTime delivery_time_ = kNever;  ///< of the last delivery, and how many before it were at the same time
    u32 delivery_streak_ = 0;
    u64 access_dr6_ = 0;  ///< DR6 bits of data breakpoints met by the instruction that is executing
};

}  // namespace vg::cpu
