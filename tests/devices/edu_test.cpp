#include <catch2/catch.hpp>

#include <deque>

#include "devices/edu.h"
#include "tests/support/device_contract.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::edu;
using namespace vg::test;

namespace {

struct Board : PciBench {
    Board() {
        bus.attach(*device.pci());
        place(*device.pci(), Edu::kBar, 0);
    }
    /// Moves `count` bytes and waits for the end.
    void transfer(u64 from, u64 to, u64 count, u64 command) {
        write(kDmaSource, from, 8);
        write(kDmaDestination, to, 8);
        write(kDmaCount, count, 8);
        write(kDmaCommand, command | kStart);
        CHECK((read(kDmaCommand) & kStart) != 0);
        write(kDmaCount, 1);  // too late
        time.run_for(Edu::kTransferTime);
        CHECK((read(kDmaCommand) & kStart) == 0);
    }

    TestTime time;
    Edu device{bus.slot(2), time.events};
};

}  // namespace

TEST_CASE("edu: keeps the device contract", "[devices][edu]") {
    PciBench bench;
    std::deque<LoneSlot> slots;
    std::deque<TestTime> times;
    check_device_contract<Edu>(
        [&] { return std::make_unique<Edu>(slots.emplace_back(bench.dma).slot(), times.emplace_back().events); },
        [](Edu& d) {
            d.mmio_write(kLiveness, 4, 1);
            d.mmio_write(kInterruptRaise, 4, 2);
        },
        0, 0x200);
}

TEST_CASE("edu: it is alive, and computes factorials", "[devices][edu]") {
    Board b;
    CHECK(b.read(kId) == kIdentity);
    b.write(kLiveness, 0x12345678);
    CHECK(b.read(kLiveness) == 0xedcba987);
    CHECK(b.read(kId, 2) == 0xffff);
    struct {
        u32 n, factorial;
    } const rows[] = {{0, 1}, {1, 1}, {5, 120}, {12, 479001600}, {13, 1932053504}, {33, 1u << 31}, {34, 0}, {~0u, 0}};
    for (const auto& row : rows) {
        b.write(kFactorial, row.n);
        CHECK((b.read(kStatus) & kComputing) != 0);
        b.time.run_for(Edu::kComputeTime);
        CHECK((b.read(kStatus) & kComputing) == 0);
        CHECK(b.read(kFactorial) == row.factorial);
    }
    CHECK(b.read(kInterruptStatus) == 0);
    b.write(kStatus, kInterruptWhenComputed);
    b.write(kFactorial, 3);
    b.time.run_for(Edu::kComputeTime);
    CHECK(b.read(kInterruptStatus) == kFactorialInterrupt);
}

TEST_CASE("edu: moves bytes both ways, within its buffer", "[devices][edu]") {
    Board b;
    b.put<u32>(0x5000, 0x12345678);
    b.transfer(0x5000, kBuffer + kBufferBytes - 4, 4, 0);
    b.transfer(kBuffer + kBufferBytes - 4, 0x6000, 4, kToMemory | kInterruptWhenDone);
    CHECK(b.get<u32>(0x6000) == 0x12345678);
    CHECK(b.read(kInterruptStatus) == kDmaInterrupt);
    // Beyond the buffer, and beyond all numbers.
    for (const u64 at : {kBuffer + kBufferBytes - 3, kBuffer - 1, ~u64{0}, u64{0}}) {
        b.transfer(at, 0x6000, 4, kToMemory);
        b.transfer(0x5000, at, 4, 0);
    }
    b.transfer(kBuffer, 0x6000, ~u64{0}, kToMemory);
    CHECK(b.get<u32>(0x6000) == 0x12345678);
    // Without bus mastering nothing moves.
    b.config(*b.device.pci(), pci::kCommand, 2, pci::kMemorySpace);
    b.transfer(kBuffer, 0x6000, 4, kToMemory);
    CHECK(b.get<u32>(0x6000) == 0x12345678);
}

TEST_CASE("edu: interrupts by its pin until they are acknowledged, or by a message", "[devices][edu]") {
    Board b;
    RecordingIrq& pin = b.irqs[b.bus.input_of(2, 1)];
    b.write(kInterruptRaise, 0);
    CHECK_FALSE(pin.high);
    b.write(kInterruptRaise, 5);
    CHECK(pin.high);
    b.write(kInterruptAcknowledge, 4);
    CHECK(pin.high);
    CHECK(b.read(kInterruptStatus) == 1);
    b.write(kInterruptAcknowledge, 1);
    CHECK_FALSE(pin.high);

    const u32 msi = b.capability(*b.device.pci(), pci::kCapMsi);
    REQUIRE(msi != 0);
    b.config(*b.device.pci(), msi + 4, 4, 0xfee00000);
    b.config(*b.device.pci(), msi + 12, 2, 0x41);
    b.config(*b.device.pci(), msi + 2, 2, 1);
    b.write(kInterruptRaise, 1);
    CHECK_FALSE(pin.high);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0] == std::pair(u64{0xfee00000}, u32{0x41}));
}
