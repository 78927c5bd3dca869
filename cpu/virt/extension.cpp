#include "cpu/virt/extension.h"

#include "cpu/svm/unit.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::virt {

std::unique_ptr<Extension> make_extension(Vp& vp) {
    if (vp.model().has(CpuFlag::VMX)) return std::make_unique<vmx::Unit>(vp);
    if (vp.model().has(CpuFlag::SVM)) return std::make_unique<svm::Unit>(vp);
    return nullptr;
}

}  // namespace vg::cpu::virt
