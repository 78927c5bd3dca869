// A guest's local APIC in its virtual-APIC page: registers, priorities, virtual and posted interrupts. SDM 3C "APIC Virtualization
// and Virtual Interrupts".
#include <algorithm>
#include <bit>

#include "base/bits.h"
#include "cpu/spec/vmx.h"
#include "cpu/virt/physical.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::vmx {

namespace {

using virt::Action;
using enum Field;

constexpr u32 kTpr = 0x80, kPpr = 0xa0, kEoi = 0xb0, kIsr = 0x100, kIrr = 0x200, kIcrLow = 0x300, kIcrHigh = 0x310;

/// Registers that may be read, or written, with APIC-register virtualization.
bool register_reads(u32 offset) {
    switch (offset) {
        case 0x20: case 0x30: case kTpr: case kEoi: case 0xd0: case 0xe0: case 0xf0: case 0x280: case kIcrLow: case kIcrHigh:
        case 0x380: case 0x3e0: return true;
        default: return (offset >= kIsr && offset < 0x280) || (offset >= 0x320 && offset <= 0x370);
    }
}
bool register_writes(u32 offset) { return register_reads(offset) && offset != 0x30 && (offset < kIsr || offset >= 0x280); }

/// An IPI to itself that needs nobody else: SDM 3C "Virtualizing Writes of the Interrupt-Command Register".
bool is_plain_self_ipi(u32 icr) {
    constexpr u32 kReserved = 0xfff00000 | 3 << 16 | 1 << 13, kShorthand = 3 << 18, kSelf = 1 << 18, kLevel = 1 << 15,
                  kMode = 7 << 8;
    return (icr & (kReserved | kLevel | kMode)) == 0 && (icr & kShorthand) == kSelf && bits(icr, 7, 4) != 0;
}

}  // namespace

u32 Unit::virtual_register(u32 offset) { return read_physical<u32>(vmcs_[virtual_apic_address] + offset); }
void Unit::set_virtual_register(u32 offset, u32 value) {
    write_physical(vmcs_[virtual_apic_address] + offset, &value, sizeof value);
}

/// A bit of VISR or VIRR.
void Unit::set_virtual_bit(u32 base, u8 vector, bool on) {
    const u32 offset = base + (vector >> 5) * 16u, bit_mask = 1u << (vector & 31);
    const u32 old = virtual_register(offset);
    set_virtual_register(offset, on ? old | bit_mask : old & ~bit_mask);
}

u8 Unit::highest_virtual(u32 base) {
    for (u32 n = 8; n-- > 0;)
        if (const u32 word = virtual_register(base + 16 * n); word != 0)
            return static_cast<u8>(32 * n + 31 - static_cast<u32>(std::countl_zero(word)));
    return 0;
}

u8 Unit::requesting() const { return static_cast<u8>(vmcs_[guest_interrupt_status]); }
u8 Unit::servicing() const { return static_cast<u8>(vmcs_[guest_interrupt_status] >> 8); }
void Unit::set_virtual_status(u8 rvi, u8 svi) { vmcs_.set(guest_interrupt_status, rvi | u64{svi} << 8); }

void Unit::virtualize_ppr() {
    const u32 tpr = virtual_register(kTpr) & 0xff, svi = servicing();
    set_virtual_register(kPpr, (tpr >> 4) >= (svi >> 4) ? tpr : svi & 0xf0);
}

/// "Evaluation of Pending Virtual Interrupts".
void Unit::evaluate_virtual() {
    virtual_pending_ = proc2(proc2::kVirtualInterrupts) && !proc(proc::kInterruptWindow) &&
                       requesting() >> 4 > (virtual_register(kPpr) >> 4 & 15);
}

/// True: the guest exits for it.
bool Unit::virtualize_tpr() {
    if (!proc2(proc2::kVirtualInterrupts)) return tpr_below_threshold();
    virtualize_ppr();
    evaluate_virtual();
    return false;
}

/// @return the vector whose end of interrupt exits, or -1
int Unit::virtualize_eoi() {
    const u8 vector = servicing();
    set_virtual_bit(kIsr, vector, false);
    set_virtual_status(requesting(), highest_virtual(kIsr));
    virtualize_ppr();
    if (bit(vmcs_[eoi_exit_bitmap_0 + vector / 64u], vector & 63u)) return vector;
    evaluate_virtual();
    return -1;
}

void Unit::virtualize_self_ipi(u8 vector) {
    set_virtual_bit(kIrr, vector, true);
    set_virtual_status(std::max(requesting(), vector), servicing());
    evaluate_virtual();
}

void Unit::begin_virtual_apic() {
    virtual_pending_ = false;
    apic_written_ = kNoRegister;
    if (!proc2(proc2::kVirtualInterrupts)) return;
    virtualize_ppr();
    evaluate_virtual();
}

/// "Virtual-Interrupt Delivery".
Exec Unit::deliver_virtual() {
    const u8 vector = requesting();
    set_virtual_bit(kIsr, vector, true);
    set_virtual_register(kPpr, vector & 0xf0);
    set_virtual_bit(kIrr, vector, false);
    set_virtual_status(highest_virtual(kIrr), vector);
    virtual_pending_ = false;
    Fault interrupt;
    interrupt.vector = vector;
    interrupt.type = EventType::External;
    (void)vp_.deliver(interrupt, s_.rip);
    return Exec::Resync;
}

/// "Posted-Interrupt Processing": the interrupt with the notification vector has been acknowledged.
void Unit::process_posted() {
    constexpr u64 kControlOffset = 32;
    vp_.apic().eoi();
    const u64 descriptor = vmcs_[posted_interrupt_descriptor];
    const u32 control = read_physical<u32>(descriptor + kControlOffset) & ~1u;  // outstanding notification
    write_physical(descriptor + kControlOffset, &control, sizeof control);
    u8 highest = requesting();
    for (u32 n = 0; n < 8; ++n) {
        const u32 posted = read_physical<u32>(descriptor + 4 * n), none = 0;
        if (posted == 0) continue;
        write_physical(descriptor + 4 * n, &none, sizeof none);
        set_virtual_register(kIrr + 16 * n, virtual_register(kIrr + 16 * n) | posted);
        highest = std::max(highest, static_cast<u8>(32 * n + 31 - static_cast<u32>(std::countl_zero(posted))));
    }
    set_virtual_status(highest, servicing());
    evaluate_virtual();
}

// ---- the APIC-access page ----------------------------------------------------------------------------------------

/// Whether an access to the page goes to the virtual-APIC page.
bool Unit::apic_access_is_virtual(u32 offset, u32 size, bool write) const {
    const u32 reg = offset & ~15u;
    if (!proc(proc::kTprShadow) || (offset & 15) + size > 4) return false;
    if (proc2(proc2::kApicRegisters)) return write ? register_writes(reg) : register_reads(reg);
    if (reg == kTpr) return true;
    return write && proc2(proc2::kVirtualInterrupts) && (reg == kEoi || reg == kIcrLow);
}

/// An access to the APIC-access page. "Virtualizing Memory-Mapped APIC Accesses".
Action Unit::on_apic_access(virt::Exit& exit) {
    enum : u64 { kRead = 0, kWrite = 1, kFetch = 2, kDelivery = 3 };
    u64 type = exit.slat.access == mmu::Access::Write ? kWrite : exit.slat.access == mmu::Access::Fetch ? kFetch : kRead;
    if (vp_.delivering()) type = kDelivery;
    const u32 offset = static_cast<u32>(exit.gpa.offset());
    if ((type == kRead || type == kWrite) && apic_access_is_virtual(offset, exit.size, type == kWrite)) {
        const std::optional<Spa> page = virt::system_address(vp_, vmcs_[virtual_apic_address]);
        if (!page) return Action::Default;
        exit.value = page->value + offset;
        if (type == kWrite) apic_written_ = offset & ~15u;  // seen to behind the instruction
        return Action::Complete;
    }
    ExitRecord record = record_of(reason::kApicAccess, exit);
    record.qualification = offset | type << 12;
    record.linear = exit.gva.value;
    record.has_linear = true;
    return leave(record);
}

/// "APIC-Write Emulation", behind the instruction that wrote. The record of the exit that it leads to, if any.
std::optional<ExitRecord> Unit::emulate_apic_write() {
    const u32 offset = std::exchange(apic_written_, kNoRegister);
    const ExitRecord exit{.reason = reason::kApicWrite, .qualification = offset};
    switch (offset) {
        case kTpr:
            set_virtual_register(kTpr, virtual_register(kTpr) & 0xff);
            if (virtualize_tpr()) return ExitRecord{.reason = reason::kTprBelowThreshold};
            return std::nullopt;
        case kEoi: {
            if (!proc2(proc2::kVirtualInterrupts)) return exit;
            set_virtual_register(kEoi, 0);
            const int vector = virtualize_eoi();
            if (vector < 0) return std::nullopt;
            return ExitRecord{.reason = reason::kVirtualizedEoi, .qualification = static_cast<u64>(vector)};
        }
        case kIcrLow: {
            const u32 icr = virtual_register(kIcrLow);
            if (!proc2(proc2::kVirtualInterrupts) || !is_plain_self_ipi(icr)) return exit;
            virtualize_self_ipi(static_cast<u8>(icr));
            return std::nullopt;
        }
        case kIcrHigh:
            set_virtual_register(kIcrHigh, virtual_register(kIcrHigh) & 0xff000000);
            return std::nullopt;
        default: return exit;
    }
}

// ---- x2APIC registers --------------------------------------------------------------------------------------------

/// RDMSR and WRMSR of 800H to 8FFH that no bitmap lets exit. "Virtualizing MSR-Based APIC Accesses".
Action Unit::on_x2apic(virt::Exit& exit) {
    constexpr u32 kTprMsr = 0x808, kEoiMsr = 0x80b, kSelfIpiMsr = 0x83f;
    if (!proc2(proc2::kX2apic) || exit.msr >> 8 != 8) return Action::Default;
    const auto refuse = [&] {
        exit.fault = Fault{};
        exit.fault.vector = kGeneralProtection;
        exit.fault.has_error = true;
        return Action::Inject;
    };
    const u32 offset = (exit.msr & 0xff) << 4;
    if (!exit.write) {
        if (exit.msr != kTprMsr && !proc2(proc2::kApicRegisters)) return Action::Default;
        exit.value = read_physical<u64>(vmcs_[virtual_apic_address] + offset);
        return Action::Complete;
    }
    const bool interrupts = proc2(proc2::kVirtualInterrupts);
    if (exit.msr == kTprMsr) {
        if (exit.value >> 8 != 0) return refuse();
        set_virtual_register(kTpr, static_cast<u32>(exit.value));
        tpr_exit_pending_ = virtualize_tpr();
        return Action::Complete;
    }
    if (exit.msr == kEoiMsr && interrupts) {
        if (exit.value != 0) return refuse();
        apic_written_ = kEoi;
        return Action::Complete;
    }
    if (exit.msr == kSelfIpiMsr && interrupts) {
        if (exit.value >> 8 != 0) return refuse();
        set_virtual_register(offset, static_cast<u32>(exit.value));
        if (exit.value >> 4 == 0) apic_written_ = offset;
        else virtualize_self_ipi(static_cast<u8>(exit.value));
        return Action::Complete;
    }
    return Action::Default;
}

}  // namespace vg::cpu::vmx
