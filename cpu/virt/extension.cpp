#include "cpu/virt/extension.h"

namespace vg::cpu::virt {

std::unique_ptr<Extension> make_extension(Vp&) { return nullptr; }

}  // namespace vg::cpu::virt
