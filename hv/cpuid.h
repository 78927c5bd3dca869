// CPUID as a partition's guest sees it. Rows C-01..C-94.
#pragma once

#include <span>

#include "base/types.h"

namespace vg::cpu {
class CpuModel;
}

namespace vg::hv {

class Partition;

/// The partition's processors have VMX, and what is offered for it besides (C-70, C-79).
[[nodiscard]] bool offers_enlightened_vmcs(const Partition& partition, const cpu::CpuModel& model);

/// Changes what CPUID gives without a hypervisor (`regs`: EAX, EBX, ECX, EDX) into what this partition's guest gets.
void apply_cpuid(const Partition& partition, const cpu::CpuModel& model, u32 leaf, std::span<u32, 4> regs);

}  // namespace vg::hv
