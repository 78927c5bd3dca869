// The C++ behind the thunks: TLB refills, and single instructions executed by the interpreter in the middle of a block.
#include <algorithm>
#include <cstring>

#include "cpu/guest_gate.h"
#include "jit/engine.h"
#include "jit/x87_unit.h"

namespace vg::jit {

using cpu::CodeMode;
using cpu::Exec;
using cpu::Insn;
using cpu::VpState;

namespace {

/// What runs behind a thunk has the machine for itself.
template <class Body>
u64 outside(Context& c, u32 site, Body body, u64 target = 0) {
    cpu::GuestGate* const gate = c.vp->gate();
    if (gate == nullptr) [[likely]] return body(*c.engine);
    if (gate->leave()) return c.engine->abandon(c, site, target);
    const u64 to = body(*c.engine);
    if (to != 0) gate->enter(c.engine->code_range().data(), c.engine->code_range().size());
    return to;
}

}  // namespace

extern "C" u64 vg_jit_slow_access(Context* c, u32 site, u64 address) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.slow_access(*c, site, address); });
}
extern "C" u64 vg_jit_slow_jump(Context* c, u32 site, u64 target) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.slow_jump(*c, site, target); }, target);
}
extern "C" u64 vg_jit_slow_edge(Context* c, u32 site, u64 target) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.slow_edge(*c, site, target); });
}
/// Touches nothing but this VP's state, which nobody changes meanwhile.
extern "C" void vg_jit_settle(Context* context) { context->engine->settle(*context); }
extern "C" u64 vg_jit_slow_execute(Context* c, u32 site) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.slow_execute(*c, site); });
}
extern "C" u64 vg_jit_trace_full(Context* c, u32 site) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.trace_full(*c, site); });
}
extern "C" u64 vg_jit_helper_execute(Context* c, u32 site) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.helper_execute(*c, site); });
}
extern "C" u64 vg_jit_promote(Context* c, u32 site) {
    return outside(*c, site, [&](JitEngine& engine) { return engine.promote(*c, site); });
}
/// Its site says nothing of the instruction, so that it cannot be abandoned: what it would do is left out instead.
extern "C" u64 vg_jit_memo_misses(Context* c, u32 site) {
    return c->vp->gate() == nullptr ? c->engine->memo_misses(*c, site) : c->engine->ignore_misses(site);
}

namespace {

/// Addresses remembered as not worth grouping.
constexpr std::size_t kMaxSeparate = 1u << 16;

constexpr bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

}  // namespace

u64 JitEngine::slow_access(Context& c, u32 number, u64 address) {
    const Site& site = blocks_.site(number);
    const bool aligned = (address & site.misalignment) == 0;
    SlowAccess why = !aligned             ? SlowAccess::Misaligned
                     : canonical(address) ? SlowAccess::CrossesPage
                                          : SlowAccess::NonCanonical;
    if (aligned && (address & kPageMask) + site.size <= kPageSize && canonical(address)) {
        mmu::Tlb& tlb = c.vp->tlb();
        const mmu::Access access = site.write ? mmu::Access::Write : mmu::Access::Read;
        if (memory_.watching() && tlb.may_walk(address, access)) [[unlikely]] return go_on(c, site);
        const mmu::Tlb::Mapping mapping = tlb.resolve(address, access, tlb.privilege());
        if (mapping.translation.status == mmu::Translation::Status::Ok && mapping.host != nullptr) {
            ++stats_.refills;
            const u64 host = reinterpret_cast<u64>(mapping.host);
            c.t0 = site.sum ? host : address;
            c.t1 = host - address;
            return reinterpret_cast<u64>(arena_.executable(site.access));
        }
        why = mapping.translation.status == mmu::Translation::Status::Ok ? SlowAccess::NoRam : SlowAccess::Fault;
    }
    stats_.count_slow_access(why);
    return site.group ? separate(c, site) : go_on(c, site);
}

/// A block whose groups fail often, because what it accesses crosses a page (a stack frame, for a while), is translated
/// again without.
void JitEngine::note_group_failure(Block& block, u64 now) {
    constexpr u32 kFailures = 16;
    constexpr u64 kOften = 20000;  // instructions between failures
    if (block.group_failures++ == 0) block.failures_since = now;
    if (block.group_failures < kFailures) return;
    block.group_failures = 0;
    if (now - block.failures_since > kFailures * kOften || !block.valid || separate_.size() >= kMaxSeparate) return;
    separate_.insert(block.spa.value);
    invalidate(block);
}

/// A group of accesses cannot be done as one (it crosses a page, or may not all be allowed): goes on at the site's
/// instruction in a translation that checks each access by itself.
u64 JitEngine::separate(Context& c, const Site& site) {
    VpState& s = *c.state;
    unload_x87(s);
    const ModeKey key{site.block->key | ModeKey::kSeparate};
    const Spa spa(site.block->spa.value - site.block->spa.offset() + static_cast<u64>(site.rip_offset));
    expose(c, site);
    c.leave = Leave::Lookup;
    c.host_stack = s.jit_far[2];
    note_group_failure(*site.block, s.deadline - static_cast<u64>(s.budget));
    const Block* block = blocks_.find(spa, key.value);
    if (block == nullptr) {
        const u8* host = memory_.ram(spa);
        if (host == nullptr) host = c.vp->tlb().resolve_fetch(s.rip).host;
        if (host == nullptr) return 0;
        block = translate_new(*c.vp, key, spa, host - spa.offset(), s.rip - spa.offset());
    }
    if (block == nullptr || s.budget < block->count) {
        separate_next_ = true;  // not the block that leads back here
        return 0;
    }
    set_flags(s, s.rflags);
    s.jit[1] = s.rip - spa.offset();
    c.bank = c.vp->tlb().bank();
    return reinterpret_cast<u64>(arena_.executable(block->entry));
}

/// The jump cache does not know `target`. If a translation exists, it does now: the code looks again.
u64 JitEngine::slow_jump(Context& c, u32 number, u64 target) {
    const Site& site = blocks_.site(number);
    ++stats_.slow_jumps;
    if (options_.link_blocks && canonical(target)) {
        if (const Entry entry = entry_at(c, target, link_key(*site.block)); entry.code != 0) {
            ++stats_.jump_fills;
            c.vp->tlb().fill_jump(target, reinterpret_cast<u64>(arena_.executable(entry.code)), entry.global);
            c.t0 = target;
            return reinterpret_cast<u64>(arena_.executable(site.access));
        }
    }
    if (site.index == site.block->count) {  // behind the block's last instruction: nothing to execute
        expose(c, site);
        if (site.rip_in_t0) c.state->rip = target;
        c.leave = Leave::Lookup;
        return 0;
    }
    return slow_execute(c, number);
}

/// The same for a direct jump to another page, which has its own entry. @param key  what the code looked for there
u64 JitEngine::slow_edge(Context& c, u32 number, u64 key) {
    const Site& site = blocks_.site(number);
    const u64 target = key + static_cast<u64>(static_cast<s64>(site.edge_distance));
    c.t0 = key;
    if (site.guard) return check_guard(c, number, key, target);
    ++stats_.slow_jumps;
    if (options_.link_blocks && canonical(target)) {
        Block** const likely = &blocks_.site(number).edge_block;
        if (const Entry entry = entry_at(c, target, link_key(*site.block), likely); entry.code != 0) {
            ++stats_.jump_fills;
            const u64 host = reinterpret_cast<u64>(arena_.executable(entry.code));
            fill_edge(c, number, key, {.host = host, .target = target, .global = entry.global});
            return reinterpret_cast<u64>(arena_.executable(site.access));
        }
    }
    if (site.index == site.block->count) {
        expose(c, site);
        c.leave = Leave::Lookup;
        return 0;
    }
    return slow_execute(c, number);
}

/// At the entry of a block that needs the flags in the slot.
void JitEngine::settle(Context& c) { set_flags(*c.state, status_flags(*c.state, 0)); }

/// Gives the site an entry in the edge table if it has none yet, and fills it for the present bank.
void JitEngine::fill_edge(Context& c, u32 number, u64 key, const mmu::Edge& edge) {
    Site& site = blocks_.site(number);
    if (site.edge_slot == 0) {
        next_edge_slot_ = next_edge_slot_ % (mmu::kEdgeEntries - 1) + 1;
        site.edge_slot = next_edge_slot_;
        edge_slots_ = std::max(edge_slots_, next_edge_slot_ + 1);
        c.vp->tlb().reserve_edges(edge_slots_);
        const auto set = [&](u32 at, std::size_t field) {
            const u32 disp = static_cast<u32>(edge_entry(site.edge_slot, field).disp);
            std::memcpy(arena_.writable() + at, &disp, sizeof disp);
        };
        set(site.edge_compare, offsetof(mmu::JumpEntry, rip));
        if (site.edge_jump != 0) set(site.edge_compare + site.edge_jump, offsetof(mmu::JumpEntry, host));
    }
    if (site.edge_block != nullptr && !site.edge_listed) {
        site.edge_listed = true;
        site.next_edge = site.edge_block->edge_sites;
        site.edge_block->edge_sites = number;
    }
    c.vp->tlb().fill_edge(site.edge_slot, key, edge);
}

/// Whether the rest of an instruction that crosses its page is where it was translated from; `target` is its address.
u64 JitEngine::check_guard(Context& c, u32 number, u64 key, u64 target) {
    const Site& site = blocks_.site(number);
    if (canonical(target) && !leaves_walk(*c.vp, target)) {
        const mmu::Tlb::Mapping mapping = c.vp->tlb().resolve_fetch(target);
        if (mapping.translation.status == mmu::Translation::Status::Ok &&
            mapping.translation.spa == site.block->rest_page) {
            fill_edge(c, number, key, {.target = target, .global = mapping.translation.global});
            return reinterpret_cast<u64>(arena_.executable(site.access));
        }
    }
    return go_on(c, site);
}

/// For a canonical address. @param likely  the block that it may be; becomes the one that it is
JitEngine::Entry JitEngine::entry_at(Context& c, u64 address, u32 key, Block** likely) {
    const u32 stops = stops_key(address);
    if (left_to_breakpoints(address, stops) || leaves_walk(*c.vp, address)) return {};
    key = (key & ~ModeKey::kStops) | stops;
    const mmu::Tlb::Mapping mapping = c.vp->tlb().resolve_fetch(address);
    if (mapping.translation.status != mmu::Translation::Status::Ok || mapping.host == nullptr) return {};
    const Spa spa = mapping.translation.spa;
    Block* block = likely != nullptr ? *likely : nullptr;
    if (block == nullptr || !block->valid || block->spa != spa || block->key != key) block = blocks_.find(spa, key);
    if (block == nullptr) return {};
    if (likely != nullptr) *likely = block;
    return {open_entry(*block), mapping.translation.global};
}

u64 JitEngine::slow_execute(Context& c, u32 number) {
    ++stats_.slow_executes;
    return go_on(c, blocks_.site(number));
}

/// Executes the site's instruction; then behind it, or wherever it led.
u64 JitEngine::go_on(Context& c, const Site& site) {
    if (execute_at(c, site) == After::Left) return redispatch(c);
    if (site.block->uses_x87) load_x87(*c.state);
    return reinterpret_cast<u64>(arena_.executable(site.behind()));
}

/// At an instruction boundary with the state page complete: what the dispatcher would do, if that is to run code that
/// is there already. Otherwise 0.
u64 JitEngine::redispatch(Context& c) {
    VpState& s = *c.state;
    cpu::Vp& vp = *c.vp;
    if (c.leave == Leave::Unwind || !options_.link_blocks || s.budget <= 0) return 0;
    // A stop there finds the shadow of the instruction before, if it has one.
    if (left_to_breakpoints(s.rip, stops_key(s.rip))) return 0;
    if (c.leave == Leave::Resync) {
        if (__atomic_load_n(&s.request, __ATOMIC_ACQUIRE) != 0 || s.activity != cpu::Activity::Active || vp.stepping())
            return 0;
        // A shadow ends at this boundary; if that is all there is to do, it is done here.
        const u8 shadow = s.interrupt_shadow;
        if (shadow != 0) vp.end_shadow();
        if (vp.event_pending()) {
            s.interrupt_shadow = shadow;
            return 0;
        }
    }
    const ModeKey key = current_key(vp, current_->model);
    if (!key.has(ModeKey::kFlat)) return 0;
    use_jump_cache(vp, key);
    mmu::BankTables* bank = vp.tlb().bank();
    const mmu::JumpEntry& entry = bank->jump[mmu::jump_index(s.rip)];
    if (entry.rip != s.rip) {
        if (!canonical(s.rip)) return 0;
        const Entry found = entry_at(c, s.rip, key.value);
        if (found.code == 0) return 0;
        vp.tlb().fill_jump(s.rip, reinterpret_cast<u64>(arena_.executable(found.code)), found.global);
    }
    ++stats_.redispatches;
    set_flags(s, s.rflags);
    note_interrupts(vp);
    s.jit[1] = s.rip & ~kPageMask;
    c.key = key;  // the code may have been entered in another mode
    c.bank = bank;
    c.host_stack = s.jit_far[2];  // the mode or the mappings may have changed
    return entry.host;
}

u64 JitEngine::helper_execute(Context& c, u32 number) {
    const Site& site = blocks_.site(number);
    ++stats_.helpers;
    const Insn* const insn = site.instruction();
    ++stats_.helper_rows[insn != nullptr ? insn->row : 0];
    if (execute_at(c, site) == After::Left) return redispatch(c);
    if (site.block->uses_x87) load_x87(*c.state);
    return kContinueHere;
}

/// At the entry of a block, which has been charged.
u64 JitEngine::trace_full(Context& c, u32 number) {
    const Site& site = blocks_.site(number);
    VpState& s = *c.state;
    unload_x87(s);  // the block begins by loading it
    s.budget += site.block->count;
    trace_->drain(*c.vp);
    s.budget -= site.block->count;
    return reinterpret_cast<u64>(arena_.executable(site.access));
}

u64 JitEngine::ignore_misses(u32 number) {
    const Site& site = blocks_.site(number);
    *site.counter = kNeverAgain;
    return reinterpret_cast<u64>(arena_.executable(site.access));
}

u64 JitEngine::abandon(Context& c, u32 number, u64 target) {
    const Site& site = blocks_.site(number);
    unload_x87(*c.state);
    expose(c, site);
    if (site.rip_in_t0) c.state->rip = target;
    c.leave = Leave::Resync;
    return 0;
}

/// Makes the state page architectural as of the start of the site's instruction.
void JitEngine::expose(Context& c, const Site& site) {
    VpState& s = *c.state;
    s.rip = s.jit[1] + static_cast<u64>(static_cast<s64>(site.rip_offset));
    if ((site.block->key & ModeKey::kModeMask) != static_cast<u32>(CodeMode::Bits64)) s.rip = static_cast<u32>(s.rip);
    s.budget += site.block->count - site.index;
    s.rflags = (s.rflags & ~kStatusFlags) | status_flags(s, site.recipe);
}

JitEngine::After JitEngine::execute_at(Context& c, const Site& site) {
    expose(c, site);
    unload_x87(*c.state);
    if (trace_) trace_->suspend(*c.vp);
    const u64 epoch = epoch_ + c.vp->tlb().changes();
    const ModeKey key = mode_of(*site.block);
    const Insn* insn = site.instruction() != nullptr ? site.instruction() : cpu::fetch_cached(*c.interp);
    c.leave = Leave::Resync;
    c.vp->note_resume_flag(false);  // with RF set, single steps are made
    if (insn == nullptr) {
        if (c.vp->switched()) {
            --c.state->budget;
            return After::Left;
        }
        if (c.vp->leaving() || !c.interp->deliver_fault(0)) c.leave = Leave::Unwind;
        return After::Left;
    }
    const u8 length = insn->length;
    const bool is_64 = insn->mode == CodeMode::Bits64;
    VpState& s = *c.state;
    if (trace_) observer()->begin(*c.vp, *insn);
    const Exec result = cpu::execute(*c.interp, *insn);
    if (trace_) observer()->end(*c.vp, *insn, cpu::completes(result));
    switch (result) {
        case Exec::Next:
            s.rip = is_64 ? s.rip + length : static_cast<u32>(s.rip + length);
            --s.budget;
            return completed(c, site, *insn, key, epoch);
        case Exec::Branch:
            --s.budget;
            (void)completed(c, site, *insn, key, epoch);
            return After::Left;
        case Exec::Resync:
        case Exec::Switch:
            --s.budget;
            return After::Left;
        case Exec::Repeat:
            return After::Left;
        case Exec::Fault:
            if (!c.interp->deliver_fault(length)) c.leave = Leave::Unwind;
            return After::Left;
        case Exec::Leave:
            c.leave = Leave::Unwind;
            return After::Left;
    }
    VG_UNREACHABLE();
}

/// Behind an instruction that returned Next or Branch: whether the block may go on.
JitEngine::After JitEngine::completed(Context& c, const Site& site, const Insn&, ModeKey key, u64 epoch) {
    VpState& s = *c.state;
    if (epoch_ + c.vp->tlb().changes() != epoch || c.vp->event_pending() || c.vp->stepping()) return After::Left;
    if (c.vp->stop_requested() || s.activity != cpu::Activity::Active) return After::Left;
    if (site.check_key && current_key(*c.vp, key.value >> ModeKey::kModelShift) != key) return After::Left;
    c.leave = Leave::Lookup;
    const s64 rest = site.block->count - site.index - 1;
    if (site.behind() == 0 || s.budget < rest) return After::Left;
    if (trace_) trace_->resume(s, site.index + 1u);
    s.budget -= rest;
    set_flags(s, s.rflags);
    note_interrupts(*c.vp);
    return After::Continue;
}

}  // namespace vg::jit
