#include "hv/vp.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "cpu/msr.h"
#include "hv/cpuid.h"
#include "hv/guest_parent.h"
#include "hv/hypercall.h"
#include "hv/hypervisor.h"
#include "hv/intercepts.h"
#include "hv/msrs.h"
#include "hv/spec/hypercall.h"
#include "hv/spec/msr.h"
#include "hv/stimer.h"
#include "hv/synic.h"
#include "hv/vp_control.h"

namespace vg::hv {
namespace {

using cpu::virt::Action;
using cpu::virt::Exit;
using cpu::virt::ExitReason;

constexpr mmu::SlatPermissions kDataPage{.read = true, .write = true, .execute = false};

constexpr u32 kIa32Tsc = 0x10, kIa32TscAdjust = 0x3b;
/// The synthetic range, and the two registers whose writes make the reference TSC page wrong.
constexpr cpu::virt::Controls::MsrRange kMsrRanges[] = {
    {kIa32Tsc, kIa32Tsc}, {kIa32TscAdjust, kIa32TscAdjust}, {msr::kFirst, msr::kLast}};
constexpr cpu::virt::Controls::MsrRange kAllMsrs[] = {{0, 0xffffffff}};

Action inject(Exit& exit, u8 vector, u32 error_code, u64 cr2 = 0) {
    exit.fault = cpu::Fault{};
    exit.fault.vector = vector;
    exit.fault.has_error = true;
    exit.fault.error_code = error_code;
    exit.fault.cr2 = cr2;
    return Action::Inject;
}

/// Largest naturally aligned power of two that starts at `gpa` and takes no more than `size` (at most 8).
u32 piece(u64 gpa, u32 size) {
    const u32 aligned = 1u << std::min(std::countr_zero(gpa | 8), 3);
    return std::min(aligned, std::bit_floor(size));
}

}  // namespace

Vp::Vp(Partition& partition, u32 index, const cpu::CpuModel& model, u32 apic_id)
    : partition_(partition),
      index_(index),
      processor_(std::make_unique<cpu::Vp>(
          cpu::VpEnvironment{partition.hypervisor().memory(), partition.hypervisor().events(),
                             partition.hypervisor().log(), model, partition.apic_bus(), *this, partition.id()},
          fmt::format("{}.vp{}", partition.config().name, index), index, apic_id)),
      assist_page_(partition, kDataPage),
      synic_(std::make_unique<Synic>(*this)),
      timers_(std::make_unique<SyntheticTimers>(*this)) {
    processor_->levels().push_back({{}, this});
    processor_->apic().set_eoi_shortcut(*this);
    control_ = std::make_unique<VpControl>(*this);
    vp_assist_msr_ = assist_page_.preset();
    if (partition.config().root) {
        assist_page_.show_at_home();
        synic_->show_root_pages();
    }
    apply_policy();
    leave_as_firmware();
}

Vp::~Vp() {
    if (dispatching_ != nullptr) VpControl::interrupt_caller(*this);
    control_.reset();
    if (VpHost* host = partition_.hypervisor().vp_host()) host->vp_destroyed(*processor_);
}

void Vp::apply_policy() {
    const ParentPolicy& policy = partition_.policy();
    cpu::virt::Controls controls;
    controls.cpuid = true;
    controls.hypercall = true;
    controls.io_all = true;
    controls.msr_ranges = kMsrRanges;
    controls.slat = partition_.slat();
    if (is_child()) {
        controls.msr_ranges = kAllMsrs;
        controls.triple_fault = true;
        controls.exceptions = policy.exceptions;
        controls.halt = partition_.config().halt_intercept || partition_.hypervisor().root_config().root_scheduler;
    }
    processor_->levels().front().controls = controls;
    processor_->update_context();
    control_->update();
}

Action Vp::on_exit(cpu::Vp&, Exit& exit) {
    ++exit_counts_[static_cast<unsigned>(exit.reason) % exit_counts_.size()];
    switch (exit.reason) {
        case ExitReason::Cpuid:
            return on_cpuid(exit);
        case ExitReason::Msr:
            return on_msr(exit);
        case ExitReason::Hypercall:
            return do_hypercall(*this, exit);
        case ExitReason::Io:
            return on_io(exit);
        case ExitReason::Memory:
            return on_memory(exit);
        case ExitReason::Halt:
            return on_halt(exit);
        case ExitReason::Exception:
            return is_child() ? intercept_exception(*this, exit) : Action::Default;
        case ExitReason::TripleFault:
            return is_child() ? intercept_plain(*this, MessageType::UnrecoverableException, 0) : Action::Default;
        case ExitReason::None:
        case ExitReason::Cr:
        case ExitReason::Dr:
        case ExitReason::DescriptorTable:
        case ExitReason::Rdtsc:
        case ExitReason::Rdpmc:
        case ExitReason::Pause:
        case ExitReason::Mwait:
        case ExitReason::Monitor:
        case ExitReason::Invlpg:
        case ExitReason::Invpcid:
        case ExitReason::Wbinvd:
        case ExitReason::Xsetbv:
        case ExitReason::InterruptWindow:
        case ExitReason::NmiWindow:
        case ExitReason::TaskSwitch:
        case ExitReason::Vmx:
        case ExitReason::Svm:
        case ExitReason::ExternalInterrupt:
        case ExitReason::Nmi:
        case ExitReason::Init:
        case ExitReason::Sipi:
        case ExitReason::Invd:
        case ExitReason::Random:
        case ExitReason::ApicAccess:
        case ExitReason::Xsaves:
        case ExitReason::StackedFlags:
            break;
    }
    return Action::Default;  // this level does not ask for the others
}

Action Vp::on_cpuid(Exit& exit) {
    apply_cpuid(partition_, processor_->model(), exit.leaf, exit.regs);
    if (!is_child()) return Action::Complete;
    partition_.apply_cpuid_results(exit.leaf, exit.subleaf, exit.regs);
    return partition_.policy().cpuid_intercepts.contains(exit.leaf) ? intercept_cpuid(*this, exit, exit.regs)
                                                                    : Action::Complete;
}

Action Vp::on_msr(Exit& exit) {
    if (exit.msr < msr::kFirst || exit.msr > msr::kLast) {
        if (exit.msr == kIa32Tsc || exit.msr == kIa32TscAdjust) {
            if (exit.write) partition_.invalidate_reference_page();
            return Action::Default;
        }
        return on_other_msr(exit);
    }
    const bool done = exit.write ? write_msr(*this, exit.msr, exit.value) : read_msr(*this, exit.msr, exit.value);
    if (control_->intercept_suspend()) return Action::Leave;  // HV_X64_MSR_RESET
    return done ? Action::Complete : inject(exit, cpu::kGeneralProtection, 0);
}

/// Only children of a guest parent come here: their parent may want to hear of an MSR, or have the unknown ones
/// ignored.
Action Vp::on_other_msr(Exit& exit) {
    const ParentPolicy& policy = partition_.policy();
    const u32 access = exit.write ? intercept_access::kWrite : intercept_access::kRead;
    const auto wanted = policy.msr_intercepts.find(exit.msr);
    if (wanted != policy.msr_intercepts.end() && (wanted->second & access) != 0) return intercept_msr(*this, exit);
    u64 value = 0;
    if (!cpu::msr_name(exit.msr).empty() && (exit.write || cpu::read_msr(*processor_, exit.msr, value)))
        return Action::Default;
    if ((policy.unknown_msr_access & access) != 0) return intercept_msr(*this, exit);
    if (!policy.ignore_unknown_msrs) return Action::Default;  // #GP(0)
    exit.value = 0;
    return Action::Complete;
}

Action Vp::on_halt(Exit& exit) {
    if (!is_child()) return Action::Default;
    if (partition_.config().halt_intercept) return intercept_plain(*this, MessageType::Halt, exit.insn_length);
    control_->halting();
    return Action::Default;
}

void Vp::idle() {
    processor_->state().activity = cpu::Activity::Idle;
    if (is_child()) control_->halting();
}

Action Vp::on_io(Exit& exit) {
    if (is_child()) return intercept_io(*this, exit);
    if (exit.write)
        partition_.sink().port_write(*this, exit.port, exit.size, static_cast<u32>(exit.value));
    else
        exit.value = partition_.sink().port_read(*this, exit.port, exit.size);
    return Action::Complete;
}

Action Vp::on_memory(Exit& exit) {
    const bool write = exit.write || exit.slat.access == mmu::Access::Write;
    if (is_child() && write && !exit.slat.during_walk && exit.size <= sizeof exit.value && exit.size != 0) {
        if (const Doorbell* bell = partition_.connections().find_doorbell(exit.gpa, exit.size, exit.value)) {
            if (Vp* target = bell->port.partition->find_vp(bell->port.vp_index))
                (void)target->synic().ring(bell->port.sint, bell->port.port_id);
            return Action::Complete;
        }
    }
    if (is_child() && !(write && partition_.is_hypercall_page(exit.gpa))) return intercept_memory(*this, exit);
    if (exit.slat.during_walk || exit.size == 0) {
        // Paging structures in a hole read as all-ones: present, with reserved bits set. SDM 3A "Page-Fault
        // Exceptions".
        constexpr u32 kPresent = 1, kWrite = 2, kUser = 4, kReserved = 8;
        const u32 code = kPresent | kReserved | (exit.write ? kWrite : 0) | (processor_->cpl() == 3 ? kUser : 0);
        return inject(exit, cpu::kPageFault, code, exit.gva.value);
    }
    if (exit.slat.access == mmu::Access::Fetch) {
        // All-ones are no instruction.
        Action action = inject(exit, cpu::kInvalidOpcode, 0);
        exit.fault.has_error = false;
        return action;
    }
    if (write && partition_.is_hypercall_page(exit.gpa)) return inject(exit, cpu::kGeneralProtection, 0);
    std::array<u8, sizeof exit.data> bytes{};
    const u32 size = std::min<u32>(exit.size, static_cast<u32>(bytes.size()));
    if (write) {
        if (exit.size > sizeof exit.value)
            std::memcpy(bytes.data(), exit.data, size);
        else
            std::memcpy(bytes.data(), &exit.value, size);
        write_hole(exit.gpa, size, bytes.data());
        return Action::Complete;
    }
    read_hole(exit.gpa, size, bytes.data());
    std::memcpy(exit.data, bytes.data(), bytes.size());
    std::memcpy(&exit.value, bytes.data(), sizeof exit.value);
    return Action::Complete;
}

void Vp::read_hole(Gpa gpa, u32 size, u8* out) {
    while (size != 0) {
        const u32 part = piece(gpa.value, size);
        u64 value = ~u64{0};
        if (!partition_.sink().mmio_read(*this, gpa, part, value)) {
            value = ~u64{0};
            if (hole_log_.pass())
                partition_.hypervisor().log().warn(Area::Hv, "{}: read of {} bytes at unmapped GPA {:#x}, rip {:#x}",
                                                   processor_->name(), part, gpa.value, processor_->state().rip);
        }
        std::memcpy(out, &value, part);
        out += part;
        gpa = gpa + part;
        size -= part;
    }
}

void Vp::write_hole(Gpa gpa, u32 size, const u8* data) {
    while (size != 0) {
        const u32 part = piece(gpa.value, size);
        u64 value = 0;
        std::memcpy(&value, data, part);
        if (!partition_.sink().mmio_write(*this, gpa, part, value) && hole_log_.pass())
            partition_.hypervisor().log().warn(Area::Hv, "{}: write of {} bytes at unmapped GPA {:#x}, rip {:#x}",
                                               processor_->name(), part, gpa.value, processor_->state().rip);
        data += part;
        gpa = gpa + part;
        size -= part;
    }
}

void Vp::complete_deferred_call(HvStatus status, std::span<const u8> output) {
    VG_ASSERT(deferred_.active);
    deferred_.active = false;
    if (status == HvStatus::Success && !partition_.write_memory(Gpa(deferred_.output), output.data(), output.size()))
        status = HvStatus::InvalidHypercallInput;  // the page went away meanwhile
    tell_deferred_hypercall(*this, status);
    cpu::VpState& state = processor_->state();
    state.gpr[cpu::RAX] = hypercall_result(status, 0);
    state.rip += deferred_.insn_length;
    if (processor_->code_mode() != cpu::CodeMode::Bits64) state.rip = static_cast<u32>(state.rip);
}

void Vp::set_vp_assist_msr(u64 value) {
    processor_->apic().settle_eoi();
    vp_assist_msr_ = value;
    assist_page_.place_zeroed(value);
}

// S-101. The EOI of a SINT is an occasion to deliver its next message (S-03), so it is to be seen.
bool Vp::offer(u8 vector) {
    if (!partition_.allows(Gate::HintApicMsrs) || !assist_page_.placed() || synic_->has_sint_at(vector)) return false;
    partition_.hypervisor().memory().write<u32>(assist_page_.page(), kNoEoiRequired);
    return true;
}

bool Vp::withdraw() {
    mmu::PhysicalMemory& memory = partition_.hypervisor().memory();
    if (!assist_page_.placed()) return false;
    const bool taken = (memory.read<u32>(assist_page_.page()) & kNoEoiRequired) == 0;
    memory.write<u32>(assist_page_.page(), 0);
    return taken;
}

void Vp::reset() {
    reset_synthetic();
    processor_->reset();
    leave_as_firmware();
}

void Vp::reset_synthetic() {
    set_vp_assist_msr(assist_page_.preset());
    timers_->reset();
    synic_->reset();
}

void Vp::leave_as_firmware() {
    start_tsc();
    // Like a PC's firmware, before the guest's first instruction: VMX may be used, and IA32_FEATURE_CONTROL is locked.
    constexpr u64 kLock = 1, kVmxOutsideSmx = 4;
    if (processor_->model().has(cpu::CpuFlag::VMX)) processor_->state().feature_control = kLock | kVmxOutsideSmx;
}

void Vp::start_tsc() {
    // From the machine's clock, not the processor's: VPs that are reset together get equal TSCs, whatever slice each
    // of them ran last. The reference TSC page needs that (S-93).
    processor_->state().tsc_offset = u64{0} - partition_.hypervisor().events().now();
}

// Ports and shutdown of a processor without an intercepting level would come here: the same answers.
u32 Vp::port_read(cpu::Vp&, u16 port, unsigned size) { return partition_.sink().port_read(*this, port, size); }
void Vp::port_write(cpu::Vp&, u16 port, unsigned size, u32 value) {
    partition_.sink().port_write(*this, port, size, value);
}
int Vp::acknowledge_external(cpu::Vp&) { return partition_.sink().acknowledge_external(*this); }
cpu::FerrAnswer Vp::ferr(cpu::Vp&, bool active) { return partition_.sink().ferr(*this, active); }

void Vp::level_eoi(cpu::Vp&, u8 vector) {
    Partition* parent = partition_.guest_parent();
    if (parent == nullptr) return;
    // one for each level interrupt that the parent asserted, and no suspension.
    const ApicEoiMessage message{index_, vector};
    u8 bytes[sizeof message];
    std::memcpy(bytes, &message, sizeof message);
    parent->post_own_message(0, kInterceptSint, static_cast<u32>(MessageType::ApicEoi), bytes, partition_.id());
}

void Vp::event_arrived(cpu::Vp&) {
    if (control_ == nullptr) return;
    if (dispatching_ != nullptr) VpControl::interrupt_caller(*this);
    control_->activity_changed();
}
void Vp::shutdown(cpu::Vp&) { partition_.sink().partition_shutdown(*this); }

/// S-104: the page is the guest's own business, so a wrong pointer is its mistake.
bool Vp::enlightened_vmcs(cpu::Vp&, u64& pointer) {
    constexpr u64 kEnlightenedEntry = 40, kCurrentVmcs = 48;
    if (!assist_page_.placed() || !offers_enlightened_vmcs(partition_, processor_->model())) return false;
    mmu::PhysicalMemory& memory = partition_.hypervisor().memory();
    if (memory.read<u8>(assist_page_.page() + kEnlightenedEntry) == 0) return false;
    pointer = memory.read<u64>(assist_page_.page() + kCurrentVmcs);
    return true;
}

// S-10, S-101: a processor that a crash kernel starts again must not find pages of the old one being written.
void Vp::init_done(cpu::Vp&) { reset_synthetic(); }
void Vp::eoi_done(cpu::Vp&) { synic_->rescan(); }  // S-03: a SINT's EOI is an occasion to deliver

void Vp::fields(StateVisitor& v) {
    v("vp_assist_msr", vp_assist_msr_);
    v("exit_counts", exit_counts_, Fmt::Dec);
    const auto group = [&v](std::string_view name, auto& object) {
        VisitScope scope(v, name);
        object.fields(v);
    };
    v("deferred", deferred_.active);
    v("deferred_output", deferred_.output);
    v("deferred_length", deferred_.insn_length);
    v("root_signals", root_signals_, Fmt::Dec);
    group("control", *control_);
    group("assist_page", assist_page_);
    group("synic", *synic_);
    group("timers", *timers_);
    group("processor", *processor_);
}

void GuestParent::partition_reset(Vp& vp) {
    child_.partition->hypervisor().log().warn(Area::Hv, "{}: the guest asked for a reset", child_.config.name);
    (void)intercept_plain(vp, MessageType::UnrecoverableException, 0);
}

void GuestParent::partition_shutdown(Vp& vp) { (void)intercept_plain(vp, MessageType::UnrecoverableException, 0); }

void GuestParent::partition_crashed(Vp&) {}  // the report is logged, and in the crash registers for the parent

}  // namespace vg::hv
