// SynIC: the slot protocol, event flags, SINT registers. Rows S-01..S-10, M-15..M-21, K-100, K-101.
#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "cpu/msr.h"
#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;

namespace {

std::array<u8, 4> payload(u8 tag) { return {tag, 1, 2, 3}; }

HvStatus post(Fixture& f, u8 tag, u8 sint = 2) { return f.partition->post_message(0, sint, 1, payload(tag), 0x77); }

struct Slot {
    MessageHeader header;
    u8 tag;
};
Slot read_slot(Fixture& f, unsigned sint = 2) {
    return {f.guest_read<MessageHeader>(Fixture::slot(sint)), f.guest_read<u8>(Fixture::slot(sint) + 16)};
}
void free_slot(Fixture& f, unsigned sint = 2) { f.guest_write<u32>(Fixture::slot(sint), 0); }

/// Takes the interrupt, if any.
bool interrupted(Fixture& f, u8 vector = 0xf3) {
    if (!f.apic().requested(vector)) return false;
    CHECK(f.apic().acknowledge() == vector);
    f.apic().eoi();
    return true;
}

}  // namespace

TEST_CASE("synic: S-01, S-02, S-05 a message fills its slot and interrupts", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 0xaa) == HvStatus::Success);
    const Slot slot = read_slot(f);
    CHECK(slot.header.type == 1);
    CHECK(slot.header.payload_size == 4);
    CHECK(slot.header.flags == 0);
    CHECK(slot.header.origin == 0x77);
    CHECK(slot.tag == 0xaa);
    CHECK(interrupted(f));
    CHECK(f.guest_read<u32>(Fixture::slot(1)) == 0);
    CHECK(f.guest_read<u32>(Fixture::slot(3)) == 0);
}

TEST_CASE("synic: S-03 a busy slot gets the pending flag; type 0 and EOM deliver in order", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    for (u8 i = 1; i <= 3; ++i) CHECK(post(f, i) == HvStatus::Success);
    CHECK(read_slot(f).tag == 1);
    CHECK(read_slot(f).header.flags == 1);
    CHECK(interrupted(f));

    SECTION("EOM alone frees nothing and destroys nothing") {
        CHECK(f.wrmsr(msr::EOM, 0));
        CHECK(read_slot(f).tag == 1);
        CHECK(read_slot(f).header.type == 1);
        CHECK_FALSE(interrupted(f));
    }
    for (u8 i = 2; i <= 3; ++i) {
        free_slot(f);
        CHECK_FALSE(interrupted(f));
        CHECK(f.wrmsr(msr::EOM, 0));
        CHECK(read_slot(f).tag == i);
        CHECK(read_slot(f).header.flags == (i == 3 ? 0 : 1));  // Linux writes EOM only if it sees the flag
        CHECK(interrupted(f));
    }
    free_slot(f);
    CHECK(f.wrmsr(msr::EOM, 0));
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0);
    CHECK_FALSE(interrupted(f));
}

TEST_CASE("synic: S-03 a freed slot is filled on the next post too, first in first out", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(post(f, 2) == HvStatus::Success);
    free_slot(f);
    CHECK(post(f, 3) == HvStatus::Success);
    CHECK(read_slot(f).tag == 2);
    CHECK(read_slot(f).header.flags == 1);
    free_slot(f);
    SECTION("and on an EOI through the synthetic MSR") { CHECK(f.wrmsr(msr::EOI, 0)); }
    SECTION("and on an EOI through the xAPIC page") {
        const u32 zero = 0;
        CHECK(f.vp->processor().memory().write(0xfee000b0, &zero, sizeof zero));
    }
    SECTION("and on an EOI through the x2APIC register") {
        constexpr u32 kApicBase = 0x1b, kExtended = 1 << 10, kX2ApicEoi = 0x80b;
        cpu::Vp& processor = f.vp->processor();
        CHECK(cpu::write_msr(processor, kApicBase, processor.state().apic_base | kExtended));
        CHECK(cpu::write_msr(processor, kX2ApicEoi, 0));
    }
    SECTION("and when the SINT is written") { CHECK(f.wrmsr(msr::SINT0 + 2, 0xf3)); }
    SECTION("and when the SynIC is enabled") { CHECK(f.wrmsr(msr::SCONTROL, 1)); }
    CHECK(read_slot(f).tag == 3);
}

TEST_CASE("synic: S-04 a slot freed just before the post takes the message at once", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(interrupted(f));
    free_slot(f);
    CHECK(read_slot(f).header.flags == 0);  // the guest saw no pending flag: it will not write EOM
    CHECK(post(f, 2) == HvStatus::Success);
    CHECK(read_slot(f).tag == 2);
    CHECK(interrupted(f));
}

TEST_CASE("synic: K-100 the queue of a SINT is bounded", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    for (unsigned i = 0; i <= Synic::kQueueLimit; ++i) CHECK(post(f, static_cast<u8>(i)) == HvStatus::Success);
    CHECK(post(f, 99) == HvStatus::InsufficientBuffers);
    CHECK(f.vp->synic().queued(2) == Synic::kQueueLimit);
    free_slot(f);
    CHECK(post(f, 100) == HvStatus::Success);  // the freed slot made room
    CHECK(read_slot(f).tag == 1);
}

TEST_CASE("synic: S-05 nothing is delivered or queued while SCONTROL or SIMP is off", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    const u32 off = GENERATE(msr::SCONTROL, msr::SIMP);
    CHECK(f.wrmsr(off, 0));
    CHECK(post(f, 1) == HvStatus::InvalidSynicState);
    CHECK(f.vp->synic().queued(2) == 0);
    CHECK_FALSE(interrupted(f));
}

TEST_CASE("synic: S-05 what was queued before SCONTROL went off is delivered after it is on", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(post(f, 2) == HvStatus::Success);
    CHECK(interrupted(f));
    CHECK(f.wrmsr(msr::SCONTROL, 0));
    free_slot(f);
    CHECK(f.wrmsr(msr::EOM, 0));
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0);
    CHECK(f.wrmsr(msr::SCONTROL, 1));
    CHECK(read_slot(f).tag == 2);
    CHECK(interrupted(f));
}

TEST_CASE("synic: S-05 masked and polling SINTs get the message without interrupt", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    const u64 quiet = GENERATE(as<u64>{}, 0x100f3, 0x400f3, 0x10000);
    CHECK(f.wrmsr(msr::SINT0 + 2, quiet));
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(read_slot(f).tag == 1);
    CHECK_FALSE(interrupted(f));
    CHECK(f.wrmsr(msr::SINT0 + 2, 0xf3));  // S-09: unmasking does not fire for what is already written
    CHECK_FALSE(interrupted(f));
    CHECK(read_slot(f).tag == 1);
}

TEST_CASE("synic: bad posts change nothing", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    const std::vector<u8> large(241);
    CHECK(f.partition->post_message(0, 2, 1, large) == HvStatus::InvalidParameter);
    CHECK(f.partition->post_message(0, 2, 0, payload(1)) == HvStatus::InvalidParameter);
    CHECK(f.partition->post_message(0, 16, 1, payload(1)) == HvStatus::InvalidParameter);
    CHECK(f.partition->post_message(7, 2, 1, payload(1)) == HvStatus::InvalidVpIndex);
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0);
    CHECK(f.partition->post_message(0, 2, 1, std::span(large).first(240)) == HvStatus::Success);
}

TEST_CASE("synic: S-06 an event flag interrupts on its edge only", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(f.partition->signal_event(0, 2, 0x123) == HvStatus::Success);
    const u64 byte = Fixture::kSiefp + 2 * 256 + 0x123 / 8;
    CHECK(f.guest_read<u8>(byte) == 1 << (0x123 % 8));
    CHECK(interrupted(f));
    CHECK(f.partition->signal_event(0, 2, 0x123) == HvStatus::Success);
    CHECK_FALSE(interrupted(f));
    CHECK(f.partition->signal_event(0, 2, 0x124) == HvStatus::Success);
    CHECK(f.guest_read<u8>(byte) == 3 << (0x123 % 8));
    CHECK(interrupted(f));
    f.guest_write<u8>(byte, 0);
    CHECK(f.partition->signal_event(0, 2, 0x123) == HvStatus::Success);
    CHECK(interrupted(f));
    CHECK(f.partition->signal_event(0, 2, 2047) == HvStatus::Success);
    CHECK(f.guest_read<u8>(Fixture::kSiefp + 2 * 256 + 255) == 0x80);
    CHECK(f.partition->signal_event(0, 2, 2048) == HvStatus::InvalidParameter);
    CHECK(f.partition->signal_event(0, 16, 0) == HvStatus::InvalidParameter);
    CHECK(f.partition->signal_event(9, 2, 0) == HvStatus::InvalidVpIndex);
}

TEST_CASE("synic: S-07 an event to a masked SINT or a SynIC that is off is refused and sets no flag", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    SECTION("masked") { CHECK(f.wrmsr(msr::SINT0 + 2, 0x100f3)); }
    SECTION("SCONTROL") { CHECK(f.wrmsr(msr::SCONTROL, 0)); }
    SECTION("SIEFP") { CHECK(f.wrmsr(msr::SIEFP, 0)); }
    CHECK(f.partition->signal_event(0, 2, 5) == HvStatus::InvalidSynicState);
    CHECK(f.guest_read<u64>(Fixture::kSiefp + 512) == 0);
    CHECK_FALSE(interrupted(f));
}

TEST_CASE("synic: a polling SINT gets the event flag without interrupt", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(f.wrmsr(msr::SINT0 + 2, 0x400f3));
    CHECK(f.partition->signal_event(0, 2, 5) == HvStatus::Success);
    CHECK(f.guest_read<u8>(Fixture::kSiefp + 512) == 1 << 5);
    CHECK_FALSE(interrupted(f));
}

TEST_CASE("synic: M-21 an unmasked SINT needs a legal vector", "[hv][synic]") {
    Fixture f;
    for (u64 vector = 0; vector < 16; ++vector) {
        CHECK_FALSE(f.wrmsr(msr::SINT0 + 3, vector));
        CHECK_FALSE(f.wrmsr(msr::SINT0 + 3, vector | 0x40000));
        CHECK(f.wrmsr(msr::SINT0 + 3, vector | 0x10000));
    }
    CHECK(f.wrmsr(msr::SINT0 + 3, 16));
    CHECK(f.rdmsr(msr::SINT0 + 3) == 16u);
    CHECK(f.rdmsr(msr::SINT0 + 15) == 0x10000u);
}

TEST_CASE("synic: S-08 auto-EOI leaves nothing in service", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    const auto stays_in_service = [&] {
        f.apic().accept(0xf3, false);
        CHECK(f.apic().acknowledge() == 0xf3);
        const bool stays = f.apic().in_service(0xf3);
        f.apic().eoi();
        return stays;
    };
    CHECK(stays_in_service());
    CHECK(f.wrmsr(msr::SINT0 + 2, 0x200f3));
    CHECK_FALSE(stays_in_service());
    CHECK(f.wrmsr(msr::SINT0 + 5, 0xf3));  // the same vector without auto-EOI: still auto
    CHECK_FALSE(stays_in_service());
    CHECK(f.wrmsr(msr::SINT0 + 2, 0x300f3));  // masked does not count
    CHECK(stays_in_service());
    CHECK(f.wrmsr(msr::SINT0 + 2, 0x200f3));
    CHECK(f.wrmsr(msr::SINT0 + 2, 0x200f4));  // moving away from the vector
    CHECK(stays_in_service());
}

TEST_CASE("synic: S-10 reset drops queues and pages", "[hv][synic]") {
    Fixture f;
    f.guest_write<u64>(Fixture::kSimp, 0x1234);
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(post(f, 2) == HvStatus::Success);
    f.vp->reset();
    CHECK(f.guest_read<u64>(Fixture::kSimp) == 0x1234);
    CHECK(f.vp->synic().queued(2) == 0);
    CHECK(f.rdmsr(msr::SINT0 + 2) == 0x10000u);
    CHECK(f.rdmsr(msr::SCONTROL) == 0u);
    CHECK(f.rdmsr(msr::SIMP) == 0u);
    f.enable_synic();
    CHECK(f.guest_read<u64>(Fixture::slot(2)) == 0);
}

TEST_CASE("synic: S-03 the EOI of a SINT's interrupt brings the next message and its interrupt", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(post(f, 2) == HvStatus::Success);
    CHECK(f.apic().acknowledge() == 0xf3);
    free_slot(f);
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0);
    f.apic().eoi();
    CHECK(read_slot(f).tag == 2);
    CHECK(f.apic().pending_vector() == 0xf3);
}

TEST_CASE("synic: S-85 an EOI delivers the expiration of a timer that found its slot busy", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(f.wrmsr(msr::STIMER0_CONFIG, 0x20009));  // message mode on SINT2
    CHECK(f.wrmsr(msr::STIMER0_CONFIG + 1, 10));
    f.advance_ns(2'000);
    CHECK(read_slot(f).tag == 1);
    CHECK(read_slot(f).header.flags == 1);
    CHECK(f.apic().acknowledge() == 0xf3);
    free_slot(f);
    f.apic().eoi();
    CHECK(read_slot(f).header.type == 0x80000010);
    CHECK(f.apic().pending_vector() == 0xf3);
}

TEST_CASE("synic: S-10, S-101 INIT resets the SynIC, the timers and the assist page of its VP only", "[hv][synic]") {
    Fixture f({}, 2);
    f.guest_write<u64>(Fixture::kSimp, 0x1234);
    f.enable_synic();
    CHECK(f.wrmsr(msr::VP_ASSIST_PAGE, 0x13001));
    CHECK(f.wrmsr(msr::STIMER0_CONFIG, 0x1ed9));  // direct, vector 0xed
    CHECK(f.wrmsr(msr::STIMER0_CONFIG + 1, 10));
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(post(f, 2) == HvStatus::Success);
    Vp& other = *f.partition->vps()[1];
    CHECK(other.synic().set_sint(2, 0xf3));

    cpu::InterruptMessage init;
    init.destination = 0;
    init.mode = cpu::DeliveryMode::Init;
    CHECK(f.partition->apic_bus().deliver(init) == 1);
    CHECK(f.vp->processor().take_event() == cpu::Exec::Resync);

    CHECK(f.guest_read<u64>(Fixture::kSimp) == 0x1234);
    CHECK(f.vp->synic().queued(2) == 0);
    for (u32 sint = 0; sint < kSintCount; ++sint) CHECK(f.rdmsr(msr::SINT0 + sint) == 0x10000u);
    for (const u32 index : {msr::SCONTROL, msr::SIMP, msr::SIEFP, msr::VP_ASSIST_PAGE, msr::STIMER0_CONFIG})
        CHECK(f.rdmsr(index) == 0u);
    CHECK(f.rdmsr(msr::STIMER0_CONFIG + 1) == 0u);
    f.advance_ns(10'000);
    CHECK_FALSE(f.apic().requested(0xed));
    CHECK(post(f, 3) == HvStatus::InvalidSynicState);
    CHECK(other.synic().sint(2) == 0xf3);
}

TEST_CASE("synic: whatever the guest writes into its pages, the rest keeps working", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    for (u64 at = 0; at < 4096; at += 8) {
        f.guest_write<u64>(Fixture::kSimp + at, ~u64{0});
        f.guest_write<u64>(Fixture::kSiefp + at, ~u64{0});
    }
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(f.partition->signal_event(0, 2, 77) == HvStatus::Success);
    CHECK_FALSE(interrupted(f));
    free_slot(f);
    CHECK(f.wrmsr(msr::EOM, 0));
    CHECK(read_slot(f).tag == 1);
    CHECK(interrupted(f));
}

namespace {

/// A guest that frees the slot at the worst moment: when the hypervisor, having seen it busy, is about to set the
/// pending flag. (The write to a page with code marks is announced just before it happens.)
class WorstMoment final : public mmu::CodeObserver {
  public:
    WorstMoment(Fixture& f, Spa slot) : f_(f), slot_(slot) {
        f.memory.mark_code(slot, 16);
        f.memory.add_code_observer(this);
    }
    ~WorstMoment() override { f_.memory.remove_code_observer(this); }
    void code_written(Spa spa, u32) override {
        if (spa != slot_ + offsetof(MessageHeader, flags)) return;
        std::atomic_ref<u32>(*reinterpret_cast<u32*>(f_.memory.ram(slot_))).store(0);
        ++hits;
    }
    void mark_page(Spa) override {}
    unsigned hits = 0;

  private:
    Fixture& f_;
    Spa slot_;
};

}  // namespace

TEST_CASE("synic: S-04 a slot freed between the test and the pending flag takes the message", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    CHECK(post(f, 1) == HvStatus::Success);
    CHECK(interrupted(f));
    WorstMoment guest(f, f.guest_address(Fixture::slot(2), mmu::Access::Write).value());
    CHECK(post(f, 2) == HvStatus::Success);
    CHECK(guest.hits == 1);
    CHECK(read_slot(f).header.type == 1);
    CHECK(read_slot(f).tag == 2);
    CHECK(read_slot(f).header.flags == 0);
    CHECK(interrupted(f));
}

TEST_CASE("synic: S-04 no message is lost to a guest that frees the slot at any moment", "[hv][synic]") {
    Fixture f;
    f.enable_synic();
    u8* slot = f.memory.ram(f.guest_address(Fixture::slot(2), mmu::Access::Write).value());
    std::atomic_ref<u32> type(*reinterpret_cast<u32*>(slot));
    std::atomic_ref<u8> flags(slot[offsetof(MessageHeader, flags)]);
    constexpr u32 kCount = 3'000;
    std::mutex exits;  // what a VP does through an exit is serialised with the host; what it does to its page is not
    std::atomic<bool> stop = false;
    std::atomic<u32> seen = 0;
    u32 out_of_order = 0;
    std::thread guest([&] {
        while (!stop) {
            if (type.load() == 0) continue;
            if (slot[16] != static_cast<u8>(seen.load())) ++out_of_order;
            ++seen;
            type.store(0);
            if ((flags.load() & kMessagePending) != 0) {
                const std::lock_guard lock(exits);
                f.vp->synic().rescan();  // EOM
            }
        }
    });
    for (u32 i = 0; i < kCount;) {
        const std::lock_guard lock(exits);
        if (post(f, static_cast<u8>(i)) == HvStatus::Success) ++i;
    }
    // No post and no EOM follows the last message: a lost wake-up would leave it queued for ever.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (seen < kCount && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    stop = true;
    guest.join();
    CHECK(seen == kCount);
    CHECK(out_of_order == 0);
}
