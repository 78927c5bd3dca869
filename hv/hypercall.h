// The hypercall calling convention: registers, pages, repeats, privileges. Rows H-01..H-46;
// TLFS 6.0b "Hypercall Interface".
#pragma once

#include <string_view>

#include "base/types.h"
#include "cpu/virt/controls.h"
#include "hv/spec/status.h"

namespace vg::hv {

class Vp;

/// Performs the hypercall that `caller`'s registers describe and puts the result into them. Runs to completion: a
/// caller never sees a continuation (H-41). Answers Skip, or Inject with #UD where H-05, H-28 and H-29 ask for it.
[[nodiscard]] cpu::virt::Action do_hypercall(Vp& caller, cpu::virt::Exit& exit);

/// Tells listeners of a call that waited and is answered now; before its registers change. Looks, changes nothing.
void tell_deferred_hypercall(Vp& caller, HvStatus status);

/// Name of a call code for people; "unknown" if there is no such row.
[[nodiscard]] std::string_view hypercall_name(u16 code);

}  // namespace vg::hv
