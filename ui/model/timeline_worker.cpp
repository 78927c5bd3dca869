#include "ui/model/timeline_worker.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/process_copy.h"
#include "machine/debugger.h"
#include "ui/model/control_rules.h"
#include "ui/model/control_service.h"
#include "ui/model/inspect_symbols.h"

namespace vg::model {
namespace {

using machine::DebugStop;
using machine::Position;

/// Virtual time, or instructions, of one stretch of work between two looks at the channel.
constexpr u64 kStretch = 20'000'000;
constexpr int kSliceMs = 20;

/// `p` is at `target` or behind it.
bool reached(const Position& p, const Position& target) {
    if (p.instructions != target.instructions) return p.instructions > target.instructions;
    return target.in_round || p.time >= target.time;
}

class Worker {
  public:
    explicit Worker(std::shared_ptr<const machine::Recording> recording) : recording_(std::move(recording)), feed_(recording_) {}

    Result<void> build(machine::MachineOptions::EngineKind engine);
    [[noreturn]] void serve(MessageChannel channel);

  private:
    /// Something that takes a while.
    struct Task {
        enum class Kind : u8 { None, Goto, Scan, Steps } kind = Kind::None;
        Position target;
        SymbolPlace place;  ///< Steps: whose
        Json found;         ///< the last stop before the target, with its position
        u64 hits = 0;
        u64 number = 0;  ///< of the request, given back with its end
        bool inclusive = false;  ///< Scan: a stop exactly at the target counts too
    };

    void provide();
    Result<Json> answer(const Json& request);
    Result<Json> begin_goto(Arguments& arguments);
    Result<Json> begin_scan(Arguments& arguments);
    Result<Json> set_rules(Arguments& arguments);
    void work();
    bool goto_slice();
    bool scan_slice();
    bool steps_slice();
    void found(const Position& at, const DebugStop& stop);
    void finish(Json notice);
    bool leave_frame();
    /// In a key frame: waits to be branched from. Comes back in the copy that goes on.
    void wait_as_frame(MessageChannel own);
    DebugStop run(VTime limit, u64 instructions);
    [[nodiscard]] Position here() const { return Position::of(*machine_); }

    MessageChannel channel_;
    std::shared_ptr<const machine::Recording> recording_;
    machine::Replay feed_;
    ConsoleHistory console_;
    GuestSymbols symbols_;
    std::unique_ptr<machine::Machine> machine_;
    std::unique_ptr<machine::Debugger> debugger_;
    std::unique_ptr<ControlService> service_;
    std::vector<std::pair<u32, u32>> numbers_;  ///< a rule's number here, and for everybody else
    Task task_;
    u64 frame_interval_ = 0, last_frame_ = 0;
    bool branched_ = false;  ///< this copy has just begun, in the middle of leave_frame
};

Result<void> Worker::build(machine::MachineOptions::EngineKind engine) {
    machine::MachineOptions options;
    options.engine = engine;
    options.console = [this](const std::string& partition, u8 byte) { console_.put(partition, byte); };
    auto made = machine::Machine::create(recording_->config(), std::move(options));
    if (!made) return Unexpected{made.error()};
    machine_ = std::move(*made);
    feed_.attach(*machine_);
    debugger_ = std::make_unique<machine::Debugger>(*machine_);
    ControlOptions control;
    control.live = control.running = false;
    control.config = recording_->config().file;
    control.console = &console_;
    control.symbols = &symbols_;
    control.inspect_symbols = [this](const std::string& path) { return inspect_symbols(*machine_, symbols_, path); };
    control.runner.run = [this](VTime limit, u64 instructions) { return run(limit, instructions); };
    control.runner.step = [this](cpu::Vp& vp, VTime limit) {
        if (reached(here(), recording_->last())) return run(limit, machine::Scheduler::kNoCount);
        return debugger_->step(vp, limit);
    };
    service_ = std::make_unique<ControlService>(*machine_, *debugger_, std::move(control));
    service_->listen([this](const Json& notice) {
        Json told = notice;
        if (told.contains("stop") && told["stop"].contains("rule")) {
            for (const auto& [here, there] : numbers_)
                if (told["stop"]["rule"] == here) {
                    told["stop"]["rule"] = there;
                    break;
                }
        }
        channel_.send(told);
    });
    provide();
    return {};
}

/// As the debugger, up to the end of the recording.
DebugStop Worker::run(VTime limit, u64 instructions) {
    const Position last = recording_->last();
    const auto ended = [&] {
        DebugStop stop;
        stop.reason = DebugStop::Reason::Ended;
        stop.text = recording_->end() ? "the recording ends here: " + recording_->end()->text : "the recording ends here";
        return stop;
    };
    if (reached(here(), last)) return ended();
    if (last.in_round) instructions = std::min(instructions, last.instructions);
    else limit = std::min(limit, last.time);
    const DebugStop stop = debugger_->run(limit, instructions);
    return stop.reason != DebugStop::Reason::Rule && reached(here(), last) ? ended() : stop;
}

void Worker::provide() {
    service_->provide("timeline_goto", "task target", [this](Arguments& arguments) { return begin_goto(arguments); });
    service_->provide("timeline_scan", "task until steps here", [this](Arguments& arguments) { return begin_scan(arguments); });
    service_->provide("timeline_rules", "rules", [this](Arguments& arguments) { return set_rules(arguments); });
    service_->provide("timeline_frame", "", [this](Arguments&) -> Result<Json> { return Json{{"left", leave_frame()}}; });
    service_->provide("timeline_frames", "interval", [this](Arguments& arguments) -> Result<Json> {
        frame_interval_ = arguments.number("interval");
        return arguments.ok() ? Result<Json>(Json::object()) : Result<Json>(arguments.failure());
    });
}

Result<Json> Worker::begin_goto(Arguments& arguments) {
    task_ = {};
    task_.number = arguments.number("task");
    task_.target = position_of(arguments.object("target"));
    if (!arguments.ok()) return arguments.failure();
    task_.kind = Task::Kind::Goto;
    return Json::object();
}

Result<Json> Worker::begin_scan(Arguments& arguments) {
    task_ = {};
    task_.number = arguments.number("task");
    task_.target = position_of(arguments.object("until"));
    if (arguments.has("steps")) {
        const Json& place = arguments.object("steps");
        task_.place = {place.value("partition", u64{0}), place.value("vp", u32{0})};
    }
    if (!arguments.ok()) return arguments.failure();
    task_.inclusive = arguments.flag("here", false);
    task_.kind = arguments.has("steps") ? Task::Kind::Steps : Task::Kind::Scan;
    return Json::object();
}

Result<Json> Worker::set_rules(Arguments& arguments) {
    const Json& list = arguments.array("rules");
    if (!arguments.ok()) return arguments.failure();
    debugger_->clear();
    numbers_.clear();
    Json failed = Json::array();
    for (const Json& row : list) {
        const auto rule = parse_rule(row["rule"]);
        const auto number = rule ? debugger_->add(*rule) : Result<u32>(Unexpected{rule.error()});
        if (number) numbers_.emplace_back(*number, row["number"].get<u32>());
        else failed.push_back({{"number", row["number"]}, {"error", number.error().text}});
    }
    return Json{{"failed", failed}};
}

void Worker::found(const Position& at, const DebugStop& stop) {
    ++task_.hits;
    task_.found = {{"position", position_json(at)}, {"rule", 0}, {"text", stop.text}, {"who", stop.who}, {"address", stop.address}, {"write", stop.write}};
    task_.found["partition"] = stop.partition;
    if (stop.vp) task_.found["vp"] = *stop.vp;
    for (const auto& [here, there] : numbers_)
        if (here == stop.rule) task_.found["rule"] = there;
}

void Worker::finish(Json notice) {
    notice["event"] = "done";
    notice["task"] = task_.number;
    task_ = {};
    notice["position"] = position_json(here());
    channel_.send(notice);
}

bool Worker::goto_slice() {
    const Position& target = task_.target;
    if (target.in_round ? here().instructions >= target.instructions : here().time >= target.time && !here().in_round) {
        debugger_->pass_here();
        finish(Json::object());
        return false;
    }
    Position part = task_.target;
    if (part.in_round) part.instructions = std::min(part.instructions, machine_->instructions() + kStretch);
    else part.time = std::min(part.time, machine_->now() + kStretch);
    if (run_to(*machine_, part)) return true;
    finish({{"short", true}});
    return false;
}

bool Worker::scan_slice() {
    const Position target = task_.target;
    const u64 count = std::min(target.instructions, machine_->instructions() + kStretch);
    const VTime limit = target.in_round ? machine_->now() + kStretch : std::min(target.time, machine_->now() + kStretch);
    const DebugStop stop = debugger_->run(std::max(limit, machine_->now()), target.in_round || count < target.instructions ? count : machine::Scheduler::kNoCount);
    if (stop.reason == DebugStop::Reason::Rule && (!reached(here(), target) || (task_.inclusive && here().instructions == target.instructions))) found(here(), stop);
    const bool over = reached(here(), target) || stop.reason == DebugStop::Reason::Ended || stop.reason == DebugStop::Reason::Hang;
    if (over) finish({{"found", task_.found}, {"hits", task_.hits}});
    return !over;
}

/// Single steps of one VP, each a place where it could have stopped.
bool Worker::steps_slice() {
    const auto vps = machine_->scheduler().processors();
    const auto vp = std::find_if(vps.begin(), vps.end(), [&](const cpu::Vp* each) {
        return each->partition() == task_.place.partition && each->index() == task_.place.vp;
    });
    bool over = vp == vps.end() || reached(here(), task_.target);
    for (unsigned i = 0; i < 1000 && !over; ++i) {
        const Position before = here();
        const Position& target = task_.target;
        const DebugStop stop =
            target.in_round ? debugger_->step(**vp, kNever, target.instructions) : debugger_->step(**vp, target.time);
        over = reached(here(), task_.target) || (stop.reason != DebugStop::Reason::Step && stop.reason != DebugStop::Reason::Rule);
        // The VP's own instruction is the last of the step, so the place in front of it is one instruction earlier.
        if (stop.reason == DebugStop::Reason::Step) found({before.time, std::max(before.instructions, machine_->instructions() - 1), true}, stop);
    }
    if (over) finish({{"found", task_.found}, {"hits", task_.hits}});
    return !over;
}

void Worker::work() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kSliceMs);
    bool more = true;
    while (more && std::chrono::steady_clock::now() < deadline) {
        switch (task_.kind) {
            case Task::Kind::None: more = false; break;
            case Task::Kind::Goto: more = goto_slice(); break;
            case Task::Kind::Scan: more = scan_slice(); break;
            case Task::Kind::Steps: more = steps_slice(); break;
        }
        if (frame_interval_ != 0 && machine_->instructions() >= last_frame_ + frame_interval_) leave_frame();
    }
    if (service_->running()) (void)service_->advance(kSliceMs);
}

bool Worker::leave_frame() {
    last_frame_ = machine_->instructions();
    auto pair = MessageChannel::make_pair();
    if (!pair) return false;
    auto copy = copy_process();
    if (!copy) return false;
    if (*copy == 0) {
        pair->second.close();
        channel_.close();
        wait_as_frame(std::move(pair->first));
        return true;
    }
    pair->first.close();
    channel_.send({{"event", "frame"}, {"position", position_json(here())}}, pair->second.descriptor());
    return true;
}

void Worker::wait_as_frame(MessageChannel own) {
    while (true) {
        auto message = own.receive(-1);
        if (!message) {
            if (own.closed()) _exit(0);
            continue;
        }
        if (message->file < 0) continue;
        MessageChannel fresh(message->file);
        auto copy = copy_process();
        if (copy && *copy == 0) {
            own.close();
            channel_ = std::move(fresh);
            task_ = {};
            frame_interval_ = 0;
            debugger_->clear();
            numbers_.clear();
            service_->run_control().stop();
            branched_ = true;
            channel_.send({{"event", "ready"}, {"position", position_json(here())}});
            return;
        }
        if (!copy) fresh.send({{"event", "ready"}, {"error", copy.error().text}});
    }
}

void Worker::serve(MessageChannel channel) {
    channel_ = std::move(channel);
    channel_.send({{"event", "ready"}, {"position", position_json(here())}});
    while (!channel_.closed()) {
        const bool busy = task_.kind != Task::Kind::None || service_->running();
        if (auto message = channel_.receive(busy ? 0 : -1)) {
            if (message->file >= 0) ::close(message->file);
            const auto result = service_->call(message->json);
            if (std::exchange(branched_, false)) continue;  // nobody asked this copy
            Json reply = {{"reply", true}};
            if (result) reply["result"] = *result;
            else reply["error"] = result.error().text;
            channel_.send(reply);
            service_->tell_due();
            continue;
        }
        if (busy) work();
        branched_ = false;
    }
    _exit(0);
}

}  // namespace

Json position_json(const Position& position) {
    return {{"time", position.time}, {"instructions", position.instructions}, {"in_round", position.in_round}};
}

Position position_of(const Json& json) {
    return {json.value("time", VTime{0}), json.value("instructions", u64{0}), json.value("in_round", false)};
}

void serve_timeline(MessageChannel channel, std::shared_ptr<const machine::Recording> recording, machine::MachineOptions::EngineKind engine) {
    Worker worker(std::move(recording));
    if (auto ok = worker.build(engine); !ok) {
        channel.send({{"event", "ready"}, {"error", ok.error().text}});
        _exit(1);
    }
    worker.serve(std::move(channel));
}

}  // namespace vg::model
