// What VMX of a processor is doing, and why its last entry failed.
#include <fmt/format.h>

#include "cpu/spec/vmx.h"
#include "cpu/vmx/unit.h"
#include "ui/model/explain.h"

namespace vg::model {

std::vector<std::string> explain_virtualization(const PlacedVp& vp) {
    const cpu::vmx::Unit* unit = cpu::vmx::unit_of(*vp.processor);
    if (unit == nullptr) return {};
    if (!unit->in_operation()) return {"VMX is not in use: no VMXON."};
    std::vector<std::string> lines;
    if (unit->current_pointer() == cpu::vmx::kNoVmcs) {
        lines.push_back("It is in VMX root operation, without a current VMCS.");
        return lines;
    }
    const cpu::vmx::Vmcs& vmcs = unit->current();
    lines.push_back(fmt::format("It is in VMX {} operation; the current VMCS is at 0x{:x}, {}.",
                                vp.processor->guest_mode() ? "non-root" : "root", unit->current_pointer(),
                                vmcs.launched ? "launched" : "clear"));
    if (const auto& broken = unit->last_violation()) {
        const cpu::vmx::FieldRow& row = cpu::vmx::field_row(broken->field);
        lines.push_back(fmt::format("Its last VM entry failed. The manual demands: {}. {} (0x{:04x}) was 0x{:x}.", broken->text,
                                    row.name, row.encoding, broken->value));
    }
    const u32 reason = vmcs.word(cpu::vmx::Field::exit_reason);
    if (vmcs.launched || reason != 0)
        lines.push_back(fmt::format("The last exit of this VMCS had reason {}{}, qualification 0x{:x}.", reason & 0xffff,
                                    (reason & cpu::vmx::reason::kEntryFailure) != 0 ? " (entry failure)" : "",
                                    vmcs[cpu::vmx::Field::exit_qualification]));
    return lines;
}

}  // namespace vg::model
