// The calling convention (H-01..H-46) by the dispatcher, then the bodies (K-005, K-100..K-110).
#include <catch2/catch.hpp>

#include "base/state.h"
#include "hv/hypercall.h"
#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;

namespace {

constexpr u64 kFast = 1 << 16;
constexpr u64 kIn = 0x30000, kOut = 0x31000;
constexpr u64 kPost = 0x5c, kSignal = 0x5d, kSpin = 8, kQuery = 0x8001, kFlush = 2, kFlushList = 3, kFlushEx = 0x13,
              kFlushListEx = 0x14, kIpi = 0xb, kIpiEx = 0x15;
constexpr u64 kAllHints = 0x220 | 1 << 2 | 1 << 10 | 1 << 11;

constexpr u64 reps(u64 count, u64 start = 0) { return count << 32 | start << 48; }
constexpr u64 variable(u64 qwords) { return qwords << 17; }
constexpr u64 status(HvStatus s, u64 done = 0) { return static_cast<u64>(s) | done << 32; }

/// Every hypercall allowed, XMM input and output included.
PartitionConfig everything() {
    PartitionConfig config;
    config.privileges = 0x0030003000000a7f;
    config.features_edx = 0x00088510;
    config.hints_eax = kAllHints;
    return config;
}

struct Called : Fixture {
    explicit Called(PartitionConfig config = {}, u32 vp_count = 1) : Fixture(config, vp_count) {
        wrmsr(msr::GUEST_OS_ID, kOsId);
    }
};

/// A port that remembers.
class Recorder final : public PortOwner {
  public:
    HvStatus on_message(Partition&, u32 id, const PostedMessage& message) override {
        ids.push_back(id);
        types.push_back(message.type);
        payloads.emplace_back(message.payload.begin(), message.payload.end());
        return answer;
    }
    HvStatus on_signal(Partition&, u32 id, u16 flag) override {
        ids.push_back(id);
        flags.push_back(flag);
        return answer;
    }
    std::vector<u32> ids, types;
    std::vector<u16> flags;
    std::vector<std::vector<u8>> payloads;
    HvStatus answer = HvStatus::Success;
};

PostMessageIn message(u32 connection, u32 type, u32 size) {
    PostMessageIn in{};
    in.connection_id = connection;
    in.reserved = 0xdddddddd;  // stale bytes
    in.message_type = type;
    in.payload_size = size;
    for (u32 i = 0; i < 240; ++i) in.payload[i] = static_cast<u8>(i);
    return in;
}

}  // namespace

// ---- H-05

TEST_CASE("hypercall: H-05 #UD outside CPL 0, in real mode, and without an OS id", "[hv][hypercall]") {
    Called f;
    CHECK(f.hypercall(kSpin | kFast));
    cpu::VpState& state = f.vp->processor().state();
    SECTION("CPL") { state.cpl = 3; }
    SECTION("real mode") { state.cr0 &= ~cpu::cr0::PE; }
    SECTION("OS id") { f.wrmsr(msr::GUEST_OS_ID, 0); }
    CHECK_FALSE(f.hypercall(kSpin | kFast));
    CHECK_FALSE(f.hypercall(0x7777));
}

// ---- H-20..H-31 in order

TEST_CASE("hypercall: H-10..H-31 the checks, first match wins", "[hv][hypercall]") {
    struct Case {
        const char* name;
        u64 control, input, output;
        HvStatus expected;
    };
    const Case cases[] = {
        {"H-20 unknown code", 0x7777, 1, 1, HvStatus::InvalidHypercallCode},
        {"H-20 before reserved bits", 0x7777 | u64{1} << 60, 1, 1, HvStatus::InvalidHypercallCode},
        {"H-13 bits 30:27", kSpin | kFast | 1 << 27, 0, 0, HvStatus::InvalidHypercallInput},
        {"H-13 bit 30", kSpin | kFast | 1 << 30, 0, 0, HvStatus::InvalidHypercallInput},
        {"H-14 nested", kSpin | kFast | u64{1} << 31, 0, 0, HvStatus::InvalidHypercallInput},
        {"H-16 bits 47:44", kSpin | kFast | u64{1} << 44, 0, 0, HvStatus::InvalidHypercallInput},
        {"H-18 bits 63:60", kSpin | kFast | u64{1} << 63, 0, 0, HvStatus::InvalidHypercallInput},
        {"H-12 variable header on a fixed call", kSpin | kFast | variable(1), 0, 0, HvStatus::InvalidHypercallInput},
        {"H-21 rep count on a simple call", kSpin | kFast | reps(1), 0, 0, HvStatus::InvalidHypercallInput},
        {"H-21 rep start on a simple call", kSpin | kFast | reps(0, 1), 0, 0, HvStatus::InvalidHypercallInput},
        {"H-21 rep count 0", kFlushList, kIn, 0, HvStatus::InvalidHypercallInput},
        {"H-21 start at count", kFlushList | reps(2, 2), kIn, 0, HvStatus::InvalidHypercallInput},
        {"H-21 before alignment", kPost | reps(1), kIn + 1, 0, HvStatus::InvalidHypercallInput},
        {"H-22 input alignment", kPost, kIn + 4, 0, HvStatus::InvalidAlignment},
        {"H-22 output alignment", kQuery, 0, kOut + 4, HvStatus::InvalidAlignment},
        {"H-23 input crosses a page", kPost, kIn + 0xf08, 0, HvStatus::InvalidAlignment},
        {"H-23 a list that cannot fit", kFlushList | reps(4095), kIn, 0, HvStatus::InvalidAlignment},
        {"H-23 the last place that fits", kPost, kIn + 0xf00, 0, HvStatus::InvalidParameter},
        {"H-25 unused input pointer", kQuery, 3, kOut, HvStatus::Success},
        {"H-25 unused output pointer", kFlush, kIn, 3, HvStatus::Success},
        {"H-26 no input memory", kPost, Fixture::kRamSize, 0, HvStatus::InvalidHypercallInput},
        {"H-26 no output memory", kQuery, 0, Fixture::kRamSize, HvStatus::InvalidHypercallInput},
        {"H-26 at the end of addresses", kPost, ~u64{0xff}, 0, HvStatus::InvalidHypercallInput},
        {"H-30 fast, but too large", kPost | kFast, 0, 0, HvStatus::InvalidHypercallInput},
        {"H-30 fast, list too large", kFlushList | kFast | reps(12), 0, 0, HvStatus::InvalidHypercallInput},
        {"H-28 fast, list as large as the registers", kFlushList | kFast | reps(11), 0, 0, HvStatus::Success},
    };
    Called f(everything());
    for (const Case& c : cases) {
        CAPTURE(c.name);
        const auto result = f.hypercall(c.control, c.input, c.output);
        REQUIRE(result);
        CHECK((*result & 0xffff) == static_cast<u64>(c.expected));
        CHECK((*result & 0xffff0000) == 0);
    }
}

TEST_CASE("hypercall: H-26 output to a page that cannot be written", "[hv][hypercall]") {
    Called f(everything());
    CHECK(f.wrmsr(msr::HYPERCALL, 0x5001));
    CHECK(f.hypercall(kQuery, 0, 0x5000) == status(HvStatus::InvalidHypercallInput));
    CHECK(f.guest_read<u8>(0x5000) == 0x0f);
}

TEST_CASE("hypercall: H-31 a missing privilege is status 6", "[hv][hypercall]") {
    struct Case {
        u64 control;
        u64 privilege;
        u32 hint;
    };
    const Case cases[] = {{kPost, u64{1} << 36, 0},
                          {kSignal | kFast, u64{1} << 37, 0},
                          {kQuery, u64{1} << 52, 0},
                          {kFlush, 0, 1 << 2},
                          {kFlushList | reps(1), 0, 1 << 2},
                          {kIpi | kFast, 0, 1 << 10},
                          {kFlushEx, 0, 1 << 11},
                          {kIpiEx, 0, 1 << 11},
                          {kFlushListEx | reps(1), 0, 1 << 11}};
    for (const Case& c : cases) {
        CAPTURE(c.control);
        PartitionConfig config = everything();
        config.privileges &= ~c.privilege;
        config.hints_eax &= ~c.hint;
        Called f(config);
        CHECK(f.hypercall(c.control, kIn, kOut) == status(HvStatus::AccessDenied));
        Called allowed(everything());
        CHECK(allowed.hypercall(c.control, kIn, kOut) != status(HvStatus::AccessDenied));
    }
}

TEST_CASE("hypercall: H-28, H-29 XMM registers that were not given are #UD", "[hv][hypercall]") {
    PartitionConfig config = everything();
    config.features_edx &= ~(u32{1} << 4);
    Called no_input(config);
    CHECK_FALSE(no_input.hypercall(kFlush | kFast));         // 24 bytes
    CHECK(no_input.hypercall(kIpi | kFast, 0x41, 1) == 0u);  // 16 bytes
    config = everything();
    config.features_edx &= ~(u32{1} << 15);
    config.privileges &= ~(u64{1} << 51);
    Called no_output(config);
    CHECK_FALSE(no_output.hypercall(kQuery | kFast));
}

// ---- registers

TEST_CASE("hypercall: H-02, H-11, H-17, H-27 where the 64-bit convention has what", "[hv][hypercall]") {
    Called f(everything(), 2);
    // fast: RDX is the first half of the input, R8 the second; nothing is looked for in memory
    CHECK(f.hypercall(kIpi | kFast, 0x71, 2) == 0u);
    CHECK(f.apic(1).requested(0x71));
    // slow: RDX is where the input is, R8 where the output goes
    f.guest_write<SendIpiIn>(kIn, {0x72, 0, {}, 1});
    CHECK(f.hypercall(kIpi, kIn, 0x71) == 0u);
    CHECK(f.apic(0).requested(0x72));
    CHECK_FALSE(f.apic(0).requested(0x71));
    // the start index counts in the list, and in what is reported as done
    CHECK(f.hypercall(kFlushList | reps(3, 2), kIn) == status(HvStatus::Success, 3));
}

TEST_CASE("hypercall: H-04 only RAX changes", "[hv][hypercall]") {
    Called f(everything());
    cpu::VpState& state = f.vp->processor().state();
    for (unsigned i = 0; i < 16; ++i) state.gpr[i] = 0x1111 * (i + 1);
    for (auto& reg : state.ymm) std::memset(reg, 0x77, sizeof reg);
    state.rip = 0x1234;
    state.rflags = 0x2d7;
    f.hypercall(kFlush, kIn, kOut);
    for (unsigned i = 0; i < 16; ++i) {
        CAPTURE(i);
        if (i == cpu::RAX || i == cpu::RCX || i == cpu::RDX || i == cpu::R8) continue;
        CHECK(state.gpr[i] == 0x1111 * (i + 1));
    }
    CHECK(state.gpr[cpu::RCX] == kFlush);
    CHECK(state.gpr[cpu::RDX] == kIn);
    CHECK(state.gpr[cpu::R8] == kOut);
    CHECK(state.gpr[cpu::RAX] == 0);
    CHECK(state.rip == 0x1234);
    CHECK(state.rflags == 0x2d7);
    for (auto& reg : state.ymm)
        for (const u8 byte : reg) REQUIRE(byte == 0x77);
}

TEST_CASE("hypercall: H-01, H-03 the 32-bit convention", "[hv][hypercall]") {
    Called f(everything());
    cpu::VpState& state = f.vp->processor().state();
    SECTION("protected mode") { state.efer = 0; }
    SECTION("compatibility mode") { state.segment(cpu::Seg::CS).attributes &= 0xdfff; }
    state.gpr[cpu::RCX] = 0xdeadbeef'00000000 | static_cast<u32>(kIn);  // upper halves are not looked at
    state.gpr[cpu::RBX] = 0;
    state.gpr[cpu::RDX] = 3 | 1 << 16;  // rep count 3, start 1
    state.gpr[cpu::RAX] = 0xffffffff'00000000 | kFlushList;
    state.gpr[cpu::R8] = 0x1234;
    CHECK(f.call());
    CHECK(state.gpr[cpu::RAX] == 0);
    CHECK(state.gpr[cpu::RDX] == 3);
    state.gpr[cpu::RDX] = 0;
    state.gpr[cpu::RAX] = kQuery;
    state.gpr[cpu::RDI] = 0;
    state.gpr[cpu::RSI] = kOut;
    f.guest_write<u64>(kOut, ~u64{0});
    CHECK(f.call());
    CHECK(state.gpr[cpu::RAX] == 0);
    CHECK(f.guest_read<u64>(kOut) == 0);
    // fast: EBX:ECX and EDI:ESI are the input
    state.gpr[cpu::RDX] = 0;
    state.gpr[cpu::RAX] = kIpi | kFast;
    state.gpr[cpu::RBX] = 0;
    state.gpr[cpu::RCX] = 0x51;
    state.gpr[cpu::RDI] = 0;
    state.gpr[cpu::RSI] = 1;
    CHECK(f.call());
    CHECK(state.gpr[cpu::RAX] == 0);
    CHECK(f.apic().requested(0x51));
}

TEST_CASE("hypercall: H-28 XMM input, H-29 XMM output", "[hv][hypercall]") {
    Called f(everything(), 2);
    cpu::VpState& state = f.vp->processor().state();
    // K-106: vector, then format, bank mask, bank: 32 bytes
    const u64 words[] = {kVpSetSparse4k, 1, 2};
    std::memcpy(state.ymm[0], &words[1], 16);
    CHECK(f.hypercall(kIpiEx | kFast | variable(1), 0x61, words[0]) == 0u);
    CHECK(f.apic(1).requested(0x61));
    CHECK_FALSE(f.apic(0).requested(0x61));
    std::memset(state.ymm[0], 0x55, 32);
    CHECK(f.hypercall(kQuery | kFast, 0x1111, 0x2222) == 0u);
    CHECK(state.gpr[cpu::RDX] == 0);  // no input: output starts at the first register
    CHECK(state.gpr[cpu::R8] == 0x2222);
    CHECK(state.ymm[0][0] == 0x55);
}

// ---- repeats and variable headers

TEST_CASE("hypercall: H-15, H-40, H-42 completed elements are absolute", "[hv][hypercall]") {
    Called f(everything());
    CHECK(f.hypercall(kFlushList | reps(5), kIn) == status(HvStatus::Success, 5));
    CHECK(f.hypercall(kFlushList | reps(5, 3), kIn) == status(HvStatus::Success, 5));
    CHECK(f.hypercall(kFlushList | reps(509), kIn) == status(HvStatus::Success, 509));
    CHECK(f.hypercall(kFlushList | reps(510), kIn) == status(HvStatus::InvalidAlignment));
    // an element fails (too few banks): nothing completed, at the start index
    f.guest_write<FlushSpaceExIn>(kIn, {0, 0, kVpSetSparse4k, 3});
    CHECK(f.hypercall(kFlushListEx | variable(1) | reps(4, 2), kIn) == status(HvStatus::InvalidHypercallInput, 2));
}

TEST_CASE("hypercall: H-45, H-46 13 is a simple call and its variable header is the banks", "[hv][hypercall]") {
    Called f(everything());
    f.guest_write<FlushSpaceExIn>(kIn, {0, 0, kVpSetSparse4k, 5});
    CHECK(f.hypercall(kFlushEx | variable(2), kIn) == 0u);
    CHECK(f.hypercall(kFlushEx | variable(3), kIn) == 0u);
    CHECK(f.hypercall(kFlushEx | variable(1), kIn) == status(HvStatus::InvalidHypercallInput));
    CHECK(f.hypercall(kFlushEx | variable(2) | reps(1), kIn) == status(HvStatus::InvalidHypercallInput));
    f.guest_write<FlushSpaceExIn>(kIn, {0, 0, kVpSetAll, 5});
    CHECK(f.hypercall(kFlushEx, kIn) == 0u);
    f.guest_write<FlushSpaceExIn>(kIn, {0, 0, 7, 0});
    CHECK(f.hypercall(kFlushEx, kIn) == status(HvStatus::InvalidHypercallInput));
    CHECK(f.hypercall(kFlushEx | variable(1023), kIn) == status(HvStatus::InvalidAlignment));
}

// ---- bodies

TEST_CASE("hypercall: K-005 NotifyLongSpinWait always succeeds; unknown codes log once", "[hv][hypercall]") {
    Called f;
    CHECK(f.hypercall(kSpin | kFast, 0xffffffff) == 0u);
    f.lines.clear();
    for (int i = 0; i < 5; ++i) CHECK(f.hypercall(0x1ff) == status(HvStatus::InvalidHypercallCode));
    CHECK(f.lines.size() == 1);
    CHECK(f.partition->hypercall_counts()[8].calls == 1);
    CHECK(f.partition->hypercall_counts()[8].failures == 0);
    CHECK(f.partition->hypercall_counts()[0x1ff].calls == 5);
    CHECK(f.partition->hypercall_counts()[0x1ff].failures == 5);
    CHECK(hypercall_name(0x5c) == "PostMessage");
    CHECK(hypercall_name(0x1ff) == "unknown");
}

TEST_CASE("hypercall: H-20 a guest that tries every code cannot flood the log, and all are counted",
          "[hv][hypercall]") {
    Called f;
    for (u64 code = 0; code < 0x10000; ++code) f.hypercall(code);
    CHECK(f.lines.size() <= 10);
    CHECK(f.partition->hypercall_counts().size() == 0x10000);
    StatePrinter printer;
    f.partition->fields(printer);
    CHECK(printer.result().find("hypercall_counts/count = 65536") != std::string::npos);
    CHECK(printer.result().find("hypercall_counts/65535/calls = 1") != std::string::npos);
}

TEST_CASE("hypercall: K-110, K-081 no extended capabilities", "[hv][hypercall]") {
    Called f(everything());
    f.guest_write<u64>(kOut + 8, ~u64{0});
    f.guest_write<u64>(kOut + 16, ~u64{0});
    CHECK(f.hypercall(kQuery, 0, kOut + 8) == 0u);
    CHECK(f.guest_read<u64>(kOut + 8) == 0);
    CHECK(f.guest_read<u64>(kOut + 16) == ~u64{0});
}

TEST_CASE("hypercall: K-078, K-081 free pages that the guest tells of are zero", "[hv][hypercall]") {
    constexpr u64 kHint = 0x8003, kColdDiscard = 2, kLarge = 1 << 11;
    PartitionConfig config = everything();
    const auto hint = [](Called& f, u64 type, u64 range) {
        f.guest_write<u64>(kIn, type);
        f.guest_write<u64>(kIn + 8, range);
        return f.hypercall(kHint | reps(1), kIn);
    };
    {
        Called f(config);
        CHECK(hint(f, kColdDiscard, 0x40000) == status(HvStatus::InvalidHypercallCode));
    }
    config.free_page_hints = true;
    Called f(config);
    CHECK(f.hypercall(kQuery, 0, kOut + 8) == 0u);
    CHECK(f.guest_read<u64>(kOut + 8) == 0x100);
    for (const u64 page : {0x3f000, 0x40000, 0x41000, 0x42000}) f.guest_write<u64>(page, page);
    CHECK(hint(f, kColdDiscard, 0x40000 | 1) == status(HvStatus::Success, 1));  // and one more page
    CHECK(f.guest_read<u64>(0x3f000) == 0x3f000);
    CHECK(f.guest_read<u64>(0x40000) == 0);
    CHECK(f.guest_read<u64>(0x41000) == 0);
    CHECK(f.guest_read<u64>(0x42000) == 0x42000);
    CHECK(hint(f, 1, 0x42000) == status(HvStatus::InvalidParameter));
    CHECK(hint(f, kColdDiscard | 4, 0x42000) == status(HvStatus::InvalidParameter));
    CHECK(hint(f, kColdDiscard, kLarge | 1 << 13) == status(HvStatus::InvalidParameter));
    CHECK(hint(f, kColdDiscard, ~u64{0xfff}) == status(HvStatus::InvalidParameter));
    CHECK(f.guest_read<u64>(0x42000) == 0x42000);
    CHECK(hint(f, kColdDiscard, u64{1} << 40) == status(HvStatus::Success, 1));  // no memory there
    // A page that an overlay hides is not the guest's to give.
    CHECK(hint(f, kColdDiscard, kLarge | 0x7ff) == status(HvStatus::Success, 1));
    CHECK(f.guest_read<u64>(0x42000) == 0);
}

TEST_CASE("hypercall: K-033, K-100 PostMessage to the built-in parent", "[hv][hypercall]") {
    Called f;
    Recorder parent;
    CHECK(f.partition->connections().connect(1, {PortKind::Message, &parent}));
    CHECK(f.partition->connections().connect(2, {PortKind::Event, &parent}));
    const auto post = [&](PostMessageIn in) {
        f.guest_write(kIn, in);
        return static_cast<HvStatus>(*f.hypercall(kPost, kIn));
    };
    CHECK(post(message(1, 1, 20)) == HvStatus::Success);
    REQUIRE(parent.payloads.size() == 1);
    CHECK(parent.ids[0] == 1);
    CHECK(parent.types[0] == 1);
    CHECK(parent.payloads[0].size() == 20);
    CHECK(parent.payloads[0][19] == 19);
    CHECK(post(message(1, 1, 240)) == HvStatus::Success);
    CHECK(post(message(1, 1, 0)) == HvStatus::Success);
    CHECK(post(message(1, 1, 241)) == HvStatus::InvalidParameter);
    CHECK(post(message(1, 0x80000001, 20)) == HvStatus::InvalidParameter);
    CHECK(post(message(1, 0, 20)) == HvStatus::InvalidParameter);
    CHECK(post(message(4, 1, 20)) == HvStatus::InvalidConnectionId);  // V-05
    CHECK(post(message(2, 1, 20)) == HvStatus::InvalidConnectionId);
    CHECK(parent.payloads.size() == 3);
    parent.answer = HvStatus::InsufficientBuffers;
    CHECK(post(message(1, 1, 20)) == HvStatus::InsufficientBuffers);
}

TEST_CASE("hypercall: K-100 PostMessage to a guest port", "[hv][hypercall]") {
    Called f({}, 2);
    CHECK(f.partition->connections().connect(1, {PortKind::Message, GuestPort{f.partition, 0, 2}}));
    CHECK(f.partition->connections().connect(3, {PortKind::Message, GuestPort{f.partition, 9, 2}}));
    f.guest_write(kIn, message(1, 5, 8));
    CHECK(f.hypercall(kPost, kIn) == status(HvStatus::InvalidSynicState));
    f.enable_synic();
    CHECK(f.hypercall(kPost, kIn) == 0u);
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 5);
    CHECK(f.guest_read<u8>(Fixture::slot(2) + 16 + 7) == 7);
    f.guest_write(kIn, message(3, 5, 8));
    CHECK(f.hypercall(kPost, kIn) == status(HvStatus::InvalidVpIndex));
}

TEST_CASE("hypercall: K-034, K-101, S-43 SignalEvent, fast and slow", "[hv][hypercall]") {
    Called f;
    Recorder parent;
    CHECK(f.partition->connections().connect(0x2005, {PortKind::Event, &parent}));
    CHECK(f.partition->connections().connect(7, {PortKind::Event, GuestPort{f.partition, 0, 2, 100, 4}}));
    CHECK(f.partition->connections().connect(1, {PortKind::Message, &parent}));
    CHECK(f.hypercall(kSignal | kFast, 0x2005) == 0u);
    f.guest_write(kIn, SignalEventIn{0x2005, 3, 0});
    CHECK(f.hypercall(kSignal, kIn) == 0u);
    CHECK(parent.ids == std::vector<u32>{0x2005, 0x2005});
    CHECK(parent.flags == std::vector<u16>{0, 3});
    CHECK(f.hypercall(kSignal | kFast, 0x2005 | u64{1} << 48) == status(HvStatus::InvalidHypercallInput));
    CHECK(f.hypercall(kSignal | kFast, 0x2006) == status(HvStatus::InvalidConnectionId));
    CHECK(f.hypercall(kSignal | kFast, 1) == status(HvStatus::InvalidConnectionId));

    CHECK(f.hypercall(kSignal | kFast, 7) == status(HvStatus::InvalidSynicState));
    f.enable_synic();
    CHECK(f.hypercall(kSignal | kFast, 7 | u64{3} << 32) == 0u);
    CHECK(f.guest_read<u8>(Fixture::kSiefp + 512 + 103 / 8) == 1 << (103 % 8));
    CHECK(f.hypercall(kSignal | kFast, 7 | u64{4} << 32) == status(HvStatus::InvalidParameter));
}

TEST_CASE("hypercall: K-102..K-104 flushes reach the named VPs' translations", "[hv][hypercall]") {
    Called f(everything(), 3);
    const auto stats = [&](u32 i) -> const mmu::TlbStats& { return f.partition->vps()[i]->processor().tlb().stats(); };
    std::array<u64, 3> pages{}, all{};
    const auto count = [&](u64 call, u64 result) {
        for (u32 i = 0; i < 3; ++i) pages[i] = stats(i).flushes_page, all[i] = stats(i).flushes_all;
        CHECK(f.hypercall(call, kIn) == result);
        for (u32 i = 0; i < 3; ++i) pages[i] = stats(i).flushes_page - pages[i], all[i] = stats(i).flushes_all - all[i];
    };
    f.guest_write<FlushSpaceIn>(kIn, {0x1000, flush_flag::kNonGlobalOnly, 0b101});
    count(kFlush, 0);
    CHECK((all[0] > 0 && all[1] == 0 && all[2] > 0));
    f.guest_write<FlushSpaceIn>(kIn, {0x1000, 0, 0b010});
    f.guest_write<u64>(kIn + 24, 0xffff800000001002);  // three pages
    f.guest_write<u64>(kIn + 32, 0x5000);
    count(kFlushList | reps(2), status(HvStatus::Success, 2));
    CHECK((pages[0] == 0 && pages[1] == 4 && pages[2] == 0));
    CHECK(all[1] == 0);
    f.guest_write<u64>(kIn + 24, 0xffff800000001fff);  // 4096 pages: not one by one
    count(kFlushList | reps(1), status(HvStatus::Success, 1));
    CHECK((pages[1] == 0 && all[1] > 0));
    f.guest_write<FlushSpaceIn>(kIn, {0, flush_flag::kAllProcessors | flush_flag::kExtendedRanges, 0});
    f.guest_write<u64>(kIn + 24, 0x200800);  // a large page
    count(kFlushList | reps(1), status(HvStatus::Success, 1));
    CHECK((all[0] > 0 && all[1] > 0 && all[2] > 0));
    f.guest_write<FlushSpaceExIn>(kIn, {0x1000, 0, kVpSetSparse4k, 1});
    f.guest_write<u64>(kIn + 32, 0b100);
    f.guest_write<u64>(kIn + 40, 0x7000);
    count(kFlushListEx | variable(1) | reps(1), status(HvStatus::Success, 1));
    CHECK((pages[0] == 0 && pages[1] == 0 && pages[2] == 1));
}

TEST_CASE("hypercall: K-105, K-106 IPIs go to VP indices", "[hv][hypercall]") {
    Called f(everything(), 3);
    CHECK(f.hypercall(kIpi | kFast, 0x40, 0b101 | u64{1} << 63) == 0u);
    for (u32 i = 0; i < 3; ++i) CHECK(f.apic(i).requested(0x40) == (i != 1));
    CHECK(f.hypercall(kIpi | kFast, 0x0f, 1) == status(HvStatus::InvalidParameter));
    CHECK(f.hypercall(kIpi | kFast, 0x100, 1) == status(HvStatus::InvalidParameter));
    CHECK(f.hypercall(kIpi | kFast, 0x10, 1) == 0u);
    f.guest_write<SendIpiExIn>(kIn, {0x42, 0, {}, kVpSetAll, 0});
    CHECK(f.hypercall(kIpiEx, kIn) == 0u);
    for (u32 i = 0; i < 3; ++i) CHECK(f.apic(i).requested(0x42));
    f.guest_write<SendIpiExIn>(kIn, {0x43, 0, {}, kVpSetSparse4k, u64{1} << 63 | 1});
    f.guest_write<u64>(kIn + 24, 2);
    f.guest_write<u64>(kIn + 32, ~u64{0});  // VPs that do not exist
    CHECK(f.hypercall(kIpiEx | variable(2), kIn) == 0u);
    for (u32 i = 0; i < 3; ++i) CHECK(f.apic(i).requested(0x43) == (i == 1));
}
