// What of a trace is wanted: a filter expression, and a window.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "machine/trace_file.h"

namespace vg::model {

/// An expression over instructions and events, compiled once. Terms that are about instructions do not hold for events,
/// and the other way round.
///
///   partition == 2 and (cpl == 3 or event == hypercall)
///   symbol == do_sys_open or memory in 0xfee00000..0xfee01000 and not read
///
/// Numbers: partition, vp, cpl, level, cr3, pc (== != < <= > >= in A..B, the end excluded) and memory (== in): some
/// byte of an access lies there. Names: symbol == NAME: in that function; module == NAME; event == KIND. Alone: user,
/// kernel, event, instruction, read, write.
class TraceFilter {
  public:
    /// @param symbols  where names are looked up
    /// Error (Usage): what is wrong, with the column.
    static Result<TraceFilter> compile(std::string_view text, const std::vector<machine::TraceSymbol>& symbols);
    /// Takes everything.
    TraceFilter() = default;

    [[nodiscard]] bool matches(const machine::TraceInstruction& instruction) const;
    [[nodiscard]] bool matches(const machine::TraceEvent& event) const;
    /// False: no instruction in this context matches.
    [[nodiscard]] bool possible(const machine::TraceContext& context) const;
    /// Names symbols: whoever compiles it wants to have them first.
    [[nodiscard]] static bool names_symbols(std::string_view text);

  private:
    friend class TraceFilterParser;
    enum class Field : u8 {
        Partition,
        Vp,
        Cpl,
        Level,
        Cr3,
        Pc,
        Memory,
        Code,
        Event,
        IsEvent,
        IsInstruction,
        Reads,
        Writes
    };
    enum class Kind : u8 { And, Or, Not, Test };
    enum class Truth : u8 { No, Maybe, Yes };
    struct Range {
        u64 partition = 0, first = 0, end = 0;
    };
    struct Node {
        Kind kind = Kind::Test;
        Field field = Field::Partition;
        u32 left = 0, right = 0;
        u64 first = 0, last = 0;  ///< values that match, both included
        bool outside = false;     ///< those that do not
        std::vector<Range> code;
    };
    struct Subject {
        const machine::TraceContext* context = nullptr;
        const machine::TraceInstruction* instruction = nullptr;
        const machine::TraceEvent* event = nullptr;
    };
    [[nodiscard]] Truth test(const Node& node, const Subject& subject) const;
    [[nodiscard]] Truth evaluate(u32 index, const Subject& subject) const;
    std::vector<Node> nodes_;
    u32 root_ = 0;
};

/// Where a trace is looked at: from a first bound on, up to a second one, which is not in it.
struct TraceWindow {
    struct Bound {
        enum class Kind : u8 { None, Instruction, Time, Event, Symbol };
        Kind kind = Kind::None;
        u64 value = 0;          ///< Instruction, Time
        bool relative = false;  ///< counted from the first bound
        std::string name;       ///< Event: its kind; Symbol: a function that is entered
    };
    Bound from, to;

    /// `A..B`, either of which may be left out: 5000000, 5M, 1.5s, event:hypercall, symbol:start_kernel; B also +1000
    /// or +2ms. Error (Usage).
    static Result<TraceWindow> parse(const std::string& text);
    [[nodiscard]] bool names_symbols() const {
        return from.kind == Bound::Kind::Symbol || to.kind == Bound::Kind::Symbol;
    }
};

}  // namespace vg::model
