#include "cpu/vp.h"
#include "ui/model/register_fields.h"

namespace vg::model {

u64 register_value(const cpu::Vp& vp, std::string_view name) {
    const cpu::VpState& s = vp.state();
    const std::pair<std::string_view, u64> values[] = {
        {"rflags", s.rflags},
        {"cr0", s.cr0},
        {"cr3", s.cr3},
        {"cr4", s.cr4},
        {"cr8", vp.apic().tpr() >> 4u},
        {"efer", s.efer},
        {"dr6", s.dr[6]},
        {"dr7", s.dr[7]},
        {"xcr0", s.xcr0},
        {"mxcsr", s.mxcsr},
        {"fcw", s.x87.fcw},
        {"fsw", s.x87.fsw},
        {"apic_base", s.apic_base},
    };
    for (const auto& [each, value] : values)
        if (each == name) return value;
    return 0;
}

}  // namespace vg::model
