// What translated code leaves behind while an observer is told what executes: a record for each block that is entered,
// with the addresses that its accesses went to, in a buffer that C++ reads whenever it runs.
#pragma once

#include <deque>
#include <vector>

#include "cpu/execution_observer.h"
#include "cpu/vp.h"
#include "jit/layout.h"

namespace vg::jit {

/// At the block's start the code takes a record from the buffer, and each access stores its address at a place of its
/// own in it. How much of the block was executed shows in what the budget is where the next record begins, or C++ runs;
/// so nothing is told of an instruction that did not complete, and whatever the interpreter executes is told by the
/// interpreter.
class BlockTrace {
  public:
    explicit BlockTrace(cpu::ExecutionObserver& observer) : observer_(observer), buffer_(kWords) {}

    /// What a record begins with; behind it the addresses, and RCX of a repeated string instruction.
    struct Record {
        u32 code;    ///< number, of make()
        u32 budget;  ///< low half, with the block charged
        u64 page_rip;
    };
    static_assert(sizeof(Record) == 16);

    /// Where code finds the end of the block's record, and the end of the buffer: the places of groups, which traced
    /// code does not form.
    static constexpr int kEnd = kGroupSlot, kLimit = kGroupSlot + 8;

    // ---- while a block is translated
    /// The instructions of a block at `offset` in its page. @param slots  words for addresses
    [[nodiscard]] u32 make(std::span<const cpu::Insn> insns, u32 offset, u32 slots);
    [[nodiscard]] bool wants_addresses() const { return observer_.wants_addresses(); }
    [[nodiscard]] cpu::TracedCode& code(u32 number) { return codes_[number].code; }
    [[nodiscard]] u32 record_bytes(u32 number) const { return codes_[number].record_bytes; }
    /// All translations are gone. Nothing is in the buffer.
    void clear() { codes_.clear(); }

    // ---- while it runs; the state's budget is exact
    /// Translated code is about to be entered.
    void start(cpu::VpState& s);
    /// It was left, or the buffer is full.
    void drain(cpu::Vp& vp);
    /// The interpreter is about to execute an instruction of the block that was entered last.
    void suspend(cpu::Vp& vp);
    /// That block goes on at instruction `index`, behind it.
    void resume(cpu::VpState& s, u32 index);

  private:
    static constexpr std::size_t kWords = 16 << 10;
    /// Blocks have at most 64 instructions, of two accesses each.
    static constexpr std::size_t kMostRecordBytes = 2048;

    struct Code {
        cpu::TracedCode code;
        u32 record_bytes = 0;
    };
    [[nodiscard]] u8* begin() { return reinterpret_cast<u8*>(buffer_.data()); }
    void tell(cpu::Vp& vp);
    void tell_record(cpu::Vp& vp, const u8* at, u32 from, u32 executed, u64 time);

    cpu::ExecutionObserver& observer_;
    std::vector<u64> buffer_;
    std::deque<Code> codes_;
    u8* first_ = nullptr;  ///< of the records that have not been told
    u32 from_ = 0;         ///< instruction at which the first one goes on
    u8* last_ = nullptr;   ///< suspended: the record of the block, and its end
    u8* last_end_ = nullptr;
};

}  // namespace vg::jit
