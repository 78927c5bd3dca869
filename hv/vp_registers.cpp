#include "hv/vp_registers.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"
#include "cpu/control_registers.h"
#include "cpu/msr.h"
#include "cpu/spec/bits.h"
#include "hv/cpuid.h"
#include "hv/hypervisor.h"
#include "hv/intercepts.h"
#include "hv/msrs.h"
#include "hv/spec/msr.h"
#include "hv/vp.h"
#include "hv/vp_control.h"

namespace vg::hv {
namespace {

using cpu::VpState;

constexpr u64 kCr0Bits = cpu::cr0::PE | cpu::cr0::MP | cpu::cr0::EM | cpu::cr0::TS | cpu::cr0::ET | cpu::cr0::NE |
                         cpu::cr0::WP | cpu::cr0::AM | cpu::cr0::NW | cpu::cr0::CD | cpu::cr0::PG;
constexpr u64 kFlagBits = cpu::flag::Status | cpu::flag::TF | cpu::flag::IF | cpu::flag::DF | cpu::flag::IOPL |
                          cpu::flag::NT | cpu::flag::RF | cpu::flag::VM | cpu::flag::AC | cpu::flag::VIF |
                          cpu::flag::VIP | cpu::flag::ID;
constexpr u16 kAttributeBits = 0xf0ff;

bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

template <class T>
RegisterValue pack(const T& value) {
    static_assert(sizeof(T) == sizeof(RegisterValue));
    RegisterValue out;
    std::memcpy(&out, &value, sizeof out);
    return out;
}
template <class T>
T unpack(const RegisterValue& value) {
    static_assert(sizeof(T) == sizeof(RegisterValue));
    T out;
    std::memcpy(&out, &value, sizeof out);
    return out;
}

/// Registers that are an MSR of the processor: name, index.
constexpr struct {
    u32 name, msr;
} kMsrs[] = {
    {reg::kKernelGsBase, 0xc0000102},
    {reg::kApicBase, 0x1b},
    {reg::kPat, 0x277},
    {reg::kSysenterCs, 0x174},
    {reg::kSysenterEip, 0x176},
    {reg::kSysenterEsp, 0x175},
    {reg::kStar, 0xc0000081},
    {reg::kLstar, 0xc0000082},
    {reg::kCstar, 0xc0000083},
    {reg::kSfmask, 0xc0000084},
    {reg::kMtrrCap, 0xfe},
    {reg::kMtrrDefType, 0x2ff},
    {reg::kTscAux, 0xc0000103},
    {reg::kBndcfgs, 0xd90},
    {reg::kDebugCtl, 0x1d9},
    {reg::kSpecCtrl, 0x48},
    {reg::kXss, 0xda0},
    {reg::kUCet, 0x6a0},
    {reg::kSCet, 0x6a2},
    {reg::kPl0Ssp, 0x6a4},
    {reg::kPl1Ssp, 0x6a5},
    {reg::kPl2Ssp, 0x6a6},
    {reg::kPl3Ssp, 0x6a7},
    {reg::kInterruptSspTable, 0x6a8},
    {reg::kTscDeadline, 0x6e0},
    {reg::kTscAdjust, 0x3b},
    {reg::kMiscEnable, 0x1a0},
    {reg::kMtrrFix64k, 0x250},
    {reg::kMtrrFix64k + 1, 0x258},
    {reg::kMtrrFix64k + 2, 0x259},
    {reg::kMtrrFix64k + 3, 0x268},
    {reg::kMtrrFix64k + 4, 0x269},
    {reg::kMtrrFix64k + 5, 0x26a},
    {reg::kMtrrFix64k + 6, 0x26b},
    {reg::kMtrrFix64k + 7, 0x26c},
    {reg::kMtrrFix64k + 8, 0x26d},
    {reg::kMtrrFix64k + 9, 0x26e},
    {reg::kMtrrFix64k + 10, 0x26f},
};
constexpr u32 kMtrrPairs = 16;

/// Synthetic registers that are an MSR of the partition model.
constexpr struct {
    u32 name, msr;
} kSyntheticMsrs[] = {
    {reg::kVpRuntime, msr::VP_RUNTIME},
    {reg::kHypercall, msr::HYPERCALL},
    {reg::kGuestOsId, msr::GUEST_OS_ID},
    {reg::kTimeRefCount, msr::TIME_REF_COUNT},
    {reg::kVpAssistPage, msr::VP_ASSIST_PAGE},
    {reg::kReferenceTsc, msr::REFERENCE_TSC},
    {reg::kScontrol, msr::SCONTROL},
    {reg::kSversion, msr::SVERSION},
    {reg::kSiefp, msr::SIEFP},
    {reg::kSimp, msr::SIMP},
    {reg::kEom, msr::EOM},
    {reg::kSirbp, msr::SIRBP},
    {reg::kTscFrequency, msr::TSC_FREQUENCY},
    {reg::kApicFrequency, msr::APIC_FREQUENCY},
    {reg::kCrashControl, msr::CRASH_CTL},
};

bool architectural_msr(u32 name, u32& msr) {
    for (const auto& row : kMsrs) {
        if (row.name != name) continue;
        msr = row.msr;
        return true;
    }
    const bool base = name - reg::kMtrrPhysBase0 < kMtrrPairs, mask = name - reg::kMtrrPhysMask0 < kMtrrPairs;
    if (base) msr = 0x200 + 2 * (name - reg::kMtrrPhysBase0);
    if (mask) msr = 0x201 + 2 * (name - reg::kMtrrPhysMask0);
    return base || mask;
}

bool synthetic_msr(u32 name, u32& msr) {
    for (const auto& row : kSyntheticMsrs) {
        if (row.name != name) continue;
        msr = row.msr;
        return true;
    }
    if (name >= reg::kSint0 && name <= reg::kSint15)
        msr = msr::SINT0 + (name - reg::kSint0);
    else if (name >= reg::kStimer0Config && name <= reg::kStimer3Count)
        msr = msr::STIMER0_CONFIG + (name - reg::kStimer0Config);
    else if (name >= reg::kCrashP0 && name < reg::kCrashControl)
        msr = msr::CRASH_P0 + (name - reg::kCrashP0);
    else
        return false;
    return true;
}

// ---- groups; each says whether the name was its own

u64* plain_register(VpState& s, u32 name) {
    if (name >= reg::kRax && name <= reg::kR15) return &s.gpr[name - reg::kRax];
    switch (name) {
        case reg::kRip:
            return &s.rip;
        case reg::kCr2:
            return &s.cr2;
        case reg::kCr3:
        case reg::kIntermediateCr3:
            return &s.cr3;
        case reg::kDr0:
        case reg::kDr0 + 1:
        case reg::kDr0 + 2:
        case reg::kDr3:
            return &s.dr[name - reg::kDr0];
        default:
            return nullptr;
    }
}

u64 pending_interruption_value(const cpu::Vp& processor) {
    const VpState& s = processor.state();
    namespace pi = pending_interruption;
    if (processor.injected()) {
        const cpu::Fault& f = processor.injected()->fault;
        return pi::kPending | static_cast<u64>(f.type) << pi::kTypeLow | (f.has_error ? pi::kErrorValid : 0) |
               (processor.injected()->insn_length & 15) << 5 | u64{f.vector} << pi::kVectorLow |
               (f.has_error ? u64{f.error_code} << pi::kErrorLow : 0);
    }
    if (s.acknowledged != 0) return pi::kPending | u64{s.acknowledged_vector} << pi::kVectorLow;
    return 0;
}

bool set_pending_interruption(cpu::Vp& processor, u64 value) {
    namespace pi = pending_interruption;
    VpState& s = processor.state();
    s.acknowledged = 0;
    processor.inject(std::nullopt);
    if ((value & pi::kPending) == 0) return true;
    const u64 type = bits(value, pi::kTypeHigh, pi::kTypeLow);
    const u64 vector = bits(value, 31, pi::kVectorLow);
    if (vector > 0xff || type == 1 || type == 7) return false;
    if (type == 3 && vector >= 32) return false;
    cpu::Vp::Injection injection;
    injection.fault.type = static_cast<cpu::EventType>(type);
    injection.fault.vector = static_cast<u8>(vector);
    injection.fault.has_error = (value & pi::kErrorValid) != 0;
    injection.fault.error_code = injection.fault.has_error ? static_cast<u32>(value >> pi::kErrorLow) : 0;
    if (injection.fault.vector == cpu::kPageFault && type == 3) injection.fault.cr2 = s.cr2;
    injection.insn_length = static_cast<u8>(bits(value, 8, 5));
    processor.inject(injection);
    return true;
}

u64 interrupt_state_value(const VpState& s) {
    return (s.interrupt_shadow != 0 ? interrupt_state::kShadow : 0) |
           (s.nmi_blocked != 0 ? interrupt_state::kNmiMasked : 0);
}

void set_interrupt_state(VpState& s, u64 value) {
    s.interrupt_shadow = (value & interrupt_state::kShadow) != 0 ? cpu::shadow::Sti : u8{0};
    s.nmi_blocked = (value & interrupt_state::kNmiMasked) != 0 ? 1 : 0;
}

bool get_control(Vp& vp, u32 name, RegisterValue& out) {
    VpControl& control = vp.control();
    const VpState& s = vp.processor().state();
    switch (name) {
        case reg::kExplicitSuspend:
            out.low = control.explicit_suspend() ? 1 : 0;
            return true;
        case reg::kInterceptSuspend:
            out.low = control.intercept_suspend() ? 1 : 0;
            return true;
        case reg::kDispatchSuspend:
            out.low = control.dispatch_suspend() ? 1 : 0;
            return true;
        case reg::kInstructionEmulationHints:
            out.low = 0;
            return true;
        case reg::kInternalActivity:
            out.low = s.activity == cpu::Activity::WaitForSipi ? internal_activity::kStartupSuspend
                      : s.activity == cpu::Activity::Halted    ? internal_activity::kHaltSuspend
                      : s.activity == cpu::Activity::Idle      ? internal_activity::kIdleSuspend
                                                               : 0;
            return true;
        case reg::kPendingInterruption:
            out.low = pending_interruption_value(vp.processor());
            return true;
        case reg::kInterruptState:
            out.low = interrupt_state_value(s);
            return true;
        case reg::kPendingEvent0:
        case reg::kPendingEvent1:
        case reg::kPendingEvent2:
        case reg::kPendingEvent3:
            return true;
        case reg::kDeliverabilityNotifications:
            return true;
        case reg::kPendingDebugException:
            out.low = s.debug_pending != 0 ? s.pending_dr6 : 0;
            return true;
        case reg::kVpIndex:
            out.low = vp.index();
            return true;
        case reg::kVpRootSignalCount:
            out.low = vp.root_signals();
            return true;
        case reg::kReferenceTscSequence:
            return true;
        case reg::kInitialApicId:
            out.low = vp.processor().apic().id();
            return true;
        default:
            return false;
    }
}

/// @return Success, an error, or UnknownRegisterName if the name is not one of these
HvStatus set_control(Vp& vp, u32 name, u64 value) {
    VpControl& control = vp.control();
    VpState& s = vp.processor().state();
    const bool suspends =
        name == reg::kExplicitSuspend || name == reg::kInterceptSuspend || name == reg::kDispatchSuspend;
    if (suspends && vp.partition().guest_parent() == nullptr) return HvStatus::AccessDenied;
    switch (name) {
        case reg::kExplicitSuspend:
            control.set_explicit_suspend((value & 1) != 0);
            return HvStatus::Success;
        case reg::kInterceptSuspend:
            // Only an intercept suspends so; a parent ends it.
            if ((value & 3) == 0) control.set_intercept_suspend(false);
            return HvStatus::Success;
        case reg::kDispatchSuspend:
            control.set_dispatch_suspend((value & 1) != 0);
            return HvStatus::Success;
        case reg::kInstructionEmulationHints:
            return HvStatus::Success;
        case reg::kInternalActivity:
            if (s.activity == cpu::Activity::Shutdown) s.activity = cpu::Activity::Active;
            if ((value & internal_activity::kStartupSuspend) != 0)
                s.activity = cpu::Activity::WaitForSipi;
            else if ((value & internal_activity::kHaltSuspend) != 0)
                s.activity = cpu::Activity::Halted;
            else if ((value & internal_activity::kIdleSuspend) != 0)
                s.activity = cpu::Activity::Idle;
            else
                s.activity = cpu::Activity::Active;
            return HvStatus::Success;
        case reg::kPendingInterruption:
            return set_pending_interruption(vp.processor(), value) ? HvStatus::Success : HvStatus::InvalidRegisterValue;
        case reg::kInterruptState:
            set_interrupt_state(s, value);
            return HvStatus::Success;
        case reg::kPendingEvent0:
        case reg::kPendingEvent1:
        case reg::kPendingEvent2:
        case reg::kPendingEvent3:
            return value == 0 ? HvStatus::Success : HvStatus::InvalidRegisterValue;
        case reg::kDeliverabilityNotifications:
            // No message would come (S-58, S-63): better to say so.
            return value == 0 ? HvStatus::Success : HvStatus::FeatureUnavailable;
        case reg::kPendingDebugException:
            s.pending_dr6 = value & (cpu::dr6::BS | 0xf);
            s.debug_pending = s.pending_dr6 != 0 ? 1 : 0;
            return HvStatus::Success;
        case reg::kVpIndex:
        case reg::kVpRootSignalCount:
        case reg::kReferenceTscSequence:
        case reg::kInitialApicId:
            return HvStatus::InvalidParameter;
        default:
            return HvStatus::UnknownRegisterName;
    }
}

void get_xmm_control(const VpState& s, XmmControlValue& out) { out = {s.x87.fdp, s.mxcsr, 0xffff}; }

bool get_fpu(const VpState& s, u32 name, RegisterValue& out) {
    if (name >= reg::kXmm0 && name <= reg::kXmm15) {
        std::memcpy(&out, s.ymm[name - reg::kXmm0], sizeof out);
    } else if (name >= reg::kFp0 && name <= reg::kFp7) {
        std::memcpy(&out, s.x87.st[name - reg::kFp0], 10);
    } else if (name == reg::kFpControl) {
        out = pack(FpControlValue{s.x87.fcw, s.x87.fsw, s.x87.ftw, 0, s.x87.fop, s.x87.fip});
    } else if (name == reg::kXmmControl) {
        XmmControlValue value{};
        get_xmm_control(s, value);
        out = pack(value);
    } else {
        return false;
    }
    return true;
}

HvStatus set_fpu(VpState& s, u32 name, const RegisterValue& in) {
    constexpr u32 kMxcsrBits = 0xffff;
    constexpr u16 kFcwFixed = 0x40, kFcwBits = 0x1f7f;
    if (name >= reg::kXmm0 && name <= reg::kXmm15) {
        std::memcpy(s.ymm[name - reg::kXmm0], &in, sizeof in);
    } else if (name >= reg::kFp0 && name <= reg::kFp7) {
        std::memcpy(s.x87.st[name - reg::kFp0], &in, 10);
    } else if (name == reg::kFpControl) {
        const auto value = unpack<FpControlValue>(in);
        s.x87.fcw = static_cast<u16>((value.control & kFcwBits) | kFcwFixed);
        s.x87.fsw = value.status;
        s.x87.ftw = value.tag;
        s.x87.fop = value.last_opcode & 0x7ff;
        s.x87.fip = value.last_rip;
    } else if (name == reg::kXmmControl) {
        const auto value = unpack<XmmControlValue>(in);
        if ((value.mxcsr & ~kMxcsrBits) != 0) return HvStatus::InvalidRegisterValue;
        s.x87.fdp = value.last_rdp;
        s.mxcsr = value.mxcsr;
    } else {
        return HvStatus::UnknownRegisterName;
    }
    return HvStatus::Success;
}

bool get_system(Vp& vp, u32 name, RegisterValue& out) {
    cpu::Vp& processor = vp.processor();
    const VpState& s = processor.state();
    if (name >= reg::kEs && name <= reg::kTr) {
        out = pack(segment_value(s.seg[name - reg::kEs]));
        return true;
    }
    switch (name) {
        case reg::kRflags:
            out.low = s.rflags;
            return true;
        case reg::kCr0:
        case reg::kIntermediateCr0:
            out.low = s.cr0;
            return true;
        case reg::kCr4:
        case reg::kIntermediateCr4:
            out.low = s.cr4;
            return true;
        case reg::kCr8:
        case reg::kIntermediateCr8:
            out.low = processor.apic().tpr() >> 4;
            return true;
        case reg::kXfem:
            out.low = s.xcr0;
            return true;
        case reg::kDr6:
            out.low = s.dr[6];
            return true;
        case reg::kDr7:
            out.low = s.dr[7];
            return true;
        case reg::kEfer:
            out.low = s.efer;
            return true;
        case reg::kTsc:
            out.low = vp.partition().hypervisor().events().now() + s.tsc_offset;
            return true;
        case reg::kIdtr:
            out = pack(TableValue{{}, static_cast<u16>(s.idtr.limit), s.idtr.base});
            return true;
        case reg::kGdtr:
            out = pack(TableValue{{}, static_cast<u16>(s.gdtr.limit), s.gdtr.base});
            return true;
        case reg::kSsp:
            return true;
        default:
            return false;
    }
}

HvStatus set_segment(VpState& s, u32 index, const SegmentValue& value) {
    if (!canonical(value.base)) return HvStatus::InvalidRegisterValue;
    s.seg[index] = {value.base, value.limit, value.selector, static_cast<u16>(value.attributes & kAttributeBits)};
    return HvStatus::Success;
}

HvStatus set_efer(cpu::Vp& processor, u64 value) {
    using namespace cpu::efer;
    u64 allowed = SCE | LME | LMA | NXE;
    if (processor.model().vendor() == cpu::Vendor::Amd) allowed |= FFXSR;
    if ((value & ~allowed) != 0) return HvStatus::InvalidRegisterValue;
    processor.state().efer = value;
    return HvStatus::Success;
}

HvStatus set_system(Vp& vp, u32 name, const RegisterValue& in) {
    cpu::Vp& processor = vp.processor();
    VpState& s = processor.state();
    const u64 value = in.low;
    const auto checked = [](bool ok) { return ok ? HvStatus::Success : HvStatus::InvalidRegisterValue; };
    const auto keep = [&](u64& field, u64 allowed) {
        if ((value & ~allowed) != 0) return HvStatus::InvalidRegisterValue;
        field = value;
        return HvStatus::Success;
    };
    if (name >= reg::kEs && name <= reg::kTr) return set_segment(s, name - reg::kEs, unpack<SegmentValue>(in));
    switch (name) {
        case reg::kRflags:
            s.rflags = (value & kFlagBits) | cpu::flag::Always1;
            return HvStatus::Success;
        case reg::kCr0:
        case reg::kIntermediateCr0:
            return keep(s.cr0, kCr0Bits);
        case reg::kCr4:
        case reg::kIntermediateCr4:
            return keep(s.cr4, cpu::cr4_mask(processor.model()));
        case reg::kCr8:
        case reg::kIntermediateCr8:
            if (value > 15) return HvStatus::InvalidRegisterValue;
            processor.apic().set_tpr(static_cast<u8>(value << 4));
            return HvStatus::Success;
        case reg::kXfem:
            return checked(cpu::write_xcr0(processor, value) == cpu::Exec::Next);
        case reg::kDr6:
            s.dr[6] = (value & 0xe00f) | 0xffff0ff0;
            return HvStatus::Success;
        case reg::kDr7:
            s.dr[7] = (value & 0xffff2bff) | 0x400;
            return HvStatus::Success;
        case reg::kEfer:
            return set_efer(processor, value);
        case reg::kTsc:
            s.tsc_offset = value - vp.partition().hypervisor().events().now();
            processor.apic().tsc_changed();
            vp.partition().invalidate_reference_page();
            return HvStatus::Success;
        case reg::kIdtr:
        case reg::kGdtr: {
            const auto table = unpack<TableValue>(in);
            if (!canonical(table.base)) return HvStatus::InvalidRegisterValue;
            (name == reg::kIdtr ? s.idtr : s.gdtr) = {table.base, table.limit, 0};
            return HvStatus::Success;
        }
        case reg::kSsp:
            return checked(value == 0);
        default:
            return HvStatus::UnknownRegisterName;
    }
}

bool get_cpuid_register(Vp& vp, u32 name, RegisterValue& out) {
    const bool features = name >= reg::kPrivilegesAndFeatures && name <= reg::kPrivilegesAndFeatures + 8;
    if (!features && name != reg::kHypervisorVersion) return false;
    constexpr u32 kVersionLeaf = 0x40000002, kFeatureLeaf = 0x40000003;
    std::array<u32, 4> regs{};
    apply_cpuid(vp.partition(), vp.processor().model(),
                features ? kFeatureLeaf + (name - reg::kPrivilegesAndFeatures) : kVersionLeaf, regs);
    out = {u64{regs[1]} << 32 | regs[0], u64{regs[3]} << 32 | regs[2]};
    return true;
}

}  // namespace

HvStatus get_register(Vp& vp, u32 name, RegisterValue& value) {
    value = {};
    cpu::Vp& processor = vp.processor();
    if (const u64* plain = plain_register(processor.state(), name)) {
        value.low = *plain;
        return HvStatus::Success;
    }
    if (get_control(vp, name, value) || get_system(vp, name, value) || get_fpu(processor.state(), name, value) ||
        get_cpuid_register(vp, name, value))
        return HvStatus::Success;
    u32 msr = 0;
    if (architectural_msr(name, msr)) {
        // K-214: what this model lacks reads as zero.
        if (!cpu::read_msr(processor, msr, value.low)) value.low = 0;
        return HvStatus::Success;
    }
    if (synthetic_msr(name, msr)) {
        if (!read_msr(vp, msr, value.low)) value.low = 0;
        return HvStatus::Success;
    }
    if (name >= reg::kApicFirst && name <= reg::kApicLast) {
        value.low = processor.apic().mmio_read((name - reg::kApicFirst + 2) << 4);
        return HvStatus::Success;
    }
    return HvStatus::UnknownRegisterName;
}

HvStatus set_register(Vp& vp, u32 name, const RegisterValue& value) {
    cpu::Vp& processor = vp.processor();
    if (u64* plain = plain_register(processor.state(), name)) {
        *plain = value.low;
        if (plain == &processor.state().cr3) vp.control().registers_changed();
        return HvStatus::Success;
    }
    HvStatus status = set_control(vp, name, value.low);
    if (status == HvStatus::UnknownRegisterName) {
        status = set_system(vp, name, value);
        vp.control().registers_changed();
    }
    if (status == HvStatus::UnknownRegisterName) status = set_fpu(processor.state(), name, value);
    if (status != HvStatus::UnknownRegisterName) return status;
    u32 msr = 0;
    if (architectural_msr(name, msr)) {
        if (cpu::write_msr(processor, msr, value.low)) return HvStatus::Success;
        // A register that is not there keeps the value it reads as; so does a read-only one (MTRR capability).
        u64 now = 0;
        if (!cpu::read_msr(processor, msr, now)) now = 0;
        return now == value.low ? HvStatus::Success : HvStatus::InvalidRegisterValue;
    }
    if (synthetic_msr(name, msr)) {
        if (write_msr(vp, msr, value.low)) return HvStatus::Success;
        u64 now = 0;
        if (!read_msr(vp, msr, now)) now = 0;
        return now == value.low ? HvStatus::Success : HvStatus::InvalidRegisterValue;
    }
    RegisterValue ignored;
    return get_register(vp, name, ignored) == HvStatus::Success ? HvStatus::InvalidParameter
                                                                : HvStatus::UnknownRegisterName;
}

bool registers_consistent(const cpu::Vp& processor) {
    const VpState& s = processor.state();
    const bool pe = (s.cr0 & cpu::cr0::PE) != 0, pg = (s.cr0 & cpu::cr0::PG) != 0;
    const bool lme = (s.efer & cpu::efer::LME) != 0, lma = (s.efer & cpu::efer::LMA) != 0;
    const bool vm = (s.rflags & cpu::flag::VM) != 0;
    const cpu::SegmentReg& cs = s.segment(cpu::Seg::CS);
    if (pg && !pe) return false;
    if (lma != (lme && pg)) return false;
    if (lma && (s.cr4 & cpu::cr4::PAE) == 0) return false;
    if (!lma && (s.cr4 & cpu::cr4::PCIDE) != 0) return false;
    if (vm && (lma || !pe)) return false;
    if (lma && cs.l() && cs.db()) return false;
    if (lma && cs.l()) return canonical(s.rip);
    return s.rip <= 0xffffffff;
}

void settle_registers(cpu::Vp& processor) {
    VpState& s = processor.state();
    const bool protected_mode = (s.cr0 & cpu::cr0::PE) != 0;
    const bool vm = (s.rflags & cpu::flag::VM) != 0;
    s.cpl = !protected_mode ? u8{0} : vm ? u8{3} : static_cast<u8>(s.segment(cpu::Seg::SS).dpl());
    const bool pae = (s.cr0 & cpu::cr0::PG) != 0 && (s.cr4 & cpu::cr4::PAE) != 0 && (s.efer & cpu::efer::LMA) == 0;
    if (pae) {
        const mmu::SlatMode slat =
            processor.levels().empty() ? mmu::SlatMode{} : processor.levels().back().controls.slat;
        // Entries that cannot be loaded are not present.
        if (!mmu::load_pdptes(processor.physical(), slat, s.cr3, processor.model().physical_bits(), s.pdpte))
            for (u64& entry : s.pdpte) entry = 0;
    }
    processor.tlb().flush_all();
    processor.update_context();
}

void fill_register_page(cpu::Vp& processor, RegisterPage& page) {
    const VpState& s = processor.state();
    std::copy(std::begin(s.gpr), std::end(s.gpr), page.gpr);
    page.rip = s.rip;
    page.rflags = s.rflags;
    for (unsigned i = 0; i < std::size(page.xmm); ++i) std::memcpy(page.xmm[i], s.ymm[i], 16);
    for (unsigned i = 0; i < std::size(page.segment); ++i) page.segment[i] = segment_value(s.seg[i]);
    page.cr0 = s.cr0;
    page.cr3 = s.cr3;
    page.cr4 = s.cr4;
    page.cr8 = processor.apic().tpr() >> 4;
    page.efer = s.efer;
    page.dr7 = s.dr[7];
    page.pending_interruption = pending_interruption_value(processor);
    page.interrupt_state = interrupt_state_value(s);
    page.xfem = s.xcr0;
}

void apply_register_page(cpu::Vp& processor, const RegisterPage& page) {
    VpState& s = processor.state();
    if ((page.dirty & register_page_dirty::kGprs) != 0) std::copy(std::begin(page.gpr), std::end(page.gpr), s.gpr);
    if ((page.dirty & register_page_dirty::kRip) != 0) s.rip = page.rip;
    if ((page.dirty & register_page_dirty::kXmm) != 0)
        for (unsigned i = 0; i < std::size(page.xmm); ++i) std::memcpy(s.ymm[i], page.xmm[i], 16);
    if ((page.dirty & register_page_dirty::kSegments) != 0)
        for (unsigned i = 0; i < std::size(page.segment); ++i) (void)set_segment(s, i, page.segment[i]);
    if ((page.dirty & register_page_dirty::kRflags) != 0) s.rflags = (page.rflags & kFlagBits) | cpu::flag::Always1;
}

}  // namespace vg::hv
