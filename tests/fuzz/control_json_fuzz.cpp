// Any lines as requests of the control protocol to a small machine: each has one reply, which is JSON; the machine goes on.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "machine/debugger.h"
#include "machine/machine.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/model/control_service.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;

std::unique_ptr<machine::Machine> make_machine() {
    test::TempDir dir;
    test::write_file(dir / "k", test::image_with({0x40, 0xeb, 0xfd}, {0xf4}, 0));  // inc eax, again
    machine::Config config;
    config.machine.memory = {u64{16} << 20};
    config.boot.emplace();
    config.boot->kernel = dir / "k";
    machine::MachineOptions options;
    options.engine = machine::MachineOptions::EngineKind::Step;
    auto machine = machine::Machine::create(config, std::move(options));
    if (!machine) std::fprintf(stderr, "%s\n", machine.error().text.c_str());
    VG_ASSERT(machine);
    return std::move(*machine);
}

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    // Making a machine takes longer than most inputs: one serves several clients, as a socket's does.
    constexpr unsigned kClients = 64;
    static std::unique_ptr<machine::Machine> machine;
    static std::optional<machine::Debugger> kept;
    static unsigned clients = 0;
    if (clients++ % kClients == 0) {
        kept.reset();
        machine = make_machine();
        kept.emplace(*machine);
    }
    machine::Debugger& debugger = *kept;
    model::ConsoleHistory history;
    model::ControlOptions options;
    options.running = false;
    options.console = &history;
    model::ControlService service(*machine, debugger, std::move(options));
    std::string_view input(reinterpret_cast<const char*>(data), size);
    for (unsigned lines = 0; !input.empty() && lines < 16; ++lines) {
        const std::string_view line = input.substr(0, input.find('\n'));
        input.remove_prefix(std::min(line.size() + 1, input.size()));
        const auto reply = nlohmann::json::parse(service.answer(line), nullptr, false);
        VG_ASSERT(reply.is_object() && reply.contains("id") && reply["ok"].is_boolean());
        VG_ASSERT(reply.contains(reply["ok"] == true ? "result" : "error"));
        service.tell_due();
        (void)service.run(machine->now() + 100);
    }
    return 0;
}
