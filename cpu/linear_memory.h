// How instruction bodies read and write memory: linear addresses in, faults recorded in the VP.
#pragma once

#include <cstring>

#include "base/types.h"
#include "mmu/tlb.h"

namespace vg::cpu {

class AccessLog;
class Vp;

/// Whose permissions apply. Implicit accesses (descriptor tables, TSS, interrupt stack of CPL 0) are supervisor
/// accesses whatever the CPL.
enum class As : u8 { Current, Supervisor };

/// Memory as one VP sees it. Every function returns true if the access was done; on false the VP holds a Fault or
/// (second-level fault, MMIO answered outside) an exit to leave with: the body returns `vp.failed()`.
/// Sizes 1..64. Handles page crossing (both pages are checked before a byte is written), MMIO, APIC page, code pages.
/// Non-canonical addresses give #GP(0), or #SS(0) when `stack`. Alignment checks (#AC) apply to Current accesses.
class LinearMemory {
  public:
    explicit LinearMemory(Vp& vp) : vp_(vp) {}

    [[nodiscard]] bool read(u64 address, void* out, u32 size, As as = As::Current, bool stack = false);
    [[nodiscard]] bool write(u64 address, const void* data, u32 size, As as = As::Current, bool stack = false);
    /// All checks of a write (and the dirty bit), no data: for read-modify-write and for committing late.
    [[nodiscard]] bool probe_write(u64 address, u32 size, As as = As::Current, bool stack = false);
    /// Direct host pointer to RAM for reading / for atomic read-modify-write, after all checks. nullptr with
    /// `vp` clean means "no direct access, use read/write"; nullptr with a recorded failure means return it.
    [[nodiscard]] u8* direct(u64 address, u32 size, bool for_write, As as = As::Current, bool stack = false);
    /// After `direct` returned nullptr: whether a failure was recorded.
    [[nodiscard]] bool direct_failed() const { return direct_failed_; }

    template <class T>
    [[nodiscard]] bool read(u64 address, T& out, As as = As::Current, bool stack = false) {
        return read(address, &out, sizeof(T), as, stack);
    }
    template <class T>
    [[nodiscard]] bool write(u64 address, const T& value, As as = As::Current, bool stack = false) {
        return write(address, &value, sizeof(T), as, stack);
    }

    /// Instruction bytes at a linear address: as many of `want` as can be fetched without crossing into a page that
    /// faults. Returns the count (>=1), or 0 with the fault recorded. 32-bit modes wrap at 4 GiB: the caller's job.
    [[nodiscard]] u32 fetch(u64 address, u8* out, u32 want);

    /// Reads without side effects (debuggers, inspect): false if not mapped to RAM or ROM.
    [[nodiscard]] bool peek(u64 address, void* out, u32 size);

    /// Where accesses with the current privilege are noted once they are done; null: nowhere. It outlives its use.
    void set_log(AccessLog* log) { log_ = log; }

  private:
    struct Piece;
    struct Pieces;
    [[nodiscard]] u16 pcid() const;
    [[nodiscard]] mmu::Privilege privilege(As as) const;
    [[nodiscard]] bool misaligned(u64 address, u32 size, As as) const;
    void watch(u64 address, u32 size, bool write, As as, const void* data);
    [[nodiscard]] bool check(u64& address, u32 size, As as, bool stack);
    [[nodiscard]] bool locate(u64 address, u32 size, mmu::Access access, As as, bool stack, Pieces& out);
    [[nodiscard]] bool locate_page(u64 address, u32 size, mmu::Access access, mmu::Privilege privilege, Piece& out);
    [[nodiscard]] bool read_piece(const Piece& piece, u8* out, mmu::Privilege privilege);
    [[nodiscard]] bool write_piece(const Piece& piece, const u8* data, mmu::Privilege privilege);
    [[nodiscard]] bool is_apic_page(Gpa gpa) const;
    enum class Answer : u8 { Done, Failed, Nobody };
    [[nodiscard]] Answer offer_memory(mmu::Access access, const Piece& piece, u32 size, const u8* data = nullptr);
    [[nodiscard]] bool offer_apic_access(mmu::Access access, Piece& piece);
    void describe_instruction();
    void apic_read(u32 offset, u8* out, u32 size);
    void apic_write(u32 offset, const u8* data, u32 size);

    Vp& vp_;
    bool direct_failed_ = false;
    AccessLog* log_ = nullptr;
};

}  // namespace vg::cpu
