// What this processor's VMX offers: the allowed settings of controls, and what the capability MSRs say of them.
#pragma once

#include "base/types.h"
#include "cpu/model.h"

namespace vg::cpu::vmx {

/// One word of controls: bits that must be 1 (with the "true" capability MSRs), the bits that older software is told must be
/// 1, and the bits that may be 1.
struct Allowed {
    u32 must = 0, default1 = 0, may = 0;
    [[nodiscard]] bool permits(u32 value) const { return (must & ~value) == 0 && (value & ~may) == 0; }
};

/// Without which a VMCS field does not exist.
enum class Needs : u8 {
    Always, Vpid, PostedInterrupts, VirtualizationException, VirtualInterrupts, Pml, MsrBitmaps, TprShadow, ApicAccesses,
    VmFunctions, Ept, EptpSwitching, ShadowVmcs, Xsaves, TscScaling, PreemptionTimer, PauseLoop
};

/// Fixed by the CPU model, and by whether a hypervisor below offers an enlightened VMCS.
struct Capabilities {
    /// @param enlightened  only controls whose fields an enlightened VMCS has: guests that use one rely on finding no others
    ///                     (TLFS 6.0b "Enlightened VMCS")
    explicit Capabilities(const CpuModel& model, bool enlightened = false);

    Allowed pin, proc, proc2, exit, entry;
    u64 ept_vpid = 0;
    u64 vm_functions = 0;
    u64 cr0_must = 0, cr4_must = 0, cr4_may = 0;  ///< in VMX operation
    u64 misc = 0, basic = 0, vmcs_enum = 0;
    u8 physical_bits = 46;

    [[nodiscard]] bool has(Needs needs) const;
    /// IA32_VMX_BASIC (480H) and up. False: there is no such MSR.
    [[nodiscard]] bool read_msr(u32 msr, u64& value) const;
    /// Whether an EPT pointer may be used. SDM 3C "Checks on VMX Controls".
    [[nodiscard]] bool ept_pointer_valid(u64 pointer) const;
    /// A physical address within the processor's width, aligned to 2^`alignment_bits`.
    [[nodiscard]] bool address_valid(u64 address, unsigned alignment_bits) const;

  private:
    void leave_out_unenlightened();
};

}  // namespace vg::cpu::vmx
