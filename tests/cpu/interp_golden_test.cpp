// Instructions as data, in the modes that the host cannot run: bytes, what the registers are, what they become.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <sstream>
#include <string>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

enum class Mode { Real, Protected, Long };

struct Golden {
    Mode mode;
    const char* bytes;   ///< hexadecimal
    const char* before;  ///< "eax=1 cf=1 mem[2000]=aabb": registers, flags, bytes in memory
    const char* after;   ///< the same, or "fault=13": then everything named in `before` is unchanged
};

constexpr u64 kCodeAt = 0x1000;

std::vector<u8> parse_bytes(const std::string& text) {
    std::vector<u8> out;
    for (std::size_t n = 0; n + 1 < text.size(); n += 2)
        out.push_back(static_cast<u8>(std::strtoul(text.substr(n, 2).c_str(), nullptr, 16)));
    return out;
}

struct Field {
    std::string name, value;
};

std::vector<Field> parse_fields(const char* text) {
    std::vector<Field> out;
    std::istringstream in(text);
    for (std::string word; in >> word;) {
        const std::size_t equals = word.find('=');
        out.push_back({word.substr(0, equals), word.substr(equals + 1)});
    }
    return out;
}

constexpr const char* kRegisters[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};

/// Index and size of a register named as in assembly (r.x 8, e.x 4, .x 2), or size 0.
unsigned find_register(const std::string& name, unsigned& size) {
    const std::string low = name.size() == 3 ? name.substr(1) : name;
    size = name.size() == 2 ? 2 : name[0] == 'e' ? 4 : 8;
    for (unsigned n = 0; n < 8; ++n)
        if (low == kRegisters[n]) return n;
    size = 0;
    return 0;
}

u64 find_flag(const std::string& name) {
    const std::pair<const char*, u64> flags[] = {{"cf", flag::CF}, {"pf", flag::PF}, {"af", flag::AF}, {"zf", flag::ZF},
                                                 {"sf", flag::SF}, {"of", flag::OF}, {"df", flag::DF}};
    for (const auto& [text, bit] : flags)
        if (name == text) return bit;
    return 0;
}

u64 number(const std::string& text) { return std::strtoull(text.c_str(), nullptr, 16); }

class Player {
  public:
    explicit Player(Mode mode) {
        switch (mode) {
            case Mode::Real: machine.enter_real(); break;
            case Mode::Protected: machine.enter_protected(); break;
            case Mode::Long: machine.enter_long_mode(0); break;
        }
        machine.vp->state().rip = kCodeAt;
        machine.vp->state().gpr[RSP] = 0x8000;
    }

    void set(const Field& f) {
        VpState& s = machine.vp->state();
        unsigned size;
        const unsigned reg = find_register(f.name, size);
        if (size != 0)
            machine.vp->interp().set_gpr(reg, size, number(f.value));
        else if (const u64 bit = find_flag(f.name))
            s.rflags = f.value == "1" ? s.rflags | bit : s.rflags & ~bit;
        else if (f.name.starts_with("mem["))
            machine.write(number(f.name.substr(4)), parse_bytes(f.value));
        else if (f.name == "dslimit")
            s.segment(Seg::DS).limit = static_cast<u32>(number(f.value));
        else if (f.name == "dsattr")
            s.segment(Seg::DS).attributes = static_cast<u16>(number(f.value));
        else if (f.name == "sslimit")
            s.segment(Seg::SS).limit = static_cast<u32>(number(f.value));
        else
            FAIL("unknown field " << f.name);
    }

    void check(const Field& f) {
        const VpState& s = machine.vp->state();
        INFO(f.name);
        unsigned size;
        const unsigned reg = find_register(f.name, size);
        if (size != 0) {
            CHECK(machine.vp->interp().gpr(reg, size) == number(f.value));
        } else if (const u64 bit = find_flag(f.name)) {
            CHECK(((s.rflags & bit) != 0) == (f.value == "1"));
        } else if (f.name.starts_with("mem[")) {
            const std::vector<u8> wanted = parse_bytes(f.value);
            std::vector<u8> found(wanted.size());
            machine.memory.read(Spa(number(f.name.substr(4))), found.data(), found.size());
            CHECK(found == wanted);
        } else if (f.name == "rip") {
            CHECK(s.rip == number(f.value));
        }
    }

    Exec run(const char* bytes) {
        machine.write(kCodeAt, parse_bytes(bytes));
        Insn insn;
        machine.vp->state().budget = 1000;
        if (!fetch_decode(*machine.vp, insn)) return machine.vp->failed();
        const Exec result = execute(machine.vp->interp(), insn);
        if (result == Exec::Next) machine.vp->state().rip = machine.vp->interp().next_rip(insn);
        return result;
    }

    TestVp machine;
};

const Golden kCases[] = {
    // decimal adjustment
    {Mode::Protected, "27", "eax=ae cf=0 af=0", "eax=14 cf=1 af=1 zf=0 sf=0 pf=1"},
    {Mode::Protected, "27", "eax=9a cf=0 af=0", "eax=0 cf=1 af=1 zf=1"},
    {Mode::Protected, "2f", "eax=ee cf=1 af=1", "eax=88 cf=1 af=1 sf=1"},
    {Mode::Protected, "2f", "eax=7 cf=0 af=1", "eax=1 cf=0 af=1"},
    {Mode::Protected, "2f", "eax=3 cf=0 af=1", "eax=fd cf=1 af=1"},
    {Mode::Protected, "37", "eax=010c af=0", "eax=0202 cf=1 af=1"},
    {Mode::Protected, "37", "eax=ff0a af=0", "eax=0000 cf=1 af=1"},
    {Mode::Protected, "3f", "eax=0200 af=1", "eax=000a cf=1 af=1"},
    {Mode::Protected, "d40a", "eax=4f", "eax=0709 zf=0"},
    {Mode::Protected, "d400", "eax=4f", "fault=0"},
    {Mode::Protected, "d50a", "eax=0709", "eax=4f"},
    {Mode::Protected, "d6", "eax=1200 cf=1", "eax=12ff"},
    // 16-bit addressing and operands
    {Mode::Real, "8b4002", "bx=2000 si=10 mem[2012]=3412", "ax=1234 rip=1003"},
    {Mode::Real, "8b02", "bp=1ff0 si=20 mem[2010]=3412", "ax=1234"},
    {Mode::Real, "678b44b310", "ebx=2000 esi=4 mem[2020]=3412", "ax=1234"},
    {Mode::Real, "6640", "eax=ffffffff cf=1", "eax=0 zf=1 cf=1 of=0 af=1"},
    {Mode::Real, "48", "eax=10000 cf=0", "eax=1ffff sf=1 cf=0 af=1"},
    {Mode::Real, "8b07", "bx=ffff", "fault=13"},
    {Mode::Real, "660fb607", "bx=2000 mem[2000]=80", "eax=80"},
    // stack
    {Mode::Real, "60", "sp=8000 ax=1 cx=2 dx=3 bx=4 bp=5 si=6 di=7", "sp=7ff0 mem[7ff0]=07000600050000800400030002000100"},
    {Mode::Real, "61", "sp=7ff0 mem[7ff0]=07000600050099990400030002000100", "sp=8000 di=7 si=6 bp=5 bx=4 dx=3 cx=2 ax=1"},
    {Mode::Real, "60", "sp=3", "fault=12"},
    {Mode::Real, "66c8080000", "esp=12348000 ebp=11223344", "ebp=12347ffc esp=12347ff4 mem[7ffc]=44332211"},
    {Mode::Real, "c8080000", "esp=12348000 ebp=11223344", "ebp=11227ffe esp=12347ff6 mem[7ffe]=4433"},
    {Mode::Protected, "60", "esp=8000 eax=11", "esp=7fe0 mem[7ffc]=11000000"},
    {Mode::Protected, "c8100000", "esp=8000 ebp=1234", "ebp=7ffc esp=7fec mem[7ffc]=34120000"},
    {Mode::Protected, "c8000002", "esp=8000 ebp=7000 mem[6ffc]=78563412", "ebp=7ffc esp=7ff4 mem[7ff4]=fc7f00007856341200700000"},
    {Mode::Protected, "c9", "ebp=7ffc mem[7ffc]=34120000", "esp=8000 ebp=1234"},
    {Mode::Protected, "54", "esp=8000", "esp=7ffc mem[7ffc]=00800000"},
    {Mode::Protected, "5c", "esp=7000 mem[7000]=44332211", "esp=11223344"},
    {Mode::Protected, "8f0424", "esp=7000 mem[7000]=44332211", "esp=7004 mem[7004]=44332211"},
    {Mode::Protected, "666834f5", "esp=8000", "esp=7ffe mem[7ffe]=34f5"},
    {Mode::Protected, "50", "esp=8000 sslimit=6fff", "fault=12"},
    // control transfer
    {Mode::Real, "e2fe", "ecx=10002", "ecx=10001 rip=1000"},
    {Mode::Real, "67e2fe", "ecx=1", "ecx=0 rip=1003"},
    {Mode::Real, "e302", "ecx=10000", "rip=1004"},
    {Mode::Real, "e8fd0f", "sp=8000", "rip=2000 sp=7ffe mem[7ffe]=0310"},
    {Mode::Real, "c20400", "sp=7ffe mem[7ffe]=0310", "rip=1003 sp=8004"},
    {Mode::Protected, "66e90010", "", "rip=2004"},
    {Mode::Protected, "622d00200000", "ebp=5 mem[2000]=0000000006000000", "rip=1006"},
    {Mode::Protected, "622d00200000", "ebp=7 mem[2000]=0000000006000000", "fault=5"},
    // segments: limit, type, expand-down
    {Mode::Protected, "a100300000", "dslimit=2fff eax=7", "fault=13"},
    {Mode::Protected, "a1fd2f0000", "dslimit=2fff eax=7", "fault=13"},
    {Mode::Protected, "a1fc2f0000", "dslimit=2fff mem[2ffc]=01000000", "eax=1"},
    {Mode::Protected, "a300200000", "dsattr=c091", "fault=13"},
    {Mode::Protected, "a100200000", "dsattr=c099", "fault=13"},
    {Mode::Protected, "a100200000", "dsattr=0", "fault=13"},
    {Mode::Protected, "a100200000", "dsattr=c097 dslimit=1fff mem[2000]=05000000", "eax=5"},
    {Mode::Protected, "a1fd1f0000", "dsattr=c097 dslimit=1fff", "fault=13"},
    // SSE and AVX outside 64-bit mode: re-encoded for the host
    {Mode::Protected, "660f6ec8660f7ec9", "eax=12345678", "rip=1004"},
    {Mode::Protected, "0f50c1", "eax=77", "eax=0"},
    {Mode::Protected, "f30f2c4500", "ebp=2000 mem[2000]=00002041", "eax=a"},
    {Mode::Protected, "c5fa2c4500", "ebp=2000 mem[2000]=00002041", "eax=a"},
    {Mode::Protected, "d9e8", "", "rip=1002"},
    // what the host cannot be asked either
    {Mode::Long, "f00fb10f", "rdi=2000 rax=5 rcx=9 mem[2000]=05000000", "zf=1 mem[2000]=09000000 rax=5"},
    {Mode::Long, "f00fb10f", "rdi=2000 rax=5 rcx=9 mem[2000]=06000000", "zf=0 mem[2000]=06000000 rax=6 cf=1"},
    {Mode::Long, "488b00", "rax=800000000000", "fault=13"},
    {Mode::Long, "50", "rsp=900000000000", "fault=12"},
    {Mode::Long, "480fc7f1", "", "fault=6"},
    {Mode::Long, "0f0b", "", "fault=6"},
};

}  // namespace

TEST_CASE("interpreter: golden instructions", "[cpu][interp]") {
    for (const Golden& golden : kCases) {
        INFO(golden.bytes << ": " << golden.before << " => " << golden.after);
        Player player(golden.mode);
        for (const Field& f : parse_fields(golden.before)) player.set(f);
        const Exec result = player.run(golden.bytes);
        const std::vector<Field> after = parse_fields(golden.after);
        if (!after.empty() && after[0].name == "fault") {
            REQUIRE(result == Exec::Fault);
            CHECK(player.machine.vp->fault().vector == std::strtoul(after[0].value.c_str(), nullptr, 10));
            CHECK(player.machine.vp->state().rip == kCodeAt);
            for (const Field& f : parse_fields(golden.before)) player.check(f);
            continue;
        }
        CHECK(result != Exec::Fault);
        for (const Field& f : after) player.check(f);
    }
}
