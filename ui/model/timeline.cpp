#include "ui/model/timeline.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "ui/model/arguments.h"
#include "ui/model/control_rules.h"
#include "ui/model/timeline_worker.h"

namespace vg::model {
namespace {

using machine::Position;

bool before(const Position& a, const Position& b) {
    return a.instructions != b.instructions ? a.instructions < b.instructions : a.time < b.time;
}

Json stop_json(const char* reason, const std::string& text) { return {{"reason", reason}, {"text", text}}; }

}  // namespace

/// What the worker was asked to do last is over.
struct Timeline::Errand {
    virtual ~Errand() = default;
    /// Asks the worker for the next thing, or ends with `arrive`. @param done  the worker's notice; null at the beginning
    virtual Result<void> go_on(Timeline& timeline, const Json& done) = 0;
    /// What is added to the stop at the end.
    Json stop;
};

/// To a position, and there the errand ends.
struct Timeline::GotoErrand final : Errand {
    GotoErrand(const Position& where, Json with) : target(where) { stop = std::move(with); }
    Result<void> go_on(Timeline& timeline, const Json& done) override {
        if (!done.is_null() && !leaving) {
            timeline.arrive(stop);
            return {};
        }
        if (done.is_null()) {
            if (auto ok = timeline.branch_before(target); !ok) return ok;
        } else {
            leaving = false;
            if (auto ok = timeline.ask({{"op", "timeline_frame"}}); !ok) return Unexpected{ok.error()};
        }
        Position next = target;
        if (done.is_null() && target.instructions > kNear && target.instructions - kNear > timeline.position_.instructions + kNear) {
            next = {0, target.instructions - kNear, true};
            leaving = true;
        }
        return timeline.begin_task({{"op", "timeline_goto"}, {"target", position_json(next)}});
    }
    Position target;
    bool leaving = false;  ///< on the way to where a frame is left
};

/// To the last place before here where the rules, or steps of a VP, would have stopped.
struct Timeline::BackErrand final : Errand {
    Result<void> go_on(Timeline& timeline, const Json& done) override {
        if (arriving != nullptr) return arriving->go_on(timeline, done);
        if (std::exchange(staged, false)) return scan(timeline);
        if (!done.is_null() && done.contains("found") && done["found"].is_object()) {
            const Json& found = done["found"];
            for (const char* key : {"rule", "partition", "vp", "who", "address", "write", "text"})
                if (found.contains(key)) stop[key] = found[key];
            stop["reason"] = steps.is_null() ? "rule" : "step";
            if (stop.contains("address") && stop["address"].is_number()) stop["address"] = fmt::format("{:#x}", stop["address"].get<u64>());
            if (!steps.is_null()) {  // what was found is the end of the step that is undone
                stop.erase("address");
                stop["text"] = "one step back";
            }
            arriving = std::make_unique<GotoErrand>(position_of(found["position"]), stop);
            if (auto ok = timeline.send_rules(timeline.rules_); !ok) return ok;
            return arriving->go_on(timeline, nullptr);
        }
        if (!done.is_null()) until = begins;
        if (!before(Position{}, until) || until.instructions == 0) {
            stop = stop_json("start", steps.is_null() ? "the beginning: nothing before it matches" : "the beginning");
            arriving = std::make_unique<GotoErrand>(Position{}, stop);
            if (auto ok = timeline.send_rules(timeline.rules_); !ok) return ok;
            return arriving->go_on(timeline, nullptr);
        }
        // The stretch from the last frame in front of `until`.
        if (auto ok = timeline.branch_before({until.time, until.instructions - 1, true}); !ok) return ok;
        begins = timeline.position_;
        if (!steps.is_null() && until.instructions > begins.instructions + reach) {
            // Steps are slow: only so many at first.
            stage = {0, until.instructions - reach, true};
            begins = stage;
            reach *= 8;
            staged = true;
            return timeline.begin_task({{"op", "timeline_goto"}, {"target", position_json(stage)}});
        }
        return scan(timeline);
    }
    Result<void> scan(Timeline& timeline) {
        if (auto ok = timeline.send_rules(steps.is_null() ? rules : Json::array()); !ok) return ok;
        Json request = {{"op", "timeline_scan"}, {"until", position_json(until)}};
        if (!steps.is_null()) request["steps"] = steps;
        if (inclusive) request["here"] = true;
        inclusive = false;  // further stretches end where this one began
        return timeline.begin_task(request);
    }
    Json rules = Json::array();
    Json steps;          ///< {partition, vp}: instead of rules
    bool inclusive = false;  ///< what ends exactly here counts: who wrote what one sees
    Position until;      ///< only what lies in front of it counts
    Position begins;     ///< where the present stretch begins
    Position stage;
    u64 reach = 20'000;  ///< instructions
    bool staged = false;
    std::unique_ptr<GotoErrand> arriving;
};

Timeline::Timeline(std::shared_ptr<const machine::Recording> recording, MessageChannel worker)
    : recording_(std::move(recording)), worker_(std::move(worker)), last_stop_(stop_json("start", "the beginning")) {}

Timeline::~Timeline() {
    frames_.clear();
    worker_.close();
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
}

Result<std::unique_ptr<Timeline>> Timeline::start(std::shared_ptr<const machine::Recording> recording,
                                                  machine::MachineOptions::EngineKind engine) {
    auto pair = MessageChannel::make_pair();
    if (!pair) return Unexpected{pair.error()};
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);  // key frames outlive the workers that left them
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child < 0) return fail(Error::Code::Host, fmt::format("a process for the machine: {}", std::strerror(errno)));
    if (child == 0) {
        pair->first.close();
        serve_timeline(std::move(pair->second), std::move(recording), engine);
    }
    pair->second.close();
    std::unique_ptr<Timeline> timeline(new Timeline(std::move(recording), std::move(pair->first)));
    const auto ready = timeline->worker_.receive(-1);
    if (!ready) return fail(Error::Code::Internal, "the process of the machine ended while it was built");
    if (ready->json.contains("error")) return fail(Error::Code::Usage, ready->json["error"].get<std::string>());
    for (const Json& request : {Json{{"op", "timeline_frame"}}, Json{{"op", "timeline_frames"}, {"interval", kFrameInterval}}}) {
        if (auto ok = timeline->ask(request); !ok) return Unexpected{ok.error()};
    }
    if (timeline->frames_.empty()) return fail(Error::Code::Host, "no copy of the machine's process could be made");
    return timeline;
}

Result<Json> Timeline::ask(const Json& request) {
    if (!worker_.send(request)) return fail(Error::Code::Internal, "the process of the machine has ended");
    while (true) {
        auto message = worker_.receive(-1);
        if (!message) {
            if (worker_.closed()) return fail(Error::Code::Internal, "the process of the machine has ended");
            continue;
        }
        if (!message->json.contains("reply")) {
            take(std::move(*message));
            continue;
        }
        if (message->json.contains("error")) return fail(Error::Code::Usage, message->json["error"].get<std::string>());
        return message->json["result"];
    }
}

Result<void> Timeline::begin_task(Json request) {
    request["task"] = ++task_;
    auto asked = ask(request);
    return asked ? Result<void>{} : Result<void>(Unexpected{asked.error()});
}

void Timeline::take(MessageChannel::Message message) {
    if (message.json.value("event", "") == "frame") return keep_frame(position_of(message.json["position"]), message.file);
    if (message.file >= 0) ::close(message.file);
    pending_.push_back(std::move(message.json));
}

/// Notices are acted upon where no request waits for its reply.
void Timeline::take_pending() {
    while (!pending_.empty()) {
        const Json notice = std::move(pending_.front());
        pending_.pop_front();
        const std::string event = notice.value("event", "");
        if (event == "done") {
            position_ = position_of(notice["position"]);
            if (errand_ == nullptr || notice["task"] != task_) continue;
            if (auto ok = errand_->go_on(*this, notice); !ok) fail_errand(ok.error().text);
        } else if (event == "stopped") {
            running_ = false;
            position_ = position_of(notice["status"]);
            arrive(notice["stop"]);
        } else {
            notify(notice);
        }
    }
}

void Timeline::keep_frame(const Position& position, int file) {
    if (file < 0) return;
    const auto at = std::find_if(frames_.begin(), frames_.end(), [&](const Frame& frame) { return !before(frame.position, position); });
    if (at != frames_.end() && at->position == position) {
        ::close(file);  // there is one already; without its channel the copy ends
        return;
    }
    frames_.insert(at, Frame{position, MessageChannel(file)});
    thin_frames();
}

/// Frames are dense near the present and sparse far from it: the one goes whose loss makes the smallest gap for its
/// distance.
void Timeline::thin_frames() {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
    if (frames_.size() <= kMaxFrames) return;
    std::size_t loser = 1;
    double least = 1e300;
    for (std::size_t i = 1; i + 1 < frames_.size(); ++i) {
        const auto at = static_cast<double>(frames_[i].position.instructions);
        const auto gap = static_cast<double>(frames_[i + 1].position.instructions - frames_[i - 1].position.instructions);
        const double distance = std::abs(static_cast<double>(position_.instructions) - at) + static_cast<double>(kNear);
        if (gap / distance < least) {
            least = gap / distance;
            loser = i;
        }
    }
    frames_.erase(frames_.begin() + static_cast<std::ptrdiff_t>(loser));
}

Result<void> Timeline::branch(std::size_t frame) {
    auto pair = MessageChannel::make_pair();
    if (!pair) return Unexpected{pair.error()};
    if (!frames_[frame].channel.send({{"op", "branch"}}, pair->second.descriptor())) return fail(Error::Code::Internal, "a key frame has ended");
    pair->second.close();
    const auto ready = pair->first.receive(-1);
    if (!ready) return fail(Error::Code::Internal, "a key frame has ended");
    if (ready->json.contains("error")) return fail(Error::Code::Host, ready->json["error"].get<std::string>());
    worker_ = std::move(pair->first);  // the old one ends with its channel
    pending_.clear();
    running_ = false;
    position_ = frames_[frame].position;
    if (auto ok = ask({{"op", "timeline_frames"}, {"interval", kFrameInterval}}); !ok) return Unexpected{ok.error()};
    if (!watched_.is_null()) (void)ask(watched_);
    return send_rules(rules_);
}

Result<void> Timeline::branch_before(const Position& target) {
    std::size_t best = 0;
    for (std::size_t i = 0; i < frames_.size(); ++i) {
        const Position& at = frames_[i].position;
        const bool fits = target.in_round || target.instructions != 0 ? at.instructions < target.instructions || at == target
                                                                      : at.time <= target.time;
        if (fits) best = i;
    }
    const bool here = target.in_round || target.instructions != 0 ? position_.instructions <= target.instructions : position_.time <= target.time;
    // Where the worker is may be nearer than any frame.
    if (here && !before(position_, frames_[best].position)) return {};
    return branch(best);
}

Result<void> Timeline::send_rules(const Json& rules) {
    Json enabled = Json::array();
    for (const Json& row : rules) enabled.push_back({{"number", row["number"]}, {"rule", row["rule"]}});
    auto sent = ask({{"op", "timeline_rules"}, {"rules", enabled}});
    return sent ? Result<void>{} : Result<void>(Unexpected{sent.error()});
}

void Timeline::arrive(Json stop) {
    errand_.reset();
    last_stop_ = std::move(stop);
    const auto now = status();
    notify({{"event", "stopped"}, {"stop", last_stop_}, {"status", now ? *now : Json::object()}});
}

void Timeline::fail_errand(const std::string& why) { arrive(stop_json("asked", why)); }

Result<void> Timeline::begin(std::unique_ptr<Errand> errand) {
    if (busy()) return fail(Error::Code::Usage, "the machine runs; ask it to stop first");
    errand_ = std::move(errand);
    auto ok = errand_->go_on(*this, nullptr);
    if (!ok) errand_.reset();
    return ok;
}

Result<Json> Timeline::hello() {
    auto answer = ask({{"op", "hello"}});
    if (!answer) return answer;
    (*answer)["kind"] = "replay";
    (*answer)["reverse"] = true;
    return answer;
}

Result<Json> Timeline::status() {
    auto answer = ask({{"op", "status"}});
    if (!answer) return answer;
    (*answer)["stop"] = last_stop_;
    (*answer)["running"] = busy();
    (*answer)["end"] = position_json(recording_->last());
    (*answer)["history"] = {{"first", position_json({})}, {"last", position_json(recording_->last())}};
    return answer;
}

Result<Json> Timeline::add_rule(const Json& request) {
    Json rule = request.contains("rule") ? request["rule"] : request;
    rule.erase("id");
    rule.erase("op");
    auto parsed = parse_rule(rule);
    if (!parsed) return Unexpected{parsed.error()};
    // A linear watch is for what lies there now, wherever one goes: key frames may have other page tables.
    if (parsed->kind == machine::StopRule::Kind::Watch && !parsed->physical) {
        Json question = {{"op", "walk"}, {"address", rule["address"]}};
        for (const char* key : {"partition", "vp"})
            if (rule.contains(key)) question[key] = rule[key];
        auto walk = ask(question);
        if (!walk) return walk;
        if (!walk->contains("physical") || !(*walk)["physical"].is_string()) return fail(Error::Code::Usage, "the watched address is not mapped here");
        if ((parsed->address & (kPageSize - 1)) + parsed->size > kPageSize) return fail(Error::Code::Usage, "a watch in a replay lies in one page; add one for each");
        rule["address"] = (*walk)["physical"];
        rule["physical"] = true;
        rule.erase("vp");
    }
    Json rows = rules_;
    rows.push_back({{"number", next_rule_}, {"rule", rule}});
    auto sent = ask({{"op", "timeline_rules"}, {"rules", rows}});
    if (!sent) return sent;
    for (const Json& row : (*sent)["failed"]) {
        if (row["number"] != next_rule_) continue;
        const std::string why = row["error"];
        (void)send_rules(rules_);
        return fail(Error::Code::Usage, why);
    }
    rules_ = std::move(rows);
    return Json{{"number", next_rule_++}};
}

Result<Json> Timeline::change_rule(const Json& request, bool remove) {
    const auto at = std::find_if(rules_.begin(), rules_.end(), [&](const Json& row) { return request.contains("number") && row["number"] == request["number"]; });
    if (at == rules_.end()) return fail(Error::Code::Usage, fmt::format("there is no rule {}", request.contains("number") ? request["number"].dump() : ""));
    if (remove) rules_.erase(at);
    else (*at)["rule"]["enabled"] = request.value("enabled", true);
    if (auto ok = send_rules(rules_); !ok) return Unexpected{ok.error()};
    return Json::object();
}

Result<Json> Timeline::list_rules() {
    Json list = Json::array();
    for (const Json& row : rules_) list.push_back({{"number", row["number"]}, {"rule", row["rule"]}, {"hits", 0}});
    return list;
}

Result<Json> Timeline::go_to(const Json& request) {
    Arguments arguments(request);
    arguments.allow_only("id op instructions time");
    const auto instructions = arguments.optional_number("instructions"), time = arguments.optional_number("time");
    if (instructions.has_value() == time.has_value()) arguments.mistake("goto: name `instructions` or `time`");
    if (!arguments.ok()) return arguments.failure();
    Position target = instructions ? Position{0, *instructions, true} : Position{*time, 0, false};
    const Position last = recording_->last();
    if (instructions ? *instructions >= last.instructions : *time >= last.time) target = last;
    if (!instructions && *time == 0) target = {};
    if (auto ok = begin(std::make_unique<GotoErrand>(target, stop_json("asked", "gone to"))); !ok) return Unexpected{ok.error()};
    return Json::object();
}

Result<Json> Timeline::go_back(const Json& request) {
    auto errand = std::make_unique<BackErrand>();
    errand->until = position_;
    if (request["op"] == "reverse_step") {
        Arguments arguments(request);
        arguments.allow_only("id op partition vp count over");
        if (arguments.number("count", 1) != 1) arguments.mistake("reverse_step goes one step at a time");
        auto now = status();
        if (!now) return now;
        Json place = (*now)["focus"].is_object() ? (*now)["focus"] : Json{{"partition", 0}, {"vp", 0}};
        if (arguments.has("partition")) place["partition"] = arguments.number("partition");
        if (arguments.has("vp")) place["vp"] = arguments.number("vp");
        if (!arguments.ok()) return arguments.failure();
        errand->steps = {{"partition", place["partition"]}, {"vp", place["vp"]}};
    } else {
        errand->rules = rules_;
    }
    if (auto ok = begin(std::move(errand)); !ok) return Unexpected{ok.error()};
    return Json::object();
}

Result<Json> Timeline::last_write(const Json& request) {
    if (busy()) return fail(Error::Code::Usage, "the machine runs; ask it to stop first");
    Json rule = {{"kind", "watch"}, {"read", false}, {"write", true}};
    Arguments arguments(request);
    arguments.allow_only("id op partition vp space address size");
    const std::string space = arguments.text("space", "linear");
    if (space != "linear" && space != "physical") arguments.mistake("space is \"linear\" or \"physical\"");
    const u64 address = arguments.number("address");
    if (!arguments.ok()) return arguments.failure();
    rule["address"] = fmt::format("{:#x}", address);
    rule["size"] = request.value("size", Json(1));
    rule["physical"] = space == "physical";
    for (const char* key : {"partition", "vp"})
        if (request.contains(key)) rule[key] = request[key];
    if (!rule.contains("partition")) {
        auto now = status();
        if (now && (*now)["focus"].is_object()) {
            rule["partition"] = (*now)["focus"]["partition"];
            if (!rule.contains("vp")) rule["vp"] = (*now)["focus"]["vp"];
        }
    }
    const u32 number = next_rule_;
    auto added = add_rule(rule);
    if (!added) return added;
    auto errand = std::make_unique<BackErrand>();
    errand->until = position_;
    errand->inclusive = true;
    errand->rules.push_back(rules_.back());
    rules_.erase(rules_.size() - 1);
    next_rule_ = number;
    if (auto ok = begin(std::move(errand)); !ok) return Unexpected{ok.error()};
    return Json::object();
}

Result<Json> Timeline::stop() {
    if (errand_ != nullptr) {
        errand_.reset();
        // It is behind the beginning: there it stands.
        if (auto ok = begin_task({{"op", "timeline_goto"}, {"target", position_json({})}}); !ok) return Unexpected{ok.error()};
        if (auto ok = send_rules(rules_); !ok) return Unexpected{ok.error()};
        arrive(stop_json("asked", "asked to stop"));
        return Json::object();
    }
    return ask({{"op", "stop"}});
}

Result<Json> Timeline::forward(const Json& request) {
    auto answer = ask(request);
    if (!answer) return answer;
    const std::string op = request.value("op", "");
    if (op == "continue" || op == "step") running_ = true;
    if (op == "watch_events") {
        watched_ = request;
        watched_.erase("id");
    }
    return answer;
}

Result<Json> Timeline::call(const Json& request) {
    if (!request.is_object() || !request.contains("op") || !request["op"].is_string()) return fail(Error::Code::Usage, "a request is an object with an \"op\"");
    const std::string op = request["op"];
    if (op.rfind("timeline_", 0) == 0) return fail(Error::Code::Usage, fmt::format("there is no request \"{}\"", op));
    if (op == "hello") return hello();
    if (op == "status") return status();
    if (op == "breaks") return list_rules();
    if (op == "stop") return stop();
    if (errand_ != nullptr || running_) {
        for (const char* each : {"break_add", "break_remove", "break_enable", "continue", "step", "goto", "reverse_continue", "reverse_step", "last_write"})
            if (op == each) return fail(Error::Code::Usage, "the machine runs; ask it to stop first");
    }
    if (op == "break_add") return add_rule(request);
    if (op == "break_remove") return change_rule(request, true);
    if (op == "break_enable") return change_rule(request, false);
    if (op == "goto") return go_to(request);
    if (op == "reverse_continue" || op == "reverse_step") return go_back(request);
    if (op == "last_write") return last_write(request);
    return forward(request);
}

void Timeline::proceed(int max_host_ms) {
    take_pending();
    for (auto message = worker_.receive(max_host_ms); message; message = worker_.receive(0)) take(std::move(*message));
    take_pending();
    if (worker_.closed() && busy()) {
        running_ = false;
        errand_.reset();
        last_stop_ = stop_json("asked", "the process of the machine has ended; go somewhere to begin another");
        notify({{"event", "stopped"}, {"stop", last_stop_}, {"status", Json::object()}});
    }
}

}  // namespace vg::model
