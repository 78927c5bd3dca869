// A workbench on the fake machine.
#pragma once

#include "tests/support/fake_link.h"
#include "ui/model/desk/script.h"

namespace vg::test {

using namespace desk;

struct Bench {
    std::shared_ptr<FakeMachine> machine = std::make_shared<FakeMachine>();
    Workbench bench{[this](const std::string& target) -> Result<std::unique_ptr<model::ControlLink>> {
        if (target == "none") return fail(Error::Code::Usage, "none: there is no such file");
        return std::unique_ptr<model::ControlLink>(std::make_unique<FakeLink>(machine));
    }};

    explicit Bench(bool open = true) {
        if (open && bench.open("fake")) settle();
    }
    /// Frames until nothing is under way; false: it never was.
    bool settle() {
        for (unsigned quiet = 0, i = 0; i < 2000; ++i) {
            bench.update(Session::Clock::now());
            quiet = bench.settled() ? quiet + 1 : 0;
            if (quiet >= 3) return true;
            bench.session.wait(5);
        }
        return false;
    }
    /// A command, and what comes of it.
    void run(const std::string& line) {
        const auto done = run_command(bench, line);
        INFO(line);
        REQUIRE((done ? std::string() : done.error().text).empty());
        for (int i = 0; i < 20; ++i) {  // a notice follows its reply
            settle();
            if (!bench.session.running()) break;
            bench.session.wait(5);
        }
        settle();
    }
    std::string refuses(const std::string& line) {
        const auto done = run_command(bench, line);
        return done ? "" : done.error().text;
    }
    bool shows(Panel panel, const std::string& text) {
        bench.layout.show(panel);
        settle();
        for (const std::string& line : bench.view(panel).text())
            if (line.find(text) != std::string::npos) return true;
        return false;
    }
    /// An event as the protocol has it.
    void event(u64 time, const std::string& kind, Json values, const std::string& payload = "", u64 partition = 2) {
        Json row = {{"seq", machine->events.size() + 1},
                    {"time", time},
                    {"instructions", time},
                    {"kind", kind},
                    {"partition", partition},
                    {"values", std::move(values)}};
        if (!payload.empty()) row["payload"] = payload;
        machine->events.push_back(row);
        bench.session.changed();
    }
};

}  // namespace vg::test
