// The instructions that move x87 state as a whole, against the host: FNSTENV, FNSAVE, FLDENV, FRSTOR with 14- and
// 28-byte environments (a processor in 64-bit mode uses the protected-mode layout), FXSAVE and FXRSTOR with and without
// REX.W. The random cases of the other files leave them out, because part of their images differs by processor.
#include <catch2/catch.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/bits.h"
#include "cpu/ops/fpu.h"
#include "tests/support/native_runner.h"
#include "tests/support/random.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u64 kImage = NativeRunner::kData + 0x100;  ///< aligned to 64
constexpr u32 kWatched = 0x300;                      ///< bytes compared, the image and what follows

enum class Kind : u8 { StoreEnvironment, LoadEnvironment, FxSave, FxRestore };

struct Form {
    const char* name;
    std::vector<u8> bytes;  ///< with [rbx] as operand
    Kind kind;
    u32 environment;  ///< bytes before the registers
    bool registers;
};

const Form kForms[] = {
    {"fnstenv 28", {0xd9, 0x33}, Kind::StoreEnvironment, 28, false},
    {"fnstenv 14", {0x66, 0xd9, 0x33}, Kind::StoreEnvironment, 14, false},
    {"fnsave 108", {0xdd, 0x33}, Kind::StoreEnvironment, 28, true},
    {"fnsave 94", {0x66, 0xdd, 0x33}, Kind::StoreEnvironment, 14, true},
    {"fldenv 28", {0xd9, 0x23}, Kind::LoadEnvironment, 28, false},
    {"fldenv 14", {0x66, 0xd9, 0x23}, Kind::LoadEnvironment, 14, false},
    {"frstor 108", {0xdd, 0x23}, Kind::LoadEnvironment, 28, true},
    {"frstor 94", {0x66, 0xdd, 0x23}, Kind::LoadEnvironment, 14, true},
    {"fxsave", {0x0f, 0xae, 0x03}, Kind::FxSave, 24, true},
    {"fxsave64", {0x48, 0x0f, 0xae, 0x03}, Kind::FxSave, 24, true},
    {"fxrstor", {0x0f, 0xae, 0x0b}, Kind::FxRestore, 24, true},
    {"fxrstor64", {0x48, 0x0f, 0xae, 0x0b}, Kind::FxRestore, 24, true},
};

/// Both processors, with the same pages.
struct Pair {
    Pair() {
        vp.enter_long_mode(3);
        vp.map_user(NativeRunner::kCode, 1, false);
        vp.map_user(NativeRunner::kData, NativeRunner::kDataSize / kPageSize);
        vp.memory.write(Spa(NativeRunner::kCode), native.code(), kPageSize);
    }

    /// Runs the code from `start` on both. The images are in native.data() and image() afterwards.
    void run(const std::vector<u8>& code, UserState start) {
        start.rip = NativeRunner::kCode;
        if (vp.vp->cpl() != 3) vp.enter_long_mode(3);
        vp.memory.write(Spa(NativeRunner::kData), native.data(), NativeRunner::kDataSize);
        vp.write(NativeRunner::kCode, code);
        std::memcpy(native.code(), code.data(), code.size());
        cpu::VpState& s = vp.vp->state();
        std::memcpy(s.gpr, start.gpr, sizeof s.gpr);
        std::memcpy(s.ymm, start.ymm, sizeof s.ymm);
        s.rip = start.rip;
        s.rflags = cpu::flag::Always1 | cpu::flag::IF;
        s.mxcsr = start.mxcsr;
        s.x87 = start.x87;
        vp.clock.advance(1);
        vp.vp->begin_slice(vp.clock.now(), vp.clock.now() + 1);
        cpu::StepEngine engine;
        (void)engine.run(*vp.vp);
        host = native.run(start);
        std::memset(native.code(), 0xcc, code.size());
        vp.memory.write(Spa(NativeRunner::kCode), native.code(), code.size());
    }

    [[nodiscard]] u8* image() { return vp.memory.ram(Spa(kImage)); }
    [[nodiscard]] u8* host_image() { return reinterpret_cast<u8*>(kImage); }
    [[nodiscard]] const cpu::VpState& ours() { return vp.vp->state(); }

    TestVp vp{"verdigris-v3-amd"};
    NativeRunner native;
    NativeOutcome host;
};

void random_register(Random& random, u8* st) {
    const u64 exponents[] = {0, 0x7fff, 0x3fff, random.below(0x8000), 1};
    const u64 significands[] = {0, u64{1} << 63, random.next(), random.next() | u64{1} << 63, 1};
    const u64 significand = significands[random.below(5)];
    const u16 top = static_cast<u16>(exponents[random.below(5)] | (random.next() & 0x8000));
    std::memcpy(st, &significand, 8);
    std::memcpy(st + 8, &top, 2);
}

u16 random_masks(Random& random, unsigned masked_percent) {
    return random.chance(masked_percent) ? u16{0x3f} : static_cast<u16>(random.below(64));
}

UserState random_state(Random& random, unsigned masked_percent) {
    UserState s;
    for (u64& reg : s.gpr) reg = random.next();
    for (auto& ymm : s.ymm)
        for (u8& byte : ymm) byte = random.byte();
    s.mxcsr = static_cast<u32>(random.next()) & 0xffff;
    cpu::ops::set_x87_control(s.x87, static_cast<u16>(random_masks(random, masked_percent) | (random.next() & 0xf00)),
                              static_cast<u16>(random.next() & 0x7f7f));
    s.x87.ftw = random.byte();
    for (auto& st : s.x87.st) random_register(random, st);
    if (cpu::ops::x87_exception_pending(s.x87)) {
        s.x87.fop = static_cast<u16>(random.next() & 0x7ff);
        s.x87.fip = random.next() & 0x7fffffffffff;
        s.x87.fdp = random.next() & 0x7fffffffffff;
    }
    s.gpr[cpu::RBX] = kImage;
    s.gpr[cpu::RSP] = NativeRunner::kData + 0x1800;
    return s;
}

void random_image(Random& random, const Form& form, u8* at) {
    for (u32 n = 0; n < 512; ++n) at[n] = random.byte();
    const bool fx = form.kind == Kind::FxRestore;
    const u16 control = static_cast<u16>(random_masks(random, 70) | (random.next() & 0xff40));
    std::memcpy(at, &control, 2);
    for (u32 n = 0; n < 8 && form.registers; ++n) random_register(random, at + (fx ? 32 + 16 * n : form.environment + 10 * n));
    if (!fx) return;
    u32 mxcsr = static_cast<u32>(random.next()) & 0xffff;
    if (random.chance(10)) mxcsr |= 1u << (18 + random.below(14));  // bit 17 is AMD's misaligned mode
    std::memcpy(at + 24, &mxcsr, 4);
}

/// Makes what differs by processor equal. Pointers are kept only for unmasked exceptions, and are zero otherwise;
/// processors have them from the last x87 instruction. The selectors are zero (CPUID "deprecates FPU CS and FPU DS").
void hide_differences(const Form& form, bool pending, u8* ours, u8* host) {
    const auto hide = [&](u32 offset, u32 size) { std::memset(host + offset, 0, size); };
    if (form.kind == Kind::FxSave) {
        if (!pending) hide(6, 18);
        u32 mask = 0;
        std::memcpy(&mask, ours + 28, sizeof mask);
        CHECK(mask == 0xffff);
        std::memcpy(host + 28, &mask, sizeof mask);
    } else if (form.kind == Kind::StoreEnvironment && !pending) {
        if (form.environment == 28) {
            hide(12, 12);
        } else {
            hide(6, 2);
            hide(10, 2);
        }
    }
}

std::string hex(const u8* bytes, u32 count) {
    std::string out;
    for (u32 n = 0; n < count; ++n) out += fmt::format("{}{:02x}", n % 4 == 0 ? " " : "", bytes[n]);
    return out;
}

/// Empty if the registers are equal.
std::string compare_state(const cpu::VpState& ours, const UserState& host) {
    std::string report;
    const auto value = [&](const char* name, u64 a, u64 b) {
        if (a != b) report += fmt::format("{}: ours {:#x} host {:#x}\n", name, a, b);
    };
    value("fcw", ours.x87.fcw, host.x87.fcw);
    value("fsw", ours.x87.fsw, host.x87.fsw);
    value("ftw", ours.x87.ftw, host.x87.ftw);
    value("mxcsr", ours.mxcsr, host.mxcsr);
    if (cpu::ops::x87_exception_pending(ours.x87)) {
        value("fop", ours.x87.fop, host.x87.fop);
        // Hosts keep 48 or 57 bits of the pointers; narrower models keep 48.
        value("fip", ours.x87.fip, sign_extend(host.x87.fip, 48));
        value("fdp", ours.x87.fdp, sign_extend(host.x87.fdp, 48));
    } else {
        value("pointers", ours.x87.fop | ours.x87.fip | ours.x87.fdp, 0);
    }
    for (unsigned n = 0; n < 8; ++n)
        if (std::memcmp(ours.x87.st[n], host.x87.st[n], 10) != 0)
            report += fmt::format("st{}: ours{} host{}\n", n, hex(ours.x87.st[n], 10), hex(host.x87.st[n], 10));
    if (std::memcmp(ours.ymm, host.ymm, sizeof host.ymm) != 0) report += "ymm differ\n";
    return report;
}

void check_form(Pair& pair, Random& random, const Form& form) {
    const bool loads = form.kind == Kind::LoadEnvironment || form.kind == Kind::FxRestore;
    UserState start = random_state(random, loads ? 95 : 60);
    const bool fx = form.kind == Kind::FxSave || form.kind == Kind::FxRestore;
    if (random.chance(30)) start.gpr[cpu::RBX] += random.below(fx ? 3 : 64) * (fx ? 8 : 1);
    const u32 offset = static_cast<u32>(start.gpr[cpu::RBX] - kImage);
    u8* const host = pair.host_image();
    for (u32 n = 0; n < kWatched; ++n) host[n] = random.byte();
    if (loads) random_image(random, form, host + offset);
    const std::string before = hex(host + offset, 48);
    const bool pending = cpu::ops::x87_exception_pending(start.x87);

    // A host that is a guest itself was seen to lose the upper halves of the pointers when it was preempted between the
    // instruction and the store of the outcome: what differs is run again.
    const std::vector<u8> image(host, host + kWatched);
    constexpr unsigned kTries = 5;
    int vector = -1;
    std::string report, ours_hex, host_hex;
    for (unsigned attempt = 0; attempt < kTries; ++attempt) {
        std::copy(image.begin(), image.end(), host);
        pair.run(form.bytes, start);
        vector = pair.vp.faulted();
        report.clear();
        if (vector < 0) {
            hide_differences(form, pending, pair.image() + offset, host + offset);
            report = compare_state(pair.ours(), pair.host.state);
        }
        ours_hex = hex(pair.image(), kWatched);
        host_hex = hex(host, kWatched);
        if (vector == pair.host.vector && report.empty() && ours_hex == host_hex) break;
    }
    INFO(form.name << " fcw " << start.x87.fcw << " fsw " << start.x87.fsw << " image before" << before);
    REQUIRE(vector == pair.host.vector);
    INFO(report);
    REQUIRE(report.empty());
    REQUIRE(ours_hex == host_hex);
}

}  // namespace

TEST_CASE("x87 images: stores, loads and their faults are the host's", "[diff][x87]") {
    Pair pair;
    Random random(7);
    for (const Form& form : kForms)
        for (unsigned n = 0; n < 2'000; ++n) check_form(pair, random, form);
}
