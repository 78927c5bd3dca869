#include "hv/msrs.h"

#include <algorithm>
#include <string>

#include "base/bits.h"
#include "base/log.h"
#include "hv/hypervisor.h"
#include "hv/partition.h"
#include "hv/spec/cpuid.h"
#include "hv/spec/msr.h"
#include "hv/stimer.h"
#include "hv/synic.h"
#include "hv/vp.h"

namespace vg::hv {
namespace {

// `index` is the register's number within its row.
using Read = bool (*)(Vp& vp, u32 index, u64& value);
using Write = bool (*)(Vp& vp, u32 index, u64 value);
constexpr std::nullptr_t no_access = nullptr;

bool read_zero(Vp&, u32, u64& value) {
    value = 0;
    return true;
}

// ---- partition

bool read_guest_os_id(Vp& vp, u32, u64& value) {
    value = vp.partition().guest_os_id;
    return true;
}
bool write_guest_os_id(Vp& vp, u32, u64 value) {
    vp.partition().set_guest_os_id(value);
    return true;
}
bool read_hypercall(Vp& vp, u32, u64& value) {
    value = vp.partition().hypercall_msr;
    return true;
}
bool write_hypercall(Vp& vp, u32, u64 value) { return vp.partition().set_hypercall_msr(value); }
bool read_vp_index(Vp& vp, u32, u64& value) {
    value = vp.index();
    return true;
}
bool write_reset(Vp& vp, u32, u64 value) {
    if ((value & 1) != 0) vp.partition().sink().partition_reset(vp);
    return true;
}
bool read_reenlightenment(Vp& vp, u32, u64& value) {
    value = vp.partition().msrs.reenlightenment;
    return true;
}
// The TSC frequency never changes here, so the notification that these three registers arrange is never due.
bool write_reenlightenment(Vp& vp, u32, u64 value) {
    vp.partition().msrs.reenlightenment = value;
    return true;
}
bool read_tsc_emulation(Vp& vp, u32, u64& value) {
    value = vp.partition().msrs.tsc_emulation;
    return true;
}
bool write_tsc_emulation(Vp& vp, u32, u64 value) {
    vp.partition().msrs.tsc_emulation = value;
    return true;
}
bool write_tsc_status(Vp&, u32, u64 value) { return value == 0; }
bool read_tsc_invariant(Vp& vp, u32, u64& value) {
    value = vp.partition().msrs.tsc_invariant;
    return true;
}
bool write_tsc_invariant(Vp& vp, u32, u64 value) {
    u64& current = vp.partition().msrs.tsc_invariant;
    if ((value & ~u64{1}) != 0 || (current & ~value) != 0) return false;
    current = value;
    return true;
}

// ---- time

bool read_vp_runtime(Vp& vp, u32, u64& value) {
    value = vp.processor().run_time_ns() / (kVTimeHz / kReferenceHz);
    return true;
}
bool read_reference_time(Vp& vp, u32, u64& value) {
    vp.partition().refresh_reference_page();
    value = vp.partition().reference_time();
    return true;
}
bool read_reference_tsc(Vp& vp, u32, u64& value) {
    value = vp.partition().reference_tsc_msr;
    return true;
}
bool write_reference_tsc(Vp& vp, u32, u64 value) {
    vp.partition().set_reference_tsc_msr(value);
    return true;
}
bool read_frequency(Vp&, u32, u64& value) {
    value = kVTimeHz;
    return true;
}

bool read_guest_idle(Vp& vp, u32, u64& value) {
    value = 0;
    vp.idle();
    return true;
}

// ---- local APIC (M-11..M-14). Register numbers as in the x2APIC MSR space; the xAPIC offset is 16 times that.

constexpr u32 kIcr = 0x30;
constexpr u32 kXapicIcrLow = 0x300, kXapicIcrHigh = 0x310;

bool write_eoi(Vp& vp, u32, u64) {
    vp.processor().apic().eoi();
    return true;
}
bool read_icr(Vp& vp, u32, u64& value) {
    cpu::Apic& apic = vp.processor().apic();
    if (apic.x2apic()) return apic.msr_read(kIcr, value);
    value = u64{apic.mmio_read(kXapicIcrHigh)} << 32 | apic.mmio_read(kXapicIcrLow);
    return true;
}
bool write_icr(Vp& vp, u32, u64 value) {
    cpu::Apic& apic = vp.processor().apic();
    if (apic.x2apic()) return apic.msr_write(kIcr, value);
    apic.mmio_write(kXapicIcrHigh, static_cast<u32>(value >> 32));
    apic.mmio_write(kXapicIcrLow, static_cast<u32>(value));
    return true;
}
bool read_tpr(Vp& vp, u32, u64& value) {
    value = vp.processor().apic().tpr();
    return true;
}
bool write_tpr(Vp& vp, u32, u64 value) {
    if (value > 0xff) return false;
    vp.processor().apic().set_tpr(static_cast<u8>(value));
    return true;
}
bool read_vp_assist(Vp& vp, u32, u64& value) {
    value = vp.vp_assist_msr();
    return true;
}
bool write_vp_assist(Vp& vp, u32, u64 value) {
    vp.set_vp_assist_msr(value);
    return true;
}

// ---- SynIC and synthetic timers

bool read_scontrol(Vp& vp, u32, u64& value) {
    value = vp.synic().scontrol();
    return true;
}
bool write_scontrol(Vp& vp, u32, u64 value) {
    vp.synic().set_scontrol(value);
    return true;
}
bool read_sversion(Vp&, u32, u64& value) {
    value = kSynicVersion;
    return true;
}
bool read_siefp(Vp& vp, u32, u64& value) {
    value = vp.synic().siefp();
    return true;
}
bool write_siefp(Vp& vp, u32, u64 value) {
    vp.synic().set_siefp(value);
    return true;
}
bool read_simp(Vp& vp, u32, u64& value) {
    value = vp.synic().simp();
    return true;
}
bool write_simp(Vp& vp, u32, u64 value) {
    vp.synic().set_simp(value);
    return true;
}
bool read_sirbp(Vp& vp, u32, u64& value) {
    value = vp.synic().sirbp();
    return vp.synic().has_sirbp();
}
bool write_sirbp(Vp& vp, u32, u64 value) {
    if (!vp.synic().has_sirbp()) return false;
    vp.synic().set_sirbp(value);
    return true;
}
bool write_eom(Vp& vp, u32, u64) {
    vp.synic().rescan();
    return true;
}
bool read_sint(Vp& vp, u32 index, u64& value) {
    value = vp.synic().sint(index);
    return true;
}
bool write_sint(Vp& vp, u32 index, u64 value) { return vp.synic().set_sint(index, value); }
// CONFIG and COUNT alternate.
bool read_stimer(Vp& vp, u32 index, u64& value) {
    value = index % 2 == 0 ? vp.timers().config(index / 2) : vp.timers().count(index / 2);
    return true;
}
bool write_stimer(Vp& vp, u32 index, u64 value) {
    if (index % 2 == 0) return vp.timers().set_config(index / 2, value);
    vp.timers().set_count(index / 2, value);
    return true;
}

// ---- crash reports (M-28, M-29)

bool read_crash_parameter(Vp& vp, u32 index, u64& value) {
    value = vp.partition().crash().p[index];
    return true;
}
bool write_crash_parameter(Vp& vp, u32 index, u64 value) {
    vp.partition().crash().p[index] = value;
    return true;
}
bool read_crash_control(Vp&, u32, u64& value) {
    value = crash_ctl::kSupported;
    return true;
}

std::string crash_message(const Partition& partition, const CrashReport& crash) {
    const u64 size = std::min(crash.p[4], crash_ctl::kMessageLimit);
    std::string message(size, '\0');
    if (!partition.read_memory(Gpa(crash.p[3]), message.data(), size)) return {};
    return message;
}

bool write_crash_control(Vp& vp, u32, u64 value) {
    Partition& partition = vp.partition();
    CrashReport& crash = partition.crash();
    crash.control = value;
    if ((value & crash_ctl::kNotify) == 0) return true;
    const bool first = !crash.notified;
    crash.notified = true;
    crash.message = (value & crash_ctl::kMessage) != 0 ? crash_message(partition, crash) : std::string();
    if (first)
        partition.hypervisor().log().warn(
            Area::Hv, "{}: guest crash {:#x} p0={:#x} p1={:#x} p2={:#x} p3={:#x} p4={:#x}", partition.config().name,
            value, crash.p[0], crash.p[1], crash.p[2], crash.p[3], crash.p[4]);
    partition.sink().partition_crashed(vp);
    return true;
}

// ---- the table

struct Row {
    u32 first, count;
    std::string_view name;
    Gate gate;
    Read read;
    Write write;
};

constexpr Row kRows[] = {
#define HV_MSR(first, count, name, gate, read, write) Row{first, count, #name, Gate::gate, read, write},
#include "hv/msrs.def"
#undef HV_MSR
};
static_assert(std::ranges::is_sorted(kRows, {}, &Row::first));

const Row* find_row(u32 index) {
    auto it = std::ranges::upper_bound(kRows, index, {}, &Row::first);
    if (it == std::begin(kRows)) return nullptr;
    --it;
    return index - it->first < it->count ? &*it : nullptr;
}

}  // namespace

bool read_msr(Vp& vp, u32 index, u64& value) {
    const Row* row = find_row(index);
    return row != nullptr && row->read != nullptr && vp.partition().allows(row->gate) &&
           row->read(vp, index - row->first, value);
}

bool write_msr(Vp& vp, u32 index, u64 value) {
    const Row* row = find_row(index);
    return row != nullptr && row->write != nullptr && vp.partition().allows(row->gate) &&
           row->write(vp, index - row->first, value);
}

std::string_view msr_name(u32 index) {
    const Row* row = find_row(index);
    return row == nullptr ? std::string_view("unknown") : row->name;
}

}  // namespace vg::hv
