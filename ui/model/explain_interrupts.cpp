#include <fmt/format.h>

#include "base/bits.h"
#include "hv/partition.h"
#include "hv/spec/synic.h"
#include "hv/synic.h"
#include "hv/vp.h"
#include "ui/model/explain.h"

namespace vg::model {
namespace {

using Lines = std::vector<std::string>;

constexpr u32 kLvtMasked = 1 << 16;

int highest(const std::array<u32, 8>& bitmap) {
    for (int vector = 255; vector >= 0; --vector)
        if (bit(bitmap[static_cast<unsigned>(vector) / 32], static_cast<unsigned>(vector) % 32)) return vector;
    return -1;
}

/// What keeps any maskable interrupt from this processor at this boundary; "": nothing.
std::string processor_reason(const cpu::Vp& vp) {
    const cpu::VpState& state = vp.state();
    if (state.activity == cpu::Activity::WaitForSipi)
        return "the processor waits for a start-up IPI and takes nothing else";
    if (state.activity == cpu::Activity::Shutdown) return "the processor is shut down";
    if (vp.held()) return "the VP is suspended";
    if (vp.injected()) return "an injected event goes first";
    if ((state.rflags & cpu::flag::IF) == 0) return "interrupts are off (RFLAGS.IF is 0)";
    if ((state.interrupt_shadow & cpu::shadow::Sti) != 0) return "the instruction behind STI goes first";
    if ((state.interrupt_shadow & cpu::shadow::MovSs) != 0) return "the instruction behind the load of SS goes first";
    if (state.nmi_pending != 0 && state.nmi_blocked == 0) return "an NMI goes first";
    return "";
}

/// What keeps the highest requested vector in the local APIC; "": nothing.
std::string priority_reason(const cpu::Apic& apic, const cpu::ApicImage& image, int vector) {
    const int in_service = highest(image.isr);
    const int task = apic.tpr() >> 4, wanted = vector >> 4;
    if (in_service >= 0 && (in_service >> 4) >= wanted) {
        return fmt::format("vector 0x{:02x} is in service (no EOI yet), and its class {} is not lower than {}",
                           in_service, in_service >> 4, wanted);
    }
    if (task >= wanted)
        return fmt::format("the task priority (TPR 0x{:02x}) holds back classes up to {}", apic.tpr(), task);
    return "";
}

void add_requests(const cpu::Vp& vp, const cpu::ApicImage& image, Lines& lines) {
    const int top = highest(image.irr);
    if (top < 0) {
        lines.push_back("No interrupt is requested in its local APIC.");
        return;
    }
    std::string reason = priority_reason(vp.apic(), image, top);
    if (reason.empty()) reason = processor_reason(vp);
    lines.push_back(
        fmt::format("Vector 0x{:02x} is requested: {}.", top,
                    reason.empty() ? "it is delivered before the next instruction" : "it waits, because " + reason));
    for (int vector = top - 1; vector >= 0; --vector)
        if (bit(image.irr[static_cast<unsigned>(vector) / 32], static_cast<unsigned>(vector) % 32))
            lines.push_back(fmt::format("Vector 0x{:02x} is requested: it waits behind vector 0x{:02x}.", vector, top));
}

void add_apic(const cpu::Vp& vp, Lines& lines) {
    const cpu::Apic& apic = vp.apic();
    const cpu::ApicImage image = apic.image();
    if (!apic.enabled()) {
        lines.push_back("Its local APIC is off (IA32_APIC_BASE bit 11).");
        return;
    }
    if (!apic.software_enabled())
        lines.push_back(
            "Its local APIC is disabled by software (bit 8 of the spurious-vector register): it accepts no fixed "
            "interrupt.");
    add_requests(vp, image, lines);
    static constexpr std::string_view kEntries[] = {"CMCI",  "timer", "thermal", "performance",
                                                    "LINT0", "LINT1", "error"};
    std::string masked;
    for (std::size_t i = 0; i < image.lvt.size(); ++i)
        if ((image.lvt[i] & kLvtMasked) != 0) masked += (masked.empty() ? "" : ", ") + std::string(kEntries[i]);
    if (!masked.empty()) lines.push_back("Masked in its local vector table: " + masked + ".");
}

void add_others(const cpu::Vp& vp, Lines& lines) {
    const cpu::VpState& state = vp.state();
    if (state.nmi_pending != 0) {
        lines.push_back(state.nmi_blocked != 0 ? "An NMI waits: the handler of the one before it has not executed IRET."
                                               : "An NMI is delivered before the next instruction.");
    }
    if (state.acknowledged != 0)
        lines.push_back(
            fmt::format("Vector 0x{:02x} was acknowledged, and its delivery put off: it is delivered first.",
                        state.acknowledged_vector));
    const bool line =
        vp.interrupt_waits() && (state.acknowledged | state.nmi_pending) == 0 && vp.apic().pending_vector() < 0;
    if (!line) return;
    std::string reason =
        vp.apic().lint0_accepts_extint() ? processor_reason(vp) : "LINT0 is masked or not in ExtINT mode";
    lines.push_back("The 8259s' line is raised: " +
                    (reason.empty() ? std::string("it is acknowledged before the next instruction.")
                                    : "it waits, because " + reason + "."));
}

void add_synic(machine::Machine& machine, hv::Vp& vp, Lines& lines) {
    const hv::Synic& synic = vp.synic();
    if ((synic.scontrol() & hv::kScontrolEnable) == 0) {
        lines.push_back("Its SynIC is off (SCONTROL bit 0): no message and no event reaches it.");
    } else {
        if ((synic.simp() & 1) == 0) lines.push_back("Its message page is off (SIMP bit 0): messages wait.");
        if ((synic.siefp() & 1) == 0) lines.push_back("Its event flags page is off (SIEFP bit 0): events are refused.");
    }
    for (u8 sint = 0; sint < hv::kSintCount; ++sint) {
        const u64 value = synic.sint(sint);
        const auto header =
            machine.memory().read<hv::MessageHeader>(synic.message_page() + sint * u64{hv::kMessageSlotSize});
        const std::size_t queued = synic.queued(sint);
        const bool occupied = header.type != hv::kMessageTypeNone;
        if (!occupied && queued == 0) continue;
        std::string text = fmt::format("SINT {}", sint);
        if ((value & hv::sint::kMasked) != 0)
            text += " is masked: its interrupt is not raised";
        else
            text += fmt::format(" raises vector 0x{:02x}", hv::sint::vector(value));
        if (occupied)
            text += fmt::format("; its slot holds a message of type 0x{:x} that the guest has not taken", header.type);
        if (queued != 0)
            text += fmt::format("; {} message(s) wait{}", queued, occupied ? " behind it for the guest's EOM" : "");
        lines.push_back(text + ".");
    }
}

}  // namespace

std::vector<std::string> explain_interrupts(machine::Machine& machine, const PlacedVp& vp) {
    Lines lines;
    add_apic(*vp.processor, lines);
    add_others(*vp.processor, lines);
    const Lines guest = explain_guest_interrupts(*vp.processor);
    lines.insert(lines.end(), guest.begin(), guest.end());
    if (vp.vp != nullptr) add_synic(machine, *vp.vp, lines);
    const Lines timers = explain_timers(machine, vp);
    lines.insert(lines.end(), timers.begin(), timers.end());
    return lines;
}

}  // namespace vg::model
