// Which rows of cpu/isa a test exercised. VG_ISA_COVERAGE=FILE in the environment: test programs append it to FILE, and
// tools/isa-coverage reads that.
#pragma once

#include "base/types.h"

namespace vg::test {

/// How a row was exercised.
enum class Exercise : u8 {
    Body,      ///< its body or native stub ran without a fault, under either engine
    Fault,     ///< it ran into a fault
    Native,    ///< the translator emitted it natively, in a block that was entered
    Helper,    ///< the translator emitted it as a call of its body
    Host,      ///< the result was compared with the host processor's
    Reference  ///< the result was compared with another emulator's
};

/// Whether coverage is asked for.
[[nodiscard]] bool coverage_wanted();
/// Notes the row for the test that is running. Costs a comparison where coverage is not asked for.
void exercised(u16 row, Exercise how);

}  // namespace vg::test
