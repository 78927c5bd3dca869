// Where engines ask before they execute an instruction: a debugger's breakpoints, unseen by the guest.
#pragma once

#include <vector>

#include "base/types.h"

namespace vg::cpu {

class Vp;

/// Linear addresses, whatever is mapped there and whichever VP comes by. Engines hold a reference
/// (Engine::set_breakpoints).
class Breakpoints {
  public:
    virtual ~Breakpoints() = default;

    [[nodiscard]] bool contains(u64 linear) const;
    /// Some address lies in the page of `linear`.
    [[nodiscard]] bool in_page(u64 linear) const;
    /// Some address has this offset in its page, whichever page that is.
    [[nodiscard]] bool has_offset(u32 offset) const;
    /// The first such offset from `offset` on; kPageSize: none.
    [[nodiscard]] u32 next_offset(u32 offset) const;

    /// The VP is about to execute the instruction at such an address; nothing else is due before it. True: it stops in
    /// front of it with Stop::Breakpoint. Asked again when an instruction that did not complete begins once more.
    [[nodiscard]] virtual bool stops(Vp& vp) = 0;

  protected:
    /// Tell the engine afterwards.
    void set_addresses(std::vector<u64> addresses);

  private:
    std::vector<u64> addresses_;  ///< ascending
    std::vector<u32> offsets_;    ///< ascending, each once
};

}  // namespace vg::cpu
