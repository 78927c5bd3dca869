// Logical processors, system properties, power, scheduling by the root, interrupts of devices. Rows K-150..K-156,
// K-220..K-224; TLFS 6.0b "Logical Processors", "Virtual Interrupts".
#pragma once

#include "base/types.h"
#include "hv/spec/partition.h"

namespace vg::hv {

// ---- logical processors (K-150..K-152)

struct LpRunTimeIn {
    u32 lp_index;
};
struct LpRunTimeOut {
    u64 global_time, local_run_time, reserved, hypervisor_time;
};
static_assert(sizeof(LpRunTimeOut) == 32);

struct AddLpIn {
    u32 lp_index, apic_id;
    ProximityInfo proximity;
};
static_assert(sizeof(AddLpIn) == 16);
struct AddLpOut {
    u8 startup_status[56];
};

struct NotifyPartitionEventIn {
    u32 event, action;
};
inline constexpr u32 kEventRootCrashDump = 2, kEventAllLpsStarted = 4;

// ---- system properties and power (K-153..K-155)

enum class SystemProperty : u32 { SleepState = 3, SchedulerType = 15, DynamicFeatures = 21, CrashDumpArea = 47 };
enum class SchedulerType : u64 { Lp = 1, LpSmt = 2, CoreSmt = 3, Root = 4 };

struct GetSystemPropertyIn {  // output: u64
    u32 id, reserved;
    u64 argument;
};
static_assert(sizeof(GetSystemPropertyIn) == 16);

struct SetSystemPropertyIn {
    u32 id, reserved;
    u32 sleep_state;
    u8 pm1a_type, pm1b_type;
    u8 pad[58];
};
static_assert(sizeof(SetSystemPropertyIn) == 72);

struct EnterSleepStateIn {
    u32 sleep_state;
};
inline constexpr u32 kSleepStateS5 = 5;

// ---- the root scheduler (K-156)

struct DispatchVpIn {
    u64 partition_id;
    u32 vp_index, flags;
    u64 time_slice;  ///< 100 ns units; 0: until something happens
    u64 spec_ctrl;
};
static_assert(sizeof(DispatchVpIn) == 32);
namespace dispatch_flag {
inline constexpr u32 kClearInterceptSuspend = 1, kEnableCallerInterrupts = 2, kSetCallerSpecCtrl = 4,
                     kScanInterruptInjection = 0x40;
}
enum class DispatchState : u32 { Invalid = 0, Blocked = 1, Ready = 2 };
enum class DispatchEvent : u32 { None = 0, Suspend = 1, Intercept = 2 };
struct DispatchVpOut {
    u32 state, event;
};

// ---- interrupts (K-220..K-224)

struct AssertInterruptIn {  // K-220
    u64 partition_id;
    u64 control;
    u64 destination;  ///< APIC id or logical mask
    u32 vector;
    u8 vtl, pad[3];
};
static_assert(sizeof(AssertInterruptIn) == 32);
namespace interrupt_control {
inline constexpr u64 kLevel = u64{1} << 32, kLogical = u64{1} << 33, kLongMode = u64{1} << 62;
constexpr u32 type(u64 control) { return static_cast<u32>(control); }
}  // namespace interrupt_control

enum class InterruptSource : u32 { Msi = 1, IoApic = 2 };

/// An MSI {address, data} or an IOAPIC redirection entry {low, high}.
struct InterruptEntry {
    u32 source, reserved;
    u32 low, high;
};
static_assert(sizeof(InterruptEntry) == 16);

struct MapInterruptIn {  // K-221: a variable header of valid bank mask and banks follows
    u64 partition_id, device_id;
    u32 flags, table_index;
    InterruptEntry entry;
    u32 type, trigger, vector_count, pad;
    u32 vector, target_flags;
    u64 set_format;
};
static_assert(sizeof(MapInterruptIn) == 72);
struct MapInterruptOut {
    InterruptEntry entry;  ///< what to program
    u64 reserved[5];
};
static_assert(sizeof(MapInterruptOut) == 56);

#pragma pack(push, 4)
struct UnmapInterruptIn {  // K-222
    u64 partition_id, device_id;
    InterruptEntry entry;
    u32 flags;
};
#pragma pack(pop)
static_assert(sizeof(UnmapInterruptIn) == 36);

/// Device ids (K-224): type in [63:62].
enum class DeviceIdType : u8 { Logical = 0, Pci = 1, IoApic = 2, Acpi = 3 };
constexpr DeviceIdType device_id_type(u64 id) { return static_cast<DeviceIdType>(id >> 62); }

}  // namespace vg::hv
