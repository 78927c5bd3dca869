// What /dev/mshv of Linux 7.2 takes: numbers and layouts of its ioctls. Rows R-40..R-50 of the interface.
#pragma once

#include <sys/ioctl.h>

#include "base/types.h"

namespace vg::vmm {

struct CreatePartition {
    u64 flags;  ///< 0 LAPIC, 1 x2APIC, 2 large pages
    u64 isolation;
};
struct CreateVp {
    u32 vp_index;
};
struct MemoryRegion {
    u64 size, guest_pfn, user_address;
    u8 flags;  ///< 0 writable, 1 executable, 2 unmap
    u8 reserved[7];
};
static_assert(sizeof(MemoryRegion) == 32);
struct RootHypercall {
    u16 code, reps, input_size, output_size, status;
    u8 reserved[6];
    u64 input, output;
};
static_assert(sizeof(RootHypercall) == 32);
struct RunVp {
    u8 message[256];
};

inline constexpr u8 kWritable = 1, kExecutable = 2, kUnmap = 4;
inline constexpr u64 kPartitionLapic = 1, kPartitionX2Apic = 2;

inline constexpr unsigned kMagic = 0xb8;
inline constexpr unsigned long kCreatePartition = _IOW(kMagic, 0, CreatePartition);
inline constexpr unsigned long kInitializePartition = _IO(kMagic, 0);
inline constexpr unsigned long kCreateVp = _IOW(kMagic, 1, CreateVp);
inline constexpr unsigned long kSetGuestMemory = _IOW(kMagic, 2, MemoryRegion);
inline constexpr unsigned long kRootHypercall = _IOWR(kMagic, 7, RootHypercall);
inline constexpr unsigned long kRunVp = _IOR(kMagic, 0, RunVp);

/// Pages of a VP that can be mapped, by page offset.
inline constexpr unsigned kRegisterPage = 0, kInterceptPage = 1;

}  // namespace vg::vmm
