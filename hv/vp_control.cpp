#include "hv/vp_control.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/state.h"
#include "hv/hypervisor.h"
#include "hv/intercepts.h"
#include "hv/vp.h"
#include "hv/vp_registers.h"

namespace vg::hv {
namespace {

constexpr VTime kNsPer100ns = 100;
/// A time slice beyond this counts as none.
constexpr u64 kLongestSlice = u64{1} << 40;

}  // namespace

VpControl::VpControl(Vp& vp) : vp_(vp) {
    EventQueue& events = vp.partition().hypervisor().events();
    timer_ = events.add(fmt::format("hv.p{}.vp{}.slice", vp.partition().id(), vp.index()),
                        [this](VTime) { end_dispatch(DispatchState::Ready, DispatchEvent::None); });
    halt_timer_ = events.add(fmt::format("hv.p{}.vp{}.halt", vp.partition().id(), vp.index()),
                             [this](VTime) { activity_changed(); });
    explicit_ = is_child();  // K-132: the parent starts it
}

VpControl::~VpControl() {
    end_dispatch(DispatchState::Invalid, DispatchEvent::None);
    vp_.partition().hypervisor().events().remove(timer_);
    vp_.partition().hypervisor().events().remove(halt_timer_);
    for (const std::optional<Spa>& page : pages_) VG_ASSERT(!page);  // release_shown_pages comes first
}

bool VpControl::is_child() const { return vp_.partition().guest_parent() != nullptr; }

bool VpControl::root_scheduled() const {
    return is_child() && vp_.partition().hypervisor().root_config().root_scheduler;
}

// ---- suspension

void VpControl::update() {
    if (!is_child()) return;
    cpu::Vp& processor = vp_.processor();
    const bool suspended = explicit_ || intercept_ || dispatch_ || vp_.partition().policy().suspended;
    if (suspended && dispatched_)
        end_dispatch(intercept_ ? DispatchState::Ready : DispatchState::Blocked,
                     intercept_ ? DispatchEvent::Intercept : DispatchEvent::Suspend);
    const bool hold = suspended || (root_scheduled() && !dispatched_);
    if (!hold && processor.held()) {
        take_registers();
        if (!registers_consistent(processor)) {
            const InvalidVpRegister message{vp_.index(), 0};
            u8 bytes[sizeof message];
            std::memcpy(bytes, &message, sizeof message);
            send_intercept(MessageType::InvalidVpRegister, bytes);
            return;
        }
        if (registers_changed_) settle_registers(processor);
        registers_changed_ = false;
    }
    if (hold != processor.held()) {
        processor.hold(hold);
        if (hold) processor.request_stop();
        vp_.partition().hypervisor().events().end_slice();
    }
    activity_changed();
}

void VpControl::set_explicit_suspend(bool on) {
    explicit_ = on;
    update();
}

void VpControl::set_intercept_suspend(bool on) {
    intercept_ = on;
    update();
}

void VpControl::set_dispatch_suspend(bool on) {
    dispatch_ = on;
    update();
}

void VpControl::send_intercept(MessageType type, std::span<const u8> payload) {
    VG_ASSERT(is_child() && payload.size() <= kMessagePayloadMax);
    Partition& partition = vp_.partition();
    const MessageHeader header{static_cast<u32>(type), static_cast<u8>(payload.size()), 0, 0, partition.id()};
    message_ = {};
    std::memcpy(message_.data(), &header, sizeof header);
    std::copy(payload.begin(), payload.end(), message_.begin() + kMessagePayloadOffset);
    publish_registers();
    Partition& parent = *partition.guest_parent();
    const std::optional<Spa>& own = page(StatePage::InterceptMessage);
    if (own) partition.hypervisor().memory().write(*own, message_.data(), message_.size());
    // the register says so before any message is seen.
    const bool told_by_dispatch = dispatched_;
    intercept_ = true;
    update();
    if (told_by_dispatch) return;
    if (own) {
        const OpaqueIntercept opaque{vp_.index()};
        u8 bytes[sizeof opaque];
        std::memcpy(bytes, &opaque, sizeof opaque);
        parent.post_own_message(0, kInterceptSint, static_cast<u32>(MessageType::OpaqueIntercept), bytes,
                                partition.id());
    } else {
        parent.post_own_message(0, kInterceptSint, static_cast<u32>(type), payload, partition.id());
    }
}

// ---- pages

HvStatus VpControl::map_page(StatePage which, Spa& out) {
    std::optional<Spa>& own = page(which);
    Partition& partition = vp_.partition();
    if (!own) {
        own = partition.pool().allocate_deposited();
        if (!own) return HvStatus::InsufficientMemory;
        // The parent's tables are there: the page was mapped before it was deposited.
        const auto shown = partition.guest_parent()->map_memory(Gpa(own->value), *own, kPageSize, {true, true, false});
        VG_ASSERT(shown.has_value());
        if (which == StatePage::Registers) publish_registers();
        if (which == StatePage::InterceptMessage && intercept_)
            partition.hypervisor().memory().write(*own, message_.data(), message_.size());
    }
    out = *own;
    return HvStatus::Success;
}

HvStatus VpControl::unmap_page(StatePage which) {
    std::optional<Spa>& own = page(which);
    if (!own) return HvStatus::NotFound;
    const auto hidden = vp_.partition().guest_parent()->unmap_memory(Gpa(own->value), kPageSize);
    VG_ASSERT(hidden.has_value());
    vp_.partition().pool().free_deposited(*own);
    own.reset();
    return HvStatus::Success;
}

void VpControl::unmap_pages() {
    for (const StatePage which : {StatePage::Registers, StatePage::InterceptMessage})
        if (page(which)) (void)unmap_page(which);
}

void VpControl::publish_registers() {
    const std::optional<Spa>& own = page(StatePage::Registers);
    if (!own) return;
    mmu::PhysicalMemory& memory = vp_.partition().hypervisor().memory();
    RegisterPage image{};
    image.version = kRegisterPageVersion;
    image.is_valid = 1;
    fill_register_page(vp_.processor(), image);
    // The vector list is the parent's: it may be adding to it.
    memory.write(*own, &image, offsetof(RegisterPage, vector_count));
}

void VpControl::take_registers() {
    const std::optional<Spa>& own = page(StatePage::Registers);
    if (!own) return;
    mmu::PhysicalMemory& memory = vp_.partition().hypervisor().memory();
    const RegisterPage image = memory.read<RegisterPage>(*own);
    if (image.is_valid == 0 || image.dirty == 0) return;
    apply_register_page(vp_.processor(), image);
    if ((image.dirty & (register_page_dirty::kSegments | register_page_dirty::kRflags)) != 0) registers_changed_ = true;
    memory.write(*own + offsetof(RegisterPage, dirty), u32{0});
}

void VpControl::inject_vectors() {
    const std::optional<Spa>& own = page(StatePage::Registers);
    if (!own) return;
    mmu::PhysicalMemory& memory = vp_.partition().hypervisor().memory();
    const RegisterPage image = memory.read<RegisterPage>(*own);
    const unsigned count = std::min<unsigned>(image.vector_count, sizeof image.vectors);
    memory.write(*own + offsetof(RegisterPage, vector_count), u64{0});
    for (unsigned i = 0; i < count; ++i)
        if (image.vectors[i] >= kFirstLegalVector) vp_.processor().apic().accept(image.vectors[i], false);
}

// ---- the root scheduler

HvStatus VpControl::dispatch(Vp& caller, const DispatchVpIn& in, DispatchVpOut& out) {
    if (!root_scheduled()) return HvStatus::OperationDenied;
    if (dispatched_) return HvStatus::InvalidVpState;
    if ((in.flags & dispatch_flag::kClearInterceptSuspend) != 0) intercept_ = false;
    if ((in.flags & dispatch_flag::kScanInterruptInjection) != 0) inject_vectors();
    const auto answer = [&out](DispatchState state, DispatchEvent event) {
        out = {static_cast<u32>(state), static_cast<u32>(event)};
        return HvStatus::Success;
    };
    if (intercept_) return answer(DispatchState::Ready, DispatchEvent::Intercept);
    if (explicit_ || dispatch_ || vp_.partition().policy().suspended) {
        signal_wanted_ = true;
        return answer(DispatchState::Blocked, DispatchEvent::Suspend);
    }
    if (caller.processor().apic().pending_vector() >= 0) return answer(DispatchState::Ready, DispatchEvent::None);
    const cpu::Vp& processor = vp_.processor();
    if (processor.activity() != cpu::Activity::Active && !processor.event_pending()) {
        signal_wanted_ = true;
        return answer(DispatchState::Blocked, DispatchEvent::None);
    }
    dispatched_ = true;
    signal_wanted_ = false;
    caller_ = &caller;
    caller.set_dispatching(&vp_);
    caller.processor().hold(true);
    EventQueue& events = vp_.partition().hypervisor().events();
    if (in.time_slice != 0 && in.time_slice < kLongestSlice)
        events.arm(timer_, events.now() + in.time_slice * kNsPer100ns);
    update();
    if (!dispatched_) return answer(DispatchState::Ready, DispatchEvent::Intercept);  // its registers were refused
    return kDeferredCall;
}

void VpControl::end_dispatch(DispatchState state, DispatchEvent event) {
    if (!dispatched_) return;
    dispatched_ = false;
    signal_wanted_ = state == DispatchState::Blocked;
    vp_.partition().hypervisor().events().cancel(timer_);
    vp_.processor().hold(true);
    vp_.processor().request_stop();
    Vp& caller = *caller_;
    caller_ = nullptr;
    caller.set_dispatching(nullptr);
    const DispatchVpOut out{static_cast<u32>(state), static_cast<u32>(event)};
    u8 bytes[sizeof out];
    std::memcpy(bytes, &out, sizeof out);
    caller.processor().hold(false);
    caller.complete_deferred_call(HvStatus::Success, bytes);
    vp_.partition().hypervisor().events().end_slice();
}

void VpControl::activity_changed() {
    if (!root_scheduled()) return;
    const cpu::Vp& processor = vp_.processor();
    const bool ready = processor.activity() == cpu::Activity::Active || processor.event_pending();
    if (dispatched_ && !ready) end_dispatch(DispatchState::Blocked, DispatchEvent::None);
    if (!dispatched_ && signal_wanted_ && ready && !explicit_ && !intercept_ && !dispatch_) signal_root();
}

void VpControl::halting() {
    EventQueue& events = vp_.partition().hypervisor().events();
    if (root_scheduled()) events.arm(halt_timer_, events.now());
}

void VpControl::interrupt_caller(Vp& caller) {
    if (Vp* running = caller.dispatching()) running->control().end_dispatch(DispatchState::Ready, DispatchEvent::None);
}

void VpControl::signal_root() {
    signal_wanted_ = false;
    VpSignalPairs message{};
    message.count = 1;
    message.partition_id[0] = vp_.partition().id();
    message.vp_index[0] = vp_.index();
    u8 bytes[sizeof message];
    std::memcpy(bytes, &message, sizeof message);
    ++vp_.partition().node().root_signals;
    vp_.count_root_signal();
    vp_.partition().guest_parent()->post_own_message(0, kInterceptSint,
                                                     static_cast<u32>(MessageType::SchedulerVpSignalPair), bytes, 0);
}

void VpControl::fields(StateVisitor& v) {
    v("explicit_suspend", explicit_);
    v("intercept_suspend", intercept_);
    v("dispatch_suspend", dispatch_);
    v("registers_changed", registers_changed_);
    v("dispatched", dispatched_);
    v("signal_wanted", signal_wanted_);
    for (unsigned i = 0; i < pages_.size(); ++i) {
        u64 where = pages_[i] ? pages_[i]->value | 1 : 0;  // bit 0: there is one
        v("page" + std::to_string(i), where);
        if (v.loading()) pages_[i] = where != 0 ? std::optional(Spa(where).page_base()) : std::nullopt;
    }
    v.bytes("message", message_);
}

}  // namespace vg::hv
