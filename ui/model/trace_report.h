// What a trace is made of, and where two differ.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "ui/model/control_link.h"
#include "ui/model/trace_output.h"

namespace vg::model {

/// Counts what it is given.
class TraceStatistics final : public TraceSink {
  public:
    explicit TraceStatistics(const machine::TraceFile& file) : file_(file) {}
    void instruction(const machine::TraceInstruction& instruction) override;
    void event(const machine::TraceEvent& event) override;
    /// For people, and as an object. @param top  how many functions and pages
    [[nodiscard]] std::string text(std::size_t top) const;
    [[nodiscard]] Json json(std::size_t top) const;

  private:
    struct Named {
        std::string name;
        u64 count;
    };
    [[nodiscard]] std::vector<Named> functions(std::size_t top) const;
    [[nodiscard]] std::vector<Named> pages(std::size_t top) const;
    [[nodiscard]] double bytes_per_instruction() const;

    const machine::TraceFile& file_;
    u64 instructions_ = 0, records_ = 0, user_ = 0, blocks_ = 0, reads_ = 0, writes_ = 0, first_time_ = ~u64{0},
        last_time_ = 0;
    u64 first_number_ = ~u64{0}, last_number_ = 0;
    std::pair<u64, u32> last_vp_{~u64{0}, 0};
    u64 next_linear_ = 0;
    std::unordered_map<const machine::TraceSymbol*, u64> functions_;
    std::map<std::pair<u64, u64>, u64> pages_;  ///< by partition and page; at most kMostPages
    static constexpr std::size_t kMostPages = 1u << 20;
    std::map<std::pair<u64, u32>, u64> vps_;
    std::pair<u64, u32> counted_vp_{};
    std::pair<u64, u64> counted_page_{};
    const machine::TraceSymbol* last_symbol_ = nullptr;
    u64 *last_count_ = nullptr, *last_function_ = nullptr, *last_page_ = nullptr;  ///< into the tables: they keep their places
    u64 other_pages_ = 0;
    std::array<u64, static_cast<unsigned>(TapKind::Count)> events_{};
};

/// Where two traces of the same kind of run part.
struct TraceDifference {
    bool equal = true;
    u64 compared = 0;                 ///< instructions and events that were equal
    u64 number = 0;                   ///< instruction at which they part
    std::string what;                 ///< "instruction", "accesses", "event", "registers", "end"
    std::string first, second;        ///< the lines that differ; "": it has ended
    std::vector<std::string> before;  ///< lines before, from the first trace
    std::vector<std::string> behind_first, behind_second;
    u64 left_first = 0, left_second = 0;  ///< what each has behind the difference, the differing line included
    /// For people.
    [[nodiscard]] std::string text(const std::string& first_name, const std::string& second_name) const;
};

/// Compares two traces instruction by instruction, from the first number that both have. What only one of them holds
/// (accesses, registers, kinds of events) is not compared. Error (Damaged, Usage).
/// @param lines  how many lines of context
Result<TraceDifference> compare_traces(machine::TraceFile& first, machine::TraceFile& second, const TraceWindow& window,
                                       std::string_view filter, std::size_t lines,
                                       const std::function<bool(u64 done, u64 total)>& look);

}  // namespace vg::model
