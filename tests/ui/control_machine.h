// A machine of a few instructions with a control service, for tests of both.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "machine/debugger.h"
#include "machine/machine.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/model/control_service.h"

namespace vg::test {

/// Where the code of image_with begins.
inline constexpr u32 kCode = kLoad + 0x80;

/// Writes 0x310011 and 0x310012, its stack, to 0x300000, calls a function that increments ECX, prints 'x' and ends with exit value 0.
inline const std::vector<u8> kProgram = {
    0xbc, 0x11, 0x00, 0x31, 0x00,              // +00 mov esp, 0x310011
    0xbb, 0x00, 0x00, 0x30, 0x00,              // +05 mov ebx, 0x300000
    0x89, 0x23,                                // +0a mov [ebx], esp
    0x44,                                      // +0c inc esp
    0x89, 0x23,                                // +0d mov [ebx], esp
    0xe8, 0x0c, 0x00, 0x00, 0x00,              // +0f call +20
    0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', 0xee,   // +14 mov dx, 0x3f8; mov al, 'x'; out dx, al
    0xb0, 0x00, 0xe6, 0xf4, 0xf4,              // +1b mov al, 0; out 0xf4, al; hlt
    0x41, 0xc3};                               // +20 inc ecx; ret

struct ControlMachine {
    explicit ControlMachine(const std::vector<u8>& code = kProgram, bool jit = false, bool display = false) {
        write_file(dir / "kernel", image_with(code, {0xf4}, 0));
        machine::Config config;
        config.machine.memory = {u64{32} << 20};
        config.boot.emplace();
        config.boot->kernel = dir / "kernel";
        config.devices.isa_debug_exit = 0xf4;
        config.devices.display = display;
        machine::MachineOptions options;
        options.engine = jit ? machine::MachineOptions::EngineKind::Jit : machine::MachineOptions::EngineKind::Step;
        options.console = [this](const std::string& partition, u8 byte) { history.put(partition, byte); };
        auto made = machine::Machine::create(config, std::move(options));
        REQUIRE(made);
        machine = std::move(*made);
        debugger = std::make_unique<machine::Debugger>(*machine);
        model::ControlOptions control;
        control.running = false;
        control.console = &history;
        service = std::make_unique<model::ControlService>(*machine, *debugger, std::move(control));
    }
    /// The result of a request that is granted.
    model::Json ask(const std::string& request) {
        const auto answer = service->call(*model::parse_json(request));
        INFO(request);
        if (!answer) FAIL(answer.error().text);
        return *answer;
    }
    /// Why a request is refused; "": it is not.
    std::string refusal(const std::string& request) {
        const auto answer = service->call(*model::parse_json(request));
        return answer ? "" : answer.error().text;
    }
    /// Lets the machine go on until it stops; what the notice says of the stop.
    model::Json until_stop() {
        for (int tries = 0; tries < 1000; ++tries) {
            const auto notices = service->advance(100);
            if (!notices.empty()) return notices.back()["stop"];
        }
        FAIL("the machine does not stop");
        return {};
    }
    u64 reg(const std::string& name) { return *model::parse_number(ask(R"({"op":"registers"})")[name].get<std::string>()); }

    TempDir dir;
    model::ConsoleHistory history;
    std::unique_ptr<machine::Machine> machine;
    std::unique_ptr<machine::Debugger> debugger;
    std::unique_ptr<model::ControlService> service;
};

}  // namespace vg::test
