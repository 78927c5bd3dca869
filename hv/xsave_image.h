// Extended state of a processor as a compacted XSAVE image. K-174; SDM 1 "Compacted Form".
#pragma once

#include <array>
#include <span>

#include "base/types.h"

namespace vg::cpu {
class CpuModel;
class Vp;
}  // namespace vg::cpu

namespace vg::hv {

/// Bytes of an image with everything that this model has: at most a page.
[[nodiscard]] u32 xsave_image_size(const cpu::CpuModel& model);
/// Components in it, as bits of XCR0.
[[nodiscard]] u64 xsave_components(const cpu::CpuModel& model);
/// Writes the image; its size.
u32 save_xsave(const cpu::Vp& processor, std::array<u8, kPageSize>& out);
/// False, and nothing changed, if it is no such image: another format, components that the model lacks, reserved bits.
[[nodiscard]] bool load_xsave(cpu::Vp& processor, const std::array<u8, kPageSize>& in);

}  // namespace vg::hv
