// Guest code in a partition, run by the interpreter: the interface as a processor reaches it
// (tests/hv/guest/child.asm).
#ifdef VG_GUEST_IMAGES  // needs nasm

#include <catch2/catch.hpp>

#include <fstream>
#include <iterator>

#include "cpu/interp.h"
#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using namespace vg::hv::test;

namespace {

constexpr u64 kChildBase = 0x100000;
constexpr u64 kGpHandler = kChildBase + 0x200, kMessageHandler = kChildBase + 0x280, kTimerHandler = kChildBase + 0x300;
constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kGdt = 0x40000, kIdt = 0x41000, kResults = 0x30000;

class EventParent final : public PortOwner {
  public:
    HvStatus on_message(Partition&, u32, const PostedMessage&) override { return HvStatus::Success; }
    HvStatus on_signal(Partition&, u32, u16) override {
        ++signals;
        return HvStatus::Success;
    }
    unsigned signals = 0;
};

void set_gate(Fixture& f, u8 vector, u64 handler) {
    f.guest_write<u64>(kIdt + 16 * vector,
                       (handler & 0xffff) | u64{8} << 16 | u64{0x8e00} << 32 | (handler >> 16 & 0xffff) << 48);
    f.guest_write<u64>(kIdt + 16 * vector + 8, handler >> 32);
}

/// 64-bit mode with the first 4 GiB identity-mapped by 1 GiB pages, interrupts off, at the program's start.
void start(Fixture& f) {
    std::ifstream file(VG_GUEST_IMAGES "/child.bin", std::ios::binary);
    const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
    REQUIRE(image.size() > 0x300);
    REQUIRE(f.partition->write_memory(Gpa(kChildBase), image.data(), image.size()));
    f.guest_write<u64>(kPml4, kPdpt | 3);
    for (u64 i = 0; i < 4; ++i) f.guest_write<u64>(kPdpt + 8 * i, i << 30 | 0x83);
    f.guest_write<u64>(kGdt + 8, 0x00af9b000000ffff);
    f.guest_write<u64>(kGdt + 16, 0x00cf93000000ffff);
    set_gate(f, 13, kGpHandler);
    set_gate(f, 0xf3, kMessageHandler);
    set_gate(f, 0xed, kTimerHandler);
    cpu::VpState& s = f.vp->processor().state();
    s.cr0 = cpu::cr0::PE | cpu::cr0::PG | cpu::cr0::WP | cpu::cr0::NE | cpu::cr0::ET;
    s.cr3 = kPml4;
    s.cr4 = cpu::cr4::PAE;
    s.efer = cpu::efer::LME | cpu::efer::LMA;
    s.segment(cpu::Seg::CS) = {0, 0xffffffff, 8, 0xa09b};
    for (const cpu::Seg seg : {cpu::Seg::SS, cpu::Seg::DS, cpu::Seg::ES}) s.segment(seg) = {0, 0xffffffff, 16, 0xc093};
    s.gdtr = {kGdt, 23, 0};
    s.idtr = {kIdt, 0xfff, 0};
    s.rip = kChildBase;
    s.cpl = 0;
    f.vp->processor().update_context();
}

/// Runs until the VP halts with nothing due, letting virtual time jump to timers as a machine does.
void run(Fixture& f, VTime limit) {
    cpu::StepEngine engine;
    cpu::Vp& vp = f.vp->processor();
    while (f.clock.now() < limit) {
        // A slice of one instruction keeps the hand-set clock equal to the processor's time.
        vp.begin_slice(f.clock.now(), f.clock.now() + 1);
        const cpu::Stop stop = engine.run(vp);
        f.clock.set(std::max(f.clock.now(), vp.now()));
        f.events.run_due(f.clock.now());
        if (stop != cpu::Stop::Halt || vp.event_pending()) continue;
        if (vp.activity() != cpu::Activity::Halted || f.events.next() == kNever) return;
        f.clock.set(f.events.next());
        f.events.run_due(f.clock.now());
    }
}

}  // namespace

TEST_CASE("guest: a child uses leaves, MSRs, hypercalls, SynIC and timers", "[hv][guest]") {
    const char* model = GENERATE("verdigris-v2", "verdigris-v2-amd");
    Fixture f({}, 1, model);
    EventParent parent;
    REQUIRE(f.partition->connections().connect(0x2005, {PortKind::Event, &parent}));
    start(f);
    run(f, 1'000'000);

    CHECK(f.sink.shutdowns == 0);
    CHECK(f.vp->processor().activity() == cpu::Activity::Halted);
    CHECK(f.guest_read<u32>(kResults) == 0x7263694d);  // C-03
    CHECK(parent.signals == 1);                        // K-101; H-06: and went on behind the call
    CHECK(f.guest_read<u64>(kResults + 8) == 0);       // its status
    CHECK(f.guest_read<u32>(0x5000) == (std::string(model).ends_with("amd") ? 0xc3d9010f : 0xc3c1010f));
    const u64 by_page = f.guest_read<u64>(kResults + 0x10), by_msr = f.guest_read<u64>(kResults + 0x18);
    CHECK(by_page <= by_msr);  // S-93: read a few instructions before
    CHECK(by_msr - by_page <= 1);
    CHECK(f.guest_read<u32>(kResults + 0x20) == 1);  // went on behind the #GP of H-50
    CHECK(f.guest_read<u32>(kResults + 0x24) == 2);  // and of an MSR that is not there
    CHECK(f.sink.ports == std::vector<RecordingSink::Access>{{true, 0x3f8, 1, 'V'}});
    CHECK(f.sink.mmio == std::vector<RecordingSink::Access>{{false, RecordingSink::kMmioPage + 4, 4, 0}});
    CHECK(f.guest_read<u32>(kResults + 0x28) == 0x55667788);
    CHECK(f.guest_read<u32>(kResults + 0x44) == 1);             // S-84
    CHECK(f.guest_read<u32>(kResults + 0x48) >= by_msr + 100);  // not early
    CHECK(f.guest_read<u32>(kResults + 0x48) <= by_msr + 102);

    const std::array<u8, 2> one{0x11, 0}, two{0x22, 0}, three{0x33, 0};
    u32 type = 5;
    for (const auto& payload : {one, two, three})
        CHECK(f.partition->post_message(0, 2, type++, payload) == HvStatus::Success);
    run(f, 2'000'000);
    CHECK(f.guest_read<u32>(kResults + 0x40) == 3);  // S-03: one interrupt each
    CHECK(f.guest_read<u32>(kResults + 0x30) == 7);
    CHECK((f.guest_read<u64>(kResults + 0x38) & 0xffff) == 0x33);
    CHECK(f.vp->synic().queued(2) == 0);
    CHECK(f.vp->processor().activity() == cpu::Activity::Halted);
}

#endif
