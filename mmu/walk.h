// Guest page walks: GVA to GPA under any paging mode, with the second level composed in.
#pragma once

#include <optional>

#include "base/bits.h"
#include "base/result.h"
#include "base/types.h"
#include "mmu/physical_memory.h"

namespace vg::mmu {

/// The kinds of access a permission check distinguishes.
enum class Access : u8 { Read, Write, Fetch };

/// SDM 3A "Paging Modes and Control Bits".
enum class PagingKind : u8 { None, Bits32, Pae, Level4 };

/// Everything of the processor that a translation depends on. Two equal values translate alike, except for what
/// the tables in memory say. Cheap to copy and compare.
struct PagingMode {
    PagingKind kind = PagingKind::None;
    bool wp = false, smep = false, smap = false, pke = false, nxe = false, pse = false, pge = false, pcide = false;
    u64 cr3 = 0;              ///< as in the register, PCID included
    u64 pdpte[4] = {};        ///< PAE: loaded at MOV CR3
    u32 pkru = 0;
    u8 physical_bits = 46;    ///< MAXPHYADDR: bits above are reserved
    bool gib_pages = true;    ///< 1 GiB pages supported
    bool operator==(const PagingMode&) const = default;
};

/// Where guest-physical pages are noted as they become dirty. SDM 3C "Page-Modification Logging".
struct PageLog {
    static constexpr u16 kEntries = 512;
    u64 spa = 0;    ///< of the log's page
    u16 index = 0;  ///< of the next entry; it counts down, and the log is full outside 0..511
    [[nodiscard]] bool full() const { return index >= kEntries; }
};

/// Second-level translation. `root` 0 means none: GPA equals SPA.
struct SlatMode {
    enum class Kind : u8 { None, Ept, Npt };
    Kind kind = Kind::None;
    u64 root = 0;             ///< EPTP or nCR3
    bool accessed_dirty = false;
    u8 physical_bits = 46;
    /// Whose translations they are, besides the root: a VPID or ASID. Those of another tag stay and are not used.
    u16 tag = 0;
    bool apic_access = false;  ///< Tlb::apic_access_page counts
    /// EPT: instruction fetches from user-mode addresses have a right of their own (mode-based execute control).
    bool user_execute = false;
    /// NPT: of the host's registers, EFER.NXE, and whether a fault tells fetches from reads (NXE or CR4.SMEP).
    bool no_execute = true, tells_fetches = true;
    /// A level below this one, in EPT format: what translates the addresses in these tables and those that they lead to (a
    /// partition's table, if the partition runs a guest of its own). 0: none.
    u64 below = 0;
    u8 below_bits = 46;
    PageLog* log = nullptr;  ///< EPT with dirty flags: where it is noted that one was set; null: nowhere
    bool operator==(const SlatMode&) const = default;
};

/// A page fault to deliver.
struct PageFault {
    u32 error_code = 0;  ///< mmu::pf bits
};

/// Why the second level refused. For EPT this becomes an EPT violation or misconfiguration; for hv an intercept.
struct SlatFault {
    Gpa gpa;                    ///< the guest-physical address that was being accessed
    Access access = Access::Read;
    bool misconfigured = false;
    bool during_walk = false;   ///< the access was to a guest paging structure
    u8 permissions = 0;         ///< bits 0..3: R, W, X that the tables grant, and X of user-mode addresses if that is separate
    bool present = false;       ///< there is a mapping, whatever it grants
    bool convertible = false;   ///< EPT: bit 63 of the entry that decided is clear (SDM 3C "Convertible EPT Violations")
    bool log_full = false;      ///< nothing was refused, but SlatMode::log has no room for the page
    /// The level below refused: `gpa` is an address of the guest-physical space that SlatMode::below translates.
    bool below = false;
};

/// Result of a walk.
struct Translation {
    enum class Status : u8 { Ok, Fault, SlatFault };
    Status status = Status::Ok;
    PageFault fault;
    SlatFault slat_fault;
    Gpa gpa;                 ///< of the byte asked for
    Spa spa;                 ///< of the byte asked for
    u8 page_bits = 12;       ///< log2 of the smaller of the guest's page and the second-level page
    bool global = false;
    /// Which accesses this page and privilege permit without another walk: `writable` also says that the dirty bits are
    /// set, so that a write entry may be cached.
    bool readable = false, writable = false, executable = false;
};

/// Translates one GPA through the second level (identity when there is none).
/// Sets EPT accessed/dirty bits where enabled.
[[nodiscard]] Translation translate_gpa(PhysicalMemory& memory, const SlatMode& slat, Gpa gpa, Access access,
                                        bool during_walk = false);

/// Walks the guest tables for one access. Sets accessed and dirty bits as the architecture does (dirty only for a
/// write); changes nothing else. `gva` must be canonical in 4-level mode: the caller checks, because the fault
/// depends on the segment. SDM 3A "Paging".
/// @param user  the access is a user-mode access (CPL 3 and not an implicit supervisor access)
/// @param ac    EFLAGS.AC as far as SMAP is concerned (false for implicit supervisor accesses)
[[nodiscard]] Translation walk(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva,
                               Access access, bool user, bool ac);

/// The same walk without side effects, for debuggers and inspect: never sets a bit, never reaches MMIO.
[[nodiscard]] Translation peek_walk(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva,
                                    Access access, bool user);

/// Reads the four PDPTEs at CR3 for PAE paging. False if one has a reserved bit set (the load must give #GP(0))
/// or the table cannot be read.
/// @param refused  if the second level refused, how; may be null
[[nodiscard]] bool load_pdptes(PhysicalMemory& memory, const SlatMode& slat, u64 cr3, u8 physical_bits, u64 out[4],
                               std::optional<SlatFault>* refused = nullptr);
/// The reserved bits of a present PDPTE. SDM 3A "PAE Paging": bits 2:1, 8:5 and 63:MAXPHYADDR.
[[nodiscard]] constexpr u64 reserved_pdpte_bits(u8 physical_bits) { return 0x1e6 | ~low_mask(physical_bits); }

}  // namespace vg::mmu
