// Walks over arbitrary memory content: first bytes choose the mode, the rest is RAM. A walk must end, must not reach
// outside RAM, must agree with the reference, and the TLB must answer as a fresh walk does.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>

// The reference belongs to the tests of mmu/ and is no library: one source file per fuzz target, so it comes in whole.
#include "tests/mmu/reference_walk.cpp"
#include "mmu/tlb.h"
#include "mmu/walk.h"

using namespace vg;
using namespace vg::mmu;

namespace {

constexpr u64 kBytes = 16 * kPageSize;

struct Header {
    u8 kind, flags, slat, physical_bits;
    u32 pkru;
    u64 cr3, root, gva;
    u8 access, who, pad[6];
};

/// What costs too much to make anew for each input. The TLB's tables are such; flushed, it must be as good as new.
struct Machine {
    PhysicalMemory memory;
    int fd = memfd_create("state", MFD_CLOEXEC);
    std::optional<Tlb> tlb;
    Machine() {
        if (!memory.add_ram("ram", Spa(0), kBytes) || ftruncate(fd, kPageSize) != 0) std::abort();
        tlb.emplace(memory, fd, 0);
    }
};

bool agree(const Translation& t, const reference::Outcome& o) {
    using Kind = reference::Outcome::Kind;
    switch (o.kind) {
        case Kind::Ok: return t.status == Translation::Status::Ok && t.spa.value == o.spa;
        case Kind::Fault: return t.status == Translation::Status::Fault && t.fault.error_code == o.error_code;
        case Kind::Slat: return t.status == Translation::Status::SlatFault && t.slat_fault.gpa.value == o.gpa;
    }
    return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static Machine machine;
    Header h;
    if (size < sizeof h) return 0;
    std::memcpy(&h, data, sizeof h);
    reference::Memory ref{std::vector<u8>(kBytes)};
    const std::size_t content = size - sizeof h < kBytes ? size - sizeof h : kBytes;
    std::memcpy(ref.bytes.data(), data + sizeof h, content);
    u8* const ram = machine.memory.ram(Spa(0));
    std::memcpy(ram, ref.bytes.data(), kBytes);

    PagingMode mode;
    mode.kind = static_cast<PagingKind>(h.kind % 4);
    mode.wp = h.flags & 1;
    mode.smep = h.flags & 2;
    mode.smap = h.flags & 4;
    mode.pke = h.flags & 8;
    mode.nxe = h.flags & 16;
    mode.pse = h.flags & 32;
    mode.pge = h.flags & 64;
    mode.gib_pages = h.flags & 128;
    mode.physical_bits = static_cast<u8>(32 + h.physical_bits % 21);
    mode.pkru = h.pkru;
    mode.cr3 = h.cr3;
    for (u64 i = 0; i < 4; ++i) mode.pdpte[i] = ref.load((h.cr3 & 0xffe0) + 8 * i, 8);
    SlatMode slat;
    slat.kind = static_cast<SlatMode::Kind>(h.slat % 3);
    slat.root = h.root;
    slat.accessed_dirty = slat.kind == SlatMode::Kind::Ept && (h.slat & 4) != 0;
    slat.physical_bits = 46;
    const bool user = h.who & 1, ac = !user && (h.who & 2) != 0;
    const Access access = static_cast<Access>(h.access % 3);
    const u64 gva = mode.kind == PagingKind::Level4 ? static_cast<u64>(static_cast<s64>(h.gva << 16) >> 16)
                                                    : h.gva & 0xffffffff;

    const Translation t = walk(machine.memory, mode, slat, Gva(gva), access, user, ac);
    // A table that is guest and second-level table at once can change under the walk: the reference, which never
    // starts again, is only asked when they are apart.
    if (slat.kind == SlatMode::Kind::None &&
        (!agree(t, reference::translate(ref, mode, slat, gva, access, user, ac)) || std::memcmp(ram, ref.bytes.data(), kBytes) != 0)) {
        std::abort();
    }

    std::memcpy(ram, ref.bytes.data(), kBytes);
    Tlb& tlb = *machine.tlb;
    tlb.flush_all();
    const Privilege privilege = user ? Privilege::User : ac ? Privilege::SupervisorAc : Privilege::Supervisor;
    tlb.set_context(mode, slat, privilege);
    const Tlb::Mapping first = tlb.resolve(gva, access, privilege);
    const Tlb::Mapping second = tlb.resolve(gva, access, privilege);
    if (first.translation.status == Translation::Status::Ok &&
        (second.translation.status != Translation::Status::Ok || second.translation.spa != first.translation.spa)) {
        std::abort();
    }
    return 0;
}
