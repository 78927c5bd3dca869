// What an instruction trace is made of, for those who write and those who read one.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/tap.h"
#include "cpu/insn.h"
#include "machine/spec/trace.h"

namespace vg::machine {

/// How much a trace holds: each level has what the ones before it have.
enum class TraceDetail : u8 {
    Flow,      ///< instructions, address spaces, events
    Memory,    ///< addresses of accesses
    Values,    ///< what was read and written; executed one by one
    Registers  ///< general registers, flags, FS and GS bases
};
[[nodiscard]] std::string_view name_of(TraceDetail detail);
[[nodiscard]] std::optional<TraceDetail> trace_detail(std::string_view name);

/// Where code runs. Equal for equal meaning of an address.
struct TraceContext {
    u64 partition = 0;  ///< id, 0: the bare PC
    u32 vp = 0;         ///< index in it
    u64 cr3 = 0;
    u64 cs_base = 0;  ///< outside 64-bit mode
    u8 cpl = 0;
    u8 level = 0;  ///< how many levels of virtualization the VP is inside of
    cpu::CodeMode mode = cpu::CodeMode::Bits64;
    bool operator==(const TraceContext&) const = default;
};

/// General registers, flags, FS and GS bases, as trace_format numbers them.
using TraceRegisters = std::array<u64, trace_format::kRegisters>;

struct TraceAccess {
    u64 address = 0;  ///< linear; the lowest of all that a repeated instruction touched
    u64 bytes = 0;
    u8 element = 0;             ///< bytes of one access
    bool write = false;         ///< written, perhaps read too
    std::span<const u8> value;  ///< as far as it is known; of reads what was read, else what was written
};

/// One executed instruction, or the iterations of a repeated one up to an event.
struct TraceInstruction {
    u64 number = 0;  ///< Machine::instructions() before it
    u64 time = 0;    ///< virtual
    const TraceContext* context = nullptr;
    u64 rip = 0;
    u64 linear = 0;  ///< where it was fetched from
    std::span<const u8> bytes;
    u64 iterations = 1;                         ///< 0: a repeated instruction that had nothing to do
    std::span<const TraceAccess> accesses;      ///< reads first, each kind by address
    const TraceRegisters* registers = nullptr;  ///< behind it; null: not in the trace
    const TraceRegisters* registers_before = nullptr;
    u32 changed = 0;  ///< which of them changed
    /// Instructions that it counts as.
    [[nodiscard]] u64 count() const { return iterations == 0 ? 1 : iterations; }
};

/// Something that happened between two instructions, or in the one that follows.
struct TraceEvent {
    u64 number = 0;
    u64 time = 0;
    TapEvent event;
};

}  // namespace vg::machine
