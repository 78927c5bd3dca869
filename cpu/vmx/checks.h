// The checks of VM entries, in the manual's order: each a row with what it demands in words, so that tools can say which
// failed. SDM 3C "VM Entries".
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "cpu/vmx/vmcs.h"
#include "cpu/vp.h"

namespace vg::cpu::vmx {

/// What the checks look at.
struct EntryContext {
    const Vmcs& v;
    const Capabilities& caps;
    const Vp& vp;
    u64 current_pointer = kNoVmcsPointer;
    std::function<u32(u64)> read_word;         ///< a 32-bit word of physical memory
    std::function<bool(u64 cr3, u64 out[4])> read_pdptes;  ///< PDPTEs in memory, when EPT is off

    static constexpr u64 kNoVmcsPointer = ~u64{0};
    [[nodiscard]] u64 operator[](Field field) const { return v[field]; }
    [[nodiscard]] bool pin(u32 bits) const { return (v.word(Field::pin_controls) & bits) != 0; }
    [[nodiscard]] bool proc(u32 bits) const { return (v.word(Field::proc_controls) & bits) != 0; }
    [[nodiscard]] bool proc2(u32 bits) const;
    [[nodiscard]] bool exit(u32 bits) const { return (v.word(Field::exit_controls) & bits) != 0; }
    [[nodiscard]] bool entry(u32 bits) const { return (v.word(Field::entry_controls) & bits) != 0; }
    [[nodiscard]] bool address(Field field, unsigned alignment_bits) const {
        return caps.address_valid(v[field], alignment_bits);
    }
};

/// One demand. `field` is the one to show; `qualification` goes into the exit when the guest's state is at fault.
struct Rule {
    std::string_view text;
    Field field;
    bool (*holds)(const EntryContext&);
    u32 qualification = 0;
};

/// A rule that does not hold, with its field's value at that time.
struct Violation {
    std::string_view text;
    Field field;
    u64 value = 0;
    u32 qualification = 0;
};

/// "Checks on VMX Controls": VMfailValid 7.
[[nodiscard]] std::optional<Violation> check_controls(const EntryContext& e);
/// "Checks on Host-State Area": VMfailValid 8.
[[nodiscard]] std::optional<Violation> check_host(const EntryContext& e);
/// "Checking and Loading Guest State": the entry fails with an exit, reason 33.
[[nodiscard]] std::optional<Violation> check_guest(const EntryContext& e);

/// The rules themselves, for tests and tools.
[[nodiscard]] std::span<const Rule> control_rules();
[[nodiscard]] std::span<const Rule> host_rules();
[[nodiscard]] std::span<const Rule> guest_rules();

// ---- shared by the rule files
[[nodiscard]] bool pat_valid(u64 pat);
[[nodiscard]] u64 allowed_efer(const CpuModel& model);

}  // namespace vg::cpu::vmx
