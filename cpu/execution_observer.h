// Who is told what engines execute, instruction by instruction, without changing anything in it: instruction traces.
#pragma once

#include <span>
#include <vector>

#include "base/clock.h"
#include "cpu/insn.h"

namespace vg::cpu {

class Vp;

/// Accesses of one instruction to linear memory, as LinearMemory makes them. What the processor does by itself
/// (descriptor tables, the frame of an interrupt, page walks) is not among them.
class AccessLog {
  public:
    struct Entry {
        u64 address = 0;
        u8 size = 0;
        bool write = false;
        bool known = false;  ///< `data` is what was read or written; else it is in memory now
        u8 data[64] = {};
    };
    /// XRSTOR with everything has 14; what more than this there is (gathers of ENTER) is left out.
    static constexpr u32 kMost = 128;

    /// @param values  keep the data too
    explicit AccessLog(bool values) : values_(values) {}
    void clear() { count_ = 0; }
    /// @param data  null: not known
    void add(u64 address, u32 size, bool write, const void* data);
    [[nodiscard]] std::span<Entry> entries() { return {entries_.data(), count_}; }

  private:
    bool values_;
    u32 count_ = 0;
    std::vector<Entry> entries_ = std::vector<Entry>(kMost);
};

/// A place in code that is about to be executed natively, or was: `count` instructions one behind the other.
struct TracedCode {
    struct Access {
        u8 insn = 0;  ///< which instruction makes it
        u8 size = 0;  ///< bytes; of a repeated string instruction, of one element
        bool write = false;
        bool repeated = false;  ///< the first of as many as the instruction has iterations
        bool down = false;      ///< repeated: towards lower addresses
        u8 base = 0;            ///< what its address is likely to be near: a base register, or kNoBase and up
    };
    static constexpr u8 kNoBase = 16, kSegmentBase = 17, kBases = 18;

    CodeMode mode = CodeMode::Bits64;
    bool calls = false, returns = false;  ///< the last instruction does
    bool repeats = false;                 ///< the last instruction is a repeated string instruction
    u32 offset = 0;                       ///< of the first byte in its page
    std::vector<u8> lengths;              ///< of each instruction
    std::vector<u8> bytes;
    std::vector<Access> accesses;  ///< ascending `insn`

    /// For who is told: notes of its own about this piece.
    struct Tag {
        u64 chunk = 0, serial = 0, rip = 0;
        u32 index = 0;
    };
    mutable Tag tag;

    void add(const Insn& insn);
};

/// Instructions `from` to `to` of `code` were executed.
struct TracedRun {
    u64 rip = 0;   ///< of the first instruction of the code
    u64 time = 0;  ///< virtual time at which instruction `from` began
    u32 from = 0, to = 0;
    u64 iterations = 1;  ///< of the last instruction, if the code repeats and it is among them; 0: none were asked for
    const u64* addresses = nullptr;  ///< one for each of code.accesses
};

/// Told by engines on the machine's thread, in the order of execution. Instructions that did not complete are not told,
/// but for the iterations that a repeated one had done.
class ExecutionObserver {
  public:
    explicit ExecutionObserver(bool values) : log_(values) {}
    virtual ~ExecutionObserver() = default;

    /// The engine begins to run `vp`; its time is that of the machine.
    virtual void enter(Vp& vp) = 0;
    /// Natively executed code. The VP's mode and address space are still those of the run; its registers are those at
    /// its end.
    virtual void ran(Vp& vp, const TracedCode& code, const TracedRun& run) = 0;
    /// The interpreter begins an instruction, at its rip.
    virtual void begin(Vp& vp, const Insn& insn) = 0;
    /// It is over: rip may be at the next already; time is not yet charged for it. @param completed  else it is left
    /// where it is, as at a fault
    virtual void end(Vp& vp, const Insn& insn, bool completed) = 0;
    /// Wants begin() and end() for each instruction: nothing is to be executed natively.
    [[nodiscard]] virtual bool wants_each() const = 0;
    /// Wants to know of accesses; else code.accesses may be empty.
    [[nodiscard]] virtual bool wants_addresses() const = 0;

    [[nodiscard]] AccessLog& log() { return log_; }

  private:
    AccessLog log_;
};

}  // namespace vg::cpu
