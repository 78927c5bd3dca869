// Code chunks of a trace: what was executed becomes bytes.
#pragma once

#include <map>
#include <unordered_map>

#include "machine/recording_file.h"
#include "machine/trace_model.h"

namespace vg::machine {

/// One chunk after another. What is added lies between two instructions, or is one.
class TraceEncoder {
  public:
    explicit TraceEncoder(TraceDetail detail) : detail_(detail) {}

    /// What follows begins here. Costs nothing where that is where the last thing ended.
    void at(u64 partition, u32 vp, u64 number, u64 time);
    /// How the VP of the last at() runs code now.
    void context(const TraceContext& context);
    /// @param run  its time is not looked at
    void ran(const cpu::TracedCode& code, const cpu::TracedRun& run);
    /// Values detail: of each access of the instruction that ran() told of last, in their order.
    void value(std::span<const u8> bytes);
    /// Registers detail, behind the values: state behind that instruction.
    void registers(const TraceRegisters& now);
    /// Registers of this VP before its next instruction, if they are not what the last one left.
    void registers_between(const TraceRegisters& now);
    /// In front of what follows, by whoever it was.
    void event(u64 number, u64 time, const TapEvent& event);

    /// It is time to take the chunk.
    [[nodiscard]] bool full() const {
        return bytes() >= trace_format::kChunkBytes || number_ - first_number_ >= trace_format::kChunkInstructions;
    }
    [[nodiscard]] bool empty() const { return !begun_; }
    /// What an Index says of a chunk.
    struct Summary {
        u64 offset = 0;  ///< in the file
        u64 first = 0,
            count = 0;  ///< instructions: number of the first, and how far behind it the chunk's last one ends
        u64 first_time = 0, last_time = 0;
        u64 executed = 0;  ///< instructions in it
        TapMask events = 0;
    };
    /// The chunk's content; the next one begins. Good until something is added.
    [[nodiscard]] std::span<const u8> take(Summary& summary);

    /// A repeated instruction was the last thing: what comes next may be more of it.
    [[nodiscard]] bool counting() const { return counting_; }
    /// Where code of this chunk is that was new in it: partition and RIP.
    [[nodiscard]] const std::vector<std::pair<u64, u64>>& fresh_code() const { return fresh_code_; }

  private:
    using Step = TraceModel::Step;
    /// Bytes that grow, with room made ahead of time.
    class Bytes {
      public:
        void room(std::size_t more) {
            if (used_ + more > data_.size()) data_.resize(2 * (used_ + more));
        }
        void put(u8 byte) { data_[used_++] = byte; }
        void number(u64 value) {
            for (; value >= 0x80; value >>= 7) put(static_cast<u8>(value | 0x80));
            put(static_cast<u8>(value));
        }
        void signed_number(u64 difference) {
            const auto value = static_cast<s64>(difference);
            number(static_cast<u64>(value) << 1 ^ static_cast<u64>(value >> 63));
        }
        void bytes(std::span<const u8> data) {
            room(data.size());
            std::copy(data.begin(), data.end(), data_.begin() + static_cast<std::ptrdiff_t>(used_));
            used_ += data.size();
        }
        [[nodiscard]] std::size_t size() const { return used_; }
        [[nodiscard]] std::span<const u8> data() const { return {data_.data(), used_}; }
        void clear() { used_ = 0; }

      private:
        std::vector<u8> data_;
        std::size_t used_ = 0;
    };
    struct Thread {
        u32 number = 0;  ///< in the model
        std::optional<TraceContext> context;
        TraceRegisters registers{};
    };
    /// A piece of code as this chunk numbers them, at an address.
    struct ByAddress {
        u64 serial, rip;
        bool operator==(const ByAddress&) const = default;
    };
    struct HashAddress {
        std::size_t operator()(const ByAddress& key) const {
            return (key.rip ^ key.serial << 48) * 0x9e3779b97f4a7c15 >> 16;
        }
    };

    Bytes& stream(trace_format::Stream which) { return streams_[static_cast<unsigned>(which)]; }
    [[nodiscard]] std::size_t bytes() const;
    void begin(u64 number, u64 time);
    Bytes& mark(trace_format::Mark kind, std::size_t room);
    void flush_flow();
    void flush_hits();
    void flush_count();
    void forget_chunk();
    [[nodiscard]] u32 place_of(const cpu::TracedCode& code, u64 rip, bool& fresh);
    void put_place(const TraceModel::Place& place);
    void put_step(const Step& step, bool fresh);
    void put_address(u32 site, u8 base, u64 address);
    [[nodiscard]] bool goes_on(const cpu::TracedCode& code, const cpu::TracedRun& run);
    void put_registers(Bytes& out, const TraceRegisters& now);

    const TraceDetail detail_;
    TraceModel model_;
    std::array<Bytes, trace_format::kStreams> streams_;
    std::vector<u8> taken_;
    std::unordered_map<ByAddress, u32, HashAddress> places_;
    std::map<std::pair<u64, u32>, Thread> threads_;
    Thread* thread_ = nullptr;
    u64 chunk_ = 1, serial_ = 0;  ///< in TracedCode::Tag
    std::vector<std::pair<u64, u64>> fresh_code_;
    bool begun_ = false;
    u64 first_number_ = 0, first_time_ = 0, number_ = 0, time_ = 0, last_time_ = 0, executed_ = 0, end_number_ = 0;
    u64 partition_ = ~u64{0};
    u32 vp_ = 0;
    TapMask events_ = 0;
    u64 last_rip_ = 0;  ///< of the last place
    std::array<std::array<u64, 4>, static_cast<unsigned>(TapKind::Count)> last_values_{};
    u32 flow_run_ = 0, hit_run_ = 0;
    // A repeated instruction that may go on: what is counted of it is not written yet.
    bool counting_ = false;
    u64 counted_ = 0, counted_rip_ = 0;
};

}  // namespace vg::machine
