#include "jit/engine.h"

#include <algorithm>
#include <chrono>

#include "base/assert.h"
#include "cpu/breakpoints.h"
#include "cpu/decode.h"
#include "cpu/guest_gate.h"
#include "cpu/spec/bits.h"
#include "jit/x87_unit.h"

namespace vg::jit {

using cpu::CodeMode;
using cpu::Stop;
using cpu::Vp;
using cpu::VpState;

namespace {

/// What an engine takes beside its blocks: memos, counters, what grows with the guest.
constexpr u64 kOwnBytes = u64{64} << 20;

/// A smaller arena has room only for shorter blocks.
constexpr u32 kSmallArena = 128u << 10;
constexpr unsigned kSmallArenaLimit = 16;

constexpr bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

constexpr bool ends_run(Stop stop) {
    return stop == Stop::Leave || stop == Stop::Request || stop == Stop::Breakpoint;
}

bool host_is_sufficient() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

}  // namespace

Result<std::unique_ptr<JitEngine>> JitEngine::create(mmu::PhysicalMemory& memory, const Options& options) {
    if (!host_is_sufficient())
        return fail(Error::Code::Host,
                    "translated code needs a processor with AVX2, BMI1 and BMI2. Run with --engine step");
    Options checked = options;
    checked.code_bytes = std::max(checked.code_bytes, Options::kLeastCodeBytes);
    if (checked.code_bytes < kSmallArena) checked.block_limit = std::min(checked.block_limit, kSmallArenaLimit);
    if (checked.block_limit < 1) checked.block_limit = 1;
    // A part of a slice holds any block.
    if (checked.sample_every != 0) checked.sample_every = std::max(checked.sample_every, 4 * BlockPlan::kMaxInsns);
    checked.profile_runs = std::clamp<u32>(checked.profile_runs, 1, kNeverAgain);
    Result<CodeArena> arena = CodeArena::create(checked.code_bytes);
    if (!arena) return Unexpected{arena.error()};
    constexpr u64 kNeeded = BlockMap::reserved_bytes() + kOwnBytes;
    if (HostMemory(kNeeded).data() == nullptr) {
        return fail(Error::Code::Host,
                    "translated code: the host gives this process too little address space: " +
                        std::to_string(kNeeded >> 20) +
                        " MiB are needed beside the guest's memory (`ulimit -v` tells the limit). Run with --engine step");
    }
    return std::unique_ptr<JitEngine>(new JitEngine(memory, checked, std::move(*arena)));
}

JitEngine::JitEngine(mmu::PhysicalMemory& memory, const Options& options, CodeArena arena)
    : memory_(memory),
      options_(options),
      arena_(std::move(arena)),
      thunks_(make_thunks(arena_)),
      translator_(arena_, blocks_, thunks_, memos_, counters_, options_.watchers, stats_) {
    memory_.add_code_observer(this);
    translator_.set_gated(options_.gated);
    for (TranslationWatcher* watcher : options_.watchers) watcher->thunks({arena_.executable(0), Thunks::kSize});
}

JitEngine::~JitEngine() {
    known_.clear();  // the VPs may be gone already
    flush();
    memory_.remove_code_observer(this);
}

JitEngine::Known& JitEngine::known(Vp& vp) {
    if (current_ != nullptr && current_->vp == &vp) return *current_;
    for (const auto& k : known_)
        if (k->vp == &vp) return *(current_ = k.get());
    u32 model = 0;
    while (model < models_.size() && models_[model] != &vp.model()) ++model;
    if (model == models_.size()) models_.push_back(&vp.model());
    known_.push_back(std::make_unique<Known>());
    current_ = known_.back().get();
    current_->vp = &vp;
    current_->model = model;
    vp.tlb().clear_jump_caches();  // of an earlier engine
    return *current_;
}

JitEngine::Footprint JitEngine::footprint() const {
    const u64 code = Thunks::kSize + arena_.used();
    return {blocks_.block_count(), blocks_.insn_count(), blocks_.site_count(), blocks_.recipe_count(), code};
}

void JitEngine::forget(Vp& vp) {
    if (current_ != nullptr && current_->vp == &vp) current_ = nullptr;
    std::erase_if(known_, [&](const auto& k) { return k->vp == &vp; });
}

Stop JitEngine::step(Vp& vp) { return stepper_.step(vp); }

Stop JitEngine::run(Vp& vp) {
    if (observer() != nullptr && trace_ == nullptr) return stepper_.run(vp);
    observe(vp);
    if (options_.sample_every == 0) return run_part(vp);
    vp.begin_parts(next_distance());
    Stop stop = run_part(vp);
    while (stop == Stop::Budget && vp.in_parts()) {
        vp.next_part(next_distance());
        stop = run_part(vp);
    }
    vp.next_part(~u64{0});
    return stop;
}

/// Instructions to the next sample, spread so that no loop keeps step with them.
u64 JitEngine::next_distance() {
    sample_seed_ = sample_seed_ * 1664525 + 1013904223;
    return options_.sample_every / 2 + (u64{sample_seed_} * options_.sample_every >> 32) + 1;
}

Stop JitEngine::run_part(Vp& vp) {
    Known& k = known(vp);
    VpState& s = vp.state();
    vp.tlb().reserve_edges(edge_slots_);  // another VP may have had some given out
    vp.tlb().reserve_memos(memo_count_);
    Context c{.engine = this, .vp = &vp, .interp = &vp.interp(), .state = &s};
    c.leave = Leave::Resync;
    while (true) {
        if (c.leave == Leave::Unwind) {
            vp.clear_failure();
            return Stop::Leave;
        }
        if (c.leave == Leave::Resync) {
            pending_link_ = 0;
            separate_next_ = false;
            if (__atomic_load_n(&s.request, __ATOMIC_ACQUIRE) != 0) return Stop::Request;
            const bool pending = vp.event_pending();
            if (s.activity != cpu::Activity::Active && !pending) return Stop::Halt;
            if (s.budget <= 0) return Stop::Budget;
            if (pending || vp.stepping()) {
                ++stats_.steps;
                const Stop stop = stepper_.step(vp);
                if (ends_run(stop)) return stop;
                continue;
            }
            c.key = current_key(vp, k.model);
            use_jump_cache(vp, c.key);
        }
        if (s.budget <= 0) {
            c.leave = Leave::Resync;
            continue;
        }
        if (!dispatch(vp, c)) {
            pending_link_ = 0;
            separate_next_ = false;
            if (s.budget < BlockPlan::kMaxInsns && vp.in_parts()) {
                sample(vp, c.key);
                return Stop::Budget;
            }
            ++stats_.steps;
            const Stop stop = stepper_.step(vp);
            if (ends_run(stop)) return stop;
            c.leave = Leave::Resync;
        }
    }
}

bool JitEngine::dispatch(Vp& vp, Context& c) {
    VpState& s = vp.state();
    ++stats_.dispatches;
    if (options_.flush_every != 0 && stats_.dispatches % options_.flush_every == 0) flush();
    u64 page_rip = 0;
    bool global = false;
    const ModeKey key{c.key.value | (separate_next_ ? ModeKey::kSeparate : 0)};
    Block* block = find_block(vp, key, page_rip, global);
    if (block == nullptr || block->count > s.budget) return false;
    if (options_.link_blocks) {
        if (pending_link_ != 0 && s.jit[1] == page_rip) link(pending_link_, *block);
        if (const u32 entry = c.key.has(ModeKey::kFlat) && !separate_next_ ? open_entry(*block) : 0)
            vp.tlb().fill_jump(s.rip, reinterpret_cast<u64>(arena_.executable(entry)), global);
    }
    pending_link_ = 0;
    separate_next_ = false;
    s.jit[0] = 0;
    set_flags(s, s.rflags);
    note_interrupts(vp);
    s.jit[1] = page_rip;
    c.bank = vp.tlb().bank();
    if (trace_) trace_->start(s);
    cpu::GuestGate* const gate = vp.gate();
    if (gate != nullptr) gate->enter(code_range().data(), code_range().size());
    thunks_.enter(c, arena_.executable(block->entry), vp.tlb().bank());
    const bool stale = gate != nullptr && gate->leave();
    unload_x87(s);
    if (c.leave == Leave::Link) finish_exit(c);
    if (gate != nullptr && (stale || vp.stop_requested()) && c.leave != Leave::Unwind) c.leave = Leave::Resync;
    if (trace_) trace_->drain(vp);
    return true;
}

/// @param page_rip  becomes the address of the page's first byte; @param global  whether the page is global
Block* JitEngine::find_block(Vp& vp, ModeKey key, u64& page_rip, bool& global) {
    const VpState& s = vp.state();
    u64 linear = s.rip;
    if (key.code_mode() != CodeMode::Bits64) {
        const cpu::SegmentReg& cs = s.segment(cpu::Seg::CS);
        // Blocks do not look at the limit: whoever comes within a page of it is interpreted.
        if (s.rip + kPageSize > cs.limit) return nullptr;
        linear = static_cast<u32>(cs.base + s.rip);
    } else if (static_cast<u64>(static_cast<s64>(linear << 16) >> 16) != linear) {
        return nullptr;
    }
    const u32 stops = stops_key(linear);
    if (left_to_breakpoints(linear, stops) || leaves_walk(vp, linear)) return nullptr;
    key.value |= stops;
    const mmu::Tlb::Mapping mapping = vp.tlb().resolve_fetch(linear);
    if (mapping.translation.status != mmu::Translation::Status::Ok || mapping.host == nullptr) return nullptr;
    const Spa spa = mapping.translation.spa;
    global = mapping.translation.global;
    page_rip = s.rip - spa.offset();
    if (Block* block = blocks_.find(spa, key.value)) return block;
    return translate_new(vp, key, spa, mapping.host - spa.offset(), page_rip);
}

bool JitEngine::full() const {
    const u32 most = Translator::most_code(options_.block_limit);
    return arena_.hot.room() < most || arena_.warm.room() < Translator::kMostWarmCode || arena_.cold.room() < most ||
           blocks_.block_count() >= kMaxBlocks || blocks_.insn_count() >= kMaxInsns ||
           blocks_.site_count() >= kMaxSites || blocks_.recipe_count() >= kMaxRecipes;
}

Block* JitEngine::translate_new(Vp& vp, ModeKey key, Spa spa, const u8* page, u64 page_rip) {
    if (full()) flush();
    return translate(vp, key, spa, page, page_rip, {}, vp.state().budget, vp.gate());
}

/// There is room (`full()`). @param budget  a block that needs more is not made; @param gate  null, or other VPs need not wait
/// meanwhile: then null also if something has changed that the caller knew
Block* JitEngine::translate(Vp& vp, ModeKey key, Spa spa, const u8* page, u64 page_rip, const Tuning& tuning,
                            s64 budget, cpu::GuestGate* gate) {
    const auto start = std::chrono::steady_clock::now();
    arena_.prepare();
    arena_.prefetch();
    blocks_.prefetch();
    const u32 used = arena_.used();
    const bool groups = trace_ == nullptr && !key.has(ModeKey::kSeparate) && !separate_.contains(spa.value);
    const Translator::Rest rest = find_rest(vp, key, spa, page, page_rip);
    const u32 end = key.has(ModeKey::kStops) ? breakpoints()->next_offset(spa.offset() + 1) : static_cast<u32>(kPageSize);
    const Translator::Limits limits{options_.block_limit, options_.profile_runs, budget, end};
    if (gate != nullptr && !open_gate(*gate, spa, end, rest)) gate = nullptr;
    Block* block = translator_.translate(spa, page, key, vp.model(), limits, rest, groups, tuning);
    const bool stale = gate != nullptr && gate->leave();
    if (block == nullptr) return nullptr;
    VG_ASSERT(arena_.hot.used <= arena_.hot.end && arena_.warm.used <= arena_.warm.end &&
              arena_.cold.used <= arena_.cold.end);
    memo_count_ = std::max(memo_count_, memos_.used());
    vp.tlb().reserve_memos(memo_count_);
    if (memory_.ram(spa) != nullptr) memory_.mark_code(spa, block->size);
    replace(*block);
    if (block->rest_page.value != 0) remark_page(block->rest_page.page());
    stats_.translate_ns += static_cast<u64>((std::chrono::steady_clock::now() - start).count());
    ++stats_.blocks;
    ++stats_.lookups_failed;
    stats_.translated_instructions += block->count;
    stats_.code_bytes += arena_.used() - used;
    if (!options_.watchers.empty()) report_translation(*block, {page + spa.offset(), block->size});
    return stale || !block->valid ? nullptr : block;
}

/// Whatever the block may become of is marked as code first, so that nobody changes it unheard while it is read.
bool JitEngine::open_gate(cpu::GuestGate& gate, Spa spa, u32 end, const Translator::Rest& rest) {
    if (trace_ != nullptr || !options_.watchers.empty() || memory_.ram(spa) == nullptr) return false;
    memory_.mark_code(spa, std::min(end - spa.offset(), options_.block_limit * cpu::kMaxInsnLength));
    if (rest.bytes != nullptr) memory_.mark_code(rest.page, cpu::kMaxInsnLength);
    gate.enter(code_range().data(), code_range().size());
    return true;
}

/// The page behind, if the instruction at `spa` reaches into it: only then may it be looked up, which sets its accessed
/// flag.
Translator::Rest JitEngine::find_rest(Vp& vp, ModeKey key, Spa spa, const u8* page, u64 page_rip) {
    const u32 here = static_cast<u32>(kPageSize) - spa.offset();
    if (here >= cpu::kMaxInsnLength || !key.has(ModeKey::kFlat) || !canonical(page_rip + kPageSize)) return {};
    cpu::Insn insn;
    const auto status = cpu::decode(std::span(page + spa.offset(), here), key.code_mode(), insn);
    if (status != cpu::DecodeStatus::Truncated || leaves_walk(vp, page_rip + kPageSize)) return {};
    const mmu::Tlb::Mapping behind = vp.tlb().resolve_fetch(page_rip + kPageSize);
    if (behind.translation.status != mmu::Translation::Status::Ok || memory_.ram(behind.translation.spa) == nullptr)
        return {};
    return {behind.translation.spa, behind.host};
}

void JitEngine::report_translation(const Block& block, std::span<const u8> guest) {
    const std::span<const u8> host(arena_.executable(block.entry), arena_.hot.used - block.entry);
    const u64 address = current_->vp->state().rip;
    for (TranslationWatcher* watcher : options_.watchers) watcher->end({block, address, guest, host});
}

/// Code left through a leave stub: brings rip, budget and flags into their architectural form.
void JitEngine::finish_exit(Context& c) {
    const Site& site = blocks_.site(c.site);
    VpState& s = *c.state;
    s.rip = site.rip_in_stash ? s.jit[2] : s.jit[1] + static_cast<u64>(static_cast<s64>(site.rip_offset));
    if ((site.block->key & ModeKey::kModeMask) != static_cast<u32>(CodeMode::Bits64)) s.rip = static_cast<u32>(s.rip);
    s.budget += site.block->count - site.index;
    s.rflags = (s.rflags & ~kStatusFlags) | status_flags(s, site.recipe);
    pending_link_ = site.patch != 0 && site.block->valid ? c.site : 0;
    separate_next_ = site.separate;
}

u64 JitEngine::status_flags(const VpState& s, u32 recipe) const {
    if (recipe == 0) recipe = static_cast<u32>(s.jit[3]);
    return recipe == 0 ? unpack_flags(s.jit[0]) : evaluate(blocks_.recipe(recipe), s);
}

void JitEngine::link(u32 number, Block& target) {
    Site& site = blocks_.site(number);
    if (!site.block->valid || site.linked != nullptr || link_key(site) != target.key ||
        site.block->spa.page() != target.spa.page())
        return;
    u32 to = target.entry;
    if (site.edge_pending) {
        to = open_entry(target);
    } else if (site.edge_recipe != 0) {
        const u16 registers = blocks_.recipe(site.edge_recipe).registers();
        const bool as_it_is = !target.needs_flags && (!target.passes_flags || registers == 0) &&
                              (registers & target.changed_while_pending) == 0;
        if (!as_it_is) to = flag_saving_stub(target);
    }
    if (to == 0) return;
    Assembler::patch(arena_.writable(), site.patch, to);
    site.linked = &target;
    site.next_incoming = target.incoming;
    target.incoming = number;
    ++stats_.links;
}

/// Saves the flags, which are in the hardware, on the way to a block that will need them. 0: no room.
u32 JitEngine::flag_saving_stub(const Block& target) {
    constexpr u32 kStubSize = 64;
    if (arena_.cold.room() < kStubSize) return 0;
    Assembler stub;
    stub.attach(arena_.writable(), arena_.cold.used);
    const u32 start = stub.offset();
    emit_save_flags(stub);
    stub.jmp(target.entry);
    arena_.cold.used = stub.offset();
    return start;
}

u32 JitEngine::open_entry(Block& block) {
    constexpr u32 kStubSize = 64;
    if (!block.needs_flags) return block.entry;
    if (block.settled_entry == 0) {
        if (arena_.cold.room() < kStubSize) return 0;
        Assembler stub;
        stub.attach(arena_.writable(), arena_.cold.used);
        block.settled_entry = stub.offset();
        stub.modrm({.opcode = 0x83}, 7, HostMem{.base = kBank, .disp = kPending});
        stub.byte(0);
        stub.jcc(kE, block.entry);
        stub.call(thunks_.settle);
        stub.jmp(block.entry);
        arena_.cold.used = stub.offset();
    }
    return block.settled_entry;
}

/// Entries of a bank's jump cache lead to code for one mode key; another mode on the same bank starts afresh.
void JitEngine::use_jump_cache(Vp& vp, ModeKey key) {
    mmu::BankTables* bank = vp.tlb().bank();
    if (bank->jump_key == key.value) return;
    bank->jump_key = key.value;
    vp.tlb().clear_jump_cache();
}

ModeKey JitEngine::current_key(const Vp& vp, u32 model) const {
    ModeKey key = mode_key(vp, model);
    if (!options_.native) key.value &= ~ModeKey::kFlat;
    return key;
}

std::span<const u8> JitEngine::code_of(const Vp& vp, Spa spa) {
    for (const auto& k : known_) {
        if (k->vp != &vp) continue;
        const Block* block = blocks_.find(spa, current_key(vp, k->model).value);
        if (block != nullptr) return {arena_.executable(block->entry), 256};
    }
    return {};
}

}  // namespace vg::jit
