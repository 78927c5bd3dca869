#include "machine/debugger.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "cpu/breakpoints.h"
#include "cpu/spec/bits.h"
#include "devices/core/requester.h"
#include "hv/hypervisor.h"
#include "machine/debug_watch.h"

namespace vg::machine {

namespace {

using Kind = StopRule::Kind;
using Reason = DebugStop::Reason;

constexpr u64 kCr3Address = 0x000f'ffff'ffff'f000;  ///< bits 51:12

std::string name_of(u64 partition, u32 vp) {
    return partition == 0 ? fmt::format("VP {}", vp) : fmt::format("VP {} of partition {}", vp, partition);
}
std::string name_of(const cpu::Vp& vp) { return name_of(vp.partition(), vp.index()); }

std::string name_of_device(u32 requester) {
    if (requester == mmu::Accessor::kUnknown) return "device";
    const devices::Rid rid(static_cast<u16>(requester));
    return fmt::format("device {:02x}:{:02x}.{}", rid.bus(), rid.device(), rid.function());
}

/// Whether the rule is about this VP, as far as it says.
bool concerns(const StopRule& rule, u64 partition, u32 vp) {
    return (!rule.partition || *rule.partition == partition) && (!rule.vp || *rule.vp == vp);
}

std::string list_partitions(const std::vector<cpu::Vp*>& vps) {
    std::string list;
    u64 last = ~u64{0};
    for (const cpu::Vp* vp : vps) {
        if (vp->partition() == last) continue;
        last = vp->partition();
        list += fmt::format("{}{}", list.empty() ? "" : ", ", last);
    }
    return list;
}

DebugStop stopped(Reason reason, std::string text) {
    DebugStop stop;
    stop.reason = reason;
    stop.text = std::move(text);
    return stop;
}

std::string describe(const TapEvent& event) {
    const TapRow& row = tap_row(event.kind);
    std::string text = event.vp == TapEvent::kNoVp
                           ? std::string(row.name)
                           : fmt::format("{}: {}", name_of(event.partition, event.vp), row.name);
    for (unsigned k = 0; k < 4; ++k)
        if (!row.fields[k].empty()) text += fmt::format(" {} {:#x}", row.fields[k], event.values[k]);
    return text;
}

}  // namespace

struct Debugger::Impl final : cpu::Breakpoints, mmu::AccessObserver {
    /// What a VP is at: instructions do not share it.
    struct Moment {
        const cpu::Vp* vp = nullptr;
        u64 run_time = 0, rip = 0;
        bool operator==(const Moment&) const = default;
    };
    /// The instruction that Address rules have been asked about, or need not be: they match once for each time that it
    /// is executed, however often it begins.
    struct Passed {
        u64 address = 0, run_time = 0;
    };
    struct Rule : Row {
        WatchedRange range;   ///< Watch
        Moment last_counted;  ///< Watch: an instruction counts once
    };

    explicit Impl(Machine& m) : machine(m), watched(m.memory()) {}

    bool stops(cpu::Vp& vp) override;
    void accessed(Spa spa, u32 size, bool write, mmu::Accessor by) override;
    void happened(const TapEvent& event);
    void update();
    [[nodiscard]] Result<void> check(const StopRule& rule) const;
    [[nodiscard]] Result<void> check_watch(const StopRule& rule) const;
    [[nodiscard]] bool exists(u64 partition) const;
    [[nodiscard]] cpu::Vp* find(std::optional<u64> partition, u32 index) const;
    [[nodiscard]] cpu::Vp* alive(const cpu::Vp* vp) const;
    void pass(const cpu::Vp& vp) { passed[&vp] = {vp.linear_rip(), vp.run_time_ns()}; }
    /// Counts a match. True: it is the first that is to stop this run.
    bool count(Rule& rule) { return ++rule.hits > rule.rule.ignore && !hit; }
    void begin();
    [[nodiscard]] DebugStop end(Pause pause);

    Machine& machine;
    std::vector<Rule> rules;  ///< ascending numbers
    u32 next_number = 1;
    bool running = false;
    std::optional<DebugStop> hit;      ///< of the present run
    const cpu::Vp* hit_vp = nullptr;   ///< never used before it is known to be alive, as the next one
    const cpu::Vp* last_vp = nullptr;  ///< of the last stop
    std::unordered_map<const cpu::Vp*, Passed> passed;
    WatchedPages watched;
    TapMask listened = 0;
    unsigned listener = 0;
};

bool Debugger::Impl::stops(cpu::Vp& vp) {
    if (!running) return false;
    if (hit) return true;  // asked again when the run goes on
    const u64 address = vp.linear_rip();
    // RF says that the instruction goes on, or begins again behind its fault's handler.
    const auto before = passed.find(&vp);
    if (before != passed.end() && before->second.address == address &&
        (before->second.run_time == vp.run_time_ns() || (vp.state().rflags & cpu::flag::RF) != 0))
        return false;
    bool stop = false;
    for (Rule& each : rules) {
        const StopRule& rule = each.rule;
        if (rule.kind != Kind::Address || !rule.enabled || rule.address != address) continue;
        if (!concerns(rule, vp.partition(), vp.index())) continue;
        if (rule.cr3 && ((*rule.cr3 ^ vp.state().cr3) & kCr3Address) != 0) continue;
        pass(vp);
        if (!count(each)) continue;
        stop = true;
        hit_vp = &vp;
        hit = DebugStop{.reason = Reason::Rule,
                        .rule = each.number,
                        .partition = vp.partition(),
                        .vp = vp.index(),
                        .who = name_of(vp),
                        .address = address,
                        .text = fmt::format("{} is at {:#x}", name_of(vp), address)};
    }
    return stop;
}

void Debugger::Impl::accessed(Spa spa, u32 size, bool write, mmu::Accessor by) {
    using Who = mmu::Accessor::Kind;
    // Between runs only devices act by themselves; anything else is somebody who looks.
    if (!running && (by.kind != Who::Device || !write)) return;
    const cpu::Vp* const running_vp = machine.running();
    const cpu::Vp* const vp = by.kind == Who::Processor ? running_vp : nullptr;
    for (Rule& each : rules) {
        const StopRule& rule = each.rule;
        if (rule.kind != Kind::Watch || !rule.enabled || !(write ? rule.on_write : rule.on_read)) continue;
        const auto touched = each.range.touched(spa, size);
        if (!touched) continue;
        if (vp != nullptr) {
            const Moment now{vp, vp->run_time_ns(), vp->state().rip};
            if (each.last_counted == now) continue;
            each.last_counted = now;
        }
        if (!count(each)) continue;
        DebugStop stop = stopped(Reason::Rule, {});
        stop.rule = each.number;
        stop.address = touched->first;
        stop.write = write;
        stop.who = vp != nullptr ? name_of(*vp) : by.kind == Who::Device ? name_of_device(by.requester) : "hypervisor";
        stop.text = fmt::format("{} {} {} bytes at {:#x}", stop.who, write ? "wrote" : "read", size, touched->access);
        if (vp != nullptr) {
            stop.partition = vp->partition();
            stop.vp = vp->index();
            stop.text += fmt::format(" (rip {:#x})", vp->state().rip);
        } else if (rule.partition) {
            stop.partition = *rule.partition;
        }
        hit = std::move(stop);
        hit_vp = running_vp;
        machine.stop();
    }
}

void Debugger::Impl::happened(const TapEvent& event) {
    for (Rule& each : rules) {
        const StopRule& rule = each.rule;
        if (rule.kind != Kind::Event || !rule.enabled || rule.event != event.kind) continue;
        if (rule.vp && event.vp == TapEvent::kNoVp) continue;
        if (!concerns(rule, event.partition, event.vp)) continue;
        bool equal = true;
        for (unsigned k = 0; k < 4; ++k) equal = equal && (!rule.values[k] || *rule.values[k] == event.values[k]);
        if (!equal || !count(each)) continue;
        hit = stopped(Reason::Rule, describe(event));
        hit->rule = each.number;
        hit->partition = event.partition;
        if (event.vp != TapEvent::kNoVp) {
            hit->vp = event.vp;
            hit->who = name_of(event.partition, event.vp);
        }
        hit_vp = event.vp != TapEvent::kNoVp ? find(event.partition, event.vp) : machine.running();
        machine.stop();
    }
}

/// Tells the parts of the machine what the rules ask for.
void Debugger::Impl::update() {
    std::vector<u64> addresses;
    std::map<u64, u8> pages;
    TapMask events = 0;
    for (const Rule& each : rules) {
        if (!each.rule.enabled) continue;
        switch (each.rule.kind) {
            case Kind::Address:
                addresses.push_back(each.rule.address);
                break;
            case Kind::Watch:
                each.range.collect(each.rule, pages);
                break;
            case Kind::Event:
                events |= tap_bit(each.rule.event);
                break;
        }
    }
    const bool any = !addresses.empty();
    set_addresses(std::move(addresses));
    machine.engine().set_breakpoints(any ? this : nullptr);
    machine.memory().set_access_observer(pages.empty() ? nullptr : this);
    watched.set(std::move(pages));
    if (events == listened) return;
    Tap& tap = machine.log().tap();
    if (listened != 0) tap.remove(listener);
    if (events != 0) listener = tap.listen(events, [this](const TapEvent& event) { happened(event); });
    listened = events;
}

cpu::Vp* Debugger::Impl::find(std::optional<u64> partition, u32 index) const {
    for (cpu::Vp* const vp : machine.scheduler().processors())
        if ((!partition || vp->partition() == *partition) && vp->index() == index) return vp;
    return nullptr;
}

cpu::Vp* Debugger::Impl::alive(const cpu::Vp* vp) const {
    const std::vector<cpu::Vp*> vps = machine.scheduler().processors();
    const auto found = std::find(vps.begin(), vps.end(), vp);
    return found != vps.end() ? *found : nullptr;
}

/// A partition may have no VPs yet.
bool Debugger::Impl::exists(u64 partition) const {
    const std::vector<cpu::Vp*> vps = machine.scheduler().processors();
    const auto its = [partition](const cpu::Vp* vp) { return vp->partition() == partition; };
    return std::any_of(vps.begin(), vps.end(), its) ||
           (machine.hypervisor() != nullptr && machine.hypervisor()->find(partition) != nullptr);
}

Result<void> Debugger::Impl::check(const StopRule& rule) const {
    if (rule.partition && !exists(*rule.partition))
        return fail(Error::Code::Usage, fmt::format("there is no partition {}; partitions are {}", *rule.partition,
                                                    list_partitions(machine.scheduler().processors())));
    if (rule.vp && find(rule.partition, *rule.vp) == nullptr)
        return fail(Error::Code::Usage, fmt::format("there is no VP {}", *rule.vp));
    if (rule.kind == Kind::Event && rule.event >= TapKind::Count)
        return fail(Error::Code::Usage, "a rule for events needs the kind of event");
    return rule.kind == Kind::Watch ? check_watch(rule) : Result<void>{};
}

Result<void> Debugger::Impl::check_watch(const StopRule& rule) const {
    if (!rule.on_read && !rule.on_write)
        return fail(Error::Code::Usage, "a watch needs reads, writes, or both to watch for");
    if (rule.size < 1 || rule.size > StopRule::kMaxWatchBytes || rule.address + (rule.size - 1) < rule.address)
        return fail(Error::Code::Usage, fmt::format("a watch is for 1 to {} bytes", StopRule::kMaxWatchBytes));
    return {};
}

void Debugger::Impl::begin() {
    last_vp = nullptr;
    std::erase_if(passed, [this](const auto& each) { return alive(each.first) == nullptr; });
    running = true;
}

DebugStop Debugger::Impl::end(Pause pause) {
    running = false;
    if (hit) {
        last_vp = std::exchange(hit_vp, nullptr);
        return *std::exchange(hit, std::nullopt);
    }
    const Outcome& outcome = machine.outcome();
    if (outcome.kind != Outcome::Kind::None) return stopped(Reason::Ended, outcome.text);
    switch (pause) {
        case Pause::Reached:
            return stopped(Reason::Limit, "the limit is reached");
        case Pause::Idle:
            return stopped(Reason::Idle, "every VP waits beyond the limit");
        case Pause::Hang:
            return stopped(Reason::Hang, "every VP waits and nothing will ever happen");
        case Pause::Asked:
            break;
    }
    return stopped(Reason::Asked, "asked to stop");
}

Debugger::Debugger(Machine& machine) : impl_(std::make_unique<Impl>(machine)) {}
Debugger::~Debugger() { clear(); }

Result<u32> Debugger::add(const StopRule& rule) {
    Impl& im = *impl_;
    if (auto ok = im.check(rule); !ok) return Unexpected{ok.error()};
    Impl::Rule added;
    added.number = im.next_number;
    added.rule = rule;
    added.hits = 0;
    if (rule.kind == Kind::Watch) {
        auto range = WatchedRange::translate(im.machine, rule, im.find(rule.partition, rule.vp.value_or(0)));
        if (!range) return Unexpected{range.error()};
        added.range = std::move(*range);
    }
    im.rules.push_back(std::move(added));
    im.update();
    return im.next_number++;
}

bool Debugger::remove(u32 number) {
    if (std::erase_if(impl_->rules, [&](const Row& row) { return row.number == number; }) == 0) return false;
    impl_->update();
    return true;
}

bool Debugger::enable(u32 number, bool enabled) {
    for (Impl::Rule& each : impl_->rules) {
        if (each.number != number) continue;
        each.rule.enabled = enabled;
        impl_->update();
        return true;
    }
    return false;
}

void Debugger::clear() {
    impl_->rules.clear();
    impl_->hit.reset();  // of rules that are no more
    impl_->update();
}

std::vector<Debugger::Row> Debugger::rules() const { return {impl_->rules.begin(), impl_->rules.end()}; }

DebugStop Debugger::run(VTime limit, u64 instructions) {
    Impl& im = *impl_;
    im.begin();
    // What a device did between two runs stops the next one where it is.
    const bool over = im.hit || im.machine.outcome().kind != Outcome::Kind::None;
    return im.end(over ? Pause::Asked : im.machine.run_until(limit, instructions));
}

DebugStop Debugger::step(cpu::Vp& vp, VTime limit, u64 instructions) {
    Impl& im = *impl_;
    im.begin();
    const auto place = [&] { return std::tuple(vp.run_time_ns(), vp.linear_rip(), vp.activity()); };
    const auto before = place();
    im.pass(vp);
    const bool over = im.hit || im.machine.outcome().kind != Outcome::Kind::None;
    DebugStop stop = im.end(over ? Pause::Asked : im.machine.step(vp, limit, instructions));
    if (stop.reason == Reason::Rule || im.alive(&vp) == nullptr) return stop;
    im.last_vp = &vp;
    im.pass(vp);
    stop.partition = vp.partition();
    stop.vp = vp.index();
    if (stop.reason == Reason::Asked && place() != before) {
        stop.reason = Reason::Step;
        stop.address = vp.linear_rip();
        stop.text = fmt::format("{} is at {:#x}", name_of(vp), stop.address);
    }
    return stop;
}

void Debugger::pass_here() {
    impl_->hit.reset();
    for (cpu::Vp* const vp : impl_->machine.scheduler().processors()) impl_->pass(*vp);
}

cpu::Vp* Debugger::focus() const {
    if (cpu::Vp* const vp = impl_->alive(impl_->last_vp)) return vp;
    const Scheduler& scheduler = impl_->machine.scheduler();
    if (cpu::Vp* const vp = scheduler.current()) return vp;
    for (cpu::Vp* const vp : scheduler.processors())
        if (!vp->held() && (vp->activity() == cpu::Activity::Active || vp->event_pending())) return vp;
    return nullptr;
}

}  // namespace vg::machine
