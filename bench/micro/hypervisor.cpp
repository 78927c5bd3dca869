// The hypervisor's calls as a parent makes them: from the exit of the caller's processor to its answer, parameters read
// from and written to guest memory, on the fixture of tests/hv. Guest instructions around them are not part of it.
#include <benchmark/benchmark.h>

#include "machine/root_devices.h"
#include "tests/hv/root_fixture.h"

namespace {

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;
using hv::test::RootFixture;

/// K-134: one register of a child's VP that is suspended.
void get_one_register(benchmark::State& state) {
    RootFixture f;
    const u64 id = f.make_child();
    f.set(id, 0, hv::reg::kRax, 0x1234);
    f.memory.write(Spa(RootFixture::kInput), VpRegistersHeader{id, 0, 0, {}});
    f.memory.write(Spa(RootFixture::kInput + sizeof(VpRegistersHeader)), u32{hv::reg::kRax});
    const u64 control = RootFixture::control(0x50, 1);
    for (auto step : state) {
        (void)step;
        if ((f.call(control) & 0xffff) != 0) state.SkipWithError("the call failed");
    }
    if (f.output<u64>() != 0x1234) state.SkipWithError("another value");
}
BENCHMARK(get_one_register);

/// K-100, S-01..S-05: a child posts to its parent's port; the message is in the slot and the interrupt requested. The
/// parent takes it out.
void post_to_delivery(benchmark::State& state) {
    RootFixture f;
    const u64 id = f.make_child();
    const u64 slot = f.enable_synic() + 2 * kMessageSlotSize;
    constexpr u8 kVector = 0x52;
    f.wrmsr(msr::SINT0 + 2, kVector);
    CreatePortIn port{};
    port.port_partition = f.root->id();
    port.port_id = 7;
    port.connection_partition = id;
    port.type = static_cast<u32>(PortType::Message);
    port.target.sint = 2;
    ConnectPortIn connect{};
    connect.connection_partition = id;
    connect.connection_id = 1;
    connect.port_partition = f.root->id();
    connect.port_id = 7;
    connect.type = port.type;
    if (f.call(0x95, port) != HvStatus::Success || f.call(0x96, connect) != HvStatus::Success) {
        state.SkipWithError("no connection");
        return;
    }
    hv::Vp& child = f.child_vp(id);
    Fixture::enter_long_mode(child);
    child.partition().set_guest_os_id(Fixture::kOsId);
    constexpr u64 kParameters = 0x2000;
    PostMessageIn message{};
    message.connection_id = 1;
    message.message_type = 1;
    message.payload_size = 64;
    f.memory.write(Spa(RootFixture::kChildRam + kParameters), message);
    u64* gpr = child.processor().state().gpr;
    for (auto step : state) {
        (void)step;
        cpu::virt::Exit exit;
        exit.reason = cpu::virt::ExitReason::Hypercall;
        exit.insn_length = 3;
        gpr[cpu::RCX] = 0x5c;
        gpr[cpu::RDX] = kParameters;
        child.on_exit(child.processor(), exit);
        if (gpr[cpu::RAX] != 0 || f.memory.read<u32>(Spa(slot)) != 1) state.SkipWithError("not delivered");
        f.memory.write<u32>(Spa(slot), 0);
    }
    if (!f.apic_requested(kVector)) state.SkipWithError("no interrupt");
}
BENCHMARK(post_to_delivery);

/// K-120..K-133 as Linux does it: create, deposits, initialize, VP with its pages, go; its first instruction is not
/// there, so that the parent hears of it at once; take apart, every page back.
void child_life(benchmark::State& state) {
    RootFixture f;
    f.enable_synic();
    for (auto step : state) {
        (void)step;
        const u64 id = f.create();
        constexpr u64 kFirst = 0x400;
        constexpr u32 kAtInitialize = 208, kForVp = 90;
        bool ok = f.deposit(id, kFirst, kAtInitialize) == HvStatus::Success && f.initialize(id) == HvStatus::Success &&
                  f.deposit(id, kFirst + kAtInitialize, kForVp) == HvStatus::Success &&
                  f.create_vp(id, 0) == HvStatus::Success &&
                  f.map_state_page(id, 0, StatePage::InterceptMessage) != 0 &&
                  f.map_state_page(id, 0, StatePage::Registers) != 0;
        ok = ok && f.run(id) == cpu::Stop::Leave && f.child_vp(id).control().intercept_suspend();
        ok = ok && f.finalize(id) == HvStatus::Success && f.withdraw_all(id).size() == kAtInitialize + kForVp &&
             f.remove(id) == HvStatus::Success;
        if (!ok) state.SkipWithError("some call failed");
        f.memory.write<u32>(Spa(*f.rdmsr(msr::SIMP) & ~kPageMask), 0);
    }
}
BENCHMARK(child_life)->Unit(benchmark::kMicrosecond);

/// A transfer of 512 bytes by a device of the root, its page known to the unit.
void device_transfer(benchmark::State& state) {
    RootFixture f;
    struct Nowhere final : devices::MessageSink {
        void send(u64, u32) override {}
    } nowhere;
    iommu::Vtd unit(f.memory, f.events, f.log, nowhere);
    constexpr u16 kRid = 0x40;
    const u16 rids[] = {kRid};
    auto guard = machine::RootDevices::create(*f.hypervisor, unit, rids);
    if (!guard) {
        state.SkipWithError("no pages");
        return;
    }
    f.hypervisor->set_device_guard(std::move(*guard));
    u8 block[512] = {};
    mmu::Dma& dma = unit.dma(kRid);
    for (auto step : state) {
        (void)step;
        if (!dma.write(Iova(0x500000), block, sizeof block)) state.SkipWithError("refused");
    }
    f.hypervisor->set_device_guard(nullptr);
}
BENCHMARK(device_transfer);

}  // namespace
