// What is said about processors that stand still, against what they do when they go on.
#include "ui/model/explain.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <random>

#include "machine/pc_machine.h"
#include "mmu/spec/paging.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/model/symbols.h"

using namespace vg;

namespace {

struct Pc {
    /// A bare PC of two processors whose kernel is this code.
    explicit Pc(const std::vector<u8>& code, const std::string& model = "verdigris-v2") {
        test::write_file(dir / "k", test::image_with(code, {0xcf}, 0x40));
        auto config = machine::parse_config("[machine]\nmemory = \"64 MiB\"\nprocessors = 2\ncpu = \"" + model + "\"\n[boot]\nkernel = \"k\"\n",
                                            "m.toml", dir / ".", {});
        REQUIRE(config);
        auto made = machine::Machine::create(*config, {});
        REQUIRE(made);
        machine = std::move(*made);
    }
    cpu::Vp& vp(u32 index = 0) { return *machine->pc()->vps()[index]; }
    std::string explain(std::string_view what, u32 index = 0) {
        const auto text = symbols.explain(*machine, {0, index}, what);
        return text ? *text : "error: " + text.error().text;
    }
    bool says(std::string_view what, std::string_view text, u32 index = 0) {
        const std::string all = explain(what, index);
        INFO(all);
        const bool found = all.find(text) != std::string::npos;
        CHECK(found);
        return found;
    }
    test::TempDir dir;
    std::unique_ptr<machine::Machine> machine;
    model::GuestSymbols symbols;
};

constexpr u8 kHlt = 0xf4, kCli = 0xfa;

}  // namespace

TEST_CASE("explain: a processor that halts with interrupts off, and one that was not started", "[ui][explain]") {
    Pc pc({kCli, kHlt});
    pc.machine->run_until(1'000'000);
    CHECK(pc.says("", "It is halted"));
    CHECK(pc.says("where", "RFLAGS.IF is 0"));
    CHECK(pc.says("", "waits for a start-up IPI", 1));
    CHECK(pc.explain("", 2) == "error: there is no VP 2 of partition 0");
    CHECK(pc.explain("weather").rfind("error: nothing is known about \"weather\"", 0) == 0);
}

TEST_CASE("explain: what an interrupt waits for is what lets it through", "[ui][explain]") {
    Pc pc({kCli, 0x90, 0xeb, 0xfd});  // nop, jmp
    pc.machine->run_until(100'000);
    cpu::Vp& vp = pc.vp();
    CHECK(pc.says("interrupts", "No interrupt is requested"));
    vp.apic().mmio_write(0xf0, 0x1ff);
    vp.apic().accept(0x40, false);
    vp.apic().accept(0x31, false);
    CHECK(pc.says("interrupts", "Vector 0x40 is requested: it waits, because interrupts are off (RFLAGS.IF is 0)."));
    CHECK(pc.says("interrupts", "Vector 0x31 is requested: it waits behind vector 0x40."));
    CHECK_FALSE(vp.event_pending());
    vp.apic().set_tpr(0x45);
    CHECK(pc.says("interrupts", "the task priority (TPR 0x45) holds back classes up to 4"));
    vp.state().rflags |= cpu::flag::IF;
    CHECK_FALSE(vp.event_pending());
    vp.apic().set_tpr(0x30);
    CHECK(pc.says("interrupts", "Vector 0x40 is requested: it is delivered before the next instruction."));
    CHECK(vp.event_pending());
    REQUIRE(vp.apic().acknowledge() == 0x40);
    vp.apic().set_tpr(0);
    CHECK(pc.says("interrupts", "vector 0x40 is in service (no EOI yet), and its class 4 is not lower than 3"));
    CHECK_FALSE(vp.event_pending());
    vp.apic().eoi();
    CHECK(vp.event_pending());
    vp.state().interrupt_shadow = cpu::shadow::MovSs;
    CHECK(pc.says("interrupts", "the instruction behind the load of SS goes first"));
    vp.state().interrupt_shadow = 0;
    vp.apic().mmio_write(0xf0, 0xff);
    CHECK(pc.says("interrupts", "disabled by software"));
}

TEST_CASE("explain: a timer's time is the time at which it fires", "[ui][explain]") {
    Pc pc({kCli, kHlt});
    pc.machine->run_until(100'000);
    cpu::Vp& vp = pc.vp();
    vp.apic().mmio_write(0xf0, 0x1ff);
    vp.apic().mmio_write(0x3e0, 0xb);   // divide by 1
    vp.apic().mmio_write(0x320, 0x50);  // one-shot, vector 0x50
    vp.apic().mmio_write(0x380, 700'000);
    const VTime due = pc.machine->now() + 700'000;
    CHECK(
        pc.says("interrupts", fmt::format("APIC timer (one-shot): vector 0x50 due at 0.{:09} s, in 700.000 us.", due)));
    pc.machine->run_until(due - 1);
    CHECK_FALSE(vp.apic().requested(0x50));
    pc.machine->run_until(due + 1);
    CHECK(vp.apic().requested(0x50));
    vp.apic().mmio_write(0x320, 0x10050);
    vp.apic().mmio_write(0x380, 1000);
    CHECK(pc.says("interrupts", "but masked in its LVT entry"));
}

TEST_CASE("explain: a register's bits and the last exception", "[ui][explain]") {
    Pc pc({0x0f, 0x0b});  // ud2, with a gate that leads nowhere good
    pc.machine->run_until(1'000'000);
    CHECK(pc.says("cr0", "PE: protected mode"));
    CHECK(pc.says("registers", "cr0 0x"));
    CHECK(pc.says("exception", "The last exception was"));
    CHECK(pc.machine->outcome().kind == machine::Outcome::Kind::Shutdown);
    CHECK(pc.says("", "is shut down (triple fault)"));
}

TEST_CASE("explain: a walk faults in the telling where it faults in the processor", "[ui][explain]") {
    Pc pc({kHlt});
    pc.machine->run_until(1'000'000);
    cpu::Vp& vp = pc.vp();
    mmu::PhysicalMemory& memory = pc.machine->memory();
    std::mt19937_64 random(20261130);
    constexpr u64 kTables = 0x400000;
    unsigned faults = 0, good = 0;
    for (unsigned round = 0; round < 4000; ++round) {
        // Tables that mostly lead on, to each other or to RAM, with every bit now and then.
        const bool wide = random() % 4 != 0, level4 = wide && random() % 3 != 0;
        for (u64 page = 0; page < 6; ++page) {
            for (u64 i = 0; i < 8; ++i) {
                const u64 target = kTables + random() % 6 * kPageSize;
                u64 entry = target | 0x27 | (random() % 8 == 0 ? u64{1} << 7 : 0);
                if (random() % 12 == 0) entry ^= u64{1} << (random() % 3);
                if (random() % 24 == 0) entry ^= u64{1} << (random() % 64);
                if (wide)
                    memory.write<u64>(Spa(kTables + page * kPageSize + i * 8), entry);
                else
                    memory.write<u32>(Spa(kTables + page * kPageSize + i * 4), static_cast<u32>(entry));
            }
        }
        cpu::VpState& s = vp.state();
        s.cr0 = cpu::cr0::PE | cpu::cr0::PG | (random() % 2 != 0 ? cpu::cr0::WP : 0);
        s.cr4 = (wide ? cpu::cr4::PAE : 0) | (random() % 2 != 0 ? cpu::cr4::SMEP : 0) |
                (random() % 2 != 0 ? cpu::cr4::SMAP : 0) | (random() % 2 != 0 ? cpu::cr4::PSE : 0);
        s.efer = (level4 ? cpu::efer::LME | cpu::efer::LMA : 0) | (random() % 2 != 0 ? cpu::efer::NXE : 0);
        s.cr3 = kTables;
        for (u64 i = 0; i < 4; ++i) s.pdpte[i] = (kTables + (1 + i) * kPageSize) | (random() % 8 != 0);
        s.cpl = random() % 2 != 0 ? 3 : 0;
        s.rflags = random() % 2 != 0 ? 2 | cpu::flag::AC : 2;
        vp.update_context();
        const u64 index = low_mask(3);
        u64 address = random() & (index | index << 12 | index << 21 | index << 30 | index << 39);
        if (!level4) address &= 0xffffffff;
        for (const mmu::Access access : {mmu::Access::Read, mmu::Access::Write, mmu::Access::Fetch}) {
            const model::ToldWalk told = model::explain_walk(vp, address, access);
            const bool user = s.cpl == 3, ac = (s.rflags & cpu::flag::AC) != 0;
            const mmu::Translation real =
                mmu::walk(memory, vp.tlb().mode(), vp.tlb().slat(), Gva(address), access, user, ac);
            INFO(told.verdict << " code " << real.fault.error_code << " cr4 " << s.cr4 << " address " << address);
            REQUIRE(told.faults == (real.status != mmu::Translation::Status::Ok));
            if (told.faults) {
                ++faults;
                REQUIRE((told.verdict.find("reserved") != std::string::npos) ==
                        ((real.fault.error_code & mmu::pf::kReserved) != 0));
                REQUIRE((told.verdict.find("not present") != std::string::npos) ==
                        ((real.fault.error_code & (mmu::pf::kPresent | mmu::pf::kReserved)) == 0));
            } else {
                ++good;
                REQUIRE(told.physical == real.gpa.value);
            }
        }
    }
    CHECK(faults > 1000);
    CHECK(good > 1000);
}

TEST_CASE("explain: the rule that VMRUN broke, with its field and value, and what GIF holds back", "[ui][explain][svm]") {
    // EFER.SVME on, VMRUN of a page of zeroes, HLT.
    Pc pc({kCli, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x10, 0, 0, 0x0f, 0x30, 0xb8, 0, 0, 0x80, 0x01, 0x0f, 0x01, 0xd8, kHlt},
          "verdigris-v3-amd-svm");
    CHECK(pc.says("virtualization", "SVM is not in use"));
    pc.machine->run_until(1'000'000);
    CHECK(pc.says("virtualization", "VMCB is at 0x1800000"));
    CHECK(pc.says("virtualization", "The manual demands: EFER.SVME is 1. guest_efer (offset 0x4d0) was 0x0."));
    CHECK(pc.says("interrupts", "the global interrupt flag of SVM (GIF) is 0"));
}

TEST_CASE("explain: second-level walks name the entry that refuses", "[ui][explain]") {
    mmu::PhysicalMemory memory;
    REQUIRE(memory.add_ram("ram", Spa(0), 0x20000));
    memory.write<u64>(Spa(0x1000), 0x2007);
    memory.write<u64>(Spa(0x2000), 0x3007);
    memory.write<u64>(Spa(0x3000), 0x4007);
    memory.write<u64>(Spa(0x4000 + 5 * 8), 0x7000 | 0x35);
    mmu::SlatMode slat{.kind = mmu::SlatMode::Kind::Ept, .root = 0x101e};
    const auto told = [&](u64 gpa, mmu::Access access) {
        std::string all;
        for (const std::string& line : model::explain_second_level(memory, slat, gpa, access)) all += line + "\n";
        return all;
    };
    CHECK(told(0x5123, mmu::Access::Read).find("a read is allowed; it is at 0x7123") != std::string::npos);
    const std::string write = told(0x5123, mmu::Access::Write);
    CHECK(write.find("EPT level 1: entry at 0x4028 is 0x7035: read, execute.") != std::string::npos);
    CHECK(write.find("a write is not among the rights") != std::string::npos);
    CHECK(told(0x6000, mmu::Access::Read).find("not present") != std::string::npos);
    // The same behind a level below that gives the first 16 pages only.
    for (u64 n = 0; n < 16; ++n) memory.write<u64>(Spa(0x1b000 + 8 * n), n << 12 | 0x37);
    memory.write<u64>(Spa(0x18000), 0x19007);
    memory.write<u64>(Spa(0x19000), 0x1a007);
    memory.write<u64>(Spa(0x1a000), 0x1b007);
    slat.below = 0x1801e;
    memory.write<u64>(Spa(0x4000 + 6 * 8), 0x50000 | 0x37);
    CHECK(told(0x5123, mmu::Access::Read).find("it is at 0x7123 of the machine") != std::string::npos);
    CHECK(told(0x6008, mmu::Access::Read).find("it is at 0x50008, which the level below this table does not give") != std::string::npos);
    slat = {};
    CHECK(told(0x5000, mmu::Access::Read).empty());
}
