// Segment and gate descriptors: reading, checking, loading. SDM 3A "Protected-Mode Memory Management", "Protection".
#pragma once

#include "base/bits.h"
#include "cpu/exec.h"
#include "cpu/vp.h"

namespace vg::cpu {

/// Types of system descriptors (S=0). SDM 3A "System Descriptor Types".
namespace systype {
inline constexpr unsigned Tss16 = 1, Ldt = 2, Tss16Busy = 3, CallGate16 = 4, TaskGate = 5, InterruptGate16 = 6,
                          TrapGate16 = 7, Tss32 = 9, Tss32Busy = 11, CallGate32 = 12, InterruptGate32 = 14,
                          TrapGate32 = 15;
}

/// A descriptor as it lies in GDT, LDT or IDT. `high` is the second half of a 16-byte system descriptor, else 0.
struct Descriptor {
    u64 low = 0, high = 0;
    u64 address = 0;  ///< linear address it was read from
    [[nodiscard]] u16 attributes() const { return static_cast<u16>((low >> 40) & 0xf0ff); }
    [[nodiscard]] unsigned type() const { return attributes() & 15; }
    [[nodiscard]] bool s() const { return (attributes() & 0x10) != 0; }
    [[nodiscard]] unsigned dpl() const { return (attributes() >> 5) & 3; }
    [[nodiscard]] bool present() const { return (attributes() & 0x80) != 0; }
    [[nodiscard]] bool l() const { return (attributes() & 0x2000) != 0; }
    [[nodiscard]] bool db() const { return (attributes() & 0x4000) != 0; }
    [[nodiscard]] bool code() const { return s() && (type() & 8) != 0; }
    [[nodiscard]] bool conforming() const { return code() && (type() & 4) != 0; }
    [[nodiscard]] bool readable_code() const { return code() && (type() & 2) != 0; }
    [[nodiscard]] bool data() const { return s() && (type() & 8) == 0; }
    [[nodiscard]] bool writable_data() const { return data() && (type() & 2) != 0; }
    [[nodiscard]] u64 base() const { return bits(low, 39, 16) | bits(low, 63, 56) << 24 | high << 32; }
    /// Last valid offset, granularity applied.
    [[nodiscard]] u32 limit() const {
        const u32 raw = static_cast<u32>((low & 0xffff) | bits(low, 51, 48) << 16);
        return (attributes() & 0x8000) != 0 ? raw << 12 | 0xfff : raw;
    }
    // gates
    [[nodiscard]] u16 gate_selector() const { return static_cast<u16>(low >> 16); }
    [[nodiscard]] u64 gate_offset() const { return (low & 0xffff) | bits(low, 63, 48) << 16 | high << 32; }
    [[nodiscard]] unsigned gate_parameters() const { return static_cast<unsigned>(bits(low, 36, 32)); }
};

constexpr bool is_null(u16 selector) { return (selector & 0xfffc) == 0; }
/// Error code that names a selector.
constexpr u32 selector_error(u16 selector) { return selector & 0xfffcu; }

/// Reads the descriptor of a non-null selector. Beyond the table: fault `vector` with the selector as error code.
/// @param wide  a 16-byte system descriptor of long mode
[[nodiscard]] bool read_descriptor(Vp& vp, u16 selector, u8 vector, Descriptor& out, bool wide = false);
/// The same for instructions that answer in ZF: `found` is false beyond the table.
[[nodiscard]] bool find_descriptor(Vp& vp, u16 selector, Descriptor& out, bool& found, bool wide = false);
/// Second half of a system descriptor already read by 8 bytes. As read_descriptor.
[[nodiscard]] bool widen_descriptor(Vp& vp, u16 selector, u8 vector, Descriptor& descriptor);

/// Sets the accessed bit of a code or data descriptor in memory and in `descriptor`.
[[nodiscard]] bool mark_accessed(Vp& vp, Descriptor& descriptor);
/// Rewrites the type field of a TSS descriptor: busy or available.
[[nodiscard]] bool set_tss_busy(Vp& vp, const Descriptor& descriptor, bool busy);

[[nodiscard]] SegmentReg make_segment(u16 selector, const Descriptor& descriptor);
/// What a null selector leaves in a data segment register.
[[nodiscard]] SegmentReg null_segment(u16 selector, unsigned dpl = 0);
/// Real-address and virtual-8086 addressing of a selector.
[[nodiscard]] SegmentReg real_segment(const Vp& vp, Seg seg, u16 selector);

/// Checks SS for a stack of privilege `cpl`: faults with `vector` (#TS or #GP) and the selector, #SS if not present.
/// A null selector is the caller's business.
[[nodiscard]] bool check_stack_segment(Vp& vp, u16 selector, unsigned cpl, u8 vector, Descriptor& out);

/// MOV/POP to a segment register but CS, and LDS...: any mode. False: fault recorded, nothing changed.
[[nodiscard]] bool load_segment(Vp& vp, Seg seg, u16 selector);

/// After a return to an outer level: data segments that the new CPL may not use become null.
void drop_inner_segments(Vp& vp);

/// True if [offset, offset+size) lies within a data or stack segment's limit (either direction).
[[nodiscard]] inline bool within_limit(const SegmentReg& segment, u64 offset, u32 size) {
    const u64 last = offset + size - 1;
    const bool expand_down = segment.s() && (segment.type() & 12) == 4;
    if (!expand_down) return last <= segment.limit;
    return offset > segment.limit && last <= (segment.db() ? 0xffffffffu : 0xffffu);
}

/// A stack being written or read before the registers point to it: nothing changes in the VP until commit().
class StackFrame {
  public:
    /// @param wide  64-bit addressing: no base, no limit
    /// @param ss_error  error code of #SS when the limit is exceeded
    StackFrame(Vp& vp, const SegmentReg& ss, u64 sp, bool wide, As as, u32 ss_error)
        : vp_(vp), ss_(ss), sp_(sp), mask_(wide ? ~u64{0} : ss.db() ? 0xffffffff : 0xffff), wide_(wide), as_(as),
          ss_error_(ss_error) {}

    [[nodiscard]] bool push(u64 value, unsigned size);
    [[nodiscard]] bool pop(u64& value, unsigned size);
    /// Reads at sp + skip without moving.
    [[nodiscard]] bool peek(u64& value, unsigned size, u64 skip);
    void skip(u64 bytes) { sp_ = (sp_ & ~mask_) | ((sp_ + bytes) & mask_); }
    [[nodiscard]] u64 sp() const { return sp_; }
    /// RSP as this stack leaves it: a 16-bit stack keeps the upper bits.
    void commit() { vp_.state().gpr[RSP] = mask_ == 0xffffffff ? sp_ & mask_ : sp_; }

  private:
    [[nodiscard]] bool address(u64 offset, unsigned size, u64& out);

    Vp& vp_;
    SegmentReg ss_;
    u64 sp_, mask_;
    bool wide_;
    As as_;
    u32 ss_error_;
};

/// The stack in use.
[[nodiscard]] inline StackFrame current_stack(Vp& vp) {
    const VpState& s = vp.state();
    return {vp, s.segment(Seg::SS), s.gpr[RSP], vp.code_mode() == CodeMode::Bits64, As::Current, 0};
}

/// Stack pointer (and selector) of an inner privilege level from the TSS; `ist` 1..7 selects an interrupt stack.
/// #TS with the TSS selector if the TSS is too small.
struct InnerStack {
    u16 ss = 0;
    u64 sp = 0;
};
[[nodiscard]] bool read_inner_stack(Vp& vp, unsigned cpl, unsigned ist, InnerStack& out);

constexpr bool canonical(u64 address) { return sign_extend(address, 48) == address; }

/// Sets CPL and re-derives the context.
void set_cpl(Vp& vp, unsigned cpl);

}  // namespace vg::cpu
