// Firmware on the bare PC: the reset vector, shadow memory, resets, typed keys; what the board tells it.
#include <catch2/catch.hpp>

#include <cstring>
#include <filesystem>

#include "machine/firmware.h"
#include "machine/flash_store.h"
#include "machine/guest_command.h"
#include "machine/machine.h"
#include "machine/pc_machine.h"
#include "machine/smbios.h"
#include "machine/snapshot.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

struct Pc {
    explicit Pc(MachineOptions::EngineKind engine = MachineOptions::EngineKind::Jit, u32 processors = 1) {
        config.machine.memory = {u64{32} << 20};
        config.machine.processors = processors;
        config.boot.emplace();
        config.boot->firmware = std::string(VG_GUEST_IMAGES) + "/firmware.bin";
        options.engine = engine;
        options.console = [this](const std::string&, u8 byte) { console += static_cast<char>(byte); };
        auto made = Machine::create(config, options);
        REQUIRE(made);
        machine = std::move(*made);
    }
    /// Says by which way the firmware resets.
    void choose(u8 way) { machine->pc()->chipset().rtc().set_nvram(0x7f, way); }
    void press(u8 code) {
        GuestCommand command;
        command.kind = GuestCommand::Kind::Keys;
        command.keys = {{code, 0}};
        REQUIRE(machine->guest_command("", command));
    }
    Config config;
    MachineOptions options;
    std::string console;
    std::unique_ptr<Machine> machine;
};

u8 sum_of(const std::vector<u8>& bytes, std::size_t from, std::size_t count) {
    u8 sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum = static_cast<u8>(sum + bytes[from + i]);
    return sum;
}

}  // namespace

TEST_CASE("firmware: shadows itself, is started again by each kind of reset, reads the keyboard and powers off",
          "[machine][firmware]") {
    for (const auto engine : {MachineOptions::EngineKind::Step, MachineOptions::EngineKind::Jit}) {
        for (const u8 way : {u8{0}, u8{1}, u8{2}}) {
            CAPTURE(static_cast<int>(engine), way);
            Pc pc(engine);
            pc.choose(way);
            (void)pc.machine->run_until(5'000'000);
            REQUIRE(pc.console == "12");
            pc.press(0x1e);
            (void)pc.machine->run_until(30'000'000);
            CHECK(pc.console == "12\x1c");  // set 2: nothing has asked the controller to translate
            CHECK(pc.machine->outcome().kind == Outcome::Kind::PoweredOff);
        }
    }
}

TEST_CASE("firmware: both engines leave one state, and a machine that was saved in the middle goes on to it",
          "[machine][firmware]") {
    const auto end = [](Pc& pc) {
        pc.press(0x1e);
        (void)pc.machine->run_until(30'000'000);
        REQUIRE(pc.machine->outcome().kind == Outcome::Kind::PoweredOff);
        return pc.machine->state_hash();
    };
    Pc step(MachineOptions::EngineKind::Step), jit, saved;
    for (Pc* pc : {&step, &jit, &saved}) (void)pc->machine->run_until(5'000'000);
    CHECK(step.machine->state_hash() == jit.machine->state_hash());
    const u64 expected = end(jit);
    CHECK(end(step) == expected);

    test::TempDir dir;
    REQUIRE(save_snapshot(*saved.machine, dir / "s.vgs"));
    auto snapshot = Snapshot::open(dir / "s.vgs");
    REQUIRE(snapshot);
    auto config = (*snapshot)->config({});
    REQUIRE(config);
    auto restored = (*snapshot)->restore(*config, {});
    REQUIRE(restored);
    saved.machine = std::move(*restored);
    CHECK(end(saved) == expected);
}

TEST_CASE("firmware: files that are missing or no firmware are told with a remedy", "[machine][firmware]") {
    test::TempDir dir;
    const auto refusal = [&](const std::string& boot) -> std::string {
        auto config = parse_config("[machine]\nmemory = \"32 MiB\"\n[boot]\n" + boot, "m.toml", dir / ".", {});
        if (!config) return config.error().text;
        auto machine = Machine::create(*config, {});
        return machine ? "" : machine.error().text;
    };
    CHECK(refusal("firmware = \"bios.bin\"\n").find("m.toml:4:12: firmware") == 0);
    CHECK(refusal("firmware = \"bios.bin\"\n").find("seabios") != std::string::npos);
    test::write_file(dir / "odd.bin", std::vector<u8>(0x10001));
    CHECK(refusal("firmware = \"odd.bin\"\n").find("whole pages") != std::string::npos);
    test::write_file(dir / "bios.bin", std::vector<u8>(0x10000));
    CHECK(refusal("firmware = \"bios.bin\"\n").empty());
    CHECK(refusal("firmware = \"bios.bin\"\nfirmware_vars = \"v.fd\"\n").find("is not UEFI firmware") !=
          std::string::npos);
    CHECK(refusal("firmware = \"bios.bin\"\nkernel = \"k\"\n").find("not for firmware") != std::string::npos);
    CHECK(refusal("kernel = \"k\"\nvideo_bios = \"v\"\n").find("is for firmware") != std::string::npos);
    CHECK(find_firmware(dir / "bios.bin") == (dir / "bios.bin"));
    CHECK(find_firmware("anywhere/ovmf") == "/usr/share/OVMF/OVMF_CODE.fd");
}

TEST_CASE("firmware: UEFI variables reach their file as they are written", "[machine][firmware]") {
    constexpr u64 kBase = 0xffc00000, kSize = 0x4000;
    test::TempDir dir;
    mmu::PhysicalMemory memory;
    FlashStore store(memory, Spa(kBase), kSize);
    devices::CfiFlash chip(kSize, store, [&](bool array) { memory.switch_pages(Spa(kBase), kSize, array, false); });
    REQUIRE(memory.add_switched_ram("flash", Spa(kBase), kSize, {}, &chip));
    const std::vector<u8> erased(kSize, 0xff);
    store.write(0, erased);
    chip.reset();
    REQUIRE(store.keep_in(dir / "vars.fd", erased));
    CHECK(memory.read<u8>(Spa(kBase + 0x123)) == 0xff);
    memory.write<u8>(Spa(kBase + 0x123), 0x10);
    memory.write<u8>(Spa(kBase + 0x123), 0x42);
    CHECK(memory.read<u8>(Spa(kBase)) == 0x80);  // its status
    memory.write<u8>(Spa(kBase), 0xff);
    CHECK(memory.read<u8>(Spa(kBase + 0x123)) == 0x42);
    CHECK(memory.readable(Spa(kBase)) != nullptr);
    CHECK(std::filesystem::file_size(dir / "vars.fd") == kSize);
    auto file = read_file(dir / "vars.fd", kSize);
    REQUIRE(file);
    CHECK((*file)[0x123] == 0x42);
    FlashStore other(memory, Spa(kBase), kSize);
    CHECK_FALSE(other.keep_in(dir / "vars.fd", erased));  // it is in use
}

TEST_CASE("firmware: the SMBIOS entry point counts what its tables hold", "[machine][firmware]") {
    for (const u32 processors : {1u, 16u}) {
        const Smbios smbios = build_smbios(u64{48} << 30, processors);
        REQUIRE(smbios.anchor.size() == 0x1f);
        CHECK(sum_of(smbios.anchor, 0, 0x1f) == 0);
        CHECK(sum_of(smbios.anchor, 0x10, 0x0f) == 0);
        u16 length = 0, count = 0, largest = 0;
        std::memcpy(&length, &smbios.anchor[0x16], 2);
        std::memcpy(&count, &smbios.anchor[0x1c], 2);
        std::memcpy(&largest, &smbios.anchor[8], 2);
        CHECK(length == smbios.tables.size());
        std::size_t at = 0, found = 0, longest = 0;
        u8 last = 0;
        while (at < smbios.tables.size()) {
            const std::size_t from = at;
            last = smbios.tables[at];
            at += smbios.tables[at + 1];
            while (smbios.tables[at] != 0 || smbios.tables[at + 1] != 0) ++at;
            at += 2;
            longest = std::max(longest, at - from);
            ++found;
        }
        CHECK(at == smbios.tables.size());
        CHECK(found == count);
        CHECK(longest == largest);
        CHECK(last == 127);
    }
}
