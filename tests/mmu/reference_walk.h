// A slow second opinion on page walks, written bit by bit from the manual, for tests.
#pragma once

#include <map>
#include <vector>

#include "base/types.h"
#include "mmu/walk.h"

namespace vg::mmu::reference {

/// Memory as the reference sees it: everything outside reads as all-ones and ignores writes.
struct Memory {
    std::vector<u8> bytes;
    [[nodiscard]] u64 load(u64 address, unsigned size) const;
    void set_bits(u64 address, u64 bits, unsigned size);
};

struct Outcome {
    enum class Kind { Ok, Fault, Slat } kind = Kind::Ok;
    u32 error_code = 0;
    u64 gpa = 0, spa = 0;   ///< Ok: of the byte; Slat: gpa of the access
    unsigned page_bits = 0;
    bool misconfigured = false, during_walk = false;
    unsigned permissions = 0;
    Access slat_access = Access::Read;
};

/// Translates and updates accessed and dirty bits in `memory`.
Outcome translate(Memory& memory, const PagingMode& mode, const SlatMode& slat, u64 gva, Access access, bool user,
                  bool ac);

/// The second level alone.
Outcome translate_gpa(Memory& memory, const SlatMode& slat, u64 gpa, Access access, bool during_walk, bool user_page = false);

}  // namespace vg::mmu::reference
