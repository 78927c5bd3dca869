// Watched memory of a debugger: from the addresses of a rule to pages of the machine, and back. Internal to
// machine/debugger.
#pragma once

#include <map>
#include <vector>

#include "base/result.h"
#include "machine/debugger.h"
#include "mmu/physical_memory.h"

namespace vg::machine {

/// What a Watch rule is about in system-physical memory, found out when it was set.
class WatchedRange {
  public:
    /// Error (Usage): some of it is not mapped or not RAM.
    /// @param vp  whose tables translate; null only for a physical address on a bare PC
    static Result<WatchedRange> translate(Machine& machine, const StopRule& rule, cpu::Vp* vp);

    /// Where bytes [spa, spa + size) are in the rule's own addresses.
    struct Touched {
        u64 access = 0;  ///< of their first one
        u64 first = 0;   ///< of the first one that is watched
    };
    [[nodiscard]] std::optional<Touched> touched(Spa spa, u64 size) const;
    /// Adds its pages to those that are to be watched for `rule`.
    void collect(const StopRule& rule, std::map<u64, u8>& pages) const;

  private:
    struct Piece {
        u64 address;  ///< in the rule's space
        Spa spa;
        u64 size;  ///< within one page
    };
    std::vector<Piece> pieces_;
};

/// The pages that are watched now; the memory knows of each.
class WatchedPages {
  public:
    static constexpr u8 kReads = 1, kWrites = 2;
    explicit WatchedPages(mmu::PhysicalMemory& memory) : memory_(memory) {}
    /// @param pages  system-physical page addresses, with kReads and kWrites
    void set(std::map<u64, u8> pages);

  private:
    mmu::PhysicalMemory& memory_;
    std::map<u64, u8> pages_;
};

}  // namespace vg::machine
