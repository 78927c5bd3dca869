// Declarations of all instruction bodies (cpu/ops/*.cpp), from ops.def.
#pragma once

#include "cpu/exec.h"
#include "cpu/insn.h"

namespace vg::cpu {

class Interp;

// Contract: cpu/exec.h. The decoder has checked LOCK, VEX fields, operand forms and the code size; the caller,
// cpu::execute, the CPUID feature and what the row's attributes ask for (privilege, x87 and vector units). Everything else
// is the body's.
namespace ops {
#define OP_BODY(name) Exec name(Interp& in, const Insn& i);
#define OP_FAMILY(name) Exec name(Interp& in, const Insn& i);
#define OP_AS(name, body)
#define OP_HOST(name)
#include "cpu/isa/ops.def"
#undef OP_BODY
#undef OP_FAMILY
#undef OP_AS
#undef OP_HOST
}  // namespace ops

}  // namespace vg::cpu
