// A processor's registers by the names of the control protocol.
#pragma once

#include "base/result.h"
#include "cpu/vp.h"
#include "ui/model/json_text.h"

namespace vg::model {

/// All of them, values as "0x..." with as many digits as they need (ymm and st: all digits, most significant first).
/// Changes nothing.
[[nodiscard]] Json read_registers(cpu::Vp& vp);

/// Sets the registers of an object as read_registers gives it, all or none. Error (Usage): a name or a value that
/// cannot be, or a state that no processor can be in.
[[nodiscard]] Result<void> write_registers(cpu::Vp& vp, const Json& values);

}  // namespace vg::model
