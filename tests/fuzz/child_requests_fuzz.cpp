// Requests that save a child of a machine or have it take one in, in any order, with any bytes as the snapshot: each
// has a reply, and the machine goes on.
//
// Per request one byte: which; then for a snapshot a byte as in snapshot_fuzz (0: the bytes are the file; else patches
// to a good one) and a size of 16 bits.
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/assert.h"
#include "machine/child_machine.h"
#include "machine/child_transfer.h"
#include "machine/debugger.h"
#include "machine/machine.h"
#include "tests/fuzz/forged_snapshot.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/model/control_service.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;

std::unique_ptr<machine::Machine> make_machine(const std::string& folder, const std::string& names) {
    std::string text = "[hypervisor]\nmemory = \"64 MiB\"\n";
    for (const char name : names)
        text += std::string("[[child]]\nname = \"") + name +
                "\"\nmemory = \"16 MiB\"\nkernel = \"k\"\n  [child.devices]\n  video = false\n";
    auto config = machine::parse_config(text, "m.toml", folder, {});
    machine::MachineOptions options;
    options.engine = machine::MachineOptions::EngineKind::Step;
    if (!config) std::abort();
    auto machine = machine::Machine::create(*config, std::move(options));
    if (!machine) std::fprintf(stderr, "%s\n", machine.error().text.c_str());
    VG_ASSERT(machine);
    return std::move(*machine);
}

/// A machine, and the folder of its files, for as long as the process.
struct World {
    test::TempDir dir;
    std::vector<u8> good;  ///< snapshot of a child "b"
    std::unique_ptr<machine::Machine> machine;
    std::optional<machine::Debugger> debugger;

    World() {
        test::write_file(dir / "k", test::image_with({0x40, 0xeb, 0xfd}, {0xf4}, 0));  // inc eax, again
        const auto from = make_machine(dir / ".", "ab");
        (void)from->run_until(1000);
        if (!machine::save_child(*from, "b", dir / "good.vgs")) std::abort();
        std::ifstream in(dir / "good.vgs", std::ios::binary);
        good = {std::istreambuf_iterator<char>(in), {}};
    }
    void renew() {
        debugger.reset();
        machine = make_machine(dir / ".", "c");
        debugger.emplace(*machine);
    }
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static World* const world = new World;
    world->renew();
    model::ControlOptions options;
    options.live = true;
    model::ControlService service(*world->machine, *world->debugger, std::move(options));
    test::InputBytes input({data, size});
    const std::string file = world->dir / "in.vgs", saved = world->dir / "out.vgs";
    for (unsigned requests = 0; !input.empty() && requests < 6; ++requests) {
        const u8 which = input.take<u8>();
        nlohmann::json request = {{"id", requests}};
        if (which % 4 == 3) {
            std::filesystem::remove(saved);
            request["op"] = "save";
            request["file"] = saved;
            request["partition"] = which >> 2 & 3;
            request["off"] = (which & 0x10) != 0;
        } else {
            const bool whole = input.take<u8>() == 0;
            const auto bytes = input.span(input.take<u16>());
            const std::vector<u8> forged =
                whole ? std::vector<u8>(bytes.begin(), bytes.end()) : test::patched(world->good, bytes);
            std::ofstream(file, std::ios::binary | std::ios::trunc)
                .write(reinterpret_cast<const char*>(forged.data()), static_cast<std::streamsize>(forged.size()));
            request["op"] = "take_in";
            request["file"] = file;
            if ((which & 4) != 0)
                request["settings"] = {{"child.0.name", std::string(1, static_cast<char>('a' + (which >> 3 & 7)))}};
        }
        const auto reply = nlohmann::json::parse(service.answer(request.dump()), nullptr, false);
        VG_ASSERT(reply.is_object() && reply["ok"].is_boolean());
        (void)service.run(world->machine->now() + 100);
    }
    return 0;
}
