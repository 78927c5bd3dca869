// The SynIC test device: routes, and connections of a partition to itself.
#include <catch2/catch.hpp>

#include "hv/parent/test_device.h"
#include "tests/hv/fixture.h"
#include "tests/support/state_tape.h"

using namespace vg;
using namespace vg::hv;
using hv::parent::TestDevice;
using hv::test::Fixture;
using Command = TestDevice::Command;

namespace {

constexpr u8 kSint = 2, kVector = 0xf3;  // of Fixture::enable_synic

struct Bench : Fixture {
    Bench() : Fixture(hv::full_partition_config(), 2) {
        enable_synic();
        partition->set_guest_os_id(kOsId);
    }
    void command(Command what, u32 processor = 0, u32 sint = kSint, u32 id = 0) { command(device, what, processor, sint, id); }
    static void command(TestDevice& to, Command what, u32 processor, u32 sint, u32 id) {
        CHECK(to.port_write(0, 4, id << 24 | u32{static_cast<u8>(what)} << 16 | processor << 8 | sint) ==
              devices::IoStatus::Ok);
    }
    bool interrupted() {
        if (!apic().requested(kVector)) return false;
        CHECK(apic().acknowledge() == kVector);
        apic().eoi();
        return true;
    }
    /// HvCallPostMessage with four bytes of payload.
    HvStatus post(u32 id) {
        constexpr u64 kInput = 0x20000;
        guest_write<u32>(kInput, id);
        guest_write<u32>(kInput + 4, 0);
        guest_write<u32>(kInput + 8, 0x12345678);
        guest_write<u32>(kInput + 12, 4);
        guest_write<u32>(kInput + 16, 0xabcd);
        return static_cast<HvStatus>(hypercall(0x5c, kInput).value() & 0xffff);
    }
    /// HvCallSignalEvent, by registers.
    HvStatus signal(u32 id, u16 flag = 0) {
        return static_cast<HvStatus>(hypercall(0x5d | 1u << 16, id | u64{flag} << 32).value() & 0xffff);
    }
    TestDevice device{*partition};
};

}  // namespace

TEST_CASE("hyperv_testdev: a route interrupts as its SINT says, while it is there", "[hv][testdev]") {
    Bench b;
    b.command(Command::SetSint);
    CHECK_FALSE(b.interrupted());
    b.command(Command::CreateSintRoute);
    b.command(Command::SetSint);
    CHECK(b.interrupted());
    b.command(Command::SetSint, 1);  // another processor has none
    b.command(Command::SetSint, 0, kSint + 1);
    CHECK_FALSE(b.interrupted());
    CHECK(b.wrmsr(msr::SINT0 + kSint, 0x10000 | kVector));  // masked
    b.command(Command::SetSint);
    CHECK_FALSE(b.interrupted());
    CHECK(b.wrmsr(msr::SINT0 + kSint, kVector));
    b.command(Command::DestroySintRoute);
    b.command(Command::SetSint);
    CHECK_FALSE(b.interrupted());
}

TEST_CASE("hyperv_testdev: a message connection leads to a slot", "[hv][testdev]") {
    Bench b;
    CHECK(b.post(0x10) == HvStatus::InvalidConnectionId);
    b.command(Command::CreateMessageConnection, 0, kSint, 0x10);
    CHECK(b.post(0x10) == HvStatus::Success);
    CHECK(b.interrupted());
    CHECK(b.guest_read<u32>(Fixture::slot(kSint)) == 0x12345678);
    CHECK(b.guest_read<u32>(Fixture::slot(kSint) + 16) == 0xabcd);
    CHECK(b.post(0x10) == HvStatus::Success);  // waits
    CHECK_FALSE(b.interrupted());
    b.guest_write<u32>(Fixture::slot(kSint), 0);
    CHECK(b.wrmsr(msr::EOM, 0));
    CHECK(b.interrupted());
    b.command(Command::DestroyEventConnection, 0, 0, 0x10);  // of the other kind
    CHECK(b.post(0x10) == HvStatus::Success);
    b.command(Command::DestroyMessageConnection, 0, 0, 0x10);
    CHECK(b.post(0x10) == HvStatus::InvalidConnectionId);
}

TEST_CASE("hyperv_testdev: an event connection sets the flag with its number", "[hv][testdev]") {
    Bench b;
    b.command(Command::CreateEventConnection, 0, kSint, 0x21);
    CHECK(b.signal(0x20) == HvStatus::InvalidConnectionId);
    CHECK(b.signal(0x21, 1) == HvStatus::InvalidParameter);
    CHECK(b.signal(0x21) == HvStatus::Success);
    CHECK(b.interrupted());
    const u64 flags = Fixture::kSiefp + 256 * kSint;
    CHECK(b.guest_read<u64>(flags) == u64{1} << 0x21);
    CHECK(b.signal(0x21) == HvStatus::Success);
    CHECK_FALSE(b.interrupted());  // it was set
}

TEST_CASE("hyperv_testdev: nonsense is ignored, and its state comes back", "[hv][testdev]") {
    Bench b;
    for (u32 what = 0; what < 256; what += 3)
        for (const u32 target : {0x0ffu, 0xff02u, 0x0210u, 0xffffu})
            CHECK(b.device.port_write(0, 4, 0x33u << 24 | what << 16 | target) == devices::IoStatus::Ok);
    CHECK(b.partition->connections().all().empty());
    CHECK(b.device.port_write(0, 2, 1) == devices::IoStatus::BadSize);
    u32 value = 5;
    CHECK(b.device.port_read(0, 4, value) == devices::IoStatus::Ok);
    CHECK(value == 0);

    b.command(Command::CreateSintRoute);
    b.command(Command::CreateMessageConnection, 1, 3, 0x10);
    b.command(Command::CreateMessageConnection, 0, 3, 0x10);  // the id is taken
    b.command(Command::CreateEventConnection, 0, kSint, 0x21);
    vg::test::StateTape tape;
    tape.save(b.device);
    b.device.reset();
    CHECK(b.partition->connections().all().empty());
    tape.restore(b.device);
    REQUIRE(b.partition->connections().all().size() == 2);
    CHECK(std::get<GuestPort>(b.partition->connections().find(0x10)->target).vp_index == 1);
    CHECK(b.signal(0x21) == HvStatus::Success);
    CHECK(b.interrupted());
    b.command(Command::SetSint);
    CHECK(b.interrupted());
}
