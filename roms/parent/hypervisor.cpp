#include "roms/parent/hypervisor.h"

#include "base/bits.h"
#include "hv/spec/cpuid.h"
#include "hv/spec/msr.h"
#include "hv/spec/synic.h"
#include "hv/spec/system.h"
#include "roms/parent/hypercalls.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {

/// M-01: an open-source system, vendor 0x56 (ours), version 1.
constexpr u64 kGuestOsId = u64{1} << 63 | u64{0x56} << 48 | 1;
constexpr u32 kInterfaceSignature = 0x31237648;  // "Hv#1"

void nothing(void*) {}  // waking up is enough: the main loop looks at the time

bool has(hv::Gate gate) {
    const u64 features = u64{cpuid(hv::leaf::kFeatures).ebx} << 32 | cpuid(hv::leaf::kFeatures).eax;
    return bit(features, static_cast<unsigned>(gate));
}

}  // namespace

void start_hypervisor() {
    if ((cpuid(hv::leaf::kFeatureInfo).ecx & hv::kHypervisorPresent) == 0 ||
        cpuid(hv::leaf::kInterface).eax != kInterfaceSignature) {
        panic("there is no hypervisor; describe one with [hypervisor]");
    }
    if (!has(hv::Gate::CreatePartitions)) panic("this is not a root partition");
    write_msr(hv::msr::GUEST_OS_ID, kGuestOsId);
    start_hypercalls();
    u64 scheduler = 0;
    const hv::GetSystemPropertyIn query{static_cast<u32>(hv::SystemProperty::SchedulerType), 0, 0};
    if (call(Call::GetSystemProperty, query, scheduler) != HvStatus::Success ||
        scheduler == static_cast<u64>(hv::SchedulerType::Root)) {
        panic("this system does not schedule processors of children; leave hypervisor.root_scheduler off");
    }
    const u64 vector = allocate_vector(nothing, nullptr);
    write_msr(hv::msr::STIMER0_CONFIG, hv::stimer::kDirect | hv::stimer::kAutoEnable | vector << 4);
}

}  // namespace vg::parent
