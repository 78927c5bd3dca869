#include "ui/cli/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"

namespace vg::cli {

namespace {

/// Virtual time between looks at the host (input, Ctrl-C, control socket): a few host milliseconds of guest work.
constexpr VTime kHostCheckInterval = 2'000'000;
/// The same for a guest that slept through the last interval: fewer wake-ups of the host.
constexpr VTime kIdleCheckInterval = 20'000'000;
/// The same while frames go to and fro, and for how many looks without one it stays so.
constexpr VTime kNetworkCheckInterval = 200'000;
constexpr unsigned kNetworkQuietLooks = 100;
/// With a network, how far a guest that was slow may catch up on the wall clock: its peers do not wait.
constexpr double kNetworkCatchUp_s = 0.02;
/// Input that waits for the guest to take it; more is left to the host.
constexpr std::size_t kMaxWaiting = 64 * 1024;
/// A guest that waits for good may still be woken by input: how long a look at the console waits for some, milliseconds.
constexpr int kInteractiveWaitMs = 100, kPipeWaitMs = 1000;
/// How long a wait is while the machine stands (signals and limits are looked at in between), and how long clients have to
/// take what the end of a run tells them.
constexpr int kStandingWaitMs = 200, kFarewellMs = 500;
/// Clients of a service do not wait longer than this while the machine waits for frames.
constexpr int kClientWaitMs = 20;

}  // namespace

void Session::on_console(u8 byte) {
    console_->put(byte);
    if (marks_.empty()) mark("first console byte");
    script_.feed(byte, [this](std::string_view text) { to_send_ += text; });
    // Where the test proper starts, too: the budgets are exact only if they are set between instructions.
    const bool starts = !started_ && script_.started();
    const bool saves = snapshots_ != nullptr && snapshots_->on_console(byte);
    if (starts || saves || (script_.has_expectations() && script_.all_seen()) || !script_.failed().empty()) machine_->stop();
}

Verdict Session::run(machine::Machine& machine, const SessionServices& services, bool announce) {
    machine_ = &machine;
    idle_memory_.emplace(machine);
    services_ = services;
    start_ = SteadyClock::now();
    started_ = script_.started();
    started_at_ = machine.now();  // one that was restored has a past
    started_after_ = machine.instructions();
    console_->begin();
    const bool person = console_->interactive();
    if (announce && person) std::fputs("verdigris: Ctrl-A X leaves\n", stderr);
    const std::string& pace = machine.config().machine.pace;
    networked_ = machine.reaches_host();
    quiet_looks_ = kNetworkQuietLooks;
    paced_ = pace == "on" || (pace == "auto" && (networked_ || (person && !script_.has_expectations())));
    const auto ended = judge_outcome();  // one that was restored may have
    const Verdict verdict = ended ? *ended : loop();
    if (snapshots_ != nullptr) snapshots_->look(machine, true);
    console_.reset();  // the terminal's settings come back before anything else is printed
    farewell(verdict);
    return verdict;
}

Verdict Session::loop() {
    while (true) {
        const bool went_on = go_on();
        note_start();
        if (snapshots_ != nullptr) snapshots_->look(*machine_, false);
        console_->flush();
        if (recorder_ != nullptr) recorder_->look();
        serve();
        if (auto verdict = judge()) return *verdict;
        if (!went_on) {
            wait_standing();
            if (console_->leave()) return {kInterrupted, "left by Ctrl-A X"};
            continue;
        }
        const int wait_ms = milliseconds_to_wait(hung_);
        if (wait_ms > 0 && paced_) idle_memory_->step(wall_seconds());
        bool fed = networked_ && exchange_frames(wait_ms);
        const bool woken = !networked_ && wait_ms > 0 && wait(wait_ms);
        fed |= exchange_input(0);
        if (console_->leave()) return {kInterrupted, "left by Ctrl-A X"};
        if (!hung_ || fed || woken || may_be_woken() || interrupts() != 0) continue;
        const std::string text = "every processor waits and nothing will ever wake one";
        if (!attended()) return {kGuestHang, text + waiting()};
        services_.service->settle(machine::DebugStop::Reason::Hang, text);
    }
}

bool Session::go_on() {
    if (services_.service == nullptr) {
        const machine::Pause pause = machine_->run_until(next_limit(), snapshots_ != nullptr ? snapshots_->next_instructions() : machine::Scheduler::kNoCount);
        idle_ = pause == machine::Pause::Idle;
        hung_ = pause == machine::Pause::Hang;
        return true;
    }
    using Progress = model::RunControl::Progress;
    const Progress progress = services_.service->run(next_limit());
    idle_ = progress == Progress::Idle;
    hung_ = progress == Progress::Hang;
    return progress != Progress::Standing && progress != Progress::Stopped;
}

void Session::serve() {
    const VTime before = machine_->now();
    if (services_.control != nullptr) services_.control->serve(*services_.service);
    if (services_.gdb != nullptr) services_.gdb->serve(*services_.gdb_link);
    pace_lead_s_ += static_cast<double>(machine_->now() - before) / 1e9;  // a child that was taken in brought its time
}

/// Somebody is there who wants to look at a guest that waits for good.
bool Session::attended() const {
    return (services_.control != nullptr && services_.control->attended()) || (services_.gdb != nullptr && services_.gdb->connected());
}

void Session::wait_standing() {
    const auto since = SteadyClock::now();
    if (to_send_.size() < kMaxWaiting) to_send_ += console_->poll_input(0);
    if (!services_.service->running()) wait(kStandingWaitMs);
    // The machine does not catch up on the time it stood.
    pace_lead_s_ -= std::chrono::duration<double>(SteadyClock::now() - since).count();
    const auto& stop = services_.service->run_control().last_stop();
    if (stop && stop->reason == machine::DebugStop::Reason::Hang && !attended()) {
        services_.service->run_control().go(kNever, machine::Scheduler::kNoCount);  // nobody is left to look at it
    }
}

bool Session::wait(int most_ms) {
    if (services_.control != nullptr && services_.control->pending()) return true;
    std::vector<pollfd> list;
    if (services_.control != nullptr) services_.control->descriptors(list);
    if (services_.gdb != nullptr) services_.gdb->descriptors(list);
    if (to_send_.size() < kMaxWaiting) list.push_back({console_->input_descriptor(), POLLIN, 0});
    return ::poll(list.data(), list.size(), most_ms) > 0;  // a signal ends it
}

/// Clients hear how it ended before they see the end of the connection.
void Session::farewell(const Verdict& verdict) {
    if (services_.service == nullptr) return;
    services_.service->settle(machine::DebugStop::Reason::Ended, verdict.text);
    serve();
    if (services_.control != nullptr) services_.control->drain(kFarewellMs);
    if (services_.gdb != nullptr) services_.gdb->drain(kFarewellMs);
}

/// A person may type at any time; a run that something is waited for, or whose time is limited, does not wait for one.
bool Session::may_be_woken() const {
    return console_->interactive() && !script_.has_expectations() && time_limit() == 0;
}

void Session::mark(std::string name) {
    marks_.push_back({std::move(name), static_cast<double>(machine_->now()) / 1e9, wall_seconds()});
}

void Session::note_start() {
    if (started_ || !script_.started()) return;
    started_ = true;
    started_at_ = machine_->now();
    started_after_ = machine_->instructions();
    mark("test start");
}

VTime Session::time_limit() const {
    const machine::TestSection& test = limits_.test;
    const VTime budget = started_ || test.start_time.ns == 0 ? test.guest_time.ns : test.start_time.ns;
    return budget == 0 || budget > kNever - started_at_ ? 0 : started_at_ + budget;
}

u64 Session::instruction_limit() const {
    if (!started_ || limits_.instructions == 0 || limits_.instructions > ~u64{0} - started_after_) return 0;
    return started_after_ + limits_.instructions;
}

VTime Session::next_limit() const {
    const VTime interval = networked_ && quiet_looks_ < kNetworkQuietLooks ? kNetworkCheckInterval
                           : idle_                                         ? kIdleCheckInterval
                                                                           : kHostCheckInterval;
    VTime limit = machine_->now() + interval;
    if (snapshots_ != nullptr) limit = std::min(limit, snapshots_->next_time());
    if (time_limit() != 0) limit = std::min(limit, time_limit());
    if (instruction_limit() > machine_->instructions()) {
        limit = std::min<VTime>(limit, machine_->now() + instruction_limit() - machine_->instructions());
    }
    return limit;
}

int Session::milliseconds_to_wait(bool hung) {
    if (networked_ && hung && services_.service != nullptr) return kClientWaitMs;
    if (hung && networked_) return kPipeWaitMs;
    if (hung && to_send_.empty() && !console_->input_closed()) return console_->interactive() ? kInteractiveWaitMs : kPipeWaitMs;
    if (!paced_) return 0;
    double ahead = static_cast<double>(machine_->now()) / 1e9 - wall_seconds() - pace_lead_s_;
    if (networked_ && ahead < -kNetworkCatchUp_s) {
        pace_lead_s_ += ahead + kNetworkCatchUp_s;
        ahead = -kNetworkCatchUp_s;
    }
    return ahead > 0.001 ? static_cast<int>(std::min(ahead, 1.0) * 1000) : 0;
}

bool Session::exchange_input(int wait_ms) {
    if (to_send_.size() < kMaxWaiting) to_send_ += console_->poll_input(wait_ms);
    if (to_send_.empty()) return false;
    const std::size_t taken = machine_->console_input("", to_send_);
    to_send_.erase(0, taken);
    return taken != 0;
}

bool Session::exchange_frames(int wait_ms) {
    const bool got = machine_->exchange_frames(wait_ms);
    quiet_looks_ = got ? 0 : quiet_looks_ + 1;
    return got;
}

std::optional<Verdict> Session::judge() const {
    if (!script_.failed().empty()) return Verdict{kExpectationFailed, fmt::format("the console showed \"{}\"", script_.failed())};
    if (script_.has_expectations() && script_.all_seen()) return Verdict{kPass, "every expectation was seen"};
    if (auto verdict = judge_host()) return verdict;
    if (auto verdict = judge_outcome()) return verdict;
    return judge_limits();
}

std::optional<Verdict> Session::judge_host() const {
    if (interrupts() > 0) return Verdict{kInterrupted, "interrupted"};
    if (services_.gdb != nullptr && services_.gdb->killed()) return Verdict{kInterrupted, "ended by gdb"};
    if (!console_->failure()) return std::nullopt;
    return Verdict{console_->failure()->reader_gone ? kInterrupted : kHostCannot, console_->failure()->text};
}

std::optional<Verdict> Session::judge_outcome() const {
    using Kind = machine::Outcome::Kind;
    const machine::Outcome& outcome = machine_->outcome();
    switch (outcome.kind) {
        case Kind::None: return std::nullopt;
        case Kind::PoweredOff:
            if (script_.has_expectations() || !started_) return Verdict{kExpectationFailed, outcome.text + waiting()};
            return Verdict{kPass, outcome.text};
        case Kind::Reset:
            return Verdict{kExpectationFailed, outcome.text + "; a kernel that was loaded directly cannot be restarted" + waiting()};
        case Kind::Crashed: return Verdict{kGuestPanic, outcome.text};
        case Kind::Shutdown: return Verdict{kUnrecoverable, outcome.text};
        case Kind::DebugExit: {
            const u32 code = outcome.raw << 1 | 1;  // as the exit code of other emulators with this device
            return Verdict{code == limits_.test.pass_value ? kPass : kExpectationFailed, outcome.text};
        }
    }
    return std::nullopt;
}

std::optional<Verdict> Session::judge_limits() const {
    const machine::TestSection& test = limits_.test;
    if (time_limit() != 0 && machine_->now() >= time_limit()) {
        const machine::Duration budget{time_limit() - started_at_};
        return Verdict{kBudgetSpent, fmt::format("the guest time budget of {} is spent{}{}", to_string(budget),
                                                 started_ ? "" : ", before the test started", waiting())};
    }
    if (instruction_limit() != 0 && machine_->instructions() >= instruction_limit()) {
        return Verdict{kBudgetSpent, fmt::format("the budget of {} instructions is spent{}", limits_.instructions, waiting())};
    }
    if (test.wall_time.ns != 0 && wall_seconds() * 1e9 >= static_cast<double>(test.wall_time.ns)) {
        return Verdict{kWallLimit, fmt::format("the wall time limit of {} is reached{}", to_string(test.wall_time), waiting())};
    }
    return std::nullopt;
}

std::string Session::waiting() const {
    const std::string source = script_.waiting_for();
    return source.empty() ? "" : fmt::format("; still waiting for \"{}\"", source);
}

}  // namespace vg::cli
