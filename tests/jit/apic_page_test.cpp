// The xAPIC page in both engines: it is where IA32_APIC_BASE says, hides the RAM that lies there, and is not there in
// x2APIC mode or when the APIC is disabled. SDM 3A "Local APIC Status and Location", "x2APIC State Transitions".
#include <catch2/catch.hpp>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u32 kBsp = 1 << 8, kExtended = 1 << 10, kEnable = 1 << 11;
constexpr u32 kVersion = 0x30, kTpr = 0x80;
constexpr u32 kUsualPage = 0xfee00000, kMovedPage = kDataPhysical;
constexpr u32 kRamWord = 0x11111111, kVersionWord = 0x00050014;

class Code {
  public:
    void bytes(std::initializer_list<u8> more) { bytes_.insert(bytes_.end(), more); }
    void word(u32 value) {
        for (unsigned shift = 0; shift < 32; shift += 8) bytes_.push_back(static_cast<u8>(value >> shift));
    }
    /// mov ecx, 1bh; mov eax, value; xor edx, edx; wrmsr
    void write_apic_base(u32 value) {
        bytes({0xb9, 0x1b, 0, 0, 0, 0xb8});
        word(value);
        bytes({0x31, 0xd2, 0x0f, 0x30});
    }
    /// mov rNd, [rbx + offset], for N from 8
    void load(unsigned reg, u32 offset) {
        bytes({0x44, 0x8b, static_cast<u8>(0x83 | (reg - 8) << 3)});
        word(offset);
    }
    /// mov dword [rbx + offset], value
    void store(u32 offset, u32 value) {
        bytes({0xc7, 0x83});
        word(offset);
        word(value);
    }
    [[nodiscard]] std::vector<u8> finish() {
        bytes_.push_back(0xf4);
        return bytes_;
    }

  private:
    std::vector<u8> bytes_;
};

struct Run : EngineMachine {
    explicit Run(bool translated) : EngineMachine(translated) {
        memory.write<u32>(Spa(kMovedPage + kVersion), kRamWord);
        memory.write<u32>(Spa(kMovedPage + kTpr), kRamWord);
        s().gpr[cpu::RBX] = kData;
    }
    void run_all(const std::vector<u8>& code) {
        REQUIRE(run(code) == cpu::Stop::Halt);
        REQUIRE(faulted() == -1);
    }
    [[nodiscard]] u32 ram(u32 offset) { return memory.read<u32>(Spa(kMovedPage + offset)); }
    [[nodiscard]] u32 reg(unsigned n) { return static_cast<u32>(s().gpr[n]); }
};

}  // namespace

TEST_CASE("jit: the xAPIC page follows IA32_APIC_BASE onto RAM that was in use", "[jit][apic]") {
    Run r(GENERATE(false, true));
    Code code;
    code.load(8, kVersion);  // a read entry and a write entry for the page
    code.store(kTpr, 0x22222222);
    code.write_apic_base(kMovedPage | kEnable | kBsp);
    code.load(9, kVersion);
    code.store(kTpr, 0x40);
    code.load(10, kTpr);
    code.write_apic_base(kUsualPage | kEnable | kBsp);
    code.load(11, kVersion);
    code.load(12, kTpr);
    r.run_all(code.finish());
    CHECK(r.reg(8) == kRamWord);
    CHECK(r.reg(9) == kVersionWord);
    CHECK(r.reg(10) == 0x40);
    CHECK(r.reg(11) == kRamWord);
    CHECK(r.reg(12) == 0x22222222);
    CHECK(r.vp->apic().tpr() == 0x40);
}

TEST_CASE("jit: there is no xAPIC page in x2APIC mode, nor while the APIC is disabled", "[jit][apic]") {
    Run r(GENERATE(false, true));
    Code code;
    code.write_apic_base(kMovedPage | kEnable | kBsp);
    code.store(kTpr, 0x40);
    code.load(8, kTpr);
    code.write_apic_base(kMovedPage | kEnable | kExtended | kBsp);
    code.load(9, kTpr);
    code.load(10, kVersion);
    code.store(kTpr, 0x33333333);
    code.write_apic_base(kMovedPage | kBsp);
    code.load(11, kTpr);
    code.store(kVersion, 0x44444444);
    code.load(12, kVersion);
    code.write_apic_base(kMovedPage | kEnable | kBsp);
    code.load(13, kVersion);
    code.load(14, kTpr);
    r.run_all(code.finish());
    CHECK(r.reg(8) == 0x40);
    CHECK(r.reg(9) == kRamWord);
    CHECK(r.reg(10) == kRamWord);
    CHECK(r.reg(11) == 0x33333333);
    CHECK(r.reg(12) == 0x44444444);
    CHECK(r.reg(13) == kVersionWord);
    CHECK(r.reg(14) == 0);  // disabling resets the registers
    CHECK(r.ram(kTpr) == 0x33333333);
    CHECK(r.ram(kVersion) == 0x44444444);
}

TEST_CASE("jit: INIT leaves the xAPIC page where it was, reset brings it back", "[jit][apic]") {
    Run r(GENERATE(false, true));
    Code code;
    code.write_apic_base(kMovedPage | kEnable | kBsp);
    code.store(kTpr, 0x40);
    r.run_all(code.finish());
    cpu::Vp& vp = *r.vp;
    const auto version = [&] {
        u32 value = 0;
        REQUIRE(vp.memory().read(kMovedPage + kVersion, value));  // paging is off after INIT and reset
        return value;
    };
    vp.init();
    CHECK(vp.apic().base() == kMovedPage);
    CHECK(version() == kVersionWord);
    vp.reset();
    CHECK(version() == kRamWord);
    CHECK(r.ram(kTpr) == kRamWord);
}
