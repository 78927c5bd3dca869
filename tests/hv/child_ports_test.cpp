// A guest parent's child and what connects it: ports, doorbells, state images, properties, the root scheduler. Rows
// K-156..K-176, S-31..S-44, R-63..R-69.
#include <catch2/catch.hpp>

#include "tests/hv/root_fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;
using hv::test::RootFixture;

namespace {

/// Messages in a slot of the root's SIMP; taken out, as the root does it.
struct Slot {
    RootFixture& f;
    u64 simp;
    unsigned sint = 0;
    MessageHeader take() {
        const auto header = f.memory.read<MessageHeader>(Spa(simp + 256 * sint));
        f.memory.write<u32>(Spa(simp + 256 * sint), 0);
        if ((header.flags & kMessagePending) != 0) f.wrmsr(msr::EOM, 0);
        return header;
    }
    template <class T>
    T payload() {
        return f.memory.read<T>(Spa(simp + 256 * sint + kMessagePayloadOffset));
    }
};

}  // namespace

TEST_CASE("doorbell: a write that matches goes into the ring, not to the parent (K-160, K-161, S-31..S-33)",
          "[hv][child]") {
    RootFixture f;
    const u64 simp = f.enable_synic();
    const u64 id = f.make_child();
    CreatePortIn port{};
    port.port_partition = f.root->id();
    port.port_id = 7;
    port.connection_partition = id;
    port.type = 4;
    port.target = {5, kVpAny, 0, 0, 0};
    CHECK(f.call(0x95, port) == HvStatus::Success);
    CHECK(f.call(0x95, port) == HvStatus::InvalidPortId);
    ConnectPortIn connect{};
    connect.connection_partition = id;
    connect.connection_id = 99;
    connect.port_partition = f.root->id();
    connect.port_id = 7;
    connect.type = 4;
    connect.doorbell = {0xb000, 0x1234, 2};
    CHECK(f.call(0x96, connect) == HvStatus::Success);
    CHECK(f.call(0x96, connect) == HvStatus::InvalidConnectionId);
    f.code({0xb8, 0x34, 0x12, 0xa3, 0x00, 0xb0, 0xb0, 0x35, 0xa3, 0x00, 0xb0});  // two writes: 1234, 1235
    f.unmap(id, 11, 1);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<MemoryIntercept>().header.rip == 0x108);  // the second
    const u64 ring = (*f.rdmsr(msr::SIRBP) & ~kPageMask) + 5 * sizeof(EventRing);
    CHECK(f.memory.read<u32>(Spa(ring + 4)) == 7);
    Slot slot{f, simp};
    CHECK(slot.payload<SintInterceptNotification>().sint == 5);
    CHECK(slot.take().type == static_cast<u32>(MessageType::SintIntercept));
    CHECK(slot.take().type == static_cast<u32>(MessageType::OpaqueIntercept));
    // a full ring remembers; a masked one is silent
    f.memory.write<u8>(Spa(ring), 1);
    for (u32 i = 1; i < kEventRingSlots; ++i) CHECK(f.vp->synic().ring(5, 7) == HvStatus::Success);
    CHECK(f.memory.read<u8>(Spa(ring + 1)) == 0);
    CHECK(f.vp->synic().ring(5, 7) == HvStatus::Success);
    CHECK(f.memory.read<u8>(Spa(ring + 1)) == 1);
    f.memory.write<u32>(Spa(ring + 4), 0);
    f.memory.write<u8>(Spa(ring + 1), 0);
    CHECK(f.call(0x8b, u32{5}) == HvStatus::Success);
    CHECK(f.memory.read<u32>(Spa(ring + 4)) == 7);
    CHECK(slot.take().type == 0);
    CHECK(f.call(0x5b, DisconnectPortIn{id, 99, 1}) == HvStatus::Success);
    CHECK(f.call(0x5b, DisconnectPortIn{id, 99, 1}) == HvStatus::InvalidConnectionId);
    CHECK(f.call(0x58, DeletePortIn{f.root->id(), 7, 0}) == HvStatus::Success);
    CHECK(f.call(0x58, DeletePortIn{f.root->id(), 7, 0}) == HvStatus::InvalidPortId);
}

TEST_CASE("ports: messages reach the parent with the port's id, until the port is deleted (K-160, S-01, S-44)",
          "[hv][child]") {
    RootFixture f;
    const u64 simp = f.enable_synic();
    f.wrmsr(msr::SINT0 + 3, 0xf3);
    const u64 id = f.make_child();
    CreatePortIn port{};
    port.port_partition = f.root->id();
    port.port_id = 9;
    port.connection_partition = id;
    port.type = 1;
    port.target = {3, 0, 0, 0, 0};
    REQUIRE(f.call(0x95, port) == HvStatus::Success);
    ConnectPortIn connect{};
    connect.connection_partition = id;
    connect.connection_id = 4;
    connect.port_partition = f.root->id();
    connect.port_id = 9;
    connect.type = 1;
    REQUIRE(f.call(0x96, connect) == HvStatus::Success);
    Partition& child = f.child(id);
    const Port* found = child.connections().find(4);
    REQUIRE(found != nullptr);
    const GuestPort& guest = std::get<GuestPort>(found->target);
    const u8 payload[] = {1, 2, 3};
    CHECK(guest.partition->post_message(guest.vp_index, guest.sint, 1, payload, guest.port_id) == HvStatus::Success);
    const auto header = f.memory.read<MessageHeader>(Spa(simp + 3 * 256));
    CHECK(header.type == 1);
    CHECK(header.origin == 9);
    CHECK(f.call(0x58, DeletePortIn{f.root->id(), 9, 0}) == HvStatus::Success);
    CHECK(child.connections().find(4) == nullptr);
}

TEST_CASE("child: signal and post without ports (K-165, K-166)", "[hv][child]") {
    RootFixture f;
    const u64 id = f.make_child();
    const SignalEventDirectIn signal{id, 0, 0, 2, 70};
    CHECK(f.call(0xc0, signal) == HvStatus::InvalidSynicState);
    f.set(id, 0, reg::kSiefp, 0x4001);
    f.set(id, 0, reg::kSimp, 0x5001);
    f.set(id, 0, reg::kSint0 + 2, 0x30);
    f.set(id, 0, reg::kScontrol, 1);
    CHECK(f.call(0xc0, signal) == HvStatus::Success);
    CHECK(f.output<u8>() == 1);
    CHECK(f.call(0xc0, signal) == HvStatus::Success);
    CHECK(f.output<u8>() == 0);
    PostMessageDirectIn post{};
    post.partition_id = id;
    post.sint = 2;
    const MessageHeader header{0x80000062, 8, 0, 0, 5};
    std::memcpy(post.message, &header, sizeof header);
    CHECK(f.call(0xc1, post) == HvStatus::Success);
    CHECK(f.call(0xc1, post) == HvStatus::InsufficientBuffers);
    const auto slot = f.address(f.child(id), 0x5000 + 2 * 256);
    REQUIRE(slot);
    CHECK(f.memory.read<u32>(*slot) == 0x80000062);
}

TEST_CASE("child: state images go out and come back (K-172..K-176)", "[hv][child]") {
    RootFixture f;
    const u64 id = f.make_child();
    VpStateIn in{};
    in.partition_id = id;
    const auto get_page = [&](u32 type) {
        in.type = type;
        f.memory.write(Spa(RootFixture::kInput), in);
        f.memory.write<u64>(Spa(RootFixture::kInput + sizeof in), 0x700);
        return static_cast<HvStatus>(f.call(RootFixture::control(0xe3, 0, 0, 1)) & 0xffff);
    };
    const auto set_page = [&] {
        f.memory.write(Spa(RootFixture::kInput), in);
        f.memory.write<u64>(Spa(RootFixture::kInput + sizeof in), 0x700);
        return static_cast<HvStatus>(f.call(RootFixture::control(0xe4, 0, 0, 1)) & 0xffff);
    };
    REQUIRE(get_page(0x80000000) == HvStatus::Success);
    auto apic = f.memory.read<LocalApicState>(Spa(0x700000));
    CHECK(apic.svr == 0xff);
    apic.svr = 0x1ff;
    apic.lvt_lint0 = 0x700;
    apic.lvt_lint1 = 0x400;
    apic.irr[2] = 1;
    f.memory.write(Spa(0x700000), apic);
    REQUIRE(set_page() == HvStatus::Success);
    REQUIRE(get_page(0x80000000) == HvStatus::Success);
    const auto again = f.memory.read<LocalApicState>(Spa(0x700000));
    CHECK(std::memcmp(&again, &apic, sizeof apic) == 0);
    CHECK(f.child_vp(id).processor().apic().requested(64));
    f.set(id, 0, reg::kXmm0 + 3, 0x1111, 0x2222);
    REQUIRE(get_page(0x80000001) == HvStatus::Success);
    f.set(id, 0, reg::kXmm0 + 3, 0, 0);
    REQUIRE(set_page() == HvStatus::Success);
    CHECK(f.get(id, 0, reg::kXmm0 + 3) == 0x1111);
    f.memory.write<u64>(Spa(0x700000 + 520), ~u64{0});
    CHECK(set_page() == HvStatus::InvalidParameter);
    CHECK(get_page(0x80000009) == HvStatus::InvalidParameter);
    // by output: timers
    in.type = 4;
    f.memory.write(Spa(RootFixture::kInput), in);
    CHECK((f.call(RootFixture::control(0xe3)) & 0xffff) == 0);
}

TEST_CASE("properties: what a VMM asks before it starts (K-264, K-265, K-269, R-80)", "[hv][child]") {
    RootFixture f;
    for (const u32 code : {0x6000au, 0x6000bu, 0x60007u, 0x60008u, 0x60000u, 0x60006u, 0x30004u}) {
        CAPTURE(code);
        CHECK(f.call(0x44, GetPropertyIn{kPartitionSelf, code, 0}) == HvStatus::Success);
        CHECK((f.output<u64>() != 0 || code == 0x60000u));
    }
    CHECK(f.call(0x101, GetPropertyExIn{kPartitionSelf, 0x90009, 0, 0}) == HvStatus::Success);
    CHECK(f.output<VmmCapabilities>().bank_count == 1);
    CHECK(f.call(0x101, GetPropertyExIn{kPartitionSelf, 0x90007, 0, 0}) == HvStatus::Success);
    CHECK(f.call(0x44, GetPropertyIn{kPartitionSelf, 0x12345, 0}) == HvStatus::UnknownProperty);
    const u64 id = f.create();
    CHECK(f.call(0x45, SetPropertyIn{id, 0x10001, 0, 0x0000000000000bff}) == HvStatus::Success);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x10001, 0, u64{1} << 16}) == HvStatus::PropertyValueOutOfRange);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x30003, 0, 1}) == HvStatus::InvalidPartitionState);
    f.deposit(id, 0x400, 8);
    f.initialize(id);
    CHECK(f.child(id).config().privileges == 0xa7f);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x30003, 0, 1}) == HvStatus::Success);
    f.clock.advance(1'000'000);
    const u64 frozen = f.child(id).reference_time();
    f.clock.advance(1'000'000);
    CHECK(f.child(id).reference_time() == frozen);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x30005, 0, 777}) == HvStatus::Success);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x30003, 0, 0}) == HvStatus::Success);
    f.clock.advance(1'000'000);
    CHECK(f.child(id).reference_time() >= 777 + 9'999);
    CHECK(f.child(id).reference_time() <= 777 + 10'001);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x30005, 0, 0}) == HvStatus::InvalidPartitionState);
}

TEST_CASE("root scheduler: a dispatch runs the VP until something happens (K-156, R-63, R-64)", "[hv][child]") {
    RootFixture f(true);
    const u64 simp = f.enable_synic();
    Slot slot{f, simp};
    const u64 id = f.make_child();
    f.code({0xe6, 0x80, 0xfb, 0xf4, 0xf4});  // out 80; sti; hlt
    cpu::Vp& child = f.child_vp(id).processor();
    child.apic().mmio_write(0xf0, 0x1ff);
    DispatchVpIn in{id, 0, 0, 0, 0};
    const auto answer = [&] { return f.output<DispatchVpOut>(); };
    // the root's handler: takes the interrupt that came with a message
    const auto handle_interrupt = [&] {
        f.vp->processor().apic().acknowledge();
        f.vp->processor().apic().eoi();
    };
    // first dispatch: explicitly suspended
    CHECK(f.call(0xc2, in) == HvStatus::Success);
    CHECK(answer().state == 1);
    CHECK(answer().event == 1);
    CHECK(f.get(id, 0, reg::kVpRootSignalCount) == 0);
    f.set(id, 0, reg::kExplicitSuspend, 0);
    CHECK(child.held());
    CHECK(f.get(id, 0, reg::kVpRootSignalCount) == 1);
    CHECK(slot.payload<VpSignalPairs>().partition_id[0] == id);
    CHECK(slot.take().type == static_cast<u32>(MessageType::SchedulerVpSignalPair));
    handle_interrupt();
    // now it runs, and the caller waits
    const u64 rip = f.vp->processor().state().rip;
    f.call(0xc2, in);
    CHECK(f.last_action == cpu::virt::Action::Leave);
    CHECK(f.vp->processor().held());
    CHECK_FALSE(child.held());
    CHECK(f.run_processor(child) == cpu::Stop::Leave);
    CHECK_FALSE(f.vp->processor().held());
    CHECK(f.vp->processor().state().rip == rip + 3);
    CHECK((f.vp->processor().state().gpr[cpu::RAX] & 0xffff) == 0);
    CHECK(answer().state == 2);
    CHECK(answer().event == 2);
    CHECK(f.message<IoPortIntercept>().port == 0x80);
    CHECK(slot.take().type == 0);  // no opaque message in this mode
    // it halts: blocked; an interrupt makes it ready and is told
    f.set(id, 0, reg::kRip, 0x102);
    in.flags = dispatch_flag::kClearInterceptSuspend;
    f.call(0xc2, in);
    CHECK(f.run_processor(child) == cpu::Stop::Halt);
    f.events.run_due(f.clock.now());
    CHECK(answer().state == 1);
    CHECK(answer().event == 0);
    AssertInterruptIn interrupt{};
    interrupt.partition_id = id;
    interrupt.vector = 0x40;
    CHECK(f.call(0x94, interrupt) == HvStatus::Success);
    CHECK(f.get(id, 0, reg::kVpRootSignalCount) == 2);
    CHECK(slot.take().type == static_cast<u32>(MessageType::SchedulerVpSignalPair));
    // an interrupt for the caller ends its dispatch
    in.flags = 0;
    handle_interrupt();
    f.call(0xc2, in);
    CHECK(f.vp->processor().held());
    f.vp->processor().apic().accept(0xf4, false);
    CHECK_FALSE(f.vp->processor().held());
    CHECK(answer().state == 2);
    CHECK(answer().event == 0);
    CHECK(child.held());
}
