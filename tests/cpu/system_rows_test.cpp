// System instructions that no random test can run: what each does to the state, and who may execute it.
#include <catch2/catch.hpp>

#include <cstring>

#include "cpu/spec/bits.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kCode = 0x1000, kArea = 0x4000;
/// No fault.
constexpr int kNone = -1;

/// A VP in 64-bit mode at CPL 0 with the state that a test gives it.
class Stage {
  public:
    explicit Stage(const char* model = "verdigris-v3-amd") : machine(model) {
        machine.enter_long_mode(0);
        s().rip = kCode;
        s().gpr[RSP] = 0x8000;
    }
    [[nodiscard]] VpState& s() { return machine.vp->state(); }

    /// Executes the bytes; the vector of the fault, or kNone. Registers in the memory operand: RBX.
    int run(const std::vector<u8>& bytes) {
        machine.write(s().rip, bytes);
        machine.vp->begin_slice(machine.clock.now(), machine.clock.now() + 1000);
        Insn insn;
        if (!fetch_decode(*machine.vp, insn)) return machine.vp->fault().vector;
        REQUIRE(insn.length == bytes.size());
        const Exec result = execute(machine.vp->interp(), insn);
        if (result == Exec::Next) s().rip = machine.vp->interp().next_rip(insn);
        return result == Exec::Fault ? static_cast<int>(machine.vp->fault().vector) : kNone;
    }

    TestVp machine;
};

/// REX.W before the opcode, behind mandatory prefixes.
std::vector<u8> wide(std::vector<u8> bytes, std::size_t at = 0) {
    bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), 0x48);
    return bytes;
}

}  // namespace

TEST_CASE("system rows: SGDT and SIDT store limit and base", "[cpu][system]") {
    Stage t;
    t.s().gpr[RBX] = kArea;
    t.s().gdtr = {0x123456789abc, 0x1ff, 0};
    t.s().idtr = {0xfedcba987, 0xfff, 0};
    CHECK(t.run({0x0f, 0x01, 0x03}) == kNone);
    CHECK(t.machine.memory.read<u16>(Spa(kArea)) == 0x1ff);
    CHECK(t.machine.memory.read<u64>(Spa(kArea + 2)) == 0x123456789abc);
    CHECK(t.run({0x0f, 0x01, 0x0b}) == kNone);
    CHECK(t.machine.memory.read<u16>(Spa(kArea)) == 0xfff);
    CHECK(t.machine.memory.read<u64>(Spa(kArea + 2)) == 0xfedcba987);
}

TEST_CASE("system rows: CLAC and STAC change EFLAGS.AC alone", "[cpu][system]") {
    Stage t("verdigris-v3-amd,+smap");
    const u64 before = t.s().rflags;
    CHECK(t.run({0x0f, 0x01, 0xcb}) == kNone);
    CHECK(t.s().rflags == (before | flag::AC));
    CHECK(t.run({0x0f, 0x01, 0xca}) == kNone);
    CHECK(t.s().rflags == before);
}

TEST_CASE("system rows: SWAPGS exchanges the two GS bases", "[cpu][system]") {
    Stage t;
    t.s().segment(Seg::GS).base = 0x1111;
    t.s().kernel_gs_base = 0xffff800000002222;
    CHECK(t.run({0x0f, 0x01, 0xf8}) == kNone);
    CHECK(t.s().segment(Seg::GS).base == 0xffff800000002222);
    CHECK(t.s().kernel_gs_base == 0x1111);
}

TEST_CASE("system rows: RDGSBASE and WRGSBASE need CR4.FSGSBASE and canonical values", "[cpu][system]") {
    Stage t;
    t.s().segment(Seg::GS).base = 0x123456789a;
    CHECK(t.run({0xf3, 0x48, 0x0f, 0xae, 0xcb}) == 6);  // rdgsbase rbx
    t.s().cr4 |= cr4::FSGSBASE;
    CHECK(t.run({0xf3, 0x48, 0x0f, 0xae, 0xcb}) == kNone);
    CHECK(t.s().gpr[RBX] == 0x123456789a);
    t.s().gpr[RBX] = ~u64{0};
    CHECK(t.run({0xf3, 0x0f, 0xae, 0xcb}) == kNone);  // ebx: the upper half is cleared
    CHECK(t.s().gpr[RBX] == 0x3456789a);
    t.s().gpr[RBX] = 0xffffffff00001000;
    CHECK(t.run({0xf3, 0x48, 0x0f, 0xae, 0xdb}) == kNone);  // wrgsbase rbx
    CHECK(t.s().segment(Seg::GS).base == 0xffffffff00001000);
    t.s().gpr[RBX] = 0x800000000000;
    CHECK(t.run({0xf3, 0x48, 0x0f, 0xae, 0xdb}) == 13);
    CHECK(t.s().segment(Seg::GS).base == 0xffffffff00001000);
}

TEST_CASE("system rows: RDTSCP gives the counter and TSC_AUX", "[cpu][system]") {
    Stage t;
    t.s().tsc_aux = 0x77;
    t.s().gpr[RAX] = t.s().gpr[RCX] = t.s().gpr[RDX] = ~u64{0};
    CHECK(t.run({0x0f, 0x01, 0xf9}) == kNone);
    CHECK(t.s().gpr[RCX] == 0x77);
    const u64 first = t.s().gpr[RDX] << 32 | t.s().gpr[RAX];
    CHECK(t.s().gpr[RDX] <= 0xffffffff);
    t.machine.clock.advance(1000);
    CHECK(t.run({0x0f, 0x01, 0xf9}) == kNone);
    CHECK((t.s().gpr[RDX] << 32 | t.s().gpr[RAX]) > first);
}

TEST_CASE("system rows: RDPKRU and WRPKRU need CR4.PKE and zeros", "[cpu][system]") {
    Stage t("verdigris-v3-amd,+pku");
    t.s().gpr[RCX] = t.s().gpr[RDX] = 0;
    t.s().gpr[RAX] = 0x55555554;
    CHECK(t.run({0x0f, 0x01, 0xef}) == 6);
    t.s().cr4 |= cr4::PKE;
    CHECK(t.run({0x0f, 0x01, 0xef}) == kNone);
    t.s().rip = kCode;
    CHECK(t.s().pkru == 0x55555554);
    t.s().gpr[RAX] = t.s().gpr[RDX] = ~u64{0};
    CHECK(t.run({0x0f, 0x01, 0xee}) == kNone);
    CHECK(t.s().gpr[RAX] == 0x55555554);
    CHECK(t.s().gpr[RDX] == 0);
    t.s().gpr[RDX] = 1;
    CHECK(t.run({0x0f, 0x01, 0xef}) == 13);
    t.s().gpr[RCX] = 1;
    CHECK(t.run({0x0f, 0x01, 0xee}) == 13);
}

TEST_CASE("system rows: XGETBV and XSETBV", "[cpu][system]") {
    Stage t;
    t.s().gpr[RCX] = 0;
    t.s().gpr[RDX] = 0;
    t.s().gpr[RAX] = 3;
    CHECK(t.run({0x0f, 0x01, 0xd1}) == kNone);
    t.s().rip = kCode;
    CHECK(t.s().xcr0 == 3);
    t.s().gpr[RAX] = t.s().gpr[RDX] = ~u64{0};
    CHECK(t.run({0x0f, 0x01, 0xd0}) == kNone);
    CHECK(t.s().gpr[RAX] == 3);
    CHECK(t.s().gpr[RDX] == 0);
    for (const u64 refused : {u64{0}, u64{2}, u64{5}, u64{1} << 20 | 7}) {  // no x87, AVX without SSE, unknown
        INFO(refused);
        t.s().gpr[RAX] = refused;
        t.s().gpr[RDX] = 0;
        CHECK(t.run({0x0f, 0x01, 0xd1}) == 13);
        CHECK(t.s().xcr0 == 3);
    }
    t.s().cr4 &= ~cr4::OSXSAVE;
    CHECK(t.run({0x0f, 0x01, 0xd0}) == 6);
    CHECK(t.run({0x0f, 0x01, 0xd1}) == 6);
}

TEST_CASE("system rows: CLTS clears CR0.TS, INVD, WBINVD and SERIALIZE change nothing", "[cpu][system]") {
    Stage t("verdigris-v3,+serialize");
    t.s().cr0 |= cr0::TS;
    CHECK(t.run({0x0f, 0x06}) == kNone);
    CHECK((t.s().cr0 & cr0::TS) == 0);
    for (const std::vector<u8>& bytes : {std::vector<u8>{0x0f, 0x08}, {0x0f, 0x09}, {0x0f, 0x01, 0xe8}}) {
        const VpState before = t.s();
        CHECK(t.run(bytes) == kNone);
        CHECK(std::memcmp(before.gpr, t.s().gpr, sizeof before.gpr) == 0);
        CHECK(t.s().rip == before.rip + bytes.size());
    }
}

TEST_CASE("system rows: privileged ones fault outside CPL 0", "[cpu][system]") {
    Stage t("verdigris-v3-amd,+smap,+invpcid");
    t.machine.enter_long_mode(3);
    t.machine.map_user(kCode, 1, true);
    t.s().rip = kCode;
    t.s().gpr[RBX] = kCode + 0x800;
    t.s().gpr[RCX] = t.s().gpr[RDX] = 0;
    const std::pair<std::vector<u8>, int> kRows[] = {
        {{0x0f, 0x06}, 13},              // CLTS
        {{0x0f, 0x08}, 13},              // INVD
        {{0x0f, 0x09}, 13},              // WBINVD
        {{0x0f, 0x01, 0xd1}, 13},        // XSETBV
        {{0x0f, 0x01, 0xf8}, 13},        // SWAPGS
        {{0x48, 0x0f, 0x35}, 13},        // SYSEXIT
        {{0x66, 0x0f, 0x38, 0x82, 0x03}, 13},  // INVPCID
    };
    for (const auto& [bytes, vector] : kRows) {
        INFO(+bytes[1] << " " << +bytes.back());
        CHECK(t.run(bytes) == vector);
        CHECK(t.s().rip == kCode);
    }
}

TEST_CASE("system rows: MONITOR checks its operand, MWAIT wakes at once", "[cpu][system]") {
    Stage t("verdigris-v3,+monitor");
    t.s().gpr[RAX] = kArea;
    t.s().gpr[RCX] = t.s().gpr[RDX] = 0;
    CHECK(t.run({0x0f, 0x01, 0xc8}) == kNone);
    CHECK(t.run({0x0f, 0x01, 0xc9}) == kNone);
    CHECK(t.machine.vp->activity() == Activity::Active);
    t.s().gpr[RCX] = 2;
    CHECK(t.run({0x0f, 0x01, 0xc8}) == 13);
    CHECK(t.run({0x0f, 0x01, 0xc9}) == 13);
    t.s().gpr[RCX] = 0;
    t.s().gpr[RAX] = 0x800000000000;
    CHECK(t.run({0x0f, 0x01, 0xc8}) == 13);
}

TEST_CASE("system rows: RDSEED sets CF and a value, the same for equal machines", "[cpu][system]") {
    u64 values[2];
    for (u64& value : values) {
        Stage t("verdigris-v3,+rdseed");
        t.s().gpr[RBX] = 0;
        t.s().rflags |= flag::ZF | flag::OF;
        CHECK(t.run({0x48, 0x0f, 0xc7, 0xfb}) == kNone);
        CHECK((t.s().rflags & flag::Status) == flag::CF);
        value = t.s().gpr[RBX];
    }
    CHECK(values[0] == values[1]);
    CHECK(values[0] != 0);
}

TEST_CASE("system rows: INVPCID drops what it names and refuses what does not exist", "[cpu][system]") {
    Stage t("verdigris-v3-amd,+invpcid");
    const std::vector<u8> kInvpcid = {0x66, 0x0f, 0x38, 0x82, 0x03};  // rax, [rbx]
    t.s().gpr[RBX] = kArea;
    t.machine.memory.write<u64>(Spa(kArea), 0);
    for (const u64 address : {u64{0x5000}, u64{0x800000000000}}) {
        t.machine.memory.write<u64>(Spa(kArea + 8), address);
        for (u64 type = 0; type <= 4; ++type) {
            INFO("type " << type << " address " << address);
            t.s().rip = kCode;
            t.s().gpr[RAX] = type;
            CHECK(t.run(kInvpcid) == (type > 3 || (type == 0 && address != 0x5000) ? 13 : kNone));
        }
    }
    t.s().gpr[RAX] = 1;
    t.machine.memory.write<u64>(Spa(kArea), 5);
    CHECK(t.run(kInvpcid) == 13);  // a PCID without CR4.PCIDE
    t.machine.memory.write<u64>(Spa(kArea), 0x1000);
    CHECK(t.run(kInvpcid) == 13);  // reserved bits
}

TEST_CASE("system rows: SYSEXIT goes to CPL 3 behind SYSENTER's code segment", "[cpu][system]") {
    Stage t("verdigris-v3");
    t.s().sysenter_cs = 0x10;
    t.s().gpr[RDX] = 0x4010;
    t.s().gpr[RCX] = 0x7000;
    CHECK(t.run(wide({0x0f, 0x35})) == kNone);
    CHECK(t.s().rip == 0x4010);
    CHECK(t.s().gpr[RSP] == 0x7000);
    CHECK(t.machine.vp->cpl() == 3);
    CHECK(t.s().segment(Seg::CS).selector == 0x33);  // + 32, RPL 3
    CHECK(t.s().segment(Seg::SS).selector == 0x3b);  // + 40
    Stage refused("verdigris-v3");
    refused.s().sysenter_cs = 0;
    CHECK(refused.run(wide({0x0f, 0x35})) == 13);
}

TEST_CASE("system rows: every save instruction's image comes back by its restore instruction", "[cpu][system]") {
    struct Pair {
        const char* name;
        std::vector<u8> save, restore;  // [rbx]
        bool ymm_high, fx_area;
    };
    const Pair kPairs[] = {
        {"FXSAVE", {0x0f, 0xae, 0x03}, {0x0f, 0xae, 0x0b}, false, true},
        {"XSAVE", {0x0f, 0xae, 0x23}, {0x0f, 0xae, 0x2b}, true, true},
        {"XSAVEOPT", {0x0f, 0xae, 0x33}, {0x0f, 0xae, 0x2b}, true, true},
        {"XSAVES", {0x0f, 0xc7, 0x2b}, {0x0f, 0xc7, 0x1b}, true, true},
    };
    for (const Pair& pair : kPairs) {
        for (const bool rex_w : {false, true}) {
            INFO(pair.name << (rex_w ? "64" : ""));
            Stage t("verdigris-v3-amd,+xsaveopt,+xsavec,+xsaves");
            t.s().gpr[RBX] = kArea;
            t.s().gpr[RAX] = 7;
            t.s().gpr[RDX] = 0;
            for (unsigned v = 0; v < 16; ++v)
                for (unsigned n = 0; n < 32; ++n) t.s().ymm[v][n] = static_cast<u8>(v * 16 + n + 1);
            t.s().mxcsr = 0x1fa0;
            t.s().x87.fcw = 0x27f;
            const VpState before = t.s();
            CHECK(t.run(rex_w ? wide(pair.save) : pair.save) == kNone);
            std::memset(t.s().ymm, 0xee, sizeof t.s().ymm);
            t.s().mxcsr = 0x1f80;
            t.s().x87.fcw = 0x37f;
            CHECK(t.run(rex_w ? wide(pair.restore) : pair.restore) == kNone);
            CHECK(t.s().mxcsr == before.mxcsr);
            CHECK(t.s().x87.fcw == before.x87.fcw);
            for (unsigned v = 0; v < 16; ++v) {
                CHECK(std::memcmp(t.s().ymm[v], before.ymm[v], 16) == 0);
                CHECK((std::memcmp(t.s().ymm[v] + 16, before.ymm[v] + 16, 16) == 0) == pair.ymm_high);
            }
            t.s().gpr[RBX] = kArea + 8;  // FXSAVE needs 16 bytes, the others 64
            CHECK(t.run(rex_w ? wide(pair.save) : pair.save) == 13);
        }
    }
}

TEST_CASE("system rows: UD0, UD1, UD2 and RSM are undefined by definition", "[cpu][system]") {
    for (const std::vector<u8>& bytes : {std::vector<u8>{0x0f, 0xff, 0xc1}, {0x0f, 0xb9, 0xc1}, {0x0f, 0x0b}, {0x0f, 0xaa}}) {
        Stage t;
        CHECK(t.run(bytes) == 6);
        CHECK(t.s().rip == kCode);
    }
}

TEST_CASE("system rows: VMX and SVM instructions are undefined where no model offers them", "[cpu][system]") {
    const std::vector<u8> kRows[] = {
        {0x0f, 0x01, 0xc2}, {0x0f, 0x01, 0xc3}, {0x0f, 0x01, 0xc4}, {0x0f, 0x01, 0xd4},        // VMLAUNCH RESUME XOFF FUNC
        {0x0f, 0x78, 0xc1}, {0x0f, 0x79, 0xc1}, {0x66, 0x0f, 0xc7, 0x33}, {0x0f, 0xc7, 0x33},  // VMREAD WRITE CLEAR PTRLD
        {0x0f, 0xc7, 0x3b}, {0xf3, 0x0f, 0xc7, 0x33},                                          // VMPTRST VMXON
        {0x66, 0x0f, 0x38, 0x80, 0x03}, {0x66, 0x0f, 0x38, 0x81, 0x03},                        // INVEPT INVVPID
        {0x0f, 0x01, 0xd8}, {0x0f, 0x01, 0xda}, {0x0f, 0x01, 0xdb}, {0x0f, 0x01, 0xdc},        // VMRUN LOAD SAVE STGI
        {0x0f, 0x01, 0xdd}, {0x0f, 0x01, 0xde}, {0x0f, 0x01, 0xdf},                            // CLGI SKINIT INVLPGA
    };
    for (const char* model : {"verdigris-v3", "verdigris-v3-amd"}) {
        for (const std::vector<u8>& bytes : kRows) {
            INFO(model << " " << +bytes[1] << " " << +bytes.back());
            Stage t(model);
            t.s().gpr[RBX] = kArea;
            CHECK(t.run(bytes) == 6);
        }
    }
}
