// Memory by the physical addresses of whoever runs VMX operation or has SVM enabled.
#pragma once

#include <optional>

#include "base/types.h"
#include "mmu/walk.h"

namespace vg::cpu {

class Vp;

namespace virt {

/// The second level below the extension: none on a bare processor, the partition's for a child of hv.
[[nodiscard]] mmu::SlatMode host_slat(const Vp& vp);
/// The second level of a guest that has no tables of its own: what its guest-physical addresses, which are those of whoever
/// runs it, go through. With tables of its own, `kind` and `root` are theirs.
[[nodiscard]] mmu::SlatMode guest_slat(const Vp& vp);
/// Where such an address is in memory; nothing if the level below withholds its page from reads or writes.
[[nodiscard]] std::optional<Spa> system_address(Vp& vp, u64 address);

/// Reads or writes `size` bytes. Of a page that the second level withholds all ones are read, and writes are lost.
void read_physical(Vp& vp, u64 address, void* out, u32 size);
void write_physical(Vp& vp, u64 address, const void* data, u32 size);

template <class T>
[[nodiscard]] T read_physical(Vp& vp, u64 address) {
    T value{};
    read_physical(vp, address, &value, sizeof value);
    return value;
}

}  // namespace virt
}  // namespace vg::cpu
