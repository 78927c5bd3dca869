// A trace as lanes over time: the Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing load.
#include <fmt/format.h>

#include <map>
#include <set>

#include "ui/model/json_text.h"
#include "ui/model/trace_output.h"

namespace vg::model {

using machine::TraceContext;
using machine::TraceEvent;
using machine::TraceInstruction;

namespace {

/// A process for each partition; in it, for each VP, a lane of modes, one of functions, and one for each kind of event.
class PerfettoOutput final : public TraceOutput {
  public:
    PerfettoOutput(const machine::TraceFile& file, TraceWrite write) : file_(file), write_(std::move(write)) {
        put_text("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    }

    void instruction(const TraceInstruction& i) override {
        const TraceContext& context = *i.context;
        Vp& vp = vps_[{context.partition, context.vp}];
        const bool contiguous = vp.end == i.time;
        const bool same =
            (context.cpl == 3) == vp.user && context.level == vp.level && (!vp.user || context.cr3 == vp.cr3);
        if (!contiguous || !same) {
            end_slice(context.partition, context.vp, kModes, vp.mode, vp.mode_since, vp.end);
            vp.mode = mode_of(context);
            vp.user = context.cpl == 3;
            vp.level = context.level;
            vp.cr3 = context.cr3;
            vp.mode_since = i.time;
        }
        const machine::TraceSymbol* const symbol = file_.symbol(context.partition, i.linear);
        if (!contiguous || symbol != vp.function) {
            if (vp.function != nullptr)
                end_slice(context.partition, context.vp, kFunctions, vp.function->name, vp.function_since, vp.end);
            vp.function = symbol;
            vp.function_since = i.time;
        }
        vp.end = i.time + i.count();
    }
    void event(const TraceEvent& e) override {
        const TapRow& row = tap_row(e.event.kind);
        const bool of_vp = e.event.vp != TapEvent::kNoVp;
        const u64 lane = (of_vp ? lane_of(e.event.vp) : kMachineLanes) + kEvents + static_cast<u64>(e.event.kind);
        name_lane(e.event.partition, lane,
                  of_vp ? fmt::format("VP {} {}", e.event.vp, row.name) : std::string(row.name));
        Json args = Json::object();
        for (unsigned k = 0; k < 4; ++k)
            if (!row.fields[k].empty()) args[std::string(row.fields[k])] = hex(e.event.values[k]);
        put({{"ph", "i"},
             {"s", "t"},
             {"name", std::string(row.name)},
             {"cat", "event"},
             {"pid", e.event.partition},
             {"tid", lane},
             {"ts", static_cast<double>(e.time) / 1000},
             {"args", std::move(args)}});
    }
    void finish() override {
        for (const auto& [key, vp] : vps_) {
            end_slice(key.first, key.second, kModes, vp.mode, vp.mode_since, vp.end);
            if (vp.function != nullptr)
                end_slice(key.first, key.second, kFunctions, vp.function->name, vp.function_since, vp.end);
        }
        put_text("\n]}\n");
        write_(buffer_);
        buffer_.clear();
    }

  private:
    static constexpr u64 kModes = 0, kFunctions = 1, kEvents = 2, kLanes = 64;
    static constexpr u64 kMachineLanes = u64{1} << 31;  ///< of events that no VP makes
    struct Vp {
        std::string mode;
        bool user = false;
        u8 level = 0;
        u64 cr3 = 0;
        const machine::TraceSymbol* function = nullptr;
        u64 mode_since = 0, function_since = 0, end = ~u64{0};
    };

    static u64 lane_of(u32 vp) { return (u64{vp} & 0xffffff) * kLanes; }
    static std::string mode_of(const TraceContext& context) {
        std::string out = context.cpl == 3 ? fmt::format("user {:x}", context.cr3 >> 12) : "kernel";
        if (context.level != 0) out += fmt::format(" level {}", context.level);
        return out;
    }
    void name_lane(u64 partition, u64 lane, const std::string& name) {
        if (!named_.insert({partition, lane}).second) return;
        if (processes_.insert(partition).second) {
            const std::string process = partition == 0 ? "machine" : fmt::format("partition {}", partition);
            put({{"ph", "M"}, {"name", "process_name"}, {"pid", partition}, {"tid", 0}, {"args", {{"name", process}}}});
        }
        put({{"ph", "M"}, {"name", "thread_name"}, {"pid", partition}, {"tid", lane}, {"args", {{"name", name}}}});
    }
    void end_slice(u64 partition, u32 vp, u64 which, const std::string& name, u64 since, u64 end) {
        if (name.empty() || end <= since) return;
        const u64 lane = lane_of(vp) + which;
        name_lane(partition, lane, fmt::format("VP {} {}", vp, which == kModes ? "mode" : "function"));
        put({{"ph", "X"},
             {"name", name},
             {"cat", which == kModes ? "mode" : "function"},
             {"pid", partition},
             {"tid", lane},
             {"ts", static_cast<double>(since) / 1000},
             {"dur", static_cast<double>(end - since) / 1000}});
    }
    void put(const Json& value) {
        put_text(first_ ? "\n" : ",\n");
        first_ = false;
        put_text(json_line(value));
    }
    void put_text(std::string_view text) {
        constexpr std::size_t kEnough = 1u << 16;
        buffer_ += text;
        if (buffer_.size() < kEnough) return;
        write_(buffer_);
        buffer_.clear();
    }

    const machine::TraceFile& file_;
    TraceWrite write_;
    std::string buffer_;
    bool first_ = true;
    std::map<std::pair<u64, u32>, Vp> vps_;
    std::set<std::pair<u64, u64>> named_;
    std::set<u64> processes_;
};

}  // namespace

std::unique_ptr<TraceOutput> make_perfetto_output(const machine::TraceFile& file, TraceWrite write) {
    return std::make_unique<PerfettoOutput>(file, std::move(write));
}

}  // namespace vg::model
