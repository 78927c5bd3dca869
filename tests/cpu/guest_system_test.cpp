// Guest programs that exercise system instructions, judged by golden output. The output was compared line by line with
// QEMU TCG where QEMU follows the manuals (it has no segment limits, VME, RF images or general detect).
#ifdef VG_GUEST_IMAGES
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "cpu/interp.h"
#include "cpu/vp.h"
#include "mmu/physical_memory.h"

using namespace vg;

namespace {

std::vector<u8> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Port 0xe9 collects text, port 0xf4 ends the run.
class DebugBoard final : public cpu::Platform {
  public:
    u32 port_read(cpu::Vp&, u16, unsigned) override { return 0xffffffff; }
    void port_write(cpu::Vp&, u16 port, unsigned, u32 value) override {
        if (port == 0xe9) text += static_cast<char>(value);
        if (port == 0xf4) done = true;
    }
    int acknowledge_external(cpu::Vp&) override { return -1; }
    void shutdown(cpu::Vp&) override { text += "shutdown\n"; }
    std::string text;
    bool done = false;
};

/// Runs a 64 KiB ROM from the reset vector, in short slices so that every boundary is crossed.
std::string run(const std::string& name, const std::string& model_name) {
    mmu::PhysicalMemory memory;
    const std::vector<u8> image = read_file(std::string(VG_GUEST_IMAGES) + "/" + name + ".bin");
    REQUIRE(image.size() == 0x10000);
    REQUIRE(memory.add_ram("low", Spa(0), 0xe0000));
    REQUIRE(memory.add_ram("high", Spa(0x100000), 0x3f00000));
    REQUIRE(memory.add_rom("bios", Spa(0xf0000), image));
    REQUIRE(memory.add_rom("reset", Spa(0xffff0000), image));
    auto model = cpu::CpuModel::create(model_name);
    REQUIRE(model);
    ManualClock clock;
    EventQueue events(clock);
    Log log;
    cpu::ApicBus bus;
    DebugBoard board;
    cpu::Vp vp({memory, events, log, *model, bus, board}, "vp0", 0, 0);
    cpu::StepEngine engine;
    constexpr u64 kLimit = 5'000'000, kSlice = 97;
    for (u64 time = 0; time < kLimit && !board.done; time += kSlice) {
        clock.set(time);
        vp.begin_slice(time, time + kSlice);
        if (engine.run(vp) == cpu::Stop::Halt) break;
    }
    return board.text;
}

void check_against_golden(const std::string& name, const std::string& model) {
    const std::vector<u8> golden = read_file(std::string(VG_GUEST_GOLDEN) + "/" + name + ".golden");
    const std::string wanted(golden.begin(), golden.end());
    const std::string got = run(name, model);
    if (got != wanted) std::ofstream(std::string(VG_GUEST_IMAGES) + "/" + name + ".got") << got;
    CHECK(got == wanted);
}

}  // namespace

TEST_CASE("system: protected and virtual-8086 mode cases give the manual's faults", "[cpu][system]") {
    check_against_golden("protected_mode", "verdigris-v2");
}

TEST_CASE("system: 64-bit and compatibility mode cases give the manual's faults", "[cpu][system]") {
    check_against_golden("long_mode", "verdigris-v2");
}
#endif
