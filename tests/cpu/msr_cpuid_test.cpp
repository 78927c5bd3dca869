#include <catch2/catch.hpp>
#include <cstring>

#include "base/state.h"
#include "cpu/msr.h"
#include "tests/support/state_tree.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;

namespace {

/// Last accepted and first refused value of a write.
struct Limit {
    const char* model;
    u32 msr;
    u64 accepted, refused;
};

}  // namespace

TEST_CASE("msr: writes stop at the first reserved bit", "[cpu][msr]") {
    const Limit limit = GENERATE(
        Limit{"verdigris-v2", 0x174, 0xffffffff, u64{1} << 32}, Limit{"verdigris-v2", 0x175, 0x7fffffffffff, u64{1} << 47},
        Limit{"verdigris-v2", 0x277, 0x0706050401000704, 0x0000000000000002},
        Limit{"verdigris-v2", 0x2ff, 0xc06, 0x1000}, Limit{"verdigris-v2", 0x2ff, 0x806, 0x802},
        Limit{"verdigris-v2", 0x200, 0x3ffffffff006, u64{1} << 46}, Limit{"verdigris-v2", 0x201, 0x3ffffffff800, 0x400},
        Limit{"verdigris-v2", 0x26f, 0x0606060606060606, 0x07}, Limit{"verdigris-v2", 0x3a, 1, 4},
        Limit{"verdigris-v2", 0x48, 0x407, 8}, Limit{"verdigris-v2", 0x49, 1, 2},
        Limit{"verdigris-v2", 0xc0000084, 0xffffffff, u64{1} << 32},
        Limit{"verdigris-v2", 0xc0000082, 0xffff800000000000, 0xffff000000000000},
        Limit{"verdigris-v2", 0xc0000080, 0xd01, 0x2}, Limit{"verdigris-v2", 0x401, 0, 1},
        Limit{"verdigris-v2-amd", 0x48, 7, 0x400}, Limit{"verdigris-v2-amd", 0x49, 0x81, 2},
        Limit{"verdigris-v2-amd", 0xc0000080, 0x204d01, 0x1000}, Limit{"verdigris-v2-amd", 0xc0010114, 0x1f, 0x20});
    test::TestVp t(limit.model, 0x200000);
    t.vp->reset();
    INFO(std::hex << limit.msr << " " << limit.accepted);
    CHECK(write_msr(*t.vp, limit.msr, limit.accepted));
    CHECK_FALSE(write_msr(*t.vp, limit.msr, limit.refused));
}

TEST_CASE("msr: what one vendor has is #GP on the other", "[cpu][msr]") {
    test::TestVp intel("verdigris-v2", 0x200000), amd("verdigris-v2-amd", 0x200000);
    u64 value = 0;
    for (const u32 msr : {0x10au, 0x1a0u, 0x3au, 0xceu}) {
        CHECK(read_msr(*intel.vp, msr, value));
        CHECK_FALSE(read_msr(*amd.vp, msr, value));
    }
    for (const u32 msr : {0xc0010015u, 0xc0010010u, 0xc0011029u, 0xc001102eu}) {
        CHECK_FALSE(read_msr(*intel.vp, msr, value));
        CHECK(read_msr(*amd.vp, msr, value));
    }
    for (const u32 msr : {0x40000000u, 0x12345u, 0xc0000104u, 0x480u})
        CHECK_FALSE(read_msr(*intel.vp, msr, value));
    CHECK_FALSE(write_msr(*intel.vp, 0xfe, 0));
    CHECK_FALSE(write_msr(*intel.vp, 0x10a, 0));
}

TEST_CASE("msr: processors with SVM have six banks of machine checks, the last two of them reserved", "[cpu][msr]") {
    test::TestVp svm("verdigris-v3-amd-svm", 0x200000), amd("verdigris-v2-amd", 0x200000);
    constexpr u32 kMcgCap = 0x179, kMc4Ctl = 0x410, kLast = 0x417;
    u64 value = 0;
    CHECK(read_msr(*svm.vp, kMcgCap, value));
    CHECK(value == 0x106);
    CHECK(read_msr(*amd.vp, kMcgCap, value));
    CHECK(value == 0x104);
    CHECK_FALSE(read_msr(*amd.vp, kMc4Ctl, value));
    for (u32 msr = kMc4Ctl; msr <= kLast; ++msr) {
        CHECK(write_msr(*svm.vp, msr, ~u64{0}));
        CHECK(read_msr(*svm.vp, msr, value));
        CHECK(value == 0);
    }
    CHECK_FALSE(read_msr(*svm.vp, kLast + 1, value));
}

TEST_CASE("msr: TSC and TSC_ADJUST move together", "[cpu][msr]") {
    test::TestVp t("verdigris-v2", 0x200000);
    u64 value = 0;
    t.vp->begin_slice(1000, 2000);
    REQUIRE(write_msr(*t.vp, 0x10, 5000));
    REQUIRE(read_msr(*t.vp, 0x10, value));
    CHECK(value == 5000);
    REQUIRE(read_msr(*t.vp, 0x3b, value));
    CHECK(value == 4000);
    REQUIRE(write_msr(*t.vp, 0x3b, 0));
    REQUIRE(read_msr(*t.vp, 0x10, value));
    CHECK(value == 1000);
}

TEST_CASE("cpuid: models have their level's features and no other", "[cpu][cpuid]") {
    const auto v2 = CpuModel::create("verdigris-v2").value();
    const auto v3 = CpuModel::create("verdigris-v3-amd").value();
    CHECK(v2.has(CpuFlag::SSE4_2));
    CHECK_FALSE(v2.has(CpuFlag::AVX));
    CHECK(v3.has(CpuFlag::AVX2));
    CHECK(v3.has(CpuFlag::TOPOEXT));
    CHECK_FALSE(v3.has(CpuFlag::ARCH_CAPABILITIES));
    for (const CpuFlag flag : {CpuFlag::SVM, CpuFlag::MONITOR, CpuFlag::RDRAND, CpuFlag::RDSEED}) {
        CHECK_FALSE(v2.has(flag));
        CHECK_FALSE(v3.has(flag));
    }
    const auto changed = CpuModel::create("verdigris-v3,-avx2,+rdrand").value();
    CHECK_FALSE(changed.has(CpuFlag::AVX2));
    CHECK(changed.has(CpuFlag::RDRAND));
    CHECK((changed.leaf(1, 0).ecx & 1u << 30) != 0);
    CHECK((changed.leaf(7, 0).ebx & 1u << 5) == 0);
}

TEST_CASE("cpuid: unknown models and features are explained", "[cpu][cpuid]") {
    const auto model = CpuModel::create("verdigris-v4");
    REQUIRE_FALSE(model);
    CHECK(model.error().code == Error::Code::Usage);
    CHECK(model.error().text.find("verdigris-v2") != std::string::npos);
    const auto feature = CpuModel::create("verdigris-v2,+avx3");
    REQUIRE_FALSE(feature);
    CHECK(feature.error().text.find("'avx'") != std::string::npos);
    CHECK_FALSE(CpuModel::create("verdigris-v2,avx"));
    CHECK_FALSE(CpuModel::create("verdigris-v2-amd,+vmx"));
    CHECK(CpuModel::create("verdigris-v2-amd,+svm"));
    const auto foreign = CpuModel::create("verdigris-v2,+svm");
    REQUIRE_FALSE(foreign);
    CHECK(foreign.error().text.find("the other vendor's") != std::string::npos);
    CHECK(CpuModel::create("verdigris-v2,-vmx"));
    CHECK_FALSE(CpuModel::create(""));
}

TEST_CASE("cpuid: every feature of the instruction table follows a CPUID bit", "[cpu][cpuid]") {
    // With everything switched on, a Feature that stays off has no row in cpuid_bits.def.
    std::string spec = "verdigris-v3";
    for (const char* name : {"monitor", "rdrand", "rdseed", "pku", "sse4a", "vaes", "vpclmul"}) spec += std::string(",+") + name;
    const auto model = CpuModel::create(spec);
    if (!model) return;  // the host lacks one of them
    for (unsigned i = 0; i < static_cast<unsigned>(Feature::Count); ++i) {
        const auto feature = static_cast<Feature>(i);
        const std::string_view name = feature_name(feature);
        if (name == "Vmx" || name == "Svm") continue;  // of one vendor each
        INFO(name);
        CHECK(model->has(feature));
    }
}

TEST_CASE("cpuid: dynamic bits follow the processor's state", "[cpu][cpuid]") {
    test::TestVp t("verdigris-v3", 0x200000);
    Vp& vp = *t.vp;
    vp.reset();
    CHECK((cpuid(vp, 1, 0).ecx & 1u << 27) == 0);
    vp.state().cr4 |= cr4::OSXSAVE;
    CHECK((cpuid(vp, 1, 0).ecx & 1u << 27) != 0);
    CHECK(cpuid(vp, 0xd, 0).ebx == 576);
    vp.state().xcr0 = 7;
    CHECK(cpuid(vp, 0xd, 0).ebx == 832);
    CHECK(cpuid(vp, 0xd, 1).ebx == 832);
    CHECK(cpuid(vp, 0xd, 0).eax == 7);
    CHECK((cpuid(vp, 1, 0).edx & 1u << 9) != 0);
    REQUIRE(vp.apic().write_base(0xfee00000));
    CHECK((cpuid(vp, 1, 0).edx & 1u << 9) == 0);
    CHECK(cpuid(vp, 0x40000000, 0) == CpuidRegs{});
    CHECK(cpuid(vp, 0x12345678, 0) == cpuid(vp, 0x1f, 0));
    CHECK((cpuid(vp, 1, 0).ecx & 1u << 31) == 0);
    CHECK(cpuid(vp, 0xa, 0) == CpuidRegs{});
    CHECK(cpuid(vp, 0x15, 0) == CpuidRegs{1, 1, 1000000000, 0});
    test::TestVp amd("verdigris-v3-amd", 0x200000);
    CHECK(cpuid(*amd.vp, 0x12345678, 0) == CpuidRegs{});
    CHECK(cpuid(*amd.vp, 0, 0).ebx == 0x68747541);
}

TEST_CASE("vp: reset and INIT values are the manual's", "[cpu][system]") {
    test::TestVp t("verdigris-v2", 0x200000);
    Vp& vp = *t.vp;
    VpState& s = vp.state();
    vp.reset();
    CHECK(s.rip == 0xfff0);
    CHECK(s.segment(Seg::CS).base == 0xffff0000);
    CHECK(s.segment(Seg::CS).selector == 0xf000);
    CHECK(s.rflags == 2);
    CHECK(s.cr0 == 0x60000010);
    CHECK(s.dr[6] == 0xffff0ff0);
    CHECK(s.dr[7] == 0x400);
    CHECK(s.gpr[RDX] == 0x000c06f2);
    CHECK(s.x87.fcw == 0x40);
    CHECK(s.x87.ftw == 0xff);  // FTW 5555H: eight registers that hold +0.0
    CHECK(s.mxcsr == 0x1f80);
    CHECK(s.pat == 0x0007040600070406);
    CHECK(s.apic_base == 0xfee00900);
    s.cr0 = cr0::PE | cr0::ET;
    s.lstar = 0x1234;
    s.x87.fcw = 0x37f;
    s.cr3 = 0x1000;
    vp.init();
    CHECK(s.cr0 == 0x10);
    CHECK(s.cr3 == 0);
    CHECK(s.lstar == 0x1234);
    CHECK(s.x87.fcw == 0x37f);
}

TEST_CASE("vp: shorten_slice keeps the present and never moves into the past", "[cpu][system]") {
    test::TestVp t("verdigris-v2", 0x200000);
    Vp& vp = *t.vp;
    vp.begin_slice(100, 200);
    vp.state().budget -= 30;
    CHECK(vp.now() == 130);
    vp.shorten_slice(150);
    CHECK(vp.now() == 130);
    CHECK(vp.state().budget == 20);
    vp.shorten_slice(180);
    CHECK(vp.state().budget == 20);
    vp.shorten_slice(5);
    CHECK(vp.state().budget == 0);
    CHECK(vp.now() == 130);
}

TEST_CASE("vp: equal state prints and hashes alike after a round through the field list", "[cpu][system]") {
    test::TestVp a("verdigris-v2", 0x200000), b("verdigris-v2", 0x200000);
    a.vp->reset();
    b.vp->reset();
    StateHasher ha, hb;
    a.vp->fields(ha);
    b.vp->fields(hb);
    CHECK(ha.digest() == hb.digest());
    b.vp->state().lstar = 1;
    StateHasher hc;
    b.vp->fields(hc);
    CHECK(ha.digest() != hc.digest());
}

TEST_CASE("vp: every byte of the state that is not named as scratch is in the field list", "[cpu][system]") {
    const bool svm = GENERATE(false, true);
    const char* const model = svm ? "verdigris-v2-amd,+svm" : "verdigris-v2";
    test::TestVp a(model, 0x200000), b(model, 0x200000);
    struct Range {
        std::size_t first, size;
    };
    constexpr std::size_t kX87 = offsetof(VpState, x87);
    std::vector<Range> unsaved = {{kX87 + offsetof(X87State, pad0), 1},
                                  {kX87 + offsetof(X87State, mxcsr_unused), 8},
                                  {kX87 + offsetof(X87State, pad1), sizeof(X87State::pad1)},
                                  {offsetof(VpState, x87_header), sizeof(VpState::x87_header)},
                                  {offsetof(VpState, gdtr) + offsetof(TableReg, pad), 4},
                                  {offsetof(VpState, idtr) + offsetof(TableReg, pad), 4},
                                  {offsetof(VpState, pad_cold), sizeof(VpState::pad_cold)},
                                  {offsetof(VpState, pad_events), sizeof(VpState::pad_events)},
                                  {offsetof(VpState, reserved), sizeof(VpState::reserved)},
                                  {offsetof(VpState, request), sizeof(VpState::request)},
                                  {offsetof(VpState, jit_far), sizeof(VpState::jit_far)},
                                  {offsetof(VpState, jit), sizeof(VpState::jit)}};
    if (!svm) unsaved.push_back({offsetof(VpState, last_branch), sizeof(VpState::last_branch)});  // no such model records
    for (std::size_t n = 0; n < 8; ++n) unsaved.push_back({kX87 + offsetof(X87State, st) + 16 * n + 10, 6});

    u8* const from = reinterpret_cast<u8*>(&a.vp->state());
    for (std::size_t n = 0; n < sizeof(VpState); ++n) from[n] = static_cast<u8>(n * 7 + n / 256 + 1);
    for (const Range& r : unsaved) std::memset(from + r.first, 0, r.size);
    a.vp->state().tsc_deadline = 0;
    REQUIRE(test::load(test::save(*a.vp), *b.vp).empty());
    u8* const to = reinterpret_cast<u8*>(&b.vp->state());
    for (const Range& r : unsaved) std::memset(to + r.first, 0, r.size);
    for (std::size_t n = 0; n < sizeof(VpState); ++n) {
        CAPTURE(n);
        REQUIRE(from[n] == to[n]);
    }
}
