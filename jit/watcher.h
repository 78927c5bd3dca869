// What tools may learn about translations while they are made.
#pragma once

#include <span>

#include "cpu/insn.h"
#include "jit/block.h"

namespace vg::jit {

/// A finished translation.
struct Translation {
    const Block& block;
    u64 address;                ///< RIP of its first instruction when it was made; every mapping of its page shares it
    std::span<const u8> guest;  ///< its bytes; of an instruction that crosses the page, those in the first page
    std::span<const u8> host;   ///< where it is executed
};

/// Is told by the engine, on the engine's thread. Costs nothing where nobody watches.
class TranslationWatcher {
  public:
    virtual ~TranslationWatcher() = default;
    /// The fixed code that blocks call.
    virtual void thunks(std::span<const u8> /*host*/) {}
    /// A block is begun, or begun again before its end(); `guest` are its bytes. Returns what its code shall add one to
    /// whenever it is entered, or nullptr. It stays where it is until flushed().
    virtual u64* begin(const Block& /*block*/, std::span<const u8> /*guest*/) { return nullptr; }
    /// The same for a way out behind instruction number `index`, with instructions of the block left.
    virtual u64* side_exit(unsigned /*index*/) { return nullptr; }
    /// An instruction of it was emitted at arena offset `code`: natively, or as a call of the interpreter's body.
    virtual void instruction(const cpu::Insn& /*insn*/, u32 /*code*/, bool /*native*/) {}
    virtual void end(const Translation& /*translation*/) {}
    /// Every translation is gone, and its place will be used again.
    virtual void flushed() {}
};

}  // namespace vg::jit
