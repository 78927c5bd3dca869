// The bare PC's legacy interrupt path, driven by a guest program of a few instructions.
#include <elf.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "machine/machine.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

constexpr u32 kLoad = 0x200000, kIdt = kLoad + 0x200, kHandler = kLoad + 0x100;

/// A multiboot ELF whose code runs with an IDT that has one gate, for `vector`, to kHandler.
std::vector<u8> image_with(const std::vector<u8>& code, const std::vector<u8>& handler, u8 vector) {
    std::vector<u8> body(0x200 + 256 * 8);
    const u32 header[] = {0x1badb002, 0, 0u - 0x1badb002};
    std::memcpy(body.data() + 0x40, header, sizeof header);
    std::memcpy(body.data() + 0x80, code.data(), code.size());
    std::memcpy(body.data() + 0x100, handler.data(), handler.size());
    const u16 gate[] = {static_cast<u16>(kHandler), 0x10, 0x8e00, kHandler >> 16};
    std::memcpy(body.data() + 0x200 + vector * 8u, gate, sizeof gate);
    const u16 limit = 0x7ff;
    std::memcpy(body.data() + 0x60, &limit, 2);
    std::memcpy(body.data() + 0x62, &kIdt, 4);

    Elf32_Ehdr elf{};
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS32;
    elf.e_ident[EI_DATA] = ELFDATA2LSB;
    elf.e_ident[EI_VERSION] = EV_CURRENT;
    elf.e_version = EV_CURRENT;
    elf.e_type = ET_EXEC;
    elf.e_machine = EM_386;
    elf.e_entry = kLoad + 0x80;
    elf.e_phoff = sizeof elf;
    elf.e_ehsize = sizeof elf;
    elf.e_phentsize = sizeof(Elf32_Phdr);
    elf.e_phnum = 1;
    Elf32_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = 0x80;
    segment.p_vaddr = segment.p_paddr = kLoad;
    segment.p_filesz = segment.p_memsz = static_cast<u32>(body.size());
    std::vector<u8> image(0x80 + body.size());
    std::memcpy(image.data(), &elf, sizeof elf);
    std::memcpy(image.data() + sizeof elf, &segment, sizeof segment);
    std::memcpy(image.data() + 0x80, body.data(), body.size());
    return image;
}

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
