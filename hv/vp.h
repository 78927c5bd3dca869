// A partition's virtual processor: the processor plus SynIC, synthetic timers and the hv level on its stack.
#pragma once

#include <memory>

#include "cpu/vp.h"
#include "hv/overlay.h"
#include "hv/partition.h"

namespace vg::hv {

class Synic;
class SyntheticTimers;
class VpControl;

/// Runs as level 0 of its processor: cpu::virt exits come to on_exit, which answers CPUID leaves, synthetic MSRs,
/// hypercalls, ports and memory holes.
class Vp final : public cpu::virt::ExitOwner, private cpu::Platform, private cpu::EoiShortcut {
  public:
    Vp(Partition& partition, u32 index, const cpu::CpuModel& model, u32 apic_id);
    ~Vp() override;

    [[nodiscard]] Partition& partition() { return partition_; }
    [[nodiscard]] u32 index() const { return index_; }
    [[nodiscard]] cpu::Vp& processor() { return *processor_; }
    [[nodiscard]] Synic& synic() { return *synic_; }
    [[nodiscard]] SyntheticTimers& timers() { return *timers_; }
    [[nodiscard]] VpControl& control() { return *control_; }

    cpu::virt::Action on_exit(cpu::Vp& vp, cpu::virt::Exit& exit) override;

    /// The partition's ParentPolicy changed: what is intercepted, and whether this VP runs, follow.
    void apply_policy();

    /// HV_X64_MSR_GUEST_IDLE was read: the VP executes nothing until an interrupt is pending (M-24).
    void idle();

    // ---- a hypercall that is answered later (DispatchVp)
    /// Remembers what the answer needs: where the output goes, how long the instruction is.
    void defer_call(u64 output, u8 insn_length) { deferred_ = {true, output, insn_length}; }
    void complete_deferred_call(HvStatus status, std::span<const u8> output);
    void set_dispatching(Vp* vp) { dispatching_ = vp; }
    [[nodiscard]] Vp* dispatching() const { return dispatching_; }

    [[nodiscard]] u64 root_signals() const { return root_signals_; }
    void count_root_signal() { ++root_signals_; }

    /// Power-on: processor reset, synthetic state to its reset values (S-10).
    void reset();
    [[nodiscard]] const std::array<u64, 32>& exit_counts() const { return exit_counts_; }  ///< by ExitReason
    void fields(StateVisitor& v);

    [[nodiscard]] u64 vp_assist_msr() const { return vp_assist_msr_; }
    void set_vp_assist_msr(u64 value);

  private:
    void leave_as_firmware();
    void start_tsc();
    void reset_synthetic();
    cpu::virt::Action on_msr(cpu::virt::Exit& exit);
    cpu::virt::Action on_io(cpu::virt::Exit& exit);
    cpu::virt::Action on_memory(cpu::virt::Exit& exit);
    void read_hole(Gpa gpa, u32 size, u8* out);
    void write_hole(Gpa gpa, u32 size, const u8* data);

    u32 port_read(cpu::Vp& vp, u16 port, unsigned size) override;
    void port_write(cpu::Vp& vp, u16 port, unsigned size, u32 value) override;
    int acknowledge_external(cpu::Vp& vp) override;
    void shutdown(cpu::Vp& vp) override;
    void init_done(cpu::Vp& vp) override;
    void eoi_done(cpu::Vp& vp) override;
    void level_eoi(cpu::Vp& vp, u8 vector) override;
    void event_arrived(cpu::Vp& vp) override;
    [[nodiscard]] bool enlightened_vmcs(cpu::Vp& vp, u64& pointer) override;
    cpu::FerrAnswer ferr(cpu::Vp& vp, bool active) override;
    bool offer(u8 vector) override;
    bool withdraw() override;

    cpu::virt::Action on_cpuid(cpu::virt::Exit& exit);
    cpu::virt::Action on_other_msr(cpu::virt::Exit& exit);
    cpu::virt::Action on_halt(cpu::virt::Exit& exit);
    [[nodiscard]] bool is_child() const { return partition_.guest_parent() != nullptr; }

    Partition& partition_;
    u32 index_;
    std::unique_ptr<cpu::Vp> processor_;
    OverlayPage assist_page_;
    std::unique_ptr<Synic> synic_;
    std::unique_ptr<SyntheticTimers> timers_;
    std::unique_ptr<VpControl> control_;
    struct {
        bool active = false;
        u64 output = 0;
        u8 insn_length = 0;
    } deferred_;
    Vp* dispatching_ = nullptr;  ///< the child's VP that runs instead of this one
    u64 root_signals_ = 0;  ///< scheduler messages about this VP (R-64)
    std::array<u64, 32> exit_counts_{};
    u64 vp_assist_msr_ = 0;
    RateLimit hole_log_;
};

}  // namespace vg::hv
