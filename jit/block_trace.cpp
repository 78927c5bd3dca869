#include "jit/block_trace.h"

#include <cstring>

#include "base/assert.h"

namespace vg::jit {

namespace {

constexpr unsigned scratch_index(int disp) { return static_cast<unsigned>(disp - scratch_disp(0)) / 8; }
constexpr unsigned kEndIndex = scratch_index(BlockTrace::kEnd), kLimitIndex = scratch_index(BlockTrace::kLimit);

BlockTrace::Record record_at(const u8* at) {
    BlockTrace::Record record;
    std::memcpy(&record, at, sizeof record);
    return record;
}

}  // namespace

u32 BlockTrace::make(std::span<const cpu::Insn> insns, u32 offset, u32 slots) {
    Code& made = codes_.emplace_back();
    made.code.offset = offset;
    for (const cpu::Insn& insn : insns) made.code.add(insn);
    made.record_bytes = static_cast<u32>(sizeof(Record) + slots * sizeof(u64));
    VG_ASSERT(made.record_bytes <= kMostRecordBytes);
    return static_cast<u32>(codes_.size() - 1);
}

void BlockTrace::start(cpu::VpState& s) {
    first_ = begin();
    from_ = 0;
    last_ = nullptr;
    s.jit[kEndIndex] = reinterpret_cast<u64>(first_);
    s.jit[kLimitIndex] = reinterpret_cast<u64>(begin() + kWords * sizeof(u64) - kMostRecordBytes);
}

void BlockTrace::drain(cpu::Vp& vp) {
    tell(vp);
    start(vp.state());
}

void BlockTrace::suspend(cpu::Vp& vp) {
    u8* const end = reinterpret_cast<u8*>(vp.state().jit[kEndIndex]);
    tell(vp);
    u8* const last = last_;
    start(vp.state());
    last_ = last;
    last_end_ = end;
}

void BlockTrace::resume(cpu::VpState& s, u32 index) {
    if (last_ == nullptr) return;  // of a block without records
    Record record = record_at(last_);
    record.budget = static_cast<u32>(s.budget) - static_cast<u32>(codes_[record.code].code.lengths.size());
    std::memcpy(last_, &record, sizeof record);
    first_ = last_;
    from_ = index;
    s.jit[kEndIndex] = reinterpret_cast<u64>(last_end_);
}

/// Leaves in last_ where the last record is; null: there is none.
void BlockTrace::tell(cpu::Vp& vp) {
    const cpu::VpState& s = vp.state();
    const u8* const end = reinterpret_cast<u8*>(s.jit[kEndIndex]);
    const u32 budget_now = static_cast<u32>(s.budget);
    last_ = nullptr;
    u32 from = from_;
    for (u8* at = first_; at != end; from = 0) {
        const Record record = record_at(at);
        const Code& code = codes_[record.code];
        u8* const next = at + code.record_bytes;
        const u32 before = record.budget + static_cast<u32>(code.code.lengths.size());
        u32 after = budget_now;
        if (next != end) {
            const Record following = record_at(next);
            after = following.budget + static_cast<u32>(codes_[following.code].code.lengths.size());
        }
        // Fewer than 2^32 instructions run between two looks: a slice is that short.
        const u64 time = s.deadline - static_cast<u64>(s.budget + static_cast<s64>(before - budget_now));
        if (before != after) tell_record(vp, at, from, before - after, time);
        last_ = at;
        at = next;
    }
}

void BlockTrace::tell_record(cpu::Vp& vp, const u8* at, u32 from, u32 executed, u64 time) {
    const Record record = record_at(at);
    const cpu::TracedCode& code = codes_[record.code].code;
    const u32 count = static_cast<u32>(code.lengths.size());
    const u64* const addresses = reinterpret_cast<const u64*>(at + sizeof record);
    cpu::TracedRun run{record.page_rip + code.offset, time, from, from + executed, 1, addresses};
    if (code.repeats && run.to >= count) {
        run.iterations = addresses[code.accesses.size()] == 0 ? 0 : from + executed - (count - 1);
        run.to = count;
    }
    VG_ASSERT(run.to <= count);
    observer_.ran(vp, code, run);
}

}  // namespace vg::jit
