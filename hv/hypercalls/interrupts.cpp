// Interrupts of devices and for children. TLFS 6.0b "Virtual Interrupts"; K-029, K-220..K-222.
#include <bit>

#include "hv/hypercalls/target.h"
#include "hv/spec/synic.h"

namespace vg::hv::hypercalls {
namespace {

constexpr u64 kMsiBase = 0xfee00000;
constexpr u32 kTargetProcessorSet = 2;

/// The first VP that the target names: device interrupts go to one processor.
Vp* target_vp(Partition& partition, const MapInterruptIn& in, VariableHeader set) {
    if ((in.target_flags & kTargetProcessorSet) == 0 || in.set_format != kVpSetSparse4k || set.empty())
        return partition.find_vp(0);
    u64 valid = set.front();
    std::size_t next = 1;
    for (; valid != 0 && next < set.size(); valid &= valid - 1, ++next) {
        const u32 first = static_cast<u32>(std::countr_zero(valid)) * 64;
        for (u64 mask = set[next]; mask != 0; mask &= mask - 1)
            if (Vp* vp = partition.find_vp(first + static_cast<u32>(std::countr_zero(mask)))) return vp;
    }
    return nullptr;
}

}  // namespace

HvStatus assert_virtual_interrupt(Vp& caller, const AssertInterruptIn& in) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->partition == nullptr) return HvStatus::InvalidPartitionState;
    const u32 type = interrupt_control::type(in.control);
    cpu::InterruptMessage message;
    message.mode = static_cast<cpu::DeliveryMode>(type);
    switch (message.mode) {
        case cpu::DeliveryMode::Fixed:
        case cpu::DeliveryMode::LowestPriority:
            if (in.vector < kFirstLegalVector || in.vector > 0xff) return HvStatus::InvalidParameter;
            break;
        case cpu::DeliveryMode::Nmi:
        case cpu::DeliveryMode::Init:
        case cpu::DeliveryMode::Startup:
        case cpu::DeliveryMode::ExtInt:
            break;
        case cpu::DeliveryMode::Smi:
        default:
            return HvStatus::InvalidParameter;
    }
    message.vector = static_cast<u8>(in.vector);
    message.destination = static_cast<u32>(in.destination);
    message.logical = (in.control & interrupt_control::kLogical) != 0;
    message.level = (in.control & interrupt_control::kLevel) != 0;
    if (message.mode == cpu::DeliveryMode::ExtInt) {
        // No 8259 stands behind it: the vector comes with the request.
        if (in.vector < kFirstLegalVector || in.vector > 0xff) return HvStatus::InvalidParameter;
        message.mode = cpu::DeliveryMode::Fixed;
    }
    return target.node->partition->apic_bus().deliver(message) != 0 ? HvStatus::Success : HvStatus::InvalidParameter;
}

HvStatus clear_virtual_interrupt(Vp& caller, const PartitionIn& in) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->partition == nullptr) return HvStatus::InvalidPartitionState;
    // An ExtINT request that was not delivered yet is withdrawn; here it never waits.
    return HvStatus::Success;
}

HvStatus map_device_interrupt(Vp& caller, const MapInterruptIn& in, VariableHeader set, MapInterruptOut& out) {
    const Target target = find_for_root(caller, in.partition_id);
    if (!target) return target.status;
    // Devices of children are their parent's to remap; it asserts their interrupts by hypercall.
    if (target.node != caller.partition().hypervisor().root()) return HvStatus::OperationDenied;
    if (in.vector < kFirstLegalVector || in.vector > 0xff) return HvStatus::InvalidParameter;
    Vp* vp = target_vp(*target.node->partition, in, set);
    if (vp == nullptr) return HvStatus::InvalidVpIndex;
    const u32 apic_id = vp->processor().apic().id();
    // K-221: the identity. What the device or the IOAPIC sends is what the processor gets. Callers leave the entry of
    // the input empty; the device says which kind it is.
    if (device_id_type(in.device_id) == DeviceIdType::IoApic) {
        out.entry.source = static_cast<u32>(InterruptSource::IoApic);
        out.entry.low = in.vector | (in.trigger == 1 ? 1u << 15 : 0);
        out.entry.high = (apic_id & 0xff) << 24;
    } else {
        out.entry.source = static_cast<u32>(InterruptSource::Msi);
        out.entry.low = static_cast<u32>(kMsiBase | u64{apic_id & 0xff} << 12);
        out.entry.high = in.vector;
    }
    return HvStatus::Success;
}

HvStatus unmap_device_interrupt(Vp& caller, const UnmapInterruptIn& in) {
    const Target target = find_for_root(caller, in.partition_id);
    return target.status;  // the identity keeps nothing
}

}  // namespace vg::hv::hypercalls
