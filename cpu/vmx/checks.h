// The checks of VM entries, in the manual's order: each a row with what it demands in words, so that tools can say which
// failed. SDM 3C "VM Entries".
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "cpu/spec/bits.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/vmcs.h"
#include "cpu/vp.h"

namespace vg::cpu::vmx {

/// What rules looked at: fields, and what is no field.
struct Inputs {
    FieldSet fields;
    bool memory = false;     ///< what is in it can change at any time
    bool v8086 = false;      ///< RFLAGS.VM alone, of all of its bits
    bool long_mode = false;  ///< the processor's, of the host
};

/// What the checks look at. What is asked for through it is noted in `inputs`, if there is one.
struct EntryContext {
    const Vmcs& v;
    const Capabilities& caps;
    const Vp& vp;
    u64 current_pointer = kNoVmcsPointer;
    std::function<u32(u64)> read_memory;                         ///< a 32-bit word of physical memory
    std::function<bool(u64 cr3, u64 out[4])> read_memory_pdptes;  ///< PDPTEs in memory, when EPT is off
    Inputs* inputs = nullptr;

    static constexpr u64 kNoVmcsPointer = ~u64{0};
    [[nodiscard]] u64 operator[](Field field) const {
        if (inputs != nullptr) inputs->fields.add(field);
        return v[field];
    }
    [[nodiscard]] u32 word(Field field) const { return static_cast<u32>((*this)[field]); }
    [[nodiscard]] bool pin(u32 bits) const { return (word(Field::pin_controls) & bits) != 0; }
    [[nodiscard]] bool proc(u32 bits) const { return (word(Field::proc_controls) & bits) != 0; }
    [[nodiscard]] bool proc2(u32 bits) const { return proc(proc::kSecondary) && (word(Field::proc2_controls) & bits) != 0; }
    [[nodiscard]] bool exit(u32 bits) const { return (word(Field::exit_controls) & bits) != 0; }
    [[nodiscard]] bool entry(u32 bits) const { return (word(Field::entry_controls) & bits) != 0; }
    [[nodiscard]] bool address(Field field, unsigned alignment_bits) const {
        return caps.address_valid((*this)[field], alignment_bits);
    }
    /// The guest will be in virtual-8086 mode.
    [[nodiscard]] bool v8086() const {
        if (inputs != nullptr) inputs->v8086 = true;
        return (v[Field::guest_rflags] & flag::VM) != 0;
    }
    [[nodiscard]] bool long_mode() const {
        if (inputs != nullptr) inputs->long_mode = true;
        return vp.long_mode();
    }
    [[nodiscard]] u32 read_word(u64 address) const {
        if (inputs != nullptr) inputs->memory = true;
        return read_memory(address);
    }
    [[nodiscard]] bool read_pdptes(u64 cr3, u64 out[4]) const {
        if (inputs != nullptr) inputs->memory = true;
        return read_memory_pdptes(cr3, out);
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

/// The first that does not hold.
[[nodiscard]] std::optional<Violation> first_violation(std::span<const Rule> rules, const EntryContext& e);

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

/// The checks of one processor's entries, from one to the next: a part of the rules none of whose inputs has changed since it
/// held is not gone through again, because its answer would be the same.
class EntryChecks {
  public:
    EntryChecks();
    /// An entry begins. @param changed  fields that may differ from what they were at the last one
    void begin(const FieldSet& changed, const EntryContext& e);
    /// As the three functions above.
    [[nodiscard]] std::optional<Violation> controls(EntryContext& e) { return check(0, e); }
    [[nodiscard]] std::optional<Violation> host(EntryContext& e) { return check(1, e); }
    [[nodiscard]] std::optional<Violation> guest(EntryContext& e) { return check(2, e); }

  private:
    /// Some rules of a table, side by side.
    struct Part {
        std::span<const Rule> rules;
        Inputs inputs;
        bool holds = false;   ///< for the present inputs, which are all noted
        u32 misses = 0;       ///< how often in a row it was gone through
    };
    std::optional<Violation> check(unsigned table, EntryContext& e);
    static std::optional<Violation> check(Part& part, EntryContext& e);

    std::vector<Part> parts_;
    std::array<u32, 4> first_{};  ///< parts of each table begin here
    bool v8086_ = false, long_mode_ = false;
};

// ---- shared by the rule files
[[nodiscard]] bool pat_valid(u64 pat);
[[nodiscard]] u64 allowed_efer(const CpuModel& model);

}  // namespace vg::cpu::vmx
