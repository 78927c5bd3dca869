#include "cpu/apic.h"

#include <algorithm>
#include <bit>

#include "base/bits.h"
#include "base/state.h"
#include "cpu/vp.h"

namespace vg::cpu {

namespace {

// Registers by number: offset / 16, also the x2APIC MSR minus 0x800.
enum Reg : u32 {
    kId = 0x02, kVersion = 0x03, kTpr = 0x08, kPpr = 0x0a, kEoi = 0x0b, kLdr = 0x0d, kDfr = 0x0e, kSvr = 0x0f,
    kIsr = 0x10, kTmr = 0x18, kIrr = 0x20, kEsr = 0x28, kIcrLow = 0x30, kIcrHigh = 0x31, kLvtTimer = 0x32,
    kLvtError = 0x37, kInitialCount = 0x38, kCurrentCount = 0x39, kDivide = 0x3e, kSelfIpi = 0x3f
};

constexpr u32 kVersionValue = 0x00050014;  // version 0x14, LVT entries 0..5
constexpr u32 kLvtMasked = 1 << 16;
constexpr u64 kBaseBsp = 1 << 8, kBaseExtd = 1 << 10, kBaseEnable = 1 << 11;
constexpr u32 kModePeriodic = 1, kModeDeadline = 2;
constexpr u32 kEsrSendVector = 1 << 5, kEsrReceiveVector = 1 << 6, kEsrRegister = 1 << 7;
constexpr u64 kIcrReservedX2 = 0xfff32000;

/// A periodic timer fires at most once per microsecond; expirations in between fall together, as they would in IRR.
constexpr VTime kMinPeriod = 1000;

// LVT entries in lvt_: CMCI is not implemented (index 0 unused), then timer, thermal, performance, LINT0, LINT1, error.
constexpr unsigned kTimerIndex = 1, kLint0Index = 4, kErrorIndex = 6;
constexpr std::array<u32, 7> kLvtWritable = {0, 0x000700ff, 0x000107ff, 0x000107ff, 0x0001a7ff, 0x0001a7ff,
                                             0x000100ff};

int highest(const std::array<u32, 8>& set) {
    for (int i = 7; i >= 0; --i)
        if (set[static_cast<unsigned>(i)] != 0) return 32 * i + 31 - std::countl_zero(set[static_cast<unsigned>(i)]);
    return -1;
}
void set_bit(std::array<u32, 8>& set, u8 vector) { set[vector >> 5] |= u32{1} << (vector & 31); }
void clear_bit(std::array<u32, 8>& set, u8 vector) { set[vector >> 5] &= ~(u32{1} << (vector & 31)); }
bool test_bit(const std::array<u32, 8>& set, u8 vector) { return (set[vector >> 5] >> (vector & 31) & 1) != 0; }

bool is_lvt(u32 reg) { return reg >= kLvtTimer && reg <= kLvtError; }
unsigned lvt_index(u32 reg) { return reg - kLvtTimer + 1; }

}  // namespace

// ---- the bus -----------------------------------------------------------------------------------------------------

template <class Matches>
u32 ApicBus::deliver(const InterruptMessage& message, Matches matches) {
    const bool one = message.mode == DeliveryMode::LowestPriority;
    Apic* best = nullptr;
    u32 accepted = 0;
    for (Apic* apic : apics_) {
        if (!apic->enabled() || !matches(*apic)) continue;
        if (one) {
            // One that software has switched off would not take it.
            if (!apic->software_enabled()) continue;
            const bool better = best == nullptr || apic->ppr() < best->ppr() ||
                                (apic->ppr() == best->ppr() && apic->id() < best->id());
            if (better) best = apic;
        } else {
            apic->accept(message);
            ++accepted;
        }
    }
    if (best == nullptr) return accepted;
    best->accept(message);
    return 1;
}

u32 ApicBus::deliver(const InterruptMessage& message) {
    return deliver(message, [&](const Apic& apic) { return apic.matches(message); });
}

u32 ApicBus::deliver_to_all(const InterruptMessage& message, const Apic* except) {
    return deliver(message, [&](const Apic& apic) { return &apic != except; });
}

// ---- state -------------------------------------------------------------------------------------------------------

Apic::Apic(Vp& vp, ApicBus& bus, EventQueue& events, u32 id) : vp_(vp), bus_(bus), events_(events), id_(id) {
    timer_ = events_.add(vp.name() + "/apic-timer", [this](VTime due) { timer_fired(due); });
    bus_.attach(*this);
    clear_registers();
}

Apic::~Apic() {
    events_.remove(timer_);
    bus_.detach(*this);
}

void Apic::clear_registers() {
    if (std::exchange(eoi_offered_, false)) (void)shortcut_->withdraw();
    tpr_ = ldr_ = esr_ = esr_pending_ = initial_count_ = divide_ = 0;
    dfr_ = 0xffffffff;
    svr_ = 0xff;
    icr_ = 0;
    isr_ = tmr_ = irr_ = {};
    lvt_.fill(kLvtMasked);
    count_start_ = 0;
    counting_ = false;
    pending_ = -1;
    events_.cancel(timer_);
    vp_.state().tsc_deadline = 0;
}

void Apic::reset() {
    clear_registers();
    auto_eoi_ = {};
}

void Apic::init() { clear_registers(); }

bool Apic::enabled() const { return (vp_.state().apic_base & kBaseEnable) != 0; }
bool Apic::x2apic() const { return (vp_.state().apic_base & (kBaseEnable | kBaseExtd)) == (kBaseEnable | kBaseExtd); }
u64 Apic::base() const { return vp_.state().apic_base & ~kPageMask; }

bool Apic::write_base(u64 value) {
    u64& current = vp_.state().apic_base;
    u64 allowed = kBaseBsp | kBaseEnable | (low_mask(vp_.model().physical_bits()) & ~kPageMask);
    if (vp_.model().has(CpuFlag::X2APIC)) allowed |= kBaseExtd;
    if ((value & ~allowed) != 0) return false;
    const bool enable = (value & kBaseEnable) != 0, extended = (value & kBaseExtd) != 0;
    const bool was_enabled = (current & kBaseEnable) != 0, was_extended = (current & kBaseExtd) != 0;
    // SDM 3A "x2APIC State Transitions": only xAPIC to x2APIC, x2APIC to disabled, disabled to xAPIC and back.
    if (extended && !enable) return false;
    if (extended && !was_enabled) return false;
    if (enable && !extended && was_enabled && was_extended) return false;
    current = value;
    vp_.update_apic_page();
    if (was_enabled && !enable) clear_registers();
    if (extended && !was_extended) icr_ = 0;
    return true;
}

int Apic::deliverable() const {
    const int top = highest(irr_);
    return top >= 0 && (top >> 4) > (ppr() >> 4) ? top : -1;
}

void Apic::recompute() {
    const bool news = deliverable() > pending_;
    pending_ = deliverable();
    if (!news) return;
    vp_.shorten_slice(vp_.now() + 1);
    vp_.platform().event_arrived(vp_);
}

// ---- priorities --------------------------------------------------------------------------------------------------

int Apic::highest_in_service() const { return highest(isr_); }

u8 Apic::tpr() const { return static_cast<u8>(tpr_); }

void Apic::set_tpr(u8 value) {
    tpr_ = value;
    recompute();
}

u8 Apic::ppr() const {
    const int service = highest_in_service();
    const u32 service_class = service < 0 ? 0 : static_cast<u32>(service) & 0xf0;
    return static_cast<u8>((tpr_ & 0xf0) >= service_class ? tpr_ : service_class);
}

bool Apic::in_service(u8 vector) const { return test_bit(isr_, vector); }
bool Apic::requested(u8 vector) const { return test_bit(irr_, vector); }

int Apic::acknowledge() {
    const int vector = pending_;
    if (vector < 0) return -1;
    const auto v = static_cast<u8>(vector);
    const bool first = highest_in_service() < 0;
    clear_bit(irr_, v);
    if (!auto_eoi_[v]) set_bit(isr_, v);
    recompute();
    if (shortcut_ != nullptr && first && !auto_eoi_[v] && !test_bit(tmr_, v) && highest(irr_) < 0)
        eoi_offered_ = shortcut_->offer(v);
    return vector;
}

void Apic::settle_eoi() {
    if (!std::exchange(eoi_offered_, false) || !shortcut_->withdraw()) return;
    clear_bit(isr_, static_cast<u8>(highest_in_service()));
    recompute();
    vp_.platform().eoi_done(vp_);
}

void Apic::eoi() {
    settle_eoi();
    const int vector = highest_in_service();
    if (vector >= 0) {
        const auto v = static_cast<u8>(vector);
        clear_bit(isr_, v);
        const bool level = test_bit(tmr_, v);
        recompute();
        if (level) {
            bus_.broadcast_eoi(v);
            vp_.platform().level_eoi(vp_, v);
        }
    }
    vp_.platform().eoi_done(vp_);
}

bool Apic::lint0_accepts_extint() const {
    if (!enabled()) return true;  // the pin is INTR
    const u32 lvt = lvt_[kLint0Index];
    return (lvt & kLvtMasked) == 0 && bits(lvt, 10, 8) == static_cast<u32>(DeliveryMode::ExtInt);
}

void Apic::lint0_asserted() {
    const u32 lvt = lvt_[kLint0Index];
    if (!enabled() || (lvt & kLvtMasked) != 0) return;
    const auto mode = static_cast<DeliveryMode>(bits(lvt, 10, 8));
    if (mode == DeliveryMode::Fixed) accept(static_cast<u8>(lvt), bit(lvt, 15));
    if (mode == DeliveryMode::Nmi) vp_.request_nmi();
}

// ---- messages ----------------------------------------------------------------------------------------------------

u32 Apic::logical_id() const { return x2apic() ? (id_ >> 4) << 16 | u32{1} << (id_ & 15) : ldr_; }

bool Apic::matches(const InterruptMessage& message) const {
    if (!enabled()) return false;
    const u32 destination = message.destination;
    if (x2apic()) {
        if (destination == 0xffffffff) return true;
        if (!message.logical) return destination == id_;
        const u32 own = logical_id();
        return destination >> 16 == own >> 16 && (destination & own & 0xffff) != 0;
    }
    if (destination == 0xff || destination == 0xffffffff) return true;
    if (!message.logical) return destination == id_;
    const u32 own = ldr_ >> 24;
    if (dfr_ >> 28 == 0xf) return (destination & own) != 0;  // flat
    return destination >> 4 == own >> 4 && (destination & own & 0xf) != 0;
}

void Apic::accept(u8 vector, bool level) {
    vp_.hold_off();
    if (!enabled() || !software_enabled()) return;
    if (vector < 16) {
        error(kEsrReceiveVector);
        return;
    }
    settle_eoi();
    if (level) set_bit(tmr_, vector);
    else clear_bit(tmr_, vector);
    set_bit(irr_, vector);
    recompute();
}

void Apic::accept(const InterruptMessage& message) {
    events_.end_slice();  // the sender may be another processor in the middle of its slice
    switch (message.mode) {
        case DeliveryMode::Fixed:
        case DeliveryMode::LowestPriority: accept(message.vector, message.level); break;
        case DeliveryMode::Nmi: vp_.request_nmi(); break;
        case DeliveryMode::Init:
            if (!message.level || message.assert_level) vp_.request_init();
            break;
        case DeliveryMode::Startup: vp_.request_sipi(message.vector); break;
        case DeliveryMode::Smi:      // no system management mode
        case DeliveryMode::ExtInt: break;  // comes by the line, Vp::set_external_line
    }
}

void Apic::error(u32 esr_bit) {
    esr_pending_ |= esr_bit;
    const u32 lvt = lvt_[kErrorIndex];
    const auto vector = static_cast<u8>(lvt);
    if ((lvt & kLvtMasked) == 0 && vector >= 16) accept(vector, false);
}

void Apic::send_ipi(u64 icr) {
    InterruptMessage message;
    message.vector = static_cast<u8>(icr);
    message.mode = static_cast<DeliveryMode>(bits(icr, 10, 8));
    message.logical = bit(icr, 11);
    message.assert_level = bit(icr, 14);
    message.level = bit(icr, 15);
    message.destination = static_cast<u32>(x2apic() ? icr >> 32 : icr >> 56);
    const bool with_vector = message.mode == DeliveryMode::Fixed || message.mode == DeliveryMode::LowestPriority;
    if (with_vector) {
        message.level = false;  // SDM: the trigger mode is used for INIT de-assert only
        if (message.vector < 16) {
            error(kEsrSendVector);
            return;
        }
    }
    switch (bits(icr, 19, 18)) {
        case 0: bus_.deliver(message); break;
        case 1: accept(message); break;
        case 2: bus_.deliver_to_all(message, nullptr); break;
        default: bus_.deliver_to_all(message, this); break;
    }
}

// ---- timer -------------------------------------------------------------------------------------------------------

u32 Apic::timer_mode() const { return static_cast<u32>(bits(lvt_[kTimerIndex], 18, 17)); }

u32 Apic::divisor() const {
    const u32 code = (divide_ & 3) | (divide_ >> 1 & 4);
    return code == 7 ? 1 : u32{2} << code;
}

u32 Apic::current_count() const {
    if (!counting_ || timer_mode() == kModeDeadline) return 0;
    const auto elapsed = static_cast<s64>(events_.now() - count_start_);
    const u64 ticks = elapsed < 0 ? 0 : static_cast<u64>(elapsed) / divisor();
    if (timer_mode() == kModePeriodic) return static_cast<u32>(initial_count_ - ticks % initial_count_);
    return ticks >= initial_count_ ? 0 : static_cast<u32>(initial_count_ - ticks);
}

void Apic::arm_counter() {
    events_.cancel(timer_);
    if (initial_count_ == 0 || timer_mode() == kModeDeadline) return;
    events_.arm(timer_, count_start_ + u64{initial_count_} * divisor());
}

void Apic::arm_deadline() {
    events_.cancel(timer_);
    const u64 deadline = vp_.state().tsc_deadline;
    if (timer_mode() != kModeDeadline || deadline == 0) return;
    const u64 now = events_.now();
    const u64 tsc = now + vp_.state().tsc_offset - vp_.guest_tsc_offset();
    const u64 wait = deadline > tsc ? deadline - tsc : 0;
    if (wait >= kNever - now) return;  // beyond the end of virtual time
    events_.arm(timer_, now + wait);
}

void Apic::timer_fired(VTime due) {
    const u32 lvt = lvt_[kTimerIndex];
    if (timer_mode() == kModeDeadline) vp_.state().tsc_deadline = 0;
    if ((lvt & kLvtMasked) == 0) accept(static_cast<u8>(lvt), false);
    if (timer_mode() != kModePeriodic) counting_ = false;
    if (!counting_) return;
    const VTime period = u64{initial_count_} * divisor();
    VTime step = std::max(period, kMinPeriod / period * period);
    const VTime now = events_.now();
    if (due + step <= now) step = ((now - due) / period + 1) * period;
    count_start_ = due + step - period;
    events_.arm(timer_, due + step);
}

u64 Apic::tsc_deadline() const { return timer_mode() == kModeDeadline ? vp_.state().tsc_deadline : 0; }

void Apic::write_tsc_deadline(u64 value) {
    if (timer_mode() != kModeDeadline) return;  // SDM: "writes to the IA32_TSC_DEADLINE MSR are ignored"
    vp_.state().tsc_deadline = value;
    arm_deadline();
}

void Apic::tsc_changed() {
    if (timer_mode() == kModeDeadline) arm_deadline();
}

// ---- registers ---------------------------------------------------------------------------------------------------

void Apic::write_lvt(unsigned index, u32 value) {
    u32 writable = kLvtWritable[index];
    if (index == kTimerIndex && !vp_.model().has(CpuFlag::TSC_DEADLINE)) writable &= ~(1u << 18);
    value &= writable;
    if (!software_enabled()) value |= kLvtMasked;
    const u32 old_mode = timer_mode(), left = current_count();
    lvt_[index] = value;
    if (index != kTimerIndex || old_mode == timer_mode()) return;
    if (old_mode == kModeDeadline || timer_mode() == kModeDeadline) {
        // SDM "TSC-Deadline Mode": switching in or out disarms the timer.
        vp_.state().tsc_deadline = 0;
        initial_count_ = 0;
        counting_ = false;
        events_.cancel(timer_);
    } else if (left != 0) {
        count_start_ = events_.now() - u64{initial_count_ - left} * divisor();
        arm_counter();
    } else {
        counting_ = false;  // a counter that reached zero stays there until the initial count is written again
    }
}

void Apic::write_svr(u32 value) {
    svr_ = value & 0x1ff;
    if (software_enabled()) return;
    for (unsigned i = 1; i < lvt_.size(); ++i) lvt_[i] |= kLvtMasked;
}

u32 Apic::read_register(u32 reg) const {
    if (reg >= kIsr && reg < kIsr + 8) return isr_[reg - kIsr];
    if (reg >= kTmr && reg < kTmr + 8) return tmr_[reg - kTmr];
    if (reg >= kIrr && reg < kIrr + 8) return irr_[reg - kIrr];
    if (is_lvt(reg)) return lvt_[lvt_index(reg)];
    switch (reg) {
        case kId: return x2apic() ? id_ : id_ << 24;
        case kVersion: return kVersionValue;
        case kTpr: return tpr_;
        case kPpr: return ppr();
        case kLdr: return logical_id();
        case kDfr: return dfr_;
        case kSvr: return svr_;
        case kEsr: return esr_;
        case kIcrLow: return static_cast<u32>(icr_);
        case kIcrHigh: return static_cast<u32>(icr_ >> 32);
        case kInitialCount: return initial_count_;
        case kCurrentCount: return current_count();
        case kDivide: return divide_;
        default: return 0;
    }
}

void Apic::write_register(u32 reg, u32 value) {
    if (is_lvt(reg)) {
        write_lvt(lvt_index(reg), value);
        return;
    }
    switch (reg) {
        case kTpr: set_tpr(static_cast<u8>(value)); break;
        case kEoi: eoi(); break;
        case kLdr: ldr_ = value & 0xff000000; break;
        case kDfr: dfr_ = value | 0x0fffffff; break;
        case kSvr: write_svr(value); break;
        case kEsr:
            esr_ = esr_pending_;
            esr_pending_ = 0;
            break;
        case kIcrLow:
            icr_ = (icr_ & ~u64{0xffffffff}) | (value & 0x000ccfff);
            send_ipi(icr_);
            break;
        case kIcrHigh: icr_ = (icr_ & 0xffffffff) | u64{value & 0xff000000} << 32; break;
        case kInitialCount:
            if (timer_mode() == kModeDeadline) break;
            initial_count_ = value;
            counting_ = value != 0;
            count_start_ = events_.now();
            arm_counter();
            break;
        case kDivide: {
            const u32 left = current_count();
            divide_ = value & 0xb;
            if (left == 0) break;
            count_start_ = events_.now() - u64{initial_count_ - left} * divisor();
            arm_counter();
            break;
        }
        default: break;
    }
}

u32 Apic::mmio_read(u32 offset) {
    settle_eoi();
    if ((offset & 15) != 0) return 0;  // registers are the first four bytes of 16
    return read_register(offset >> 4 & 0xff);
}

void Apic::mmio_write(u32 offset, u32 value) {
    if ((offset & 15) != 0) return;
    const u32 reg = offset >> 4 & 0xff;
    const bool known = (reg >= kId && reg <= kVersion) || (reg >= kTpr && reg <= kEsr) || reg == kIcrLow ||
                       reg == kIcrHigh || is_lvt(reg) || (reg >= kInitialCount && reg <= kDivide);
    if (!known) error(kEsrRegister);
    else write_register(reg, value);
}

bool Apic::msr_read(u32 reg, u64& value) {
    if (!x2apic()) return false;
    const bool readable = reg == kId || reg == kVersion || reg == kTpr || reg == kPpr || reg == kLdr || reg == kSvr ||
                          (reg >= kIsr && reg <= kEsr) || reg == kIcrLow || is_lvt(reg) || reg == kInitialCount ||
                          reg == kCurrentCount || reg == kDivide;
    if (!readable) return false;
    settle_eoi();
    value = reg == kIcrLow ? icr_ : read_register(reg);
    return true;
}

bool Apic::msr_write(u32 reg, u64 value) {
    if (!x2apic()) return false;
    if (reg == kIcrLow) {
        if ((value & kIcrReservedX2) != 0) return false;
        icr_ = value & ~(u64{1} << 12);
        send_ipi(icr_);
        return true;
    }
    u64 allowed = 0;
    switch (reg) {
        case kTpr:
        case kSelfIpi: allowed = 0xff; break;
        case kEoi:
        case kEsr: break;
        case kSvr: allowed = 0x1ff; break;
        case kInitialCount: allowed = 0xffffffff; break;
        case kDivide: allowed = 0xb; break;
        default:
            if (!is_lvt(reg)) return false;
            allowed = kLvtWritable[lvt_index(reg)] | 0x5000;  // delivery status and remote IRR are read-only
            break;
    }
    if ((value & ~allowed) != 0) return false;
    if (reg == kSelfIpi) send_ipi(value | u64{1} << 18);
    else write_register(reg, static_cast<u32>(value));
    return true;
}

ApicImage Apic::image() const {
    ApicImage out;
    out.id = read_register(kId);
    out.version = kVersionValue;
    out.ldr = logical_id();
    out.dfr = dfr_;
    out.svr = svr_;
    out.isr = isr_;
    out.tmr = tmr_;
    out.irr = irr_;
    out.esr = esr_;
    out.icr = icr_;
    out.lvt = lvt_;
    out.initial_count = initial_count_;
    out.current_count = current_count();
    out.divide = divide_;
    return out;
}

void Apic::load(const ApicImage& image) {
    constexpr u32 kIllegalVectors = 0xffff;  // 0 to 15 are never requested
    ldr_ = image.ldr & 0xff000000;
    dfr_ = image.dfr | 0x0fffffff;
    svr_ = image.svr & 0x1ff;
    isr_ = image.isr;
    tmr_ = image.tmr;
    irr_ = image.irr;
    isr_[0] &= ~kIllegalVectors;
    irr_[0] &= ~kIllegalVectors;
    esr_ = image.esr & 0xff;
    icr_ = image.icr & 0xffffffff'000ccfff;
    for (unsigned i = 1; i < lvt_.size(); ++i) {
        lvt_[i] = image.lvt[i] & kLvtWritable[i];
        if (!software_enabled()) lvt_[i] |= kLvtMasked;
    }
    divide_ = image.divide & 0xb;
    initial_count_ = image.initial_count;
    events_.cancel(timer_);
    if (timer_mode() == kModeDeadline) {
        counting_ = false;
        arm_deadline();
    } else {
        const u32 left = std::min(image.current_count, initial_count_);
        counting_ = left != 0;
        count_start_ = events_.now() - u64{initial_count_ - left} * divisor();
        if (counting_) arm_counter();
    }
    recompute();
}

void Apic::fields(StateVisitor& v) {
    v("id", id_);
    v("tpr", tpr_);
    v("ldr", ldr_);
    v("dfr", dfr_);
    v("svr", svr_);
    v("esr", esr_);
    v("esr_pending", esr_pending_);
    v("icr", icr_);
    v("isr", isr_);
    v("tmr", tmr_);
    v("irr", irr_);
    v("lvt", lvt_);
    v("initial_count", initial_count_);
    v("divide", divide_);
    v("counting", counting_);
    v("count_start", count_start_);
    v("auto_eoi", auto_eoi_);
    v("eoi_offered", eoi_offered_);
    if (v.loading()) pending_ = deliverable();
}

}  // namespace vg::cpu
