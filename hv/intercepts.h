// What a child's VP met, as a message to its guest parent. Rows S-51, S-63, S-70..S-78; TLFS 6.0b "Intercept Messages".
#pragma once

#include <span>

#include "cpu/virt/controls.h"
#include "cpu/vp_state.h"
#include "hv/spec/intercept.h"

namespace vg::hv {

class Vp;

/// Each tells the parent and answers Leave: the VP is suspended with the instruction not executed (S-78), until its
/// parent has emulated it, changed the GPA space, or whatever it likes, and resumes the VP.
[[nodiscard]] cpu::virt::Action intercept_io(Vp& vp, const cpu::virt::Exit& exit);
[[nodiscard]] cpu::virt::Action intercept_memory(Vp& vp, const cpu::virt::Exit& exit);
[[nodiscard]] cpu::virt::Action intercept_msr(Vp& vp, const cpu::virt::Exit& exit);
/// @param shown  EAX, EBX, ECX, EDX as the guest would get them without the parent
[[nodiscard]] cpu::virt::Action intercept_cpuid(Vp& vp, const cpu::virt::Exit& exit, std::span<const u32, 4> shown);
[[nodiscard]] cpu::virt::Action intercept_exception(Vp& vp, const cpu::virt::Exit& exit);
[[nodiscard]] cpu::virt::Action intercept_hypercall(Vp& vp, const cpu::virt::Exit& exit);
/// A message that is only the header: Halt, UnrecoverableException.
[[nodiscard]] cpu::virt::Action intercept_plain(Vp& vp, MessageType type, u8 instruction_length);

/// The value of a segment register as messages and registers have it (K-203).
[[nodiscard]] SegmentValue segment_value(const cpu::SegmentReg& reg);

}  // namespace vg::hv
