// Stops of a whole machine: where they are, that both engines agree, and that nothing else changes.
#include "machine/debugger.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "devices/spec/ahci.h"
#include "hv/hypervisor.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;
using Kind = StopRule::Kind;
using Reason = DebugStop::Reason;

namespace {

constexpr auto kStep = MachineOptions::EngineKind::Step, kJit = MachineOptions::EngineKind::Jit;
constexpr u64 kStart = test::kLoad + 0x80, kArea = 0x300000;
constexpr VTime kEnd = 50'000'000;

/// A hundred rounds of stores, calls and port writes; then a fill, a lock, a read, an undefined instruction. Offsets
/// from kStart are in the constants below.
const std::vector<u8> kProgram = {
    0xbc, 0x00, 0x00, 0x40, 0x00,                    // 00 mov esp, 0x400000
    0x0f, 0x01, 0x1d, 0x60, 0x00, 0x20, 0x00,        // 05 lidt [0x200060]
    0xb9, 0x64, 0x00, 0x00, 0x00,                    // 0c mov ecx, 100
    0xbf, 0x00, 0x00, 0x30, 0x00,                    // 11 mov edi, 0x300000
    0x89, 0x0f,                                      // 16 l: mov [edi], ecx
    0xe8, 0x24, 0x00, 0x00, 0x00,                    // 18 call f
    0x88, 0xc8, 0xe6, 0x80,                          // 1d mov al, cl; out 0x80, al
    0xe2, 0xf3,                                      // 21 loop l
    0xb9, 0x00, 0x10, 0x00, 0x00,                    // 23 mov ecx, 0x1000
    0xf3, 0xaa,                                      // 28 rep stosb
    0xf0, 0x0f, 0xc1, 0x05, 0x00, 0x02, 0x30, 0x00,  // 2a lock xadd [0x300200], eax
    0xa1, 0x00, 0x03, 0x30, 0x00,                    // 32 mov eax, [0x300300]
    0x0f, 0x0b,                                      // 37 ud2
    0xfa, 0xf4,                                      // 39 cli; hlt
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90,              // 3b
    0x40, 0x05, 0x03, 0x00, 0x00, 0x00, 0xc3,        // 41 f: inc eax; add eax, 3; ret
};
constexpr u64 kStore = kStart + 0x16, kBehindStore = kStart + 0x18, kFill = kStart + 0x28, kBehindLock = kStart + 0x32,
              kBehindLoad = kStart + 0x37, kUd2 = kStart + 0x37, kFunction = kStart + 0x41, kAdd = kStart + 0x42;
/// Of #UD: goes on behind the instruction.
const std::vector<u8> kSkip = {0x83, 0x04, 0x24, 0x02, 0xcf};  // add dword [esp], 2; iret

struct World {
    test::TempDir dir;
    std::unique_ptr<Machine> make(MachineOptions::EngineKind engine, unsigned children = 0,
                                  const std::vector<u8>& code = kProgram, const std::string& more = "") {
        test::write_file(dir / "kernel", test::image_with(code, kSkip, 6));
        std::string text =
            children == 0 ? "[machine]\nmemory = \"16 MiB\"\n[boot]\nkernel = \"kernel\"\n" : "[hypervisor]\n";
        for (unsigned k = 0; k < children; ++k)
            text += "[[child]]\nname = \"c" + std::to_string(k) + "\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n";
        text += more;
        auto config = parse_config(text, "m.toml", dir / ".", {});
        INFO((config ? "" : config.error().text));
        REQUIRE(config);
        MachineOptions options;
        options.engine = engine;
        auto made = Machine::create(*config, std::move(options));
        INFO((made ? "" : made.error().text));
        REQUIRE(made);
        return std::move(*made);
    }
};

StopRule at(u64 address) {
    StopRule rule;
    rule.address = address;
    return rule;
}
StopRule watch(u64 address, u64 size, bool read = false, bool write = true) {
    StopRule rule;
    rule.kind = Kind::Watch;
    rule.address = address;
    rule.size = size;
    rule.on_read = read;
    rule.on_write = write;
    return rule;
}
StopRule on(TapKind kind) {
    StopRule rule;
    rule.kind = Kind::Event;
    rule.event = kind;
    return rule;
}

/// A stop as a test compares it.
using Seen = std::tuple<u32, u64, u64, u64, std::string>;  ///< rule, instructions, rip, address, text

std::vector<Seen> run_through(Machine& machine, Debugger& debugger, Reason last = Reason::Hang) {
    std::vector<Seen> list;
    DebugStop stop;
    while ((stop = debugger.run(kEnd)).reason == Reason::Rule && list.size() < 100'000) {
        const cpu::Vp* const vp = debugger.focus();
        list.emplace_back(stop.rule, machine.instructions(), vp != nullptr ? vp->state().rip : 0, stop.address,
                          stop.text);
    }
    CHECK(stop.reason == last);
    return list;
}

u64 undebugged(World& world, MachineOptions::EngineKind engine, unsigned children = 0) {
    const auto machine = world.make(engine, children);
    CHECK(machine->run_until(kEnd) == Pause::Hang);
    return machine->state_hash();
}

/// The stops of these rules, on both engines; the runs must end as ones without a debugger do.
std::vector<Seen> stops_of(World& world, const std::vector<StopRule>& rules, unsigned children = 0) {
    const u64 expected = undebugged(world, kStep, children);
    std::vector<Seen> lists[2];
    for (const auto engine : {kStep, kJit}) {
        const auto machine = world.make(engine, children);
        Debugger debugger(*machine);
        for (const StopRule& rule : rules) {
            const auto added = debugger.add(rule);
            INFO((added ? "" : added.error().text));
            REQUIRE(added);
        }
        lists[engine == kJit] = run_through(*machine, debugger);
        CHECK(machine->state_hash() == expected);
    }
    CHECK(lists[0] == lists[1]);
    return lists[0];
}

}  // namespace

TEST_CASE("debugger: an address stops each time it is come by, before it executes", "[machine][debugger]") {
    World world;
    const auto list = stops_of(world, {at(kAdd)});
    REQUIRE(list.size() == 100);
    for (std::size_t k = 0; k < list.size(); ++k) {
        CHECK(std::get<2>(list[k]) == kAdd);
        CHECK(std::get<1>(list[k]) == 7 + 8 * k);
    }
    CHECK(std::get<4>(list[0]) == "VP 0 is at 0x2000c2");
}

TEST_CASE("debugger: rules count what they let pass, and can be off", "[machine][debugger]") {
    World world;
    for (const auto engine : {kStep, kJit}) {
        const auto machine = world.make(engine);
        Debugger debugger(*machine);
        StopRule late = at(kFunction), off = at(kStore), other = at(kStore);
        late.ignore = 97;
        off.enabled = false;
        other.cr3 = 0x5000;
        REQUIRE(debugger.add(late).value() == 1);
        REQUIRE(debugger.add(off).value() == 2);
        REQUIRE(debugger.add(other).value() == 3);
        CHECK(debugger.run(kEnd).rule == 1);
        CHECK(debugger.rules()[0].hits == 98);
        CHECK(debugger.rules()[1].hits == 0);
        CHECK(debugger.rules()[2].hits == 0);
        REQUIRE(debugger.enable(2, true));
        CHECK(debugger.run(kEnd).rule == 2);
        REQUIRE(debugger.remove(2));
        CHECK_FALSE(debugger.remove(2));
        CHECK(debugger.run(kEnd).rule == 1);
        CHECK(debugger.rules()[0].hits == 99);
        debugger.clear();
        CHECK(debugger.run(kEnd).reason == Reason::Hang);
        CHECK(machine->state_hash() == undebugged(world, engine));
    }
}

TEST_CASE("debugger: a rule at the instruction that is next matches at once, and not again there",
          "[machine][debugger]") {
    World world;
    for (const auto engine : {kStep, kJit}) {
        const auto machine = world.make(engine);
        Debugger debugger(*machine);
        CHECK(debugger.run(kEnd, 4).reason == Reason::Limit);
        REQUIRE(debugger.focus() != nullptr);
        REQUIRE(debugger.focus()->state().rip == kStore);
        REQUIRE(debugger.add(at(kStore)));
        CHECK(debugger.run(kEnd).reason == Reason::Rule);
        CHECK(machine->instructions() == 4);
        REQUIRE(debugger.add(at(kStore)));  // one more
        CHECK(debugger.run(kEnd).reason == Reason::Rule);
        CHECK(machine->instructions() == 12);
        // Behind a step onto it, too.
        for (unsigned k = 0; k < 8; ++k) CHECK(debugger.step(*debugger.focus(), kEnd).reason == Reason::Step);
        CHECK(debugger.focus()->state().rip == kStore);
        CHECK(machine->instructions() == 20);
        CHECK(debugger.run(kEnd).reason == Reason::Rule);
        CHECK(machine->instructions() == 28);
        // A limit there is no stop: nothing is missed.
        CHECK(debugger.run(kEnd, 36).reason == Reason::Limit);
        CHECK(debugger.run(kEnd).reason == Reason::Rule);
        CHECK(machine->instructions() == 36);
    }
}

TEST_CASE("debugger: stepping is running one instruction at a time", "[machine][debugger]") {
    World world;
    const unsigned children = GENERATE(0u, 2u);
    for (const auto engine : {kStep, kJit}) {
        const auto stepped = world.make(engine, children);
        Debugger debugger(*stepped);
        cpu::Vp* const vp = stepped->scheduler().processors()[0];
        for (unsigned n = 1; n <= 1200; ++n) {
            const DebugStop stop = debugger.step(*vp, kEnd);
            REQUIRE(stop.reason == Reason::Step);
            REQUIRE(debugger.focus() == vp);
            if (n % 300 != 0) continue;
            const auto run = world.make(engine, children);
            Debugger other(*run);
            REQUIRE(other.run(kEnd, stepped->instructions()).reason == Reason::Limit);
            CHECK(run->instructions() == stepped->instructions());
            CHECK(run->state_hash() == stepped->state_hash());
        }
        CHECK(debugger.run(kEnd).reason == Reason::Hang);
        CHECK(stepped->state_hash() == undebugged(world, engine, children));
        CHECK(debugger.step(*vp, kEnd).reason == Reason::Hang);
    }
}

TEST_CASE("debugger: rules are for the VP and the partition that they name", "[machine][debugger]") {
    World world;
    const auto probe = world.make(kStep, 2);
    const u64 second = probe->scheduler().processors()[1]->partition();
    StopRule rule = at(kFunction);
    CHECK(stops_of(world, {rule}, 2).size() == 200);
    rule.partition = second;
    const auto list = stops_of(world, {rule}, 2);
    REQUIRE(list.size() == 100);
    CHECK(std::get<4>(list[0]) == "VP 0 of partition " + std::to_string(second) + " is at 0x2000c1");
    // A step of one VP stops where the other has a rule.
    for (const auto engine : {kStep, kJit}) {
        const auto machine = world.make(engine, 2);
        Debugger debugger(*machine);
        REQUIRE(debugger.add(rule));
        cpu::Vp* const first = machine->scheduler().processors()[0];
        DebugStop stop;
        u64 steps = 0;
        while ((stop = debugger.step(*first, kEnd)).reason == Reason::Step) ++steps;
        CHECK(stop.reason == Reason::Rule);
        CHECK(stop.partition == second);
        CHECK(steps > 1000);  // the first one's share of the round, to its end
    }
}

TEST_CASE("debugger: a watch stops behind the store, and says who made it", "[machine][debugger]") {
    World world;
    StopRule rule = watch(kArea + 2, 4);
    rule.ignore = 99;  // the stores of the loop, but one
    const auto list = stops_of(world, {rule});
    REQUIRE(list.size() == 5);  // and four bytes of the fill
    CHECK(std::get<2>(list[0]) == kBehindStore);
    CHECK(std::get<3>(list[0]) == kArea + 2);
    CHECK(std::get<4>(list[0]) == "VP 0 wrote 4 bytes at 0x300000 (rip 0x200096)");
    for (u64 k = 1; k < 5; ++k) {
        CHECK(std::get<2>(list[k]) == kFill);  // behind the iteration
        CHECK(std::get<3>(list[k]) == kArea + 1 + k);
        CHECK(std::get<1>(list[k]) == std::get<1>(list[1]) + k - 1);
    }
}

TEST_CASE("debugger: locked instructions, reads and pushes are accesses; fetches are not", "[machine][debugger]") {
    World world;
    const auto lock = stops_of(world, {watch(kArea + 0x200, 4, true, false)});
    REQUIRE(lock.size() == 1);
    CHECK(std::get<2>(lock[0]) == kBehindLock);
    CHECK(std::get<4>(lock[0]) == "VP 0 read 4 bytes at 0x300200 (rip 0x2000aa)");
    const auto load = stops_of(world, {watch(kArea + 0x301, 1, true, false)});
    REQUIRE(load.size() == 1);
    CHECK(std::get<2>(load[0]) == kBehindLoad);
    // 100 calls and returns, and what the exception pushes and IRET pops.
    CHECK(stops_of(world, {watch(0x3ffffc, 4, true, true)}).size() == 202);
    CHECK(stops_of(world, {watch(kStart, 0x48, true, true)}).empty());
}

TEST_CASE("debugger: event rules stop behind the instruction", "[machine][debugger]") {
    World world;
    StopRule port = on(TapKind::Port);
    port.values[0] = 0x80;
    port.values[3] = 42;
    const auto list = stops_of(world, {port, on(TapKind::Exception)});
    REQUIRE(list.size() == 2);
    CHECK(std::get<2>(list[0]) == kStart + 0x21);
    CHECK(std::get<4>(list[0]) == "VP 0: port port 0x80 size 0x1 write 0x1 value 0x2a");
    CHECK(std::get<0>(list[1]) == 2);
    CHECK(std::get<2>(list[1]) == test::kHandler);
    CHECK(std::get<4>(list[1]) == "VP 0: exception vector 0x6 error_code 0x0 address 0x0 rip 0x2000b7");
    // With a hypervisor the port is an exit too.
    StopRule exit = on(TapKind::Exit);
    exit.values[1] = 0x80;
    CHECK(stops_of(world, {exit}, 1).size() == 100);
}

TEST_CASE("debugger: what matched while the machine was run by somebody else goes with its rule", "[machine][debugger]") {
    World world;
    for (const bool cleared : {true, false}) {
        const auto machine = world.make(kJit, 0);
        Debugger debugger(*machine);
        REQUIRE(debugger.add(on(TapKind::Port)));
        CHECK(machine->run_until(kEnd) == Pause::Asked);
        if (cleared)
            debugger.clear();
        else
            debugger.pass_here();
        const DebugStop stop = debugger.step(*debugger.focus(), kEnd);
        CHECK(stop.reason == Reason::Step);
    }
}

TEST_CASE("debugger: what page walks set is a write at the instruction that walks", "[machine][debugger]") {
    // mov eax, 0x500000; mov cr3, eax; mov eax, cr4; or al, 0x10; mov cr4, eax; mov eax, cr0; or eax, 0x80000000; mov
    // cr0, eax; nop; nop; mov [0x300000], eax; mov eax, [0x400000]; mov [0x400000], eax; cli; hlt
    const std::vector<u8> code = {0xb8, 0x00, 0x00, 0x50, 0x00, 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xe0, 0x0c,
                                  0x10, 0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80,
                                  0x0f, 0x22, 0xc0, 0x90, 0x90, 0xa3, 0x00, 0x00, 0x30, 0x00, 0xa1, 0x00,
                                  0x00, 0x40, 0x00, 0xa3, 0x00, 0x00, 0x40, 0x00, 0xfa, 0xf4};
    constexpr u64 kDirectory = 0x500000;
    World world;
    for (const auto engine : {kStep, kJit}) {
        const auto machine = world.make(engine, 0, code);
        for (u32 k = 0; k < 2; ++k) machine->memory().write<u32>(Spa(kDirectory + 4 * k), k << 22 | 0x83);
        Debugger debugger(*machine);
        StopRule rule = watch(kDirectory, 8);
        rule.physical = true;
        REQUIRE(debugger.add(rule));
        const auto list = run_through(*machine, debugger);
        const std::vector<std::pair<u64, u64>> expected = {{kStart + 0x1c, kDirectory},
                                                           {kStart + 0x22, kDirectory},
                                                           {kStart + 0x27, kDirectory + 4},
                                                           {kStart + 0x2c, kDirectory + 4}};
        REQUIRE(list.size() == expected.size());
        for (std::size_t k = 0; k < list.size(); ++k) {
            CHECK(std::get<2>(list[k]) == expected[k].first);
            CHECK(std::get<3>(list[k]) == expected[k].second);
        }
    }
}

TEST_CASE("debugger: devices that write are named", "[machine][debugger]") {
    namespace ahci = devices::ahci;
    constexpr u32 kBar = 0xc0100000, kList = 0x500000, kFis = 0x501000, kTable = 0x502000, kData = 0x503000;
    constexpr u32 kPort = kBar + ahci::kPortsOffset;
    std::vector<u8> code;
    const auto dword = [&](u32 value) {
        for (unsigned k = 0; k < 4; ++k) code.push_back(static_cast<u8>(value >> (8 * k)));
    };
    const auto out = [&](u16 port, u32 value) {  // mov dx, port; mov eax, value; out dx, eax
        code.insert(code.end(), {0x66, 0xba, static_cast<u8>(port), static_cast<u8>(port >> 8), 0xb8});
        dword(value);
        code.push_back(0xef);
    };
    const auto store = [&](u32 address, u32 value) {  // mov dword [address], value
        code.insert(code.end(), {0xc7, 0x05});
        dword(address);
        dword(value);
    };
    constexpr u32 kFunctionAddress = 0x80000000 | 31 << 11;
    out(0xcf8, kFunctionAddress | 0x24), out(0xcfc, kBar);
    out(0xcf8, kFunctionAddress | 0x04), out(0xcfc, 6);  // memory space, bus master
    store(kBar + ahci::kGhc, ahci::kGhcAhci);
    store(kPort + ahci::kPxClb, kList);
    store(kPort + ahci::kPxFb, kFis);
    store(kPort + ahci::kPxCmd, ahci::kCmdFisReceive | ahci::kCmdStart);
    store(kPort + ahci::kPxCi, 1);
    code.insert(code.end(), {0xfa, 0xf4});
    REQUIRE(code.size() <= 0x80);
    World world;
    test::write_file(world.dir / "disk.img", std::vector<u8>(1 << 20));
    std::vector<Seen> lists[2];
    for (const auto engine : {kStep, kJit}) {
        const auto machine = world.make(engine, 0, code, "[[disk]]\nbus = \"ahci\"\nimage = \"disk.img\"\n");
        mmu::PhysicalMemory& memory = machine->memory();
        memory.write(Spa(kList), ahci::CommandHeader{5 | 1 << 16, 0, kTable, {}});
        memory.write(Spa(kTable), std::array<u8, 4>{0x27, 0x80, 0xec, 0});  // IDENTIFY DEVICE
        memory.write(Spa(kTable + ahci::kTableDescriptors), ahci::Descriptor{kData, 0, 511});
        Debugger debugger(*machine);
        REQUIRE(debugger.add(watch(kData + 8, 8)));
        StopRule counted = watch(kTable + 2, 1, true, false);
        counted.ignore = 1;
        REQUIRE(debugger.add(counted));
        std::vector<Seen>& list = lists[engine == kJit];
        DebugStop stop;
        while ((stop = debugger.run(kEnd)).reason == Reason::Rule) {
            list.emplace_back(stop.rule, machine->instructions(), 0, stop.address, stop.text);
            CHECK(stop.who == "device 00:1f.0");
            CHECK_FALSE(stop.vp);
        }
        CHECK(stop.reason == Reason::Hang);
        CHECK(debugger.rules()[1].hits == 1);  // it read its command
    }
    CHECK(lists[0] == lists[1]);
    REQUIRE(lists[0].size() == 1);
    CHECK(std::get<4>(lists[0][0]) == "device 00:1f.0 wrote 512 bytes at 0x503000");
    CHECK(std::get<3>(lists[0][0]) == kData + 8);
}

TEST_CASE("debugger: everything at once changes nothing", "[machine][debugger]") {
    World world;
    const unsigned children = GENERATE(0u, 2u);
    const auto list = stops_of(world,
                               {at(kFunction), at(kStore), watch(kArea, 64, true, true), watch(0x3ffff8, 8, true, true),
                                on(TapKind::Port), on(TapKind::Exception)},
                               children);
    CHECK(list.size() > 600);
}

TEST_CASE("debugger: rules that cannot be are refused with a reason", "[machine][debugger]") {
    World world;
    const auto machine = world.make(kStep, 1);
    Debugger debugger(*machine);
    const auto refused = [&](const StopRule& rule, const std::string& why) {
        const auto added = debugger.add(rule);
        REQUIRE_FALSE(added);
        CHECK(added.error().code == Error::Code::Usage);
        CHECK(added.error().text == why);
    };
    StopRule rule = at(kStart);
    rule.partition = 77;
    refused(rule, "there is no partition 77; partitions are " +
                      std::to_string(machine->scheduler().processors()[0]->partition()));
    rule = at(kStart);
    rule.vp = 3;
    refused(rule, "there is no VP 3");
    refused(watch(kArea, 0), "a watch is for 1 to 1048576 bytes");
    refused(watch(kArea, StopRule::kMaxWatchBytes + 1), "a watch is for 1 to 1048576 bytes");
    refused(watch(~u64{0}, 2), "a watch is for 1 to 1048576 bytes");
    refused(watch(kArea, 4, false, false), "a watch needs reads, writes, or both to watch for");
    refused(watch(0xfffff000, 4), "nothing is mapped at 0xfffff000");
    rule = watch(u64{1} << 40, 4);
    rule.physical = true;
    refused(rule, "nothing is mapped at 0x10000000000");
    refused(on(TapKind::Count), "a rule for events needs the kind of event");
    CHECK(debugger.rules().empty());
    rule = watch(kArea, StopRule::kMaxWatchBytes);
    rule.physical = true;
    CHECK(debugger.add(rule));
}

// ---- a stock kernel

namespace {

struct Linux {
    test::TempDir dir;
    unsigned machines = 0;
    static bool is_there() { return std::filesystem::exists(std::string(VG_GUEST_DIR) + "/vmlinuz"); }
    std::unique_ptr<Machine> make(MachineOptions::EngineKind engine) {
        const std::string guest = VG_GUEST_DIR;
        const std::string text =
            "[machine]\ncpu = \"verdigris-v2\"\nclock = \"2026-01-01T00:00:00Z\"\n[hypervisor]\n[[child]]\n"
            "name = \"linux\"\ngeneration = 2\nmemory = \"512 MiB\"\nkernel = \"" +
            guest + "/vmlinuz\"\ninitrd = \"" + guest +
            "/initrd.img\"\ncmdline = \"console=ttyS0\"\n[[child.disk]]\nimage = \"" + guest +
            "/base.vhd\"\noverlay = \"" + std::to_string(machines++) + ".vhd\"\n";
        auto config = parse_config(text, "m.toml", dir / ".", {});
        INFO((config ? "" : config.error().text));
        REQUIRE(config);
        MachineOptions options;
        options.engine = engine;
        auto made = Machine::create(*config, std::move(options));
        INFO((made ? "" : made.error().text));
        REQUIRE(made);
        return std::move(*made);
    }
};

constexpr u64 kHitsEach = 2000;

/// Places that the boot comes by: code, and stack memory by its guest-physical address.
std::vector<StopRule> rules_for(Machine& machine, u64 instructions) {
    std::map<u64, unsigned> seen;
    std::vector<StopRule> rules;
    for (u64 at = 100'003; at < instructions; at += 100'003) {
        if (machine.run_until(kNever, at) != Pause::Reached) break;
        cpu::Vp& vp = *machine.scheduler().processors()[0];
        ++seen[vp.state().rip];
        if (at % 4'000'120 != 0) continue;
        const u64 sp = vp.state().gpr[cpu::RSP] & ~u64{7};
        const mmu::Translation t =
            mmu::peek_walk(machine.memory(), vp.tlb().mode(), vp.tlb().slat(), Gva(sp), mmu::Access::Read, false);
        if (t.status != mmu::Translation::Status::Ok) continue;
        StopRule rule = watch(t.gpa.value, 8, rules.size() % 2 == 1);
        rule.physical = true;
        rules.push_back(rule);
    }
    std::vector<std::pair<unsigned, u64>> often;
    for (const auto& [rip, count] : seen) often.emplace_back(count, rip);
    std::sort(often.rbegin(), often.rend());
    for (std::size_t k = 0; k < often.size() && k < 40; k += 4) rules.push_back(at(often[k].second));
    StopRule port = on(TapKind::Port), exception = on(TapKind::Exception);
    port.values[0] = 0x3f8;
    exception.ignore = 100;
    for (const StopRule& rule :
         {port, exception, on(TapKind::Interrupt), on(TapKind::Cr), on(TapKind::Msr), on(TapKind::Exit)})
        rules.push_back(rule);
    return rules;
}

/// Runs with the rules, each of which is switched off after so many hits. What comes back tells where every stop was.
struct DebuggedBoot {
    u64 stops = 0, places = 0, hash = 0;
    DebugStop last;
    std::vector<u64> hits;
};
DebuggedBoot boot(Machine& machine, const std::vector<StopRule>& rules, u64 instructions) {
    Debugger debugger(machine);
    for (const StopRule& rule : rules) {
        const auto added = debugger.add(rule);
        INFO((added ? "" : added.error().text));
        REQUIRE(added);
    }
    DebuggedBoot result;
    while ((result.last = debugger.run(60'000'000'000, instructions)).reason == Reason::Rule) {
        ++result.stops;
        const u64 rip = machine.scheduler().processors()[0]->state().rip;
        for (const u64 part : {u64{result.last.rule}, machine.instructions(), rip, result.last.address})
            result.places = (result.places ^ part) * 0x100000001b3;
        if (debugger.rules()[result.last.rule - 1].hits >= kHitsEach) (void)debugger.enable(result.last.rule, false);
    }
    for (const auto& row : debugger.rules()) result.hits.push_back(row.hits);
    result.hash = machine.state_hash();
    return result;
}

}  // namespace

TEST_CASE("debugger: a stock kernel boots as if nobody had stopped it", "[machine][debugger][slow]") {
    if (!Linux::is_there()) {
        WARN("skipped: no stock kernel (tools/make-guest build/guest)");
        return;
    }
    constexpr u64 kPart = 120'000'000;
    Linux guest;
    const std::vector<StopRule> rules = rules_for(*guest.make(kJit), kPart);
    const auto plain = guest.make(kJit);
    CHECK(plain->run_until(60'000'000'000, kPart) == Pause::Reached);
    const u64 part = plain->state_hash();
    CHECK(plain->run_until(60'000'000'000) == Pause::Asked);
    CHECK(plain->outcome().kind == Outcome::Kind::PoweredOff);

    const DebuggedBoot step = boot(*guest.make(kStep), rules, kPart), jit = boot(*guest.make(kJit), rules, kPart);
    CHECK(step.hash == part);
    CHECK(jit.hash == part);
    CHECK(step.stops == jit.stops);
    CHECK(step.places == jit.places);
    CHECK(step.hits == jit.hits);
    CHECK(step.stops > 5000);

    const auto machine = guest.make(kJit);
    const DebuggedBoot whole = boot(*machine, rules, Scheduler::kNoCount);
    CHECK(whole.last.reason == Reason::Ended);
    CHECK(whole.stops > step.stops);
    CHECK(whole.hash == plain->state_hash());
    CHECK(machine->instructions() == plain->instructions());
}
