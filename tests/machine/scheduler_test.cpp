#include <catch2/catch.hpp>

#include "base/events.h"
#include "machine/scheduler.h"

using namespace vg;
using namespace vg::machine;

namespace {

/// An engine whose "instructions" do nothing but take time.
class IdleEngine final : public cpu::Engine {
  public:
    cpu::Stop run(cpu::Vp&) override { return cpu::Stop::Halt; }
    cpu::Stop step(cpu::Vp&) override { return cpu::Stop::Halt; }
};

}  // namespace

TEST_CASE("scheduler: without processors time jumps from event to event", "[machine][scheduler]") {
    MachineClock clock;
    EventQueue events(clock);
    IdleEngine engine;
    Scheduler scheduler(events, clock, engine);
    std::vector<VTime> fired;
    const auto timer = events.add("t", [&](VTime due) { fired.push_back(due); });
    const auto second = events.add("u", [&](VTime due) {
        fired.push_back(due);
        if (fired.size() < 4) events.arm(timer, due + 5);
    });
    events.arm(timer, 1000);
    events.arm(second, 3000);
    CHECK(scheduler.run_until(2000) == Pause::Idle);
    CHECK(fired == std::vector<VTime>{1000});
    CHECK(scheduler.now() == 2000);
    CHECK(scheduler.run_until(10'000) == Pause::Hang);
    CHECK(fired == std::vector<VTime>{1000, 3000, 3005});
    CHECK(scheduler.now() == 3005);
    CHECK(scheduler.instructions() == 0);
}

TEST_CASE("scheduler: a handler can stop the run, and it can go on", "[machine][scheduler]") {
    MachineClock clock;
    EventQueue events(clock);
    IdleEngine engine;
    Scheduler scheduler(events, clock, engine);
    const auto timer = events.add("t", [&](VTime) { scheduler.stop(); });
    const auto later = events.add("u", [](VTime) {});
    events.arm(timer, 100);
    events.arm(later, 200);
    CHECK(scheduler.run_until(1000) == Pause::Asked);
    CHECK(scheduler.now() == 100);
    CHECK(scheduler.run_until(150) == Pause::Idle);
    CHECK(scheduler.now() == 150);
}
