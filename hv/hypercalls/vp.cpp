// Virtual processors, their registers, translation, CPUID as they see it. TLFS 6.0b "Virtual Processor Management";
// K-132..K-135, K-138..K-140, K-156.
#include <algorithm>
#include <array>

#include "base/bits.h"
#include "cpu/model.h"
#include "hv/cpuid.h"
#include "hv/hypercalls/target.h"
#include "hv/memory_pool.h"
#include "hv/spec/cpuid.h"
#include "hv/vp_control.h"
#include "hv/vp_registers.h"

namespace vg::hv::hypercalls {
namespace {

/// VP i of the root runs on the logical processor that was added for it.
HvStatus create_root_vp(Hypervisor& hypervisor, const CreateVpIn& in) {
    const u32 lp = static_cast<u32>(in.flags);
    if (lp >= hypervisor.logical_processors().size()) return HvStatus::InvalidLpIndex;
    const LogicalProcessor& processor = hypervisor.logical_processors()[lp];
    Partition& root = *hypervisor.root()->partition;
    if (!processor.added) return HvStatus::InvalidLpIndex;
    if (in.vp_index >= root.config().max_vps || root.find_vp(in.vp_index) != nullptr) return HvStatus::InvalidVpIndex;
    for (const auto& vp : root.vps())
        if (vp->processor().apic().id() == processor.apic_id) return HvStatus::ObjectInUse;
    if (!root.pool().can_allocate(Partition::kPagesPerVp + 1)) return HvStatus::InsufficientMemory;
    root.create_vp(in.vp_index, hypervisor.root_model(), processor.apic_id);
    return HvStatus::Success;
}

}  // namespace

HvStatus create_vp(Vp& caller, const CreateVpIn& in) {
    const Target target = find_for_root(caller, in.partition_id);
    if (!target) return target.status;
    Hypervisor& hypervisor = caller.partition().hypervisor();
    if (hypervisor.vp_count() >= Hypervisor::kMaxVps) return HvStatus::NoResources;
    if (target.node == hypervisor.root()) return create_root_vp(hypervisor, in);
    if (target.node->state != PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    Partition& partition = *target.node->partition;
    if (in.vp_index >= partition.config().max_vps || partition.find_vp(in.vp_index) != nullptr)
        return HvStatus::InvalidVpIndex;
    if (!partition.pool().can_allocate(Partition::kPagesPerVp)) return HvStatus::InsufficientMemory;
    partition.create_vp(in.vp_index, hypervisor.root_model(), in.vp_index);
    return HvStatus::Success;
}

HvStatus delete_vp(Vp& caller, const DeleteVpIn& in) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    target.vp->control().unmap_pages();
    target.vp->partition().delete_vp(in.vp_index);
    return HvStatus::Success;
}

HvStatus get_vp_registers(Vp& caller, const VpRegistersHeader& in, const u32& name, RegisterValue& out) {
    if ((in.target_vtl & kVtlMask) != 0) return HvStatus::InvalidParameter;
    const VpTarget target = find_target_vp(caller, find_partition(caller, in.partition_id), in.vp_index);
    return target ? get_register(*target.vp, name, out) : target.status;
}

HvStatus set_vp_registers(Vp& caller, const VpRegistersHeader& in, const RegisterAssignment& assignment) {
    if ((in.target_vtl & kVtlMask) != 0) return HvStatus::InvalidParameter;
    const VpTarget target = find_target_vp(caller, find_partition(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    // A VP's own general registers hold this very call, and other VPs of the same partition run.
    const bool synthetic = assignment.name >= reg::kVpRuntime;
    if (target.vp->partition().guest_parent() == nullptr && !synthetic) return HvStatus::AccessDenied;
    return set_register(*target.vp, assignment.name, assignment.value);
}

HvStatus translate_gva(Vp& caller, const TranslateIn& in, TranslateOut& out) {
    const VpTarget target = find_target_vp(caller, find_partition(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (in.gva_page > ~u64{0} >> 12) return HvStatus::InvalidParameter;
    cpu::Vp& processor = target.vp->processor();
    mmu::PagingMode mode = processor.paging_mode();
    bool user = processor.cpl() == 3;
    if ((in.control & translate_flag::kSupervisor) != 0) user = false;
    if ((in.control & translate_flag::kUser) != 0) user = true;
    if ((in.control & translate_flag::kPrivilegeExempt) != 0) {
        user = mode.wp = mode.smep = mode.smap = false;
        mode.pke = false;
    }
    if ((in.control & translate_flag::kOverrideSmap) != 0) mode.smap = false;
    const auto access = (in.control & translate_flag::kExecute) != 0 ? mmu::Access::Fetch
                        : (in.control & translate_flag::kWrite) != 0 ? mmu::Access::Write
                                                                     : mmu::Access::Read;
    const mmu::SlatMode slat = target.vp->partition().slat();
    mmu::PhysicalMemory& memory = processor.physical();
    const Gva gva(sign_extend(in.gva_page << 12, 48));
    const mmu::Translation t = (in.control & translate_flag::kSetPageTableBits) != 0
                                   ? mmu::walk(memory, mode, slat, gva, access, user, false)
                                   : mmu::peek_walk(memory, mode, slat, gva, access, user);
    const auto answer = [&out](TranslateResult code, u64 gpa_page) {
        constexpr u8 kWriteBack = 6;
        out = {static_cast<u32>(code), kWriteBack, 0, {}, gpa_page};
        return HvStatus::Success;
    };
    switch (t.status) {
        case mmu::Translation::Status::Ok: {
            const auto backing = target.vp->partition().backing(t.gpa);
            answer(TranslateResult::Success, t.gpa.page());
            out.overlay = backing && backing->overlay ? 1 : 0;
            return HvStatus::Success;
        }
        case mmu::Translation::Status::Fault: {
            constexpr u32 kPresent = 1, kReserved = 8;
            if ((t.fault.error_code & kReserved) != 0) return answer(TranslateResult::ReservedBits, 0);
            return answer(
                (t.fault.error_code & kPresent) != 0 ? TranslateResult::Privilege : TranslateResult::NotPresent, 0);
        }
        case mmu::Translation::Status::SlatFault: {
            const u64 page = t.slat_fault.during_walk ? 0 : t.slat_fault.gpa.page();
            if (t.slat_fault.permissions == 0) return answer(TranslateResult::GpaUnmapped, page);
            return answer(access == mmu::Access::Write ? TranslateResult::GpaNoWrite : TranslateResult::GpaNoRead,
                          page);
        }
    }
    return HvStatus::OperationFailed;
}

HvStatus get_vp_cpuid(Vp& caller, const CpuidValuesHeader& in, const CpuidQuery& query, CpuidRegs& out) {
    const VpTarget target = find_target_vp(caller, find_partition(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    const cpu::CpuidRegs native = cpu::cpuid(target.vp->processor(), query.eax, query.ecx);
    std::array<u32, 4> regs{native.eax, native.ebx, native.ecx, native.edx};
    apply_cpuid(target.vp->partition(), target.vp->processor().model(), query.eax, regs);
    constexpr u32 kApplyRegistered = 2;
    if ((in.flags & kApplyRegistered) != 0) target.vp->partition().apply_cpuid_results(query.eax, query.ecx, regs);
    out = {regs[0], regs[1], regs[2], regs[3]};
    return HvStatus::Success;
}

HvStatus dispatch_vp(Vp& caller, const DispatchVpIn& in, DispatchVpOut& out) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    return target ? target.vp->control().dispatch(caller, in, out) : target.status;
}

}  // namespace vg::hv::hypercalls
