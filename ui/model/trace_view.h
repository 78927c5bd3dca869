// Goes through a trace's file: what is in a window and matches a filter, in order.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "machine/trace_file.h"
#include "ui/model/disassembler.h"
#include "ui/model/trace_filter.h"

namespace vg::model {

/// Takes what a trace holds, one after another. What it is given is good during the call.
class TraceSink {
  public:
    virtual ~TraceSink() = default;
    virtual void instruction(const machine::TraceInstruction& instruction) = 0;
    virtual void event(const machine::TraceEvent& event) = 0;
};

struct TraceQuery {
    TraceWindow window;
    TraceFilter filter;

    /// Error (Usage): the filter is wrong, or a symbol of the window was not executed.
    static Result<TraceQuery> create(const machine::TraceFile& file, const TraceWindow& window,
                                     std::string_view filter);
};

/// Pulls one after another; memory is that of one chunk.
class TraceCursor {
  public:
    TraceCursor(machine::TraceFile& file, const TraceQuery& query);

    enum class Item : u8 { Instruction, Event, End };
    /// The next that is wanted. Error (Damaged).
    Result<Item> next();
    [[nodiscard]] const machine::TraceInstruction& instruction() const { return decoder_->instruction(); }
    [[nodiscard]] const machine::TraceEvent& event() const { return decoder_->event(); }
    /// Chunks done and in all, for progress.
    [[nodiscard]] u64 done() const { return chunk_; }
    [[nodiscard]] u64 total() const { return file_.chunks().size(); }

  private:
    enum class Place : u8 { Before, Inside, Behind };
    [[nodiscard]] bool skips(const machine::TraceEncoder::Summary& chunk) const;
    Result<bool> open_next();
    [[nodiscard]] bool met(const TraceWindow::Bound& bound) const;
    [[nodiscard]] bool within();

    machine::TraceFile& file_;
    const TraceQuery& query_;
    std::vector<std::pair<u64, u64>> from_entries_, to_entries_;  ///< symbol bounds: partition and address
    std::size_t chunk_ = 0;
    machine::TraceDecoder* decoder_ = nullptr;
    bool is_event_ = false;
    bool inside_ = false, behind_ = false;
    u64 started_number_ = 0, started_time_ = 0;
};

/// Hands everything that is wanted to a sink. Error (Damaged).
/// @param look  told of chunks done and in all; false ends it
Result<void> walk_trace(machine::TraceFile& file, const TraceQuery& query, TraceSink& sink,
                        const std::function<bool(u64 done, u64 total)>& look);

/// "name+0x12 [module]", or "".
[[nodiscard]] std::string trace_symbol_text(const machine::TraceFile& file, u64 partition, u64 linear);

/// Instruction text, with a memory of what was asked before.
class TraceDisassembler {
  public:
    [[nodiscard]] const std::string& text(const machine::TraceInstruction& instruction);

  private:
    static constexpr std::size_t kMost = 1u << 16;
    struct Key {
        u64 linear, head, tail, mode;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        std::size_t operator()(const Key& key) const {
            return ((key.linear * 31 ^ key.head) * 31 ^ key.tail) * 31 ^ key.mode;
        }
    };
    Disassembler disassembler_;
    std::unordered_map<Key, std::string, Hash> known_;
};

}  // namespace vg::model
