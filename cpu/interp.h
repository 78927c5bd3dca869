// The interpreter: executes one record. Its bodies are the semantics that the translator falls back to.
#pragma once

#include "cpu/decode.h"
#include "cpu/engine.h"
#include "cpu/isa/isa.h"
#include "cpu/vp.h"

namespace vg::cpu {

/// Context of instruction bodies: a thin view of the VP with operand helpers. One per VP, kept by it.
class Interp {
  public:
    explicit Interp(Vp& v) : vp(v), s(v.state()) {}
    Vp& vp;
    VpState& s;

    // ---- registers. size 1, 2, 4, 8; writing 4 bytes zero-extends in the 64-bit register, 1 and 2 leave the rest.
    [[nodiscard]] u64 gpr(const Operand& o) const;
    void set_gpr(const Operand& o, u64 value);
    [[nodiscard]] u64 gpr(unsigned reg, unsigned size) const;
    void set_gpr(unsigned reg, unsigned size, u64 value);

    // ---- memory operands
    /// Offset within the segment, truncated to the address size (bit-test and far forms add to it).
    [[nodiscard]] u64 effective_address(const Insn& i) const;
    /// Linear address of segment:offset with limit, type and canonicality checks for an access of `size` bytes.
    /// False: fault recorded (#GP or #SS).
    [[nodiscard]] bool linear(Seg seg, u64 offset, u32 size, bool write, u64& out);
    [[nodiscard]] bool memory_address(const Insn& i, u32 size, bool write, u64& out) {
        return linear(i.seg, effective_address(i), size, write, out);
    }

    // ---- operands of any kind (Gpr, Mem, Imm, Seg...), zero-extended to 64 bits
    [[nodiscard]] bool read(const Insn& i, const Operand& o, u64& out);
    [[nodiscard]] bool write(const Insn& i, const Operand& o, u64 value);

    // ---- stack: size 2, 4 or 8; honours SS.B and 64-bit mode. Nothing changes on failure.
    [[nodiscard]] bool push(u64 value, unsigned size);
    [[nodiscard]] bool pop(u64& value, unsigned size);  ///< advances RSP
    [[nodiscard]] u64 stack_mask() const;                ///< 0xffff, 0xffffffff or all ones

    // ---- control transfer
    /// Near branch target check: canonical (64-bit) or within CS limit; #GP(0) otherwise. Sets rip on success.
    [[nodiscard]] Exec branch(u64 target, unsigned op_size);
    void advance(const Insn& i);  ///< rip += length, wrapped to the code size (for bodies that return Resync)

    /// Condition code 0..15 (the low nibble of Jcc) from rflags.
    [[nodiscard]] bool condition(unsigned cc) const;
};

/// Executes one decoded instruction: feature check (#UD), LOCK, body or native stub. Does not advance rip on Next and
/// does not charge the budget (Exec's contract).
Exec execute(Interp& in, const Insn& i);

/// Fetches and decodes at CS:RIP of the VP. False: fault recorded.
[[nodiscard]] bool fetch_decode(Vp& vp, Insn& out);

/// The interpreter alone: `--engine step`, and single steps of the translator.
class StepEngine final : public Engine {
  public:
    Stop run(Vp& vp) override;
    Stop step(Vp& vp) override;
};

/// Runs an x87, MMX, SSE or AVX record on the host processor with the VP's state. Memory operands are read and
/// written through LinearMemory; host SIGFPE is never raised (exceptions are found from status and masks first).
Exec execute_on_host(Interp& in, const Insn& i);

}  // namespace vg::cpu
