// Code chunks of a trace: bytes become what was executed. Read as if an enemy had written them.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "base/result.h"
#include "machine/recording_file.h"
#include "machine/trace_model.h"

namespace vg::machine {

/// Goes through one chunk.
class TraceDecoder {
  public:
    /// @param raw  the chunk's content, good for as long as this object is used
    TraceDecoder(std::span<const u8> raw, TraceDetail detail);

    enum class Item : u8 { Instruction, Event, End, Damaged };
    /// The next one that is wanted. Behind Damaged, problem() says what is wrong.
    Item next();
    [[nodiscard]] const TraceInstruction& instruction() const { return out_; }
    [[nodiscard]] const TraceEvent& event() const { return event_; }
    [[nodiscard]] const std::string& problem() const { return problem_; }

    /// Instructions in other contexts are passed over. Asked once for each.
    void only(std::function<bool(const TraceContext&)> wanted) { wanted_ = std::move(wanted); }
    /// What begins outside of [first, end) is passed over, by number.
    void only(u64 first, u64 end) {
        first_wanted_ = first;
        end_wanted_ = end;
    }
    /// Instructions so far, also those that were passed over.
    [[nodiscard]] u64 executed() const { return executed_; }
    [[nodiscard]] u64 first_number() const { return first_number_; }
    [[nodiscard]] u64 end_number() const { return end_number_; }
    [[nodiscard]] u64 first_time() const { return first_time_; }
    [[nodiscard]] u64 last_time() const { return last_time_; }
    [[nodiscard]] std::size_t places() const { return model_.places(); }

  private:
    using Step = TraceModel::Step;
    struct Thread {
        u32 number = 0;
        TraceContext context;
        TraceRegisters registers{};
    };

    ByteReader& stream(trace_format::Stream which) { return streams_[static_cast<unsigned>(which)]; }
    bool damaged(std::string why);
    u8 byte(trace_format::Stream which);
    u64 signed_number(trace_format::Stream which);
    bool read_flow(bool& told);
    bool read_mark(bool& told);
    bool read_position();
    bool read_context();
    bool read_event(bool& told);
    bool read_place();
    bool read_accesses(cpu::TracedCode& code);
    bool take(Step step);
    bool read_address(u32 site, u8 base, u64& address);
    bool read_step_addresses();
    bool read_values();
    bool read_registers(trace_format::Stream which);
    bool tell_instruction(bool& told);
    void order_accesses();

    std::array<ByteReader, trace_format::kStreams> streams_;
    TraceDetail detail_;
    TraceModel model_;
    std::string problem_;
    std::map<std::pair<u64, u32>, Thread> threads_;
    Thread* thread_ = nullptr;
    bool wanted_now_ = true, ended_ = false;
    std::function<bool(const TraceContext&)> wanted_;
    u64 first_wanted_ = 0, end_wanted_ = ~u64{0};
    u64 first_number_ = 0, end_number_ = 0, first_time_ = 0, last_time_ = 0;
    u64 number_ = 0, time_ = 0, executed_ = 0, last_rip_ = 0;
    std::array<std::array<u64, 4>, static_cast<unsigned>(TapKind::Count)> last_values_{};
    u32 flow_run_ = 0, hit_run_ = 0;

    // The step that is being told, instruction by instruction.
    Step step_{};
    u32 at_ = 0, byte_at_ = 0, access_at_ = 0;
    u64 iterations_ = 1;
    std::vector<u64> addresses_;  ///< of all accesses of the place
    std::vector<TraceAccess> accesses_;
    TraceRegisters registers_{}, registers_before_{};
    TraceInstruction out_;
    TraceEvent event_;
};

}  // namespace vg::machine
