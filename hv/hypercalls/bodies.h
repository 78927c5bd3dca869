// Hypercall bodies: parsed input in, status out. They know nothing of registers, GPAs of parameters, or repeats.
#pragma once

#include <span>

#include "hv/spec/hypercall.h"

namespace vg::hv {

class Vp;

namespace hypercalls {

/// The variable header in 8-byte units: for the calls here the banks of a VP set (H-45).
using VariableHeader = std::span<const u64>;

// synic.cpp
HvStatus post_message(Vp& caller, const PostMessageIn& in);
HvStatus signal_event(Vp& caller, const SignalEventIn& in);

// tlb.cpp: a flush may drop more than was asked for, so every one drops all of the target's translations
HvStatus flush_space(Vp& caller, const FlushSpaceIn& in);
HvStatus flush_list(Vp& caller, const FlushSpaceIn& in, const u64& range);
HvStatus flush_space_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks);
HvStatus flush_list_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks, const u64& range);

// scheduling.cpp
HvStatus notify_long_spin(Vp& caller, const NotifyLongSpinWaitIn& in);
HvStatus send_ipi(Vp& caller, const SendIpiIn& in);
HvStatus send_ipi_ex(Vp& caller, const SendIpiExIn& in, VariableHeader banks);

// extended.cpp
HvStatus query_capabilities(Vp& caller, u64& out);

}  // namespace hypercalls
}  // namespace vg::hv
