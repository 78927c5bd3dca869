// Where names of guest code come from, for those who answer questions about a machine.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/machine.h"

namespace vg::model {

/// A name in a guest's address space.
struct Symbol {
    std::string name;
    u64 address = 0;
    u64 size = 0;        ///< 0: not known
    std::string module;  ///< "" for the kernel or the only image
};

/// One activation, innermost first.
struct StackFrame {
    u64 pc = 0;
    u64 sp = 0;
    std::string symbol;  ///< as symbolize() says it
    std::string file;    ///< "": not known
    unsigned line = 0;   ///< 0: not known
};

/// A virtual processor whose address space is meant.
struct SymbolPlace {
    u64 partition = 0;  ///< id, 0: the bare PC
    u32 vp = 0;         ///< index in it
};

/// Symbols of whatever runs in a machine's VPs. Guests are hostile: every answer is bounded, and what cannot be found
/// is simply not there. Asking changes nothing in the machine. The machine's thread only.
class SymbolSource {
  public:
    virtual ~SymbolSource() = default;
    /// The address of a symbol with exactly this name; nothing: there is none.
    [[nodiscard]] virtual std::optional<u64> find(machine::Machine& machine, SymbolPlace place,
                                                  std::string_view name) = 0;
    /// One text per address: "name+0x12 [module]", or "".
    [[nodiscard]] virtual std::vector<std::string> symbolize(machine::Machine& machine, SymbolPlace place,
                                                             std::span<const u64> addresses) = 0;
    /// Symbols whose names contain `match` (all with ""), at most `limit`, by address.
    [[nodiscard]] virtual std::vector<Symbol> list(machine::Machine& machine, SymbolPlace place, std::string_view match,
                                                   std::size_t limit) = 0;
    /// The call stack, at most `limit` frames.
    [[nodiscard]] virtual std::vector<StackFrame> stack(machine::Machine& machine, SymbolPlace place,
                                                        std::size_t limit) = 0;
    /// A text for people: why the VP is where it is, why an interrupt is not delivered, which entry of a walk faulted.
    /// @param what  what is to be explained; "": where the VP is
    /// Error (Usage): nothing is known about `what`.
    [[nodiscard]] virtual Result<std::string> explain(machine::Machine& machine, SymbolPlace place,
                                                      std::string_view what) = 0;
};

}  // namespace vg::model
