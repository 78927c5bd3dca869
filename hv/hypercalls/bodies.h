// Hypercall bodies: parsed input in, status out. They know nothing of registers, GPAs of parameters, or repeats.
#pragma once

#include <span>

#include "hv/spec/hypercall.h"
#include "hv/spec/partition.h"
#include "hv/spec/port.h"
#include "hv/spec/system.h"
#include "hv/spec/vp_state.h"

namespace vg::hv {

class Vp;

namespace hypercalls {

/// The variable header in 8-byte units: for the calls here the banks of a VP set (H-45).
using VariableHeader = std::span<const u64>;

// synic.cpp
HvStatus post_message(Vp& caller, const PostMessageIn& in);
HvStatus signal_event(Vp& caller, const SignalEventIn& in);

// tlb.cpp: a flush drops what was asked for in all address spaces
HvStatus flush_space(Vp& caller, const FlushSpaceIn& in);
HvStatus flush_list(Vp& caller, const FlushSpaceIn& in, const u64& range);
HvStatus flush_space_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks);
HvStatus flush_guest_space(Vp& caller, const FlushGuestSpaceIn& in);
HvStatus flush_guest_list(Vp& caller, const FlushGuestSpaceIn& in, const u64& range);
HvStatus flush_list_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks, const u64& range);

// scheduling.cpp
HvStatus notify_long_spin(Vp& caller, const NotifyLongSpinWaitIn& in);
HvStatus send_ipi(Vp& caller, const SendIpiIn& in);
HvStatus send_ipi_ex(Vp& caller, const SendIpiExIn& in, VariableHeader banks);

// extended.cpp
HvStatus query_capabilities(Vp& caller, u64& out);
HvStatus memory_heat_hint(Vp& caller, const HeatHintHeader& in, const u64& range);

// partition.cpp
HvStatus create_partition(Vp& caller, const CreatePartitionIn& in, u64& out);
HvStatus initialize_partition(Vp& caller, const PartitionIn& in);
HvStatus finalize_partition(Vp& caller, const PartitionIn& in);
HvStatus delete_partition(Vp& caller, const PartitionIn& in);
HvStatus get_partition_id(Vp& caller, u64& out);
HvStatus next_child(Vp& caller, const NextChildIn& in, u64& out);

// properties.cpp
HvStatus get_property(Vp& caller, const GetPropertyIn& in, u64& out);
HvStatus set_property(Vp& caller, const SetPropertyIn& in);
HvStatus get_property_ex(Vp& caller, const GetPropertyExIn& in, SizedOutput<8>& out);
HvStatus set_property_ex(Vp& caller, const SetPropertyExIn& in, VariableHeader data);

// memory.cpp
HvStatus deposit_memory(Vp& caller, const DepositHeader& in, const u64& pfn);
HvStatus withdraw_memory(Vp& caller, const WithdrawHeader& in, u64& pfn);
HvStatus memory_balance(Vp& caller, const MemoryBalanceIn& in, MemoryBalanceOut& out);
HvStatus map_gpa(Vp& caller, const MapGpaHeader& in, u32 index, const u64& pfn);
HvStatus unmap_gpa(Vp& caller, const MapGpaHeader& in, u32 index);
HvStatus read_gpa(Vp& caller, const ReadGpaIn& in, ReadGpaOut& out);
HvStatus write_gpa(Vp& caller, const WriteGpaIn& in, u64& out);

// vp.cpp
HvStatus create_vp(Vp& caller, const CreateVpIn& in);
HvStatus delete_vp(Vp& caller, const DeleteVpIn& in);
HvStatus get_vp_registers(Vp& caller, const VpRegistersHeader& in, const u32& name, RegisterValue& out);
HvStatus set_vp_registers(Vp& caller, const VpRegistersHeader& in, const RegisterAssignment& assignment);
HvStatus translate_gva(Vp& caller, const TranslateIn& in, TranslateOut& out);
HvStatus get_vp_cpuid(Vp& caller, const CpuidValuesHeader& in, const CpuidQuery& query, CpuidRegs& out);
HvStatus dispatch_vp(Vp& caller, const DispatchVpIn& in, DispatchVpOut& out);

// vp_state.cpp
HvStatus map_vp_state_page(Vp& caller, const MapStatePageIn& in, u64& pfn);
HvStatus unmap_vp_state_page(Vp& caller, const UnmapStatePageIn& in);
HvStatus get_vp_state(Vp& caller, const VpStateIn& in, VariableHeader pages, SizedOutput<0>& out);
HvStatus set_vp_state(Vp& caller, const VpStateIn& in, VariableHeader data);

// intercepts.cpp
HvStatus install_intercept(Vp& caller, const InstallInterceptIn& in);
HvStatus register_intercept_result(Vp& caller, const InterceptResultIn& in);
HvStatus unregister_intercept_result(Vp& caller, const InterceptResultIn& in);

// ports.cpp
HvStatus create_port(Vp& caller, const CreatePortIn& in);
HvStatus delete_port(Vp& caller, const DeletePortIn& in);
HvStatus connect_port(Vp& caller, const ConnectPortIn& in);
HvStatus disconnect_port(Vp& caller, const DisconnectPortIn& in);
HvStatus notify_ring_empty(Vp& caller, const NotifyRingEmptyIn& in);
HvStatus signal_event_direct(Vp& caller, const SignalEventDirectIn& in, u8& out);
HvStatus post_message_direct(Vp& caller, const PostMessageDirectIn& in);

// interrupts.cpp
HvStatus assert_virtual_interrupt(Vp& caller, const AssertInterruptIn& in);
HvStatus clear_virtual_interrupt(Vp& caller, const PartitionIn& in);
HvStatus map_device_interrupt(Vp& caller, const MapInterruptIn& in, VariableHeader set, MapInterruptOut& out);
HvStatus unmap_device_interrupt(Vp& caller, const UnmapInterruptIn& in);

// system.cpp
HvStatus lp_run_time(Vp& caller, const LpRunTimeIn& in, LpRunTimeOut& out);
HvStatus add_lp(Vp& caller, const AddLpIn& in, AddLpOut& out);
HvStatus notify_partition_event(Vp& caller, const NotifyPartitionEventIn& in);
HvStatus get_system_property(Vp& caller, const GetSystemPropertyIn& in, u64& out);
HvStatus set_system_property(Vp& caller, const SetSystemPropertyIn& in);
HvStatus enter_sleep_state(Vp& caller, const EnterSleepStateIn& in);
HvStatus map_stats_page(Vp& caller, const StatsPageIn& in, u64& pfn);
HvStatus unmap_stats_page(Vp& caller, const StatsPageIn& in);

}  // namespace hypercalls
}  // namespace vg::hv
