#include "cpu/vmx/capabilities.h"

#include <algorithm>

#include "base/bits.h"
#include "cpu/control_registers.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/vmcs.h"

namespace vg::cpu::vmx {

namespace {

enum Msr : u32 {
    kBasic = 0x480, kPin, kProc, kExit, kEntry, kMisc, kCr0Fixed0, kCr0Fixed1, kCr4Fixed0, kCr4Fixed1, kVmcsEnum, kProc2,
    kEptVpid, kTruePin, kTrueProc, kTrueExit, kTrueEntry, kVmFunc
};

// The default1 class. SDM 3C "Reserved Controls and Default Settings".
constexpr u32 kPinDefault1 = 0x16, kProcDefault1 = 0x0401e172, kExitDefault1 = 0x36dff, kEntryDefault1 = 0x11ff;

Allowed allowed(u32 default1, u32 not_forced, u32 offered) {
    return {default1 & ~not_forced, default1, default1 | offered};
}

u64 as_msr(const Allowed& a, bool truthful) { return u64{a.may} << 32 | (truthful ? a.must : a.default1); }

u32 proc2_offered(const CpuModel& model) {
    using namespace proc2;
    u32 bits = kEpt | kDescriptorTables | kVpid | kWbinvd | kUnrestricted | kPauseLoop | kApicAccesses | kShadowVmcs |
               kVmFunctions | kX2apic | kApicRegisters | kVirtualInterrupts | kPml | kVirtualizationException | kTscScaling;
    bits |= kModeBasedExecute;
    if (model.has(CpuFlag::RDTSCP)) bits |= kRdtscp;
    if (model.has(CpuFlag::INVPCID)) bits |= kInvpcid;
    if (model.has(CpuFlag::RDRAND)) bits |= kRdrand;
    if (model.has(CpuFlag::RDSEED)) bits |= kRdseed;
    if (model.has(CpuFlag::XSAVES)) bits |= kXsaves;
    return bits;
}

constexpr u64 kEptVpidCaps = u64{1} << 0 | u64{1} << 6 | u64{1} << 8 | u64{1} << 14 |  // execute-only, 4 levels, UC, WB
                             u64{1} << 16 | u64{1} << 17 | u64{1} << 20 | u64{1} << 21 |  // 2 MiB, 1 GiB, INVEPT, A/D
                             u64{1} << 25 | u64{1} << 26 | u64{1} << 32 |              // INVEPT types, INVVPID
                             u64{15} << 40;                                            // INVVPID types

u64 highest_index(const Capabilities& caps) {
    u64 highest = 0;
    for (unsigned i = 0; i < kFieldCount; ++i) {
        const FieldRow& row = field_row(static_cast<Field>(i));
        if (caps.has(row.needs)) highest = std::max<u64>(highest, bits(row.encoding, 9, 1));
    }
    return highest << 1;
}

}  // namespace

void Capabilities::leave_out_unenlightened() {
    pin.may &= ~(pin::kPreemptionTimer | pin::kPostedInterrupts);
    proc2.may &= ~(proc2::kApicAccesses | proc2::kApicRegisters | proc2::kVirtualInterrupts | proc2::kPauseLoop | proc2::kVmFunctions |
                   proc2::kShadowVmcs | proc2::kPml | proc2::kVirtualizationException | proc2::kTscScaling);
    exit.may &= ~exits::kSavePreemptionTimer;
    vm_functions = 0;
}

Capabilities::Capabilities(const CpuModel& model, bool enlightened) : physical_bits(model.physical_bits()) {
    pin = allowed(kPinDefault1, 0, pin::kExternalInterrupt | pin::kNmi | pin::kVirtualNmis | pin::kPreemptionTimer |
                                            pin::kPostedInterrupts);
    using namespace proc;
    proc = allowed(kProcDefault1, kCr3Load | kCr3Store,
                   kInterruptWindow | kTscOffset | kHlt | kInvlpg | kMwait | kRdpmc | kRdtsc | kCr8Load | kCr8Store |
                       kTprShadow | kNmiWindow | kMovDr | kUnconditionalIo | kIoBitmaps | kMonitorTrap | kMsrBitmaps |
                       kMonitor | kPause | kSecondary);
    proc2 = allowed(0, 0, proc2_offered(model));
    exit = allowed(kExitDefault1, exits::kSaveDebug,
                   exits::kHost64 | exits::kAcknowledge | exits::kSavePat | exits::kLoadPat | exits::kSaveEfer |
                       exits::kLoadEfer | exits::kSavePreemptionTimer);
    entry = allowed(kEntryDefault1, entries::kLoadDebug, entries::kGuest64 | entries::kLoadPat | entries::kLoadEfer);
    ept_vpid = kEptVpidCaps;
    vm_functions = 1;  // EPTP switching
    if (enlightened) leave_out_unenlightened();
    cr0_must = cr0::PE | cr0::NE | cr0::PG;
    cr4_must = cr4::VMXE;
    cr4_may = cr4_mask(model);
    constexpr u64 kStoresLma = 1 << 5, kActivityStates = 7 << 6, kCr3Targets = 4 << 16, kWritesAnyField = 1 << 29,
                  kZeroLength = 1 << 30;
    misc = kTimerRate | kStoresLma | kActivityStates | kCr3Targets | kWritesAnyField | kZeroLength;
    constexpr u64 kWriteBack = u64{6} << 50, kStringIoInformation = u64{1} << 54, kTrueControls = u64{1} << 55;
    basic = kRevision | u64{kPageSize} << 32 | kWriteBack | kStringIoInformation | kTrueControls;
    vmcs_enum = highest_index(*this);
}

bool Capabilities::has(Needs needs) const {
    switch (needs) {
        case Needs::Always: return true;
        case Needs::Vpid: return (proc2.may & proc2::kVpid) != 0;
        case Needs::PostedInterrupts: return (pin.may & pin::kPostedInterrupts) != 0;
        case Needs::VirtualizationException: return (proc2.may & proc2::kVirtualizationException) != 0;
        case Needs::VirtualInterrupts: return (proc2.may & proc2::kVirtualInterrupts) != 0;
        case Needs::Pml: return (proc2.may & proc2::kPml) != 0;
        case Needs::MsrBitmaps: return (proc.may & proc::kMsrBitmaps) != 0;
        case Needs::TprShadow: return (proc.may & proc::kTprShadow) != 0;
        case Needs::ApicAccesses: return (proc2.may & proc2::kApicAccesses) != 0;
        case Needs::VmFunctions: return (proc2.may & proc2::kVmFunctions) != 0;
        case Needs::Ept: return (proc2.may & proc2::kEpt) != 0;
        case Needs::EptpSwitching: return (vm_functions & 1) != 0 && has(Needs::VmFunctions);
        case Needs::ShadowVmcs: return (proc2.may & proc2::kShadowVmcs) != 0;
        case Needs::Xsaves: return (proc2.may & proc2::kXsaves) != 0;
        case Needs::TscScaling: return (proc2.may & proc2::kTscScaling) != 0;
        case Needs::PreemptionTimer: return (pin.may & pin::kPreemptionTimer) != 0;
        case Needs::PauseLoop: return (proc2.may & proc2::kPauseLoop) != 0;
    }
    return false;
}

bool Capabilities::read_msr(u32 msr, u64& value) const {
    switch (msr) {
        case kBasic: value = basic; return true;
        case kPin: value = as_msr(pin, false); return true;
        case kProc: value = as_msr(proc, false); return true;
        case kExit: value = as_msr(exit, false); return true;
        case kEntry: value = as_msr(entry, false); return true;
        case kMisc: value = misc; return true;
        case kCr0Fixed0: value = cr0_must; return true;
        case kCr0Fixed1: value = 0xffffffff; return true;
        case kCr4Fixed0: value = cr4_must; return true;
        case kCr4Fixed1: value = cr4_may; return true;
        case kVmcsEnum: value = vmcs_enum; return true;
        case kProc2: value = as_msr(proc2, true); return true;
        case kEptVpid: value = ept_vpid; return true;
        case kTruePin: value = as_msr(pin, true); return true;
        case kTrueProc: value = as_msr(proc, true); return true;
        case kTrueExit: value = as_msr(exit, true); return true;
        case kTrueEntry: value = as_msr(entry, true); return true;
        case kVmFunc: value = vm_functions; return true;
        default: return false;
    }
}

bool Capabilities::address_valid(u64 address, unsigned alignment_bits) const {
    return (address & low_mask(alignment_bits)) == 0 && (address & ~low_mask(physical_bits)) == 0;
}

bool Capabilities::ept_pointer_valid(u64 pointer) const {
    const u64 type = pointer & 7;
    constexpr u64 kReserved = 0xf80;
    return (type == eptp::kWriteBack || type == eptp::kUncached) && bits(pointer, 5, 3) == 3 && (pointer & kReserved) == 0 &&
           (pointer & ~low_mask(physical_bits)) == 0;
}

}  // namespace vg::cpu::vmx
