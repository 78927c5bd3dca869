// The bare PC's legacy interrupt path, driven by a guest program of a few instructions.
#include <catch2/catch.hpp>

#include "iommu/spec/registers.h"
#include "iommu/vtd.h"
#include "machine/acpi_tables.h"
#include "machine/chipset.h"
#include "machine/machine.h"
#include "machine/pc_machine.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;
using test::image_with;

namespace {

Outcome run(const std::vector<u8>& image, MachineOptions::EngineKind engine) {
    test::TempDir dir;
    test::write_file(dir / "kernel", image);
    Config config;
    config.machine.memory = {u64{32} << 20};
    config.boot.emplace();
    config.boot->kernel = dir / "kernel";
    config.devices.isa_debug_exit = 0xf4;
    config.devices.testdev = true;
    MachineOptions options;
    options.engine = engine;
    auto machine = Machine::create(config, std::move(options));
    REQUIRE(machine);
    (void)(*machine)->run_until(100'000'000);
    return (*machine)->outcome();
}

constexpr auto kEngines = {MachineOptions::EngineKind::Step, MachineOptions::EngineKind::Jit};

}  // namespace

TEST_CASE("pc: an ISA interrupt comes through the 8259s at its BIOS vector", "[machine][pc]") {
    const std::vector<u8> code = {
        0x0f, 0x01, 0x1d, 0x60, 0x00, 0x20, 0x00,  // lidt [0x200060]
        0x66, 0xba, 0x0b, 0x20,                    // mov dx, 0x200b: test device, line 11
        0xb0, 0x01, 0xee, 0xb0, 0x00, 0xee,        // up and down again
        0xfb, 0xf4,                                // sti; hlt
    };
    const std::vector<u8> handler = {0xb8, 0x2a, 0x00, 0x00, 0x00, 0xe7, 0xf4, 0xf4};  // out 0xf4, 42; hlt
    for (const auto engine : kEngines) {
        const Outcome outcome = run(image_with(code, handler, 0x73), engine);
        CHECK(outcome.kind == Outcome::Kind::DebugExit);
        CHECK(outcome.raw == 42);
    }
}

TEST_CASE("pc: the interval timer interrupts at vector 8", "[machine][pc]") {
    const std::vector<u8> code = {
        0x0f, 0x01, 0x1d, 0x60, 0x00, 0x20, 0x00,                          // lidt [0x200060]
        0xb0, 0x30, 0xe6, 0x43, 0xb0, 0x64, 0xe6, 0x40, 0x30, 0xc0, 0xe6, 0x40,  // channel 0, mode 0, 100 clocks
        0xfb, 0xf4,                                                        // sti; hlt
    };
    const std::vector<u8> handler = {0xb8, 0x07, 0x00, 0x00, 0x00, 0xe7, 0xf4, 0xf4};
    for (const auto engine : kEngines) {
        const Outcome outcome = run(image_with(code, handler, 0x08), engine);
        CHECK(outcome.kind == Outcome::Kind::DebugExit);
        CHECK(outcome.raw == 7);
    }
}

TEST_CASE("pc: the keyboard controller and port 92 reset", "[machine][pc]") {
    // Waits until the 8042 takes a command, as every driver does, then pulses the reset line.
    const std::vector<u8> keyboard = {0xe4, 0x64, 0xa8, 0x02, 0x75, 0xfa, 0xb0, 0xfe, 0xe6, 0x64, 0xf4};
    const std::vector<u8> port92 = {0xe4, 0x92, 0x0c, 0x01, 0xe6, 0x92, 0xf4};
    for (const auto& code : {keyboard, port92}) {
        CHECK(run(image_with(code, {0xf4}, 0), MachineOptions::EngineKind::Step).kind == Outcome::Kind::Reset);
    }
}

TEST_CASE("pc: the exit device may not take another chip's ports", "[machine][pc]") {
    test::TempDir dir;
    test::write_file(dir / "kernel", image_with({0xf4}, {0xf4}, 0));
    const auto refusal = [&](const std::string& devices) -> std::string {
        auto config = parse_config("[machine]\nmemory = \"32 MiB\"\n[boot]\nkernel = \"kernel\"\n[devices]\n" + devices, "m.toml",
                                   dir / ".", {});
        if (!config) return config.error().text;
        auto machine = Machine::create(*config, {});
        if (machine) return "";
        CHECK(machine.error().code == Error::Code::Usage);
        return machine.error().text;
    };
    CHECK(refusal("isa_debug_exit = 0xf4") == "");
    CHECK(refusal("isa_debug_exit = 0x3f8") ==
          "m.toml:6:18: isa_debug_exit = 0x3f8: ports 0x3f8 to 0x3ff are those of com1; the usual port is 0xf4");
    CHECK(refusal("isa_debug_exit = 0x3f5").find("com1") != std::string::npos);
    CHECK(refusal("isa_debug_exit = 0x3f4") == "");
    CHECK(refusal("isa_debug_exit = 0xfffc") == "");
    CHECK(refusal("isa_debug_exit = 0xfffd").find("from 0 to 65532") != std::string::npos);
    CHECK(refusal("isa_debug_exit = 0xe2\ntestdev = true").find("test_latch") != std::string::npos);
}

TEST_CASE("pc: an x87 error with CR0.NE=0 is IRQ 13, and port 0xF0 lets the processor ignore it", "[machine][pc]") {
    // SDM 1 "MS-DOS Compatibility Sub-mode": the waiting instruction is held until the interrupt comes.
    const std::vector<u8> code = {
        0x0f, 0x01, 0x1d, 0x60, 0x00, 0x20, 0x00,        // lidt [0x200060]
        0xbc, 0x00, 0x00, 0x30, 0x00, 0x31, 0xdb,        // mov esp, 0x300000; xor ebx, ebx
        0x0f, 0x20, 0xc0, 0x83, 0xe0, 0xdf,              // mov eax, cr0; and eax, ~NE
        0x0f, 0x22, 0xc0, 0xfb, 0xdb, 0xe3,              // mov cr0, eax; sti; fninit
        0x68, 0x40, 0x03, 0x00, 0x00, 0xd9, 0x2c, 0x24,  // push 0x340; fldcw [esp]
        0xd9, 0xee, 0xd9, 0xee, 0xde, 0xf9, 0x9b,        // fldz; fldz; fdivp; fwait
        0xdb, 0xe2,                                      // fnclex
        0xd9, 0xee, 0xd9, 0xee, 0xde, 0xf9, 0x9b,        // once more
        0x89, 0xd8, 0xe7, 0xf4, 0xf4,                    // mov eax, ebx; out 0xf4, eax; hlt
    };
    // inc ebx; out 0xf0, al; [fnclex;] mov al, 0x20; out 0xa0, al; out 0x20, al; iretd
    const std::vector<u8> clears = {0x43, 0xe6, 0xf0, 0xdb, 0xe2, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0xcf};
    const std::vector<u8> ignores = {0x43, 0xe6, 0xf0, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0xcf};
    for (const auto& handler : {clears, ignores}) {
        for (const auto engine : kEngines) {
            const Outcome outcome = run(image_with(code, handler, 0x75), engine);
            CHECK(outcome.kind == Outcome::Kind::DebugExit);
            CHECK(outcome.raw == 2);
        }
    }
}

TEST_CASE("pc: an ELF kernel may lie low, but not over boot information", "[machine][pc]") {
    // mov eax, 7; out 0xf4, eax; hlt
    const std::vector<u8> image = image_with({0xb8, 7, 0, 0, 0, 0xe7, 0xf4, 0xf4}, {}, 0);
    const auto create_at = [&](u32 address) {
        std::vector<u8> moved = image;
        const u32 entry = address + 0x80;
        std::memcpy(moved.data() + offsetof(Elf32_Ehdr, e_entry), &entry, sizeof entry);
        std::memcpy(moved.data() + sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_paddr), &address, sizeof address);
        return moved;
    };
    const Outcome outcome = run(create_at(0x8000), MachineOptions::EngineKind::Jit);
    CHECK(outcome.kind == Outcome::Kind::DebugExit);
    CHECK(outcome.raw == 7);
    for (const u32 address : {0x800u, 0x1000u, 0x10800u, 0x11000u, 0x1f800u, 0x2f000u}) {
        CAPTURE(address);
        test::TempDir dir;
        test::write_file(dir / "kernel", create_at(address));
        Config config;
        config.machine.memory = {u64{32} << 20};
        config.boot.emplace();
        config.boot->kernel = dir / "kernel";
        CHECK_FALSE(Machine::create(config, {}));
    }
}

TEST_CASE("msi: address and data become an APIC message, with a destination of 8 or 32 bits", "[machine][pc]") {
    const cpu::InterruptMessage small = decode_msi(0xfee12004, 0xc461);
    CHECK(small.destination == 0x12);
    CHECK(small.logical);
    CHECK(small.level);
    CHECK(small.assert_level);
    CHECK(small.mode == cpu::DeliveryMode::Nmi);
    CHECK(small.vector == 0x61);
    const cpu::InterruptMessage large = decode_msi(0x1234'5600'fee7'8000, 0x31);
    CHECK(large.destination == 0x12345678);
    CHECK_FALSE(large.logical);
    CHECK_FALSE(large.level);
}

// VT-d 4.1 "Interrupt Source Validation"
TEST_CASE("pc: the IOAPIC's requests are verified by the IOMMU unless the board does not identify them", "[machine][pc][iommu]") {
    using namespace vg::iommu;
    constexpr u64 kTable = 0x1000000;
    constexpr u8 kPin = 11;
    const bool identified = GENERATE(true, false);
    const u16 wanted = GENERATE(board::kIoApicRid, u16{0x0018});
    test::TempDir dir;
    test::write_file(dir / "kernel", image_with({0xf4}, {0xf4}, 0));
    Config config;
    config.machine.memory = {u64{32} << 20};
    config.boot.emplace();
    config.boot->kernel = dir / "kernel";
    config.devices.iommu = true;
    config.devices.ioapic_source_id = identified;
    auto machine = Machine::create(config, {});
    REQUIRE(machine);
    PcMachine& pc = *(*machine)->pc();
    // Entry 0: vector 41h, present; the source-id in full.
    const u64 entry[] = {u64{0x41} << 16 | 1, u64{1} << 18 | wanted};
    REQUIRE(pc.write(Gpa(kTable), std::span(reinterpret_cast<const u8*>(entry), sizeof entry)));
    Vtd& unit = *pc.iommu();
    unit.mmio_write(reg::kInterruptTable, 8, kTable | 7);
    unit.mmio_write(reg::kGlobalCommand, 4, reg::global::kInterruptPointer);
    unit.mmio_write(reg::kGlobalCommand, 4, reg::global::kInterruptRemapping);
    cpu::Apic& apic = pc.vps().front()->apic();
    apic.mmio_write(0xf0, 0x1ff);  // enabled by software
    devices::Ioapic& ioapic = pc.chipset().ioapic();
    const auto set = [&](u32 index, u32 value) {
        ioapic.mmio_write(0, 4, index);
        ioapic.mmio_write(0x10, 4, value);
    };
    set(0x11 + 2 * kPin, 1u << 16);  // remappable format, handle 0
    set(0x10 + 2 * kPin, 0x41);
    pc.chipset().isa_line(kPin).set(true);
    const bool passes = !identified || wanted == board::kIoApicRid;
    CHECK(unit.history().faults.size() == (passes ? 0 : 1));
    if (!passes) CHECK(unit.history().faults.last().reason == FaultReason::SourceRefused);
    CHECK(apic.requested(0x41) == passes);
}
