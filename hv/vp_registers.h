// A VP's registers by their names, one by one or as the register page. Rows K-190..K-214, S-102.
#pragma once

#include "hv/spec/registers.h"
#include "hv/spec/status.h"
#include "hv/spec/vp_state.h"

namespace vg::cpu {
class Vp;
}

namespace vg::hv {

class Vp;

/// UnknownRegisterName for names that are not there.
HvStatus get_register(Vp& vp, u32 name, RegisterValue& value);
/// Also InvalidRegisterValue: the value can never be right (reserved bits); InvalidParameter: the register is read-only.
/// Values that only together make no sense are found when the VP is to run.
HvStatus set_register(Vp& vp, u32 name, const RegisterValue& value);

/// False if the processor could not go on from these registers: modes that exclude each other.
[[nodiscard]] bool registers_consistent(const cpu::Vp& processor);
/// After registers were set from outside: CPL, PDPTEs and translation context follow from the others.
void settle_registers(cpu::Vp& processor);

/// Everything but version, validity and the vector list.
void fill_register_page(cpu::Vp& processor, RegisterPage& page);
/// What is marked dirty.
void apply_register_page(cpu::Vp& processor, const RegisterPage& page);

}  // namespace vg::hv
