// What a child's processors ask of their parent: ports, memory without RAM, and their end. Rows S-50..S-78.
#include <cstring>

#include "base/bits.h"
#include "roms/parent/child.h"
#include "roms/parent/platform.h"
#include "roms/vmm/mmio.h"

namespace vg::parent {

namespace {

/// Messages come from the hypervisor, but a short one is still no reason to read past it.
template <class T>
bool take(std::span<const u8> payload, T& out) {
    if (payload.size() < sizeof out) return false;
    std::memcpy(&out, payload.data(), sizeof out);
    return true;
}

hv::RegisterAssignment assign(u32 name, u64 value) { return {name, {}, {value, 0}}; }

/// A register after `size` low bytes of it were written (SDM 1 "General-Purpose Registers in 64-Bit Mode": 32 bits
/// clear the rest).
u64 merged(u64 old, u64 value, unsigned size) {
    const u64 mask = low_mask(8 * size);
    return size == 4 ? value & mask : (old & ~mask) | (value & mask);
}

}  // namespace

void Child::on_intercept(hv::MessageType type, std::span<const u8> payload) {
    if (partition_ == nullptr || ended_) return;
    hv::IoPortIntercept io;
    hv::MemoryIntercept access;
    hv::ApicEoiMessage eoi;
    hv::HaltIntercept halt;
    switch (type) {
        case hv::MessageType::IoPortIntercept:
            if (take(payload, io)) return on_port(io);
            break;
        case hv::MessageType::UnmappedGpa:
        case hv::MessageType::GpaIntercept:
            if (take(payload, access)) return on_memory(access);
            break;
        case hv::MessageType::ApicEoi:
            if (!take(payload, eoi)) break;
            ++counts_.end_of_interrupts;
            return partition_->board->end_of_interrupt(static_cast<u8>(eoi.vector));
        case hv::MessageType::UnrecoverableException:
            if (!take(payload, halt)) break;
            return end(State::Failed, fmt::format("processor {} shut down or asked for a reset at {:#x}",
                                                  halt.header.vp_index, halt.header.rip));
        default:
            break;
    }
    end(State::Failed, fmt::format("message {:#x} that nobody answers", static_cast<u32>(type)));
}

/// Lets a processor go on with these registers.
void Child::resume(u32 vp_index, std::span<const hv::RegisterAssignment> changes) {
    if (ended_) return;
    const CallResult result =
        call_list(Call::SetVpRegisters, hv::VpRegistersHeader{partition_->id, vp_index, 0, {}}, changes);
    if (result.status != HvStatus::Success)
        end(State::Failed, fmt::format("processor {} cannot go on: status {:#x}", vp_index, number(result.status)));
}

void Child::on_port(const hv::IoPortIntercept& io) {
    ++counts_.port_intercepts;
    const unsigned size = io.access_info & 7;
    const u64 next = io.header.rip + (io.header.length_and_cr8 & 0xf);
    if ((io.access_info & hv::io_access::kString) != 0 || (size != 1 && size != 2 && size != 4))
        return end(State::Failed,
                   fmt::format("string I/O at port {:#x}, rip {:#x}, is not emulated", io.port, io.header.rip));
    u64 rax = io.rax;
    if (io.header.access == static_cast<u8>(hv::InterceptAccess::Write)) {
        partition_->board->port_write(io.port, size, static_cast<u32>(rax & low_mask(8 * size)));
    } else {
        rax = merged(rax, partition_->board->port_read(io.port, size), size);
    }
    const hv::RegisterAssignment changes[] = {assign(hv::reg::kRip, next), assign(hv::reg::kRax, rax),
                                              assign(hv::reg::kInterceptSuspend, 0)};
    resume(io.header.vp_index, changes);
}

void Child::on_memory(const hv::MemoryIntercept& access) {
    ++counts_.memory_intercepts;
    constexpr u16 kCodeLong = 1 << 13;
    const bool wide = (access.header.execution_state & hv::execution_state::kLongMode) != 0 &&
                      (access.header.cs.attributes & kCodeLong) != 0;
    vmm::MmioMove move;
    const unsigned count = access.instruction_bytes <= sizeof access.instruction ? access.instruction_bytes : 0;
    if (access.header.access == static_cast<u8>(hv::InterceptAccess::Execute) || !wide ||
        !vmm::decode_move(access.instruction, count, true, move)) {
        return end(State::Failed, fmt::format("the instruction at {:#x}, which accesses {:#x}, is not emulated",
                                              access.header.rip, access.gpa));
    }
    const hv::VpRegistersHeader header{partition_->id, access.header.vp_index, 0, {}};
    const u32 name = hv::reg::kRax + move.reg;
    hv::RegisterValue value{};
    if (!move.immediate) {
        const CallResult result =
            invoke(Call::GetVpRegisters, bytes_of(header), bytes_of(name), 1, 0, writable_bytes_of(value));
        if (result.status != HvStatus::Success) return end(State::Failed, "its registers cannot be read");
    }
    if (move.store) {
        const u64 data = move.immediate ? move.value : value.low;
        partition_->board->mmio_write(access.gpa, move.size, data & low_mask(8 * move.size));
    } else {
        const u64 data = partition_->board->mmio_read(access.gpa, move.size) & low_mask(8 * move.size);
        value.low = move.zero_extend ? data : merged(value.low, data, move.size);
    }
    const hv::RegisterAssignment rip = assign(hv::reg::kRip, access.header.rip + move.length);
    const hv::RegisterAssignment go = assign(hv::reg::kInterceptSuspend, 0);
    if (move.store) {
        const hv::RegisterAssignment changes[] = {rip, go};
        return resume(access.header.vp_index, changes);
    }
    const hv::RegisterAssignment changes[] = {rip, assign(name, value.low), go};
    resume(access.header.vp_index, changes);
}

}  // namespace vg::parent
