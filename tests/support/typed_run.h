// A small machine that is typed at, and its recording.
#pragma once

#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "machine/recording.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

namespace vg::test {

/// Prints what is typed, one higher, and counts in between; off after a typed 'q'.
inline const std::vector<u8> kEchoCode = {
    0x31, 0xdb,                                                         // xor ebx, ebx
    0x43,                                                               // again: inc ebx
    0x89, 0x1d, 0x00, 0x10, 0x20, 0x00,                                 // mov [0x201000], ebx
    0x66, 0xba, 0xfd, 0x03, 0xec,                                       // in al, 0x3fd
    0xa8, 0x01, 0x74, 0xee,                                             // test al, 1; jz again
    0x66, 0xba, 0xf8, 0x03, 0xec,                                       // in al, 0x3f8
    0x3c, 'q',  0x74, 0x05,                                             // cmp al, 'q'; je off
    0xfe, 0xc0, 0xee, 0xeb, 0xe0,                                       // inc al; out dx, al; jmp again
    0x66, 0xba, 0x04, 0x04, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xeb, 0xfe};  // off
inline constexpr u64 kEchoEntry = kLoad + 0x80, kEchoStored = kEchoEntry + 9, kEchoPrints = kEchoEntry + 27, kEchoCounter = 0x201000;

struct TypedRun {
    TempDir dir;
    std::string console;
    std::unique_ptr<machine::Machine> machine;

    machine::Config config(const std::string& text) {
        write_file(dir / "kernel", image_with(kEchoCode, {0xf4}, 0));
        auto parsed = machine::parse_config(text, "m.toml", dir / ".", {});
        REQUIRE(parsed);
        return *parsed;
    }
    void create(const machine::Config& from) {
        machine::MachineOptions options;
        options.console = [this](const std::string&, u8 byte) { console += static_cast<char>(byte); };
        auto made = machine::Machine::create(from, std::move(options));
        REQUIRE(made);
        machine = std::move(*made);
        console.clear();
    }
    /// Returns the state at its end.
    /// @param pause  about so long between two keys, at most
    u64 record(const machine::Config& from, const std::string& path, VTime pause = 4'000'000) {
        auto recorder = machine::Recorder::create(path, from);
        REQUIRE(recorder);
        create(from);
        (*recorder)->attach(*machine);
        std::mt19937_64 random(7);
        const std::string typed = "Verdigris records what is typed.q";
        for (std::size_t i = 0; i < typed.size(); ++i) {
            machine->run_until(machine->now() + 10'000 + random() % pause);
            (*recorder)->look();
            REQUIRE(machine->console_input("", typed.substr(i, 1)) == 1);
        }
        machine->run_until(machine->now() + 1'000'000);
        REQUIRE(machine->outcome().kind == machine::Outcome::Kind::PoweredOff);
        REQUIRE((*recorder)->finish(0, "off"));
        return machine->state_hash();
    }
};

inline const std::string kTypedChild = "[hypervisor]\n[[child]]\nname = \"a\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n";
inline const std::string kTypedPc = "[boot]\nkernel = \"kernel\"\n[machine]\nmemory = \"64 MiB\"\n";

}  // namespace vg::test
