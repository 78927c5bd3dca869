// The interpreter: executes one record. Its bodies are the semantics that the translator falls back to.
#pragma once

#include <cstring>
#include <memory>

#include "cpu/decode.h"
#include "cpu/engine.h"
#include "cpu/isa/isa.h"
#include "cpu/vp.h"

namespace vg::cpu {

class HostStubs;
class DecodeCache;

/// Context of instruction bodies: a thin view of the VP with operand helpers. One per VP, kept by it (Vp::interp).
class Interp {
  public:
    explicit Interp(Vp& v);
    ~Interp();
    Interp(const Interp&) = delete;
    Interp& operator=(const Interp&) = delete;

    Vp& vp;
    VpState& s;

    // ---- registers. size 1, 2, 4, 8; writing 4 bytes zero-extends in the 64-bit register, 1 and 2 leave the rest.
    [[nodiscard]] u64 gpr(const Operand& o) const {
        return o.high ? (s.gpr[o.reg] >> 8) & 0xff : gpr(o.reg, o.size);
    }
    void set_gpr(const Operand& o, u64 value) {
        if (o.high)
            s.gpr[o.reg] = (s.gpr[o.reg] & ~u64{0xff00}) | (value & 0xff) << 8;
        else
            set_gpr(o.reg, o.size, value);
    }
    [[nodiscard]] u64 gpr(unsigned reg, unsigned size) const {
        const u64 value = s.gpr[reg];
        switch (size) {
            case 1: return static_cast<u8>(value);
            case 2: return static_cast<u16>(value);
            case 4: return static_cast<u32>(value);
            default: return value;
        }
    }
    void set_gpr(unsigned reg, unsigned size, u64 value) {
        u64& r = s.gpr[reg];
        switch (size) {
            case 1: r = (r & ~u64{0xff}) | (value & 0xff); break;
            case 2: r = (r & ~u64{0xffff}) | (value & 0xffff); break;
            case 4: r = static_cast<u32>(value); break;
            default: r = value; break;
        }
    }

    // ---- memory operands
    /// Offset within the segment, truncated to the address size (bit-test and far forms add to it).
    [[nodiscard]] u64 effective_address(const Insn& i) const;
    /// Linear address of segment:offset with limit, type and canonicality checks for an access of `size` bytes.
    /// False: fault recorded (#GP or #SS).
    [[nodiscard]] bool linear(Seg seg, u64 offset, u32 size, bool write, u64& out);
    [[nodiscard]] bool memory_address(const Insn& i, u32 size, bool write, u64& out) {
        return linear(i.seg, effective_address(i), size, write, out);
    }

    // ---- linear memory as the current code mode sees it: outside 64-bit mode an access that reaches 4 GiB wraps to 0.
    // `stack` selects #SS for non-canonical addresses.
    [[nodiscard]] bool load(u64 address, void* out, u32 size, bool stack = false) {
        if (wraps(address, size)) [[unlikely]] return load_wrapped(address, out, size, stack);
        return vp.memory().read(address, out, size, As::Current, stack);
    }
    [[nodiscard]] bool store(u64 address, const void* data, u32 size, bool stack = false) {
        if (wraps(address, size)) [[unlikely]] return store_wrapped(address, data, size, stack);
        return vp.memory().write(address, data, size, As::Current, stack);
    }
    /// All checks of `store`, no data.
    [[nodiscard]] bool probe(u64 address, u32 size, bool stack = false);
    /// Host pointer for reading or writing the bytes, after all checks. nullptr: none (go on with probe/load/store),
    /// or direct_failed() says that the access failed.
    [[nodiscard]] u8* direct(u64 address, u32 size, bool for_write, bool stack = false) {
        wrapped_ = wraps(address, size);
        return wrapped_ ? nullptr : vp.memory().direct(address, size, for_write, As::Current, stack);
    }
    [[nodiscard]] bool direct_failed() const { return !wrapped_ && vp.memory().direct_failed(); }
    /// Reads or writes the memory operand of `i`, of any size up to 64 bytes.
    [[nodiscard]] bool load_operand(const Insn& i, void* out, u32 size) {
        u64 address;
        return memory_address(i, size, false, address) && load(address, out, size, i.seg == Seg::SS);
    }
    [[nodiscard]] bool store_operand(const Insn& i, const void* data, u32 size) {
        u64 address;
        return memory_address(i, size, true, address) && store(address, data, size, i.seg == Seg::SS);
    }

    // ---- operands of any kind (Gpr, Mem, Imm, Seg...), zero-extended to 64 bits
    [[nodiscard]] bool read(const Insn& i, const Operand& o, u64& out) {
        switch (o.kind) {
            case OperandKind::Gpr: out = gpr(o); return true;
            case OperandKind::Mem: out = 0; return load_operand(i, &out, o.size);
            default: return read_other(i, o, out);
        }
    }
    [[nodiscard]] bool write(const Insn& i, const Operand& o, u64 value);

    // ---- stack: size 2, 4 or 8; honours SS.B and 64-bit mode. Nothing changes on failure.
    [[nodiscard]] bool push(u64 value, unsigned size);
    [[nodiscard]] bool pop(u64& value, unsigned size);  ///< advances RSP
    /// The value that `pop` would give, `skip` bytes above the top. RSP stays.
    [[nodiscard]] bool peek_stack(u64& value, unsigned size, u64 skip = 0);
    [[nodiscard]] u64 stack_mask() const {  ///< 0xffff, 0xffffffff or all ones
        if (vp.code_mode() == CodeMode::Bits64) return ~u64{0};
        return s.segment(Seg::SS).db() ? 0xffffffff : 0xffff;
    }
    /// RSP with the bits inside the stack mask replaced; a 32-bit stack zero-extends.
    void set_stack_pointer(u64 value) {
        const u64 mask = stack_mask();
        s.gpr[RSP] = mask == 0xffff ? (s.gpr[RSP] & ~mask) | (value & mask) : value & mask;
    }

    // ---- control transfer
    /// Near branch target check: canonical (64-bit) or within CS limit; #GP(0) otherwise. Sets rip on success.
    [[nodiscard]] Exec branch(u64 target, unsigned op_size);
    /// The check of `branch` alone: false means #GP(0), recorded. `target` is truncated to op_size.
    [[nodiscard]] bool check_target(u64& target, unsigned op_size);
    /// rip behind the instruction.
    [[nodiscard]] u64 next_rip(const Insn& i) const {
        const u64 next = s.rip + i.length;
        return i.mode == CodeMode::Bits64 ? next : static_cast<u32>(next);
    }
    void advance(const Insn& i) { s.rip = next_rip(i); }  ///< for bodies that return Resync

    /// Condition code 0..15 (the low nibble of Jcc) from rflags.
    [[nodiscard]] bool condition(unsigned cc) const;

    /// Delivers vp.fault(), raised by the instruction at rip. Used by both engines, because it keeps a guest from
    /// looping without time passing (Vp::charge_delivery).
    /// @param length  of the instruction, for traps and software interrupts; 0 if it could not be fetched
    /// @return false if the owner of a level asked to unwind (nothing changed).
    [[nodiscard]] bool deliver_fault(u8 length);

    [[nodiscard]] HostStubs& host_stubs() { return *host_stubs_; }
    [[nodiscard]] DecodeCache& decode_cache() { return *decode_cache_; }

  private:
    [[nodiscard]] bool wraps(u64 address, u32 size) const {
        return address <= 0xffffffff && address + size > u64{1} << 32 && vp.code_mode() != CodeMode::Bits64;
    }
    [[nodiscard]] bool load_wrapped(u64 address, void* out, u32 size, bool stack);
    [[nodiscard]] bool store_wrapped(u64 address, const void* data, u32 size, bool stack);
    [[nodiscard]] bool read_other(const Insn& i, const Operand& o, u64& out);
    [[nodiscard]] bool segment_fault(Seg seg);

    std::unique_ptr<HostStubs> host_stubs_;
    std::unique_ptr<DecodeCache> decode_cache_;
    bool wrapped_ = false;
};

/// Executes one decoded instruction: feature check (#UD), FPU and SSE availability, privilege, body or native stub.
/// Does not advance rip on Next and does not charge the budget (Exec's contract).
Exec execute(Interp& in, const Insn& i);

/// Fetches and decodes at CS:RIP of the VP. False: fault recorded.
[[nodiscard]] bool fetch_decode(Vp& vp, Insn& out);
/// The same through the VP's decode cache: nullptr means a recorded fault. The record is valid until the next call.
/// Bytes are fetched and compared every time, so that changed code is seen at once.
[[nodiscard]] const Insn* fetch_cached(Interp& in);

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
