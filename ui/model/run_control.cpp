#include "ui/model/run_control.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "cpu/decode.h"
#include "cpu/isa/isa.h"
#include "ui/model/vp_memory.h"

namespace vg::model {
namespace {

using machine::DebugStop;
using machine::StopRule;

/// How long one stretch of single steps may keep its caller, host time.
constexpr std::chrono::milliseconds kStepTime{10};

std::optional<cpu::Insn> next_instruction(const FoundVp& at) {
    const u64 linear = at.vp->state().segment(cpu::Seg::CS).base + at.vp->state().rip;
    const std::string bytes = read_bytes(at, Space::Linear, linear, cpu::kMaxInsnLength);
    cpu::Insn insn;
    const std::span<const u8> code(reinterpret_cast<const u8*>(bytes.data()), bytes.size());
    if (bytes.empty() || cpu::decode(code, at.vp->code_mode(), insn) != cpu::DecodeStatus::Ok) return std::nullopt;
    return insn;
}

bool is_call(const cpu::Insn& insn) { return insn.op == cpu::Op::CALL || insn.op == cpu::Op::CALL_FAR; }
bool is_repeated(const cpu::Insn& insn) {
    return insn.rep != cpu::Rep::None && (cpu::row(insn.row).attributes & cpu::attr::String) != 0;
}

}  // namespace

RunControl::RunControl(machine::Machine& machine, machine::Debugger& debugger, Runner runner, bool running)
    : machine_(machine), debugger_(debugger), runner_(std::move(runner)), mode_(running ? Mode::Going : Mode::Standing) {
    if (!runner_.run) runner_.run = [this](VTime limit, u64 instructions) { return debugger_.run(limit, instructions); };
    if (!runner_.step) runner_.step = [this](cpu::Vp& vp, VTime limit) { return debugger_.step(vp, limit); };
}

void RunControl::go(VTime time, u64 instructions) {
    end_over();
    time_ = time;
    instructions_ = instructions;
    mode_ = Mode::Going;
}

void RunControl::step(const Steps& steps) {
    end_over();
    steps_ = steps;
    mode_ = Mode::Stepping;
}

bool RunControl::stop() {
    if (!running()) return false;
    settle(DebugStop::Reason::Asked, "stopped because it was asked for");
    return true;
}

void RunControl::settle(DebugStop::Reason reason, std::string text) {
    DebugStop stop;
    stop.reason = reason;
    if (const auto at = focus()) {
        stop.partition = at->partition;
        stop.vp = at->vp;
    }
    stop.text = std::move(text);
    finish(std::move(stop));
}

std::optional<SymbolPlace> RunControl::focus() {
    if (last_ && last_->vp && find_vp(machine_, {last_->partition, *last_->vp}) && !running()) {
        return SymbolPlace{last_->partition, *last_->vp};
    }
    if (const auto place = place_of(machine_, debugger_.focus())) return place;
    for (const FoundPartition& partition : find_partitions(machine_))
        if (!partition.vps.empty()) return partition.vps.front().place();
    return std::nullopt;
}

RunControl::Progress RunControl::finish(DebugStop stop) {
    end_over();
    mode_ = Mode::Standing;
    last_ = std::move(stop);
    return Progress::Stopped;
}

RunControl::Progress RunControl::run(VTime limit) {
    if (!running()) return Progress::Standing;
    if (machine_.outcome().kind != machine::Outcome::Kind::None) {
        settle(DebugStop::Reason::Ended, machine_.outcome().text);
        return Progress::Stopped;
    }
    if (mode_ == Mode::Going) return judge(runner_.run(std::min(limit, time_), instructions_));
    if (over_) return judge(runner_.run(limit, machine::Scheduler::kNoCount));
    const auto deadline = std::chrono::steady_clock::now() + kStepTime;
    while (true) {
        const auto at = find_vp(machine_, steps_.place);
        if (!at) {
            settle(DebugStop::Reason::Step, "the VP that was being stepped is gone");
            return Progress::Stopped;
        }
        const Progress progress = step_once(*at, limit);
        if (progress != Progress::Ran || mode_ != Mode::Stepping || over_) return progress;
        if (machine_.now() >= limit || std::chrono::steady_clock::now() >= deadline) return Progress::Ran;
    }
}

RunControl::Progress RunControl::step_once(const FoundVp& at, VTime limit) {
    if (steps_.over) begin_over(at);
    if (over_) return judge(runner_.run(limit, machine::Scheduler::kNoCount));
    const DebugStop stop = runner_.step(*at.vp, limit);
    return stop.reason == DebugStop::Reason::Step ? stepped(at, stop) : judge(stop);
}

RunControl::Progress RunControl::stepped(const FoundVp& at, const DebugStop& stop) {
    if (machine_.outcome().kind != machine::Outcome::Kind::None) return judge(stop);
    const auto still = find_vp(machine_, at.place());
    if (!still) return finish(stop);
    const u64 rip = still->vp->state().rip;
    if (steps_.range && (rip < steps_.range->first || rip >= steps_.range->second)) return finish(stop);
    if (--steps_.count == 0) return finish(stop);
    return Progress::Ran;
}

/// What a stop means for what was asked for.
RunControl::Progress RunControl::judge(const DebugStop& stop) {
    if (machine_.outcome().kind != machine::Outcome::Kind::None) {
        settle(DebugStop::Reason::Ended, machine_.outcome().text);
        return Progress::Stopped;
    }
    switch (stop.reason) {
        case DebugStop::Reason::Rule: {
            if (!over_ || stop.rule != over_->rule) return finish(stop);
            const auto at = find_vp(machine_, steps_.place);
            if (at && over_->call && at->vp->state().gpr[cpu::RSP] < over_->rsp) return Progress::Ran;
            end_over();
            DebugStop done = stop;
            done.reason = DebugStop::Reason::Step;
            done.text = at ? fmt::format("stepped to 0x{:x}", at->vp->state().rip) : "stepped";
            return at ? stepped(*at, done) : finish(done);
        }
        case DebugStop::Reason::Step:
        case DebugStop::Reason::Ended:
            return finish(stop);
        case DebugStop::Reason::Hang:
            return Progress::Hang;
        case DebugStop::Reason::Asked:
            return Progress::Ran;  // the machine's own pause: input, frames
        case DebugStop::Reason::Limit:
        case DebugStop::Reason::Idle:
            break;
    }
    if (mode_ == Mode::Going && (machine_.now() >= time_ || machine_.instructions() >= instructions_)) {
        settle(DebugStop::Reason::Limit, "the place that was asked for is reached");
        return Progress::Stopped;
    }
    return stop.reason == DebugStop::Reason::Idle ? Progress::Idle : Progress::Ran;
}

void RunControl::begin_over(const FoundVp& at) {
    const auto insn = next_instruction(at);
    if (!insn || !(is_call(*insn) || is_repeated(*insn))) return;
    const cpu::VpState& state = at.vp->state();
    StopRule rule;
    rule.kind = StopRule::Kind::Address;
    rule.address = state.segment(cpu::Seg::CS).base + state.rip + insn->length;
    rule.partition = at.partition_id;
    rule.vp = at.vp->index();
    if ((state.cr0 & cpu::cr0::PG) != 0) rule.cr3 = state.cr3;
    const auto number = debugger_.add(rule);
    if (number) over_ = Over{*number, state.gpr[cpu::RSP], is_call(*insn)};
}

void RunControl::end_over() {
    if (over_) (void)debugger_.remove(over_->rule);
    over_.reset();
}

}  // namespace vg::model
