#include "ui/model/explain.h"

#include <fmt/format.h>

#include <charconv>

#include "hv/spec/synic.h"
#include "hv/stimer.h"
#include "hv/vp.h"
#include "hv/vp_control.h"
#include "ui/model/register_fields.h"

namespace vg::model {
namespace {

using Lines = std::vector<std::string>;

std::string name_of_vp(const PlacedVp& vp) {
    if (vp.vp == nullptr) return fmt::format("VP {}", vp.processor->index());
    const hv::Partition& partition = vp.vp->partition();
    return fmt::format("VP {} of partition {} ({})", vp.vp->index(), partition.id(), partition.config().name);
}

std::string at(u64 address, const NameOf& name_of) {
    const std::string name = name_of(address);
    return name.empty() ? fmt::format("0x{:x}", address) : fmt::format("0x{:x} ({})", address, name);
}

std::string seconds(VTime time) { return fmt::format("{}.{:09} s", time / 1'000'000'000, time % 1'000'000'000); }

/// When something happens, seen from now.
std::string when(VTime due, VTime now) {
    if (due <= now) return "due now";
    return fmt::format("due at {}, in {}.{:03} us", seconds(due), (due - now) / 1000, (due - now) % 1000);
}

std::string_view mode_text(const cpu::Vp& vp) {
    if (!vp.protected_mode()) return "real mode";
    if (vp.v8086()) return "virtual-8086 mode";
    switch (vp.code_mode()) {
        case cpu::CodeMode::Bits16:
            return "16-bit code";
        case cpu::CodeMode::Bits32:
            return "32-bit code";
        case cpu::CodeMode::Bits64:
            return "64-bit code";
    }
    return "?";
}

void add_suspension(hv::Vp& vp, Lines& lines) {
    const hv::VpControl& control = vp.control();
    if (control.explicit_suspend())
        lines.push_back("It does not run: its explicit suspend register is set (a parent starts a VP by clearing it).");
    if (control.intercept_suspend())
        lines.push_back("It does not run: an intercept was sent to its parent, which has not completed it yet.");
    if (control.dispatch_suspend())
        lines.push_back(
            "It does not run: the root scheduler has to dispatch it (HvCallDispatchVp), and no VP of the root does "
            "now.");
    if (vp.partition().policy().suspended)
        lines.push_back("It does not run: its partition is suspended (property Suspend).");
    if (vp.dispatching() != nullptr) {
        lines.push_back(fmt::format("It waits in HvCallDispatchVp: VP {} of partition {} runs instead of it.",
                                    vp.dispatching()->index(), vp.dispatching()->partition().id()));
    }
}

void add_halted(machine::Machine& machine, const PlacedVp& vp, const NameOf& name_of, Lines& lines) {
    const cpu::VpState& state = vp.processor->state();
    lines.push_back(fmt::format("It is halted: HLT in front of {}.", at(state.rip, name_of)));
    if ((state.rflags & cpu::flag::IF) == 0) {
        lines.push_back("Interrupts are off (RFLAGS.IF is 0): only an NMI, INIT or a reset wakes it.");
        return;
    }
    const Lines timers = explain_timers(machine, vp);
    lines.insert(lines.end(), timers.begin(), timers.end());
    lines.push_back(timers.empty()
                        ? "Interrupts are on. No timer of its own is armed: only a device or another VP wakes it."
                        : "Interrupts are on: a timer, a device or another VP wakes it.");
}

}  // namespace

std::vector<std::string> explain_timers(machine::Machine& machine, const PlacedVp& vp) {
    Lines lines;
    const cpu::ApicImage apic = vp.processor->apic().image();
    const u32 entry = apic.lvt[1], mode = static_cast<u32>(bits(entry, 18, 17));
    const VTime now = machine.now();
    constexpr u32 kMasked = 1 << 16;
    std::string due;
    if (mode == 2) {
        const u64 deadline = vp.processor->apic().tsc_deadline(), tsc = now + vp.processor->state().tsc_offset;
        if (deadline != 0) due = when(now + (deadline > tsc ? deadline - tsc : 0), now);
    } else if (apic.current_count != 0) {
        const u32 code = (apic.divide & 3) | (apic.divide >> 1 & 4);
        due = when(now + apic.current_count * u64{code == 7 ? 1u : 2u << code}, now);
    }
    if (!due.empty()) {
        static constexpr std::string_view kModes[] = {"one-shot", "periodic", "TSC deadline", "reserved mode"};
        lines.push_back(fmt::format("APIC timer ({}): vector 0x{:02x} {}{}.", kModes[mode], entry & 0xff, due,
                                    (entry & kMasked) != 0 ? ", but masked in its LVT entry" : ""));
    }
    if (vp.vp == nullptr) return lines;
    const hv::SyntheticTimersState timers = vp.vp->timers().save();
    const u64 reference = vp.vp->partition().reference_time();
    for (unsigned i = 0; i < hv::kStimerCount; ++i) {
        const auto& timer = timers.timer[i];
        if ((timer.config & hv::stimer::kEnable) == 0 || timer.count == 0) continue;
        const bool direct = (timer.config & hv::stimer::kDirect) != 0;
        const std::string to = direct ? fmt::format("vector 0x{:02x}", hv::stimer::vector(timer.config))
                                      : fmt::format("a message to SINT {}", hv::stimer::sintx(timer.config));
        std::string text = fmt::format("every {} x 100 ns", timer.count);
        if (timer.undelivered_pending != 0)
            text = "expired, and waits for its message slot";
        else if ((timer.config & hv::stimer::kPeriodic) == 0)
            text = when(now + (timer.count > reference ? (timer.count - reference) * 100 : 0), now);
        lines.push_back(fmt::format("Synthetic timer {}: {} {}.", i, to, text));
    }
    return lines;
}

std::vector<std::string> explain_where(machine::Machine& machine, const PlacedVp& vp, const NameOf& name_of) {
    Lines lines;
    const cpu::VpState& state = vp.processor->state();
    const std::string name = name_of_vp(vp);
    switch (state.activity) {
        case cpu::Activity::WaitForSipi:
            lines.push_back(
                name +
                " was not started: it waits for a start-up IPI (SIPI), as every processor but the boot processor "
                "does after reset and INIT.");
            break;
        case cpu::Activity::Shutdown:
            lines.push_back(fmt::format(
                "{} is shut down (triple fault): a fault at {} could not be delivered, nor the double fault "
                "that it became. Only INIT or a reset starts it again.",
                name, at(state.rip, name_of)));
            break;
        case cpu::Activity::Halted:
            lines.push_back(name + ":");
            add_halted(machine, vp, name_of, lines);
            break;
        case cpu::Activity::Idle:
            lines.push_back(fmt::format(
                "{} is idle: it read HV_X64_MSR_GUEST_IDLE in front of {}, and goes on there when any interrupt is "
                "pending, delivered or not.",
                name, at(state.rip, name_of)));
            break;
        case cpu::Activity::Active:
            lines.push_back(fmt::format("{} is at {}, at CPL {} in {}, interrupts {}.", name, at(state.rip, name_of),
                                        vp.processor->cpl(), mode_text(*vp.processor),
                                        (state.rflags & cpu::flag::IF) != 0 ? "on" : "off"));
            break;
    }
    if (vp.vp != nullptr)
        add_suspension(*vp.vp, lines);
    else if (vp.processor->held())
        lines.push_back("It is held: it executes nothing until it is let go.");
    if (state.init_pending != 0) lines.push_back("An INIT has arrived: it is reset before its next instruction.");
    if (vp.processor->injected())
        lines.push_back(fmt::format("Vector {} was injected: it is delivered before its next instruction.",
                                    vp.processor->injected()->fault.vector));
    return lines;
}

std::vector<std::string> explain_exception(const PlacedVp& vp) {
    static constexpr std::string_view kNames[] = {"#DE divide error",
                                                  "#DB debug",
                                                  "NMI",
                                                  "#BP breakpoint",
                                                  "#OF overflow",
                                                  "#BR bound range",
                                                  "#UD invalid opcode",
                                                  "#NM device not available",
                                                  "#DF double fault",
                                                  "vector 9",
                                                  "#TS invalid TSS",
                                                  "#NP segment not present",
                                                  "#SS stack fault",
                                                  "#GP general protection",
                                                  "#PF page fault",
                                                  "vector 15",
                                                  "#MF x87 error",
                                                  "#AC alignment check",
                                                  "#MC machine check",
                                                  "#XM SIMD error",
                                                  "#VE virtualization",
                                                  "#CP control protection"};
    const cpu::Fault& fault = vp.processor->fault();
    if (fault.vector == cpu::kDivideError) return {"No exception is on record, or it was #DE divide error."};
    std::string text = "The last exception was ";
    text +=
        fault.vector < std::size(kNames) ? std::string(kNames[fault.vector]) : fmt::format("vector {}", fault.vector);
    if (fault.has_error) text += fmt::format(", error code 0x{:x}", fault.error_code);
    Lines lines;
    if (fault.vector == cpu::kPageFault) {
        const u32 code = fault.error_code;
        lines.push_back(text + fmt::format(", at address 0x{:x}.", fault.cr2));
        const std::string_view access = (code & 16) != 0  ? "an instruction fetch"
                                        : (code & 2) != 0 ? "a write"
                                                          : "a read";
        const std::string_view why = (code & 8) != 0    ? "an entry has a reserved bit set"
                                     : (code & 32) != 0 ? "the page's protection key forbids it"
                                     : (code & 1) != 0  ? "the page forbids it"
                                                        : "the page is not present";
        lines.push_back(fmt::format("It was {} in {} mode: {}.", access, (code & 4) != 0 ? "user" : "supervisor", why));
    } else {
        lines.push_back(text + ".");
        if (fault.has_error && fault.vector >= cpu::kInvalidTss && fault.vector <= cpu::kGeneralProtection &&
            fault.error_code != 0) {
            const u32 code = fault.error_code;
            const std::string_view table = (code & 2) != 0 ? "IDT" : (code & 4) != 0 ? "LDT" : "GDT";
            lines.push_back(fmt::format("The error code names entry {} of the {}{}.", code >> 3 & 0x1fff, table,
                                        (code & 1) != 0 ? ", while an event was being delivered" : ""));
        }
    }
    return lines;
}

namespace {

std::optional<u64> number(std::string_view text) {
    const bool hex = text.substr(0, 2) == "0x";
    if (hex) text.remove_prefix(2);
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string joined(const Lines& lines) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
}

Lines registers_text(const cpu::Vp& vp) {
    Lines lines;
    for (const RegisterLayout& layout : register_layouts()) {
        const u64 value = register_value(vp, layout.name);
        lines.push_back(fmt::format("{} 0x{:x}: {}", layout.name, value, short_text(layout, value)));
    }
    return lines;
}

Lines walk_text(cpu::Vp& vp, u64 address, mmu::Access access) {
    Lines lines;
    const ToldWalk walk = explain_walk(vp, address, access);
    for (const ToldStep& step : walk.steps) {
        const std::string place = step.entry_address == 0 ? "register" : fmt::format("0x{:x}", step.entry_address);
        lines.push_back(
            fmt::format("Level {}: entry at {} is 0x{:x}: {}.", step.level, place, step.entry, step.meaning));
    }
    lines.push_back(walk.verdict);
    lines.insert(lines.end(), walk.second_level.begin(), walk.second_level.end());
    return lines;
}

/// "walk ADDRESS", "ADDRESS", either with " read", " write" or " fetch".
std::optional<std::pair<u64, mmu::Access>> walk_wanted(std::string_view what) {
    if (what.substr(0, 5) == "walk ") what.remove_prefix(5);
    mmu::Access access = mmu::Access::Read;
    if (const std::size_t space = what.find(' '); space != std::string_view::npos) {
        const std::string_view word = what.substr(space + 1);
        if (word == "write")
            access = mmu::Access::Write;
        else if (word == "fetch")
            access = mmu::Access::Fetch;
        else if (word != "read")
            return std::nullopt;
        what = what.substr(0, space);
    }
    const auto address = number(what);
    if (!address) return std::nullopt;
    return std::pair{*address, access};
}

}  // namespace

Result<std::string> explain(machine::Machine& machine, SymbolPlace place, std::string_view what,
                            const NameOf& name_of) {
    const PlacedVp vp = placed_vp(machine, place);
    if (vp.processor == nullptr)
        return fail(Error::Code::Usage, fmt::format("there is no VP {} of partition {}", place.vp, place.partition));
    if (what.empty() || what == "where") return joined(explain_where(machine, vp, name_of));
    if (what == "interrupts") return joined(explain_interrupts(machine, vp));
    if (what == "exception") return joined(explain_exception(vp));
    if (what == "virtualization") return joined(explain_virtualization(vp));
    if (what == "registers") return joined(registers_text(*vp.processor));
    if (what == "all") {
        return joined(explain_where(machine, vp, name_of)) + joined(explain_interrupts(machine, vp)) +
               joined(explain_exception(vp)) + joined(explain_virtualization(vp)) +
               joined(registers_text(*vp.processor));
    }
    if (const RegisterLayout* layout = register_layout(what)) {
        const u64 value = register_value(*vp.processor, what);
        return fmt::format("{} is 0x{:x}.\n", what, value) + joined(long_text(*layout, value));
    }
    if (const auto wanted = walk_wanted(what)) return joined(walk_text(*vp.processor, wanted->first, wanted->second));
    return fail(
        Error::Code::Usage,
        fmt::format(
            "nothing is known about \"{}\"; ask for where, interrupts, exception, virtualization, registers, all, the name of a "
            "register or an address",
            what));
}

}  // namespace vg::model
