#include "ui/model/desk/session.h"

#include <fmt/format.h>

#include <algorithm>

namespace vg::desk {

namespace {

/// How often a running machine is looked at.
constexpr auto kLook = std::chrono::milliseconds(200);
constexpr std::size_t kMaxMessages = 1000, kMaxPartitions = 4096, kMaxVps = 1024;

std::optional<Moment> moment(const Json& position) {
    if (!position.is_object()) return {};
    return Moment{number(position, "time"), number(position, "instructions")};
}

VpRow vp_row(const Json& vp) {
    return {static_cast<u32>(number(vp, "index")),
            words(vp, "name", 64),
            words(vp, "activity", 64),
            number(vp, "rip"),
            static_cast<unsigned>(number(vp, "cpl") & 3),
            static_cast<unsigned>(number(vp, "mode", 64) & 127)};
}

}  // namespace

void Session::attach(std::unique_ptr<ControlLink> link, std::string target) {
    detach();
    link_ = std::make_unique<LinkThread>(std::move(link));
    target_ = std::move(target);
    ask({{"op", "hello"}}, [this](Result<Json> answer) {
        if (!answer) return lost(answer.error().text);
        take_hello(*answer);
    });
    ask_state();
}

void Session::detach() {
    link_.reset();
    target_.clear();
    trouble_.clear();
    outcome_.clear();
    moving_.clear();
    ready_ = running_ = reverse_ = asking_status_ = false;
    end_.reset();
    told_at_.reset();
    history_.reset();
    stop_.reset();
    partitions_.clear();
    focus_ = {};
    now_ = {};
    changed();
}

void Session::ask(Json request, Reply reply) {
    if (link_)
        link_->ask(std::move(request), std::move(reply));
    else
        reply(fail(Error::Code::Usage, "no machine is open"));
}

bool Session::pump(Clock::time_point now) {
    if (!link_) return false;
    changed_in_pump_ = false;
    const std::size_t came = link_->deliver([this](const Json& notice) { take_notice(notice); });
    if (running_ && trouble_.empty() && !asking_status_ && now - asked_status_ >= kLook) {
        asked_status_ = now;
        ++epoch_;
        ask_state();
    }
    return came != 0 || changed_in_pump_;
}

void Session::ask_state() {
    asking_status_ = true;
    ask({{"op", "status"}}, [this, moves = moves_](Result<Json> answer) {
        asking_status_ = false;
        if (answer && moves != moves_) return;
        if (answer)
            take_status(*answer, partitions_.empty());
        else if (answer.error().code == Error::Code::Host)
            lost(answer.error().text);
    });
    ask({{"op", "partitions"}}, [this](Result<Json> answer) {
        if (answer) take_partitions(*answer);
    });
}

void Session::lost(const std::string& why) {
    if (!trouble_.empty()) return;
    trouble_ = why.empty() ? "the connection is gone" : shown(why, 400);
    running_ = false;
    moving_.clear();
    say(trouble_, Tone::Bad);
}

void Session::take_hello(const Json& hello) {
    const u64 protocol = number(hello, "protocol");
    if (protocol != 1) return lost(fmt::format("the other side speaks protocol {}, this program speaks 1", protocol));
    ready_ = true;
    version_ = words(hello, "version", 64);
    kind_ = words(hello, "kind", 32);
    reverse_ = truth(hello, "reverse");
    say(fmt::format("{}: a {} machine, verdigris {}", shown(target_), kind_, version_), Tone::Quiet);
}

void Session::take_status(const Json& status, bool follow) {
    if (!status.is_object()) return;
    running_ = truth(status, "running");
    if (!running_) moving_.clear();
    now_ = {number(status, "time"), number(status, "instructions")};
    end_ = moment(member(status, "end"));
    const Json& outcome = member(status, "outcome");
    outcome_ = words(outcome, "kind", 32) == "none" ? "" : words(outcome, "text", 200);
    if (outcome_.empty() && words(outcome, "kind", 32) != "none") outcome_ = words(outcome, "kind", 32);
    const auto first = moment(member(member(status, "history"), "first")),
               last = moment(member(member(status, "history"), "last"));
    if (first && last)
        history_ = {*first, *last};
    else
        history_.reset();
    if (member(status, "stop").is_object()) take_stop(member(status, "stop"));
    const Json& focus = member(status, "focus");
    if (focus.is_object() && follow) focus_ = {number(focus, "partition"), static_cast<u32>(number(focus, "vp"))};
    if (running_)
        told_at_.reset();
    else
        note_stop();
    changed_in_pump_ = true;
}

/// A stop is heard of by a status and by its notice, in either order; panels compare with the stop before, so it counts
/// once.
void Session::note_stop() {
    if (told_at_ && told_at_->time_ns == now_.time_ns && told_at_->instructions == now_.instructions) return;
    told_at_ = now_;
    changed();
}

void Session::take_stop(const Json& stop) {
    StopInfo info;
    info.reason = words(stop, "reason", 32);
    info.text = words(stop, "text", 400);
    info.who = words(stop, "who", 128);
    info.rule = static_cast<u32>(number(stop, "rule"));
    info.address = number(stop, "address");
    if (has_number(stop, "partition"))
        info.where = VpId{number(stop, "partition"), static_cast<u32>(number(stop, "vp"))};
    stop_ = std::move(info);
}

void Session::take_partitions(const Json& list) {
    std::vector<PartitionRow> rows;
    for (const Json* partition : items(list, kMaxPartitions)) {
        PartitionRow row{number(*partition, "id"), words(*partition, "name", 64), words(*partition, "kind", 16), {}};
        for (const Json* vp : items(member(*partition, "vps"), kMaxVps)) row.vps.push_back(vp_row(*vp));
        rows.push_back(std::move(row));
    }
    partitions_ = std::move(rows);
    if (!focused() && !partitions_.empty()) {
        for (const PartitionRow& row : partitions_) {
            if (row.vps.empty()) continue;
            set_focus({row.id, row.vps.front().index});
            break;
        }
    }
    changed_in_pump_ = true;
}

void Session::take_notice(const Json& notice) {
    if (words(notice, "event") != "stopped") return;
    take_status(member(notice, "status"), true);
    running_ = false;
    moving_.clear();
    if (member(notice, "stop").is_object()) take_stop(member(notice, "stop"));
    if (stop_)
        say(stop_->text.empty() ? "stopped: " + stop_->reason : stop_->text,
            stop_->reason == "rule" ? Tone::Accent : Tone::Plain);
    ++epoch_;
    ask_state();
    changed_in_pump_ = true;
}

void Session::set_focus(VpId focus) {
    if (focus == focus_) return;
    focus_ = focus;
    ++epoch_;
}

const VpRow* Session::focused() const {
    for (const PartitionRow& partition : partitions_) {
        if (partition.id != focus_.partition) continue;
        for (const VpRow& vp : partition.vps)
            if (vp.index == focus_.vp) return &vp;
    }
    return nullptr;
}

void Session::move(Json request, std::string what, std::optional<u64> target_instructions) {
    if (running_) return;
    running_ = true;
    told_at_.reset();
    ++moves_;
    moving_ = std::move(what);
    moving_since_ = Clock::now();
    moving_from_ = now_.instructions;
    moving_to_ = target_instructions;
    asked_status_ = moving_since_;
    ask(std::move(request), [this](Result<Json> answer) {
        if (answer) return;
        running_ = false;
        moving_.clear();
        if (answer.error().code == Error::Code::Host) return lost(answer.error().text);
        say(shown(answer.error().text, 400), Tone::Bad);
        ask_state();
    });
}

void Session::interrupt() {
    ask({{"op", "stop"}}, [this](Result<Json> answer) {
        if (!answer) say(shown(answer.error().text, 400), Tone::Bad);
    });
}

void Session::change(Json request, std::function<void(const Json&)> done) {
    ask(std::move(request), [this, done = std::move(done)](Result<Json> answer) {
        if (!answer) return say(shown(answer.error().text, 400), Tone::Bad);
        changed();
        if (done) done(*answer);
    });
}

std::optional<Session::Progress> Session::progress() const {
    if (moving_.empty()) return {};
    Progress progress{moving_, moving_since_, -1};
    if (moving_to_ && *moving_to_ != moving_from_) {
        const double whole = static_cast<double>(*moving_to_) - static_cast<double>(moving_from_);
        progress.part = static_cast<float>(
            std::clamp((static_cast<double>(now_.instructions) - static_cast<double>(moving_from_)) / whole, 0.0, 1.0));
    }
    return progress;
}

void Session::say(std::string text, Tone tone) {
    messages_.push_back({std::move(text), tone});
    if (messages_.size() > kMaxMessages) messages_.pop_front();
}

}  // namespace vg::desk
