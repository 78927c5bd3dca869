// Fetching, and the engine that executes one record after another.
#include <algorithm>

#include "cpu/breakpoints.h"
#include "cpu/decode_cache.h"
#include "cpu/execution_observer.h"
#include "cpu/interp.h"
#include "cpu/spec/bits.h"

namespace vg::cpu {

namespace {

struct FetchBuffer {
    u8 bytes[16] = {};
    u32 count = 0;
};

/// Appends bytes at linear `address`, up to its page's end and `limit` bytes in all. False: fault recorded.
bool fetch_page(Vp& vp, u64 address, u32 limit, FetchBuffer& buffer) {
    const u32 in_page = static_cast<u32>(kPageSize - (address & kPageMask));
    const u32 want = std::min(limit - buffer.count, in_page);
    const u32 got = vp.memory().fetch(address, buffer.bytes + buffer.count, want);
    buffer.count += got;
    return got != 0;
}

/// What was fetched does not hold the whole instruction: goes on in the next page, or reports why it cannot.
DecodeStatus decode_across(Vp& vp, u64 address, u32 limit, CodeMode mode, FetchBuffer& buffer, Insn& out) {
    while (true) {
        const DecodeStatus status = decode({buffer.bytes, buffer.count}, mode, out);
        if (status != DecodeStatus::Truncated) return status;
        u64 next = address + buffer.count;
        if (mode != CodeMode::Bits64) next = static_cast<u32>(next);
        if (buffer.count >= limit) {
            vp.raise(kGeneralProtection, 0);  // the code segment ends within the instruction
            return status;
        }
        if (!fetch_page(vp, next, limit, buffer)) return status;
    }
}

const Insn* fetch_decode(Vp& vp, Insn* slot_or_null, DecodeCache* cache) {
    const VpState& s = vp.state();
    vp.begin(nullptr);
    const CodeMode mode = vp.code_mode();
    u64 address = s.rip;
    u32 limit = kMaxInsnLength;
    if (mode != CodeMode::Bits64) {
        const SegmentReg& cs = s.segment(Seg::CS);
        if (s.rip > cs.limit) {
            vp.raise(kGeneralProtection, 0);
            return nullptr;
        }
        limit = static_cast<u32>(std::min<u64>(limit, cs.limit - s.rip + 1));
        address = static_cast<u32>(cs.base + s.rip);
    }
    FetchBuffer buffer;
    if (!fetch_page(vp, address, limit, buffer)) return nullptr;
    Insn& out = cache != nullptr ? cache->slot(address) : *slot_or_null;
    if (cache != nullptr && DecodeCache::matches(out, buffer.bytes, buffer.count, mode)) return &out;
    out.length = 0;
    const DecodeStatus status = decode_across(vp, address, limit, mode, buffer, out);
    if (status == DecodeStatus::Ok) return &out;
    out.length = 0;
    if (status == DecodeStatus::Invalid) vp.raise(kInvalidOpcode);
    if (status == DecodeStatus::TooLong) vp.raise(kGeneralProtection, 0);
    return nullptr;
}

}  // namespace

bool fetch_decode(Vp& vp, Insn& out) { return fetch_decode(vp, &out, nullptr) != nullptr; }

const Insn* fetch_cached(Interp& in) { return fetch_decode(in.vp, nullptr, &in.decode_cache()); }

bool Interp::deliver_fault(u8 length) {
    vp.charge_delivery();
    const u64 next = s.rip + length;
    const Fault fault = vp.fault();
    if (vp.deliver(fault, vp.code_mode() == CodeMode::Bits64 ? next : static_cast<u32>(next))) return true;
    return !vp.leaving();
}

namespace {

/// Whether an instruction that completed was a taken branch, far transfers and returns included.
bool transferred(Exec result, const Insn& insn) {
    return result == Exec::Branch || (result == Exec::Resync && row(insn.row).has(attr::Branch));
}

/// One instruction, or the delivery of its fault. False: the owner of a level wants to be returned to.
bool execute_one(Vp& vp, Interp& in, VpState& s, ExecutionObserver* observer) {
    const u64 flags_before = s.rflags, from = s.rip;
    const bool records = vp.records_branches();
    vp.note_resume_flag((flags_before & flag::RF) != 0);
    // An instruction that completes ends RF; IRET and task switches may load a new one.
    s.rflags &= ~flag::RF;
    const Insn* insn = fetch_cached(in);
    const u8 length = insn != nullptr ? insn->length : u8{0};
    if (observer != nullptr && insn != nullptr) [[unlikely]] observer->begin(vp, *insn);
    const Exec result = insn != nullptr ? execute(in, *insn) : vp.failed();
    if (observer != nullptr && insn != nullptr) [[unlikely]] observer->end(vp, *insn, completes(result));
    switch (result) {
        case Exec::Next:
            s.rip = in.next_rip(*insn);
            [[fallthrough]];
        case Exec::Branch:
        case Exec::Resync:
            --s.budget;
            break;
        case Exec::Repeat:
            s.rflags |= flags_before & flag::RF;  // behind an iteration it is set anyway
            break;
        case Exec::Fault: {
            s.rflags |= flags_before & flag::RF;
            vp.note_resume_flag(false);  // an exit finds it in its place
            vp.settle_accesses(false);
            const bool goes_on = in.deliver_fault(length);
            vp.settle_accesses(goes_on);  // what the delivery itself pushed
            return goes_on;
        }
        case Exec::Switch:
            --s.budget;
            return true;
        case Exec::Leave:
            s.rflags |= flags_before & flag::RF;
            vp.settle_accesses(false);
            return false;
    }
    vp.settle_accesses(true);
    // Not an INT1, whose #DB has ended the records.
    if (records && vp.records_branches() && transferred(result, *insn)) [[unlikely]] vp.record_branch(from);
    if ((flags_before & flag::TF) != 0) [[unlikely]] vp.single_step(transferred(result, *insn));
    return true;
}

/// Runs until `last` instructions are left in the budget or something else stops it.
Stop run_until(Vp& vp, bool single, Breakpoints* breakpoints, ExecutionObserver* observer) {
    Interp& in = vp.interp();
    VpState& s = vp.state();
    while (true) {
        if (__atomic_load_n(&s.request, __ATOMIC_ACQUIRE) != 0) return Stop::Request;
        const bool pending = vp.event_pending();
        if (s.activity != Activity::Active && !pending) return Stop::Halt;
        if (s.budget <= 0) return Stop::Budget;
        const u8 shadow = s.interrupt_shadow;
        if (pending) {
            const Exec result = vp.take_event();
            if (result == Exec::Leave) {
                vp.clear_failure();
                return Stop::Leave;
            }
            if (result == Exec::Resync || result == Exec::Switch) {
                vp.charge_delivery();
                if (single) return Stop::Budget;
                continue;
            }
            if (s.activity != Activity::Active) continue;
        }
        if (breakpoints != nullptr && breakpoints->contains(vp.linear_rip()) && breakpoints->stops(vp)) [[unlikely]] {
            s.interrupt_shadow = shadow;  // the boundary is still to come
            return Stop::Breakpoint;
        }
        if (!execute_one(vp, in, s, observer)) {
            vp.clear_failure();
            return Stop::Leave;
        }
        if (single) return s.activity == Activity::Active ? Stop::Budget : Stop::Halt;
    }
}

}  // namespace

void Engine::observe(Vp& vp) const {
    vp.memory().set_log(observer_ != nullptr ? &observer_->log() : nullptr);
    if (observer_ != nullptr) observer_->enter(vp);
}

Stop StepEngine::run(Vp& vp) {
    observe(vp);
    return run_until(vp, false, breakpoints(), observer());
}

Stop StepEngine::step(Vp& vp) {
    observe(vp);
    return run_until(vp, true, breakpoints(), observer());
}

}  // namespace vg::cpu
