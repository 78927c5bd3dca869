// Registers, faults and events, driven in the order in which drivers do it.
#include "tests/iommu/bench.h"
#include "tests/support/device_contract.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u16 kRid = 0x0010;

/// Fault event at vector 0x55 of APIC 1, unmasked.
void program_fault_event(VtdBench& bench) {
    bench.set32(reg::kFaultData, 0x55);
    bench.set32(reg::kFaultAddress, 0xfee01000);
    bench.set32(reg::kFaultUpperAddress, 0);
    bench.set32(reg::kFaultControl, 0);
}

bool fault(VtdBench& bench, u16 rid = kRid) { return bench.read8(rid, 0x1000); }

}  // namespace

TEST_CASE("vtd: reset, saving and every access keep the device contract", "[iommu]") {
    TestTime time;
    mmu::PhysicalMemory memory;
    REQUIRE(memory.add_ram("ram", Spa(0), 1 << 20));
    Log log;
    RecordingSink sink;
    u32 count = 0;
    const auto make = [&] {
        VtdConfig config;
        config.name = "vtd" + std::to_string(count++);
        return std::make_unique<Vtd>(memory, time.events, log, sink, config);
    };
    check_device_contract<Vtd>(
        make,
        [&](Vtd& unit) {
            memory.write<u64>(Spa(0x10000), 0x11000 | 1);
            memory.write<u64>(Spa(0x11000 + 16 * 0x10 + 8), 7 << 8 | 2);
            memory.write<u64>(Spa(0x11000 + 16 * 0x10), 0x12000 | 1);
            memory.write<u64>(Spa(0x12000), 0x13000 | 3);
            memory.write<u64>(Spa(0x13000), 0x14000 | 3);
            memory.write<u64>(Spa(0x14000), 0x15000 | 3);
            memory.write<u64>(Spa(0x15000 + 8), 0x20000 | 3);
            memory.write<u64>(Spa(0x30000), 0x00410001);
            unit.mmio_write(reg::kRootTable, 8, 0x10000);
            unit.mmio_write(reg::kInterruptTable, 8, 0x30000);
            unit.mmio_write(reg::kGlobalCommand, 4, 0x41000000);
            unit.mmio_write(reg::kGlobalCommand, 4, 0x82000000);
            u8 byte = 1;
            CHECK(unit.dma(0x10).write(Iova(0x1000), &byte, 1));
            CHECK_FALSE(unit.dma(0x10).write(Iova(0x2000), &byte, 1));
            unit.messages(0x10).send(0xfee00010, 0);
            CHECK(sink.sent.size() == 1);
            unit.mmio_write(reg::kFaultData, 4, 0x41);
        },
        0, Vtd::kSize);
}

TEST_CASE("vtd: capabilities say what the unit does", "[iommu]") {
    VtdBench bench;
    const u64 cap = bench.get64(reg::kCap), ecap = bench.get64(reg::kExtendedCap);
    CHECK(bench.get32(reg::kVersion) == 0x10);
    CHECK(bits(cap, 2, 0) == 6);
    CHECK(bits(cap, 12, 8) == 6);  // 39 and 48 bits
    CHECK(bits(cap, 21, 16) == 47);
    CHECK(bits(cap, 33, 24) * 16 == reg::kFaultRecords);
    CHECK(bits(cap, 37, 34) == 3);  // 2 MiB and 1 GiB
    CHECK(bits(cap, 47, 40) == Vtd::kFaultRecords - 1);
    CHECK(bits(cap, 53, 48) == 18);
    CHECK(bit(cap, 39));
    CHECK(bits(cap, 55, 54) == 3);
    CHECK_FALSE(bit(cap, 3));   // no advanced fault log
    CHECK_FALSE(bit(cap, 59));  // no posted interrupts
    CHECK_FALSE(bit(cap, 7));
    CHECK_FALSE(bit(cap, 4));
    CHECK(bits(ecap, 17, 8) * 16 == reg::kInvalidateAddress);
    CHECK(bits(ecap, 23, 20) == 15);
    CHECK((ecap & 0xff) == 0xdb);  // all but device TLBs and bit 5
    CHECK((ecap >> 24) == 0);      // nothing of scalable mode
    VtdConfig config;
    config.caching_mode = true;
    config.write_buffer_flush = true;
    config.interrupt_remapping = false;
    VtdBench other(config);
    CHECK(bit(other.get64(reg::kCap), 7));
    CHECK(bit(other.get64(reg::kCap), 4));
    CHECK((other.get64(reg::kExtendedCap) & 0x18) == 0);
    // Without remapping its commands do nothing.
    other.set32(reg::kGlobalCommand, 0x03800000);
    CHECK(other.get32(reg::kGlobalStatus) == 0);
}

TEST_CASE("vtd: registers take 4 and 8 bytes; read-only ones stay", "[iommu]") {
    VtdBench bench;
    bench.set32(reg::kRootTable, 0x12345fff);
    bench.set32(reg::kRootTable + 4, 0x1);
    CHECK(bench.get64(reg::kRootTable) == 0x1'12345c00);
    bench.set64(reg::kCap, 0);
    bench.set64(reg::kExtendedCap, 0);
    bench.set32(reg::kGlobalStatus, ~u32{0});
    CHECK(bench.get64(reg::kCap) == bench.unit.capabilities());
    CHECK(bench.get32(reg::kGlobalStatus) == 0);
    bench.unit.mmio_write(reg::kRootTable, 1, 0xff);
    bench.unit.mmio_write(reg::kRootTable + 2, 4, ~u64{0});
    bench.unit.mmio_write(reg::kRootTable + 4, 8, ~u64{0});
    CHECK(bench.get64(reg::kRootTable) == 0x1'12345c00);
    CHECK(bench.unit.mmio_read(reg::kRootTable + 1, 1) == 0x5c);
    CHECK(bench.unit.mmio_read(reg::kRootTable + 3, 2) == 0x0112);
    CHECK(bench.unit.mmio_read(reg::kRootTable + 2, 4) == 0x00011234);
    CHECK(bench.unit.mmio_read(reg::kSize - 8, 8) == 0);
}

TEST_CASE("vtd: a driver like Linux's brings the unit up and maps pages", "[iommu]") {
    VtdBench bench;
    // Probe: no fault is pending, event masked; protected memory off.
    CHECK(bench.get32(reg::kGlobalStatus) == 0);
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    CHECK(bench.get32(reg::kFaultControl) == 0x80000000);
    bench.set32(reg::kProtectedEnable, 0);
    CHECK((bench.get32(reg::kProtectedEnable) & 1) == 0);
    // Queued invalidation first, then interrupt remapping, root table, fault event, translation.
    u32 command = 0;
    bench.set32(reg::kQueueTail, 0);
    bench.set64(reg::kQueueAddress, VtdBench::kQueue);
    bench.set32(reg::kGlobalCommand, command |= reg::global::kQueuedInvalidation);
    CHECK((bench.get32(reg::kGlobalStatus) & reg::global::kQueuedInvalidation) != 0);
    const auto submit = [&](u64 low, u64 high) {  // the descriptor and a wait, as qi_submit_sync does
        const u32 tail = bench.get32(reg::kQueueTail);
        bench.put(VtdBench::kStatus, 1);
        bench.put(VtdBench::kQueue + tail, low);
        bench.put(VtdBench::kQueue + tail + 8, high);
        bench.put(VtdBench::kQueue + tail + 16, u64{2} << 32 | 1 << 5 | 5);
        bench.put(VtdBench::kQueue + tail + 24, VtdBench::kStatus);
        bench.set32(reg::kQueueTail, tail + 32);
        REQUIRE(bench.at(VtdBench::kStatus) == 2);
        REQUIRE(bench.get32(reg::kQueueHead) == tail + 32);
    };
    bench.set64(reg::kInterruptTable, VtdBench::kIrt | 1 << 11 | 7);
    bench.set32(reg::kGlobalCommand, command | reg::global::kInterruptPointer);
    CHECK((bench.get32(reg::kGlobalStatus) & reg::global::kInterruptPointer) != 0);
    submit(4, 0);
    bench.set32(reg::kGlobalCommand, command |= reg::global::kInterruptRemapping);
    CHECK((bench.get32(reg::kGlobalStatus) & reg::global::kInterruptRemapping) != 0);
    CHECK((bench.get32(reg::kGlobalStatus) & reg::global::kCompatibilityFormat) == 0);

    bench.set64(reg::kRootTable, VtdBench::kRoot);
    bench.set32(reg::kGlobalCommand, command | reg::global::kRootPointer);
    CHECK((bench.get32(reg::kGlobalStatus) & reg::global::kRootPointer) != 0);
    submit(1 << 4 | 1, 0);
    submit(1 << 4 | 3 << 6 | 2, 0);
    program_fault_event(bench);
    bench.set32(reg::kGlobalCommand, command |= reg::global::kTranslation);
    CHECK((bench.get32(reg::kGlobalStatus) & reg::global::kTranslation) != 0);

    const u64 table = bench.page();
    bench.set_context(kRid, table, 2);
    bench.map(table, 4, 0xfffff000, 0x400000 | 3 | 1 << 11);
    const u32 word = 0xcafe;
    CHECK(bench.write(kRid, 0xfffff000, &word, 4));
    bench.map(table, 4, 0xfffff000, 0);
    submit(2 << 16 | 3 << 6 | 3 << 4 | 2, 0xfffff000);
    CHECK_FALSE(bench.write(kRid, 0xfffff000, &word, 4));
    CHECK(bench.sink.sent == std::vector<std::pair<u64, u32>>{{0xfee01000, 0x55}});
    // The handler: read the record, clear it, then the status.
    const auto record = bench.take_fault();
    CHECK(record.reason == FaultReason::NoWrite);
    bench.set32(reg::kFaultStatus, 1);
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    // Shut down: the levels go, the pointers stay.
    bench.set32(reg::kGlobalCommand, 0);
    CHECK(bench.get32(reg::kGlobalStatus) == (reg::global::kRootPointer | reg::global::kInterruptPointer));
    CHECK(bench.get32(reg::kQueueHead) == 0);
}

TEST_CASE("vtd: a driver that writes the whole status back with each command, as kvm-unit-tests does", "[iommu]") {
    VtdBench bench;
    const auto command = [&](u32 bit) {
        bench.set32(reg::kGlobalCommand, bench.get32(reg::kGlobalStatus) | bit);
        CHECK((bench.get32(reg::kGlobalStatus) & bit) != 0);
    };
    command(reg::global::kQueuedInvalidation);  // no queue was given, and none is used
    bench.set64(reg::kRootTable, VtdBench::kRoot);
    command(reg::global::kRootPointer);
    bench.set64(reg::kInterruptTable, VtdBench::kIrt | 0xf);
    command(reg::global::kInterruptPointer);
    command(reg::global::kTranslation);
    command(reg::global::kInterruptRemapping);
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    CHECK((bench.get64(reg::kCap) & 0x200) != 0);
    CHECK((bench.get64(reg::kCap) >> 34 & 3) == 3);

    // A page at IOVA 0 in three levels, domain id = requester id, faults off; four bytes out and four in.
    const u64 table = bench.page();
    bench.set_context(kRid, table, kRid, 1, 0, 3);
    bench.map(table, 3, 0, VtdBench::kData | 3);
    bench.memory.write<u32>(Spa(VtdBench::kData), 0x12345678);
    u32 word = 0;
    CHECK(bench.read(kRid, 0, &word, 4));
    CHECK(bench.write(kRid, 4, &word, 4));
    CHECK(bench.memory.read<u32>(Spa(VtdBench::kData + 4)) == 0x12345678);
    // MSI with full source verification; the IOAPIC's entry carries the device's id and its message none.
    bench.put(VtdBench::kIrt + 16, 0xed0003);
    bench.put(VtdBench::kIrt + 24, u64{1} << 18 | kRid);
    bench.put(VtdBench::kIrt + 32, 0xee0003);
    bench.put(VtdBench::kIrt + 40, u64{1} << 18 | kRid);
    bench.unit.unidentified_messages().send(0xfee00010 | 1 << 5, 0xed);
    bench.unit.messages(kRid).send(0xfee00010 | 2 << 5, 0);
    CHECK(bench.sink.sent == std::vector<std::pair<u64, u32>>{{0xfee00000, 0xed}, {0xfee00000, 0xee}});
}

TEST_CASE("vtd: faults fill the records in turn, then overflow", "[iommu]") {
    VtdBench bench;
    bench.start();
    for (u32 i = 0; i < Vtd::kFaultRecords; ++i) CHECK_FALSE(fault(bench, static_cast<u16>(i)));
    CHECK(bench.get32(reg::kFaultStatus) == 2);
    for (u32 i = 0; i < Vtd::kFaultRecords; ++i) {
        const u64 high = bench.get64(reg::kFaultRecords + i * 16 + 8);
        CHECK(high == (u64{1} << 63 | u64{1} << 62 | u64{1} << 32 | i));
        CHECK(bench.get64(reg::kFaultRecords + i * 16) == 0x1000);
    }
    CHECK_FALSE(fault(bench, 99));
    CHECK(bench.get32(reg::kFaultStatus) == 3);
    // Software frees two records, but nothing is recorded until it clears the overflow bit as well.
    bench.set32(reg::kFaultRecords + 12, u32{1} << 31);
    bench.set64(reg::kFaultRecords + 24, u64{1} << 63);
    CHECK_FALSE(fault(bench, 100));
    CHECK_FALSE(bit(bench.get64(reg::kFaultRecords + 8), 63));
    bench.set32(reg::kFaultStatus, 1);
    CHECK_FALSE(fault(bench, 101));
    CHECK(bench.get64(reg::kFaultRecords + 8) == (u64{1} << 63 | u64{1} << 62 | u64{1} << 32 | 101));
    CHECK(bits(bench.get32(reg::kFaultStatus), 15, 8) == 0);
    // Everything else in a record is read-only, and writing 0 clears nothing.
    bench.set64(reg::kFaultRecords, 0);
    bench.set64(reg::kFaultRecords + 8, low_mask(63));
    CHECK(bench.get64(reg::kFaultRecords + 8) == (u64{1} << 63 | u64{1} << 62 | u64{1} << 32 | 101));
    // All clear; the next one goes where the last one ended, and the status says where.
    for (u32 i = 0; i < Vtd::kFaultRecords; ++i) bench.set32(reg::kFaultRecords + i * 16 + 12, u32{1} << 31);
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    CHECK_FALSE(fault(bench, 102));
    CHECK(bench.get32(reg::kFaultStatus) == (1 << 8 | 2));
    CHECK(bench.take_fault().rid == 102);
}

TEST_CASE("vtd: the fault event comes once per pending status, and waits behind its mask", "[iommu]") {
    VtdBench bench;
    bench.start();
    const std::vector<std::pair<u64, u32>> once = {{0xfee01000, 0x55}};
    CHECK_FALSE(fault(bench));  // masked from reset on
    CHECK(bench.get32(reg::kFaultControl) == 0xc0000000);
    CHECK(bench.sink.sent.empty());
    program_fault_event(bench);  // unmasking delivers it
    CHECK(bench.sink.sent == once);
    CHECK(bench.get32(reg::kFaultControl) == 0);
    CHECK_FALSE(fault(bench));  // not a new condition
    CHECK(bench.sink.sent == once);
    (void)bench.take_fault();
    CHECK_FALSE(fault(bench));  // one record is still pending
    CHECK(bench.sink.sent == once);
    for (u32 i = 0; i < Vtd::kFaultRecords; ++i) bench.set32(reg::kFaultRecords + i * 16 + 12, u32{1} << 31);
    CHECK_FALSE(fault(bench));
    CHECK(bench.sink.sent.size() == 2);
    // Masked and served before it was unmasked: no message is left.
    (void)bench.take_fault();
    bench.set32(reg::kFaultControl, u32{1} << 31);
    CHECK_FALSE(fault(bench));
    CHECK((bench.get32(reg::kFaultControl) & u32{1} << 30) != 0);
    for (u32 i = 0; i < Vtd::kFaultRecords; ++i) bench.set32(reg::kFaultRecords + i * 16 + 12, u32{1} << 31);
    CHECK(bench.get32(reg::kFaultControl) == u32{1} << 31);
    bench.set32(reg::kFaultControl, 0);
    CHECK(bench.sink.sent.size() == 2);
}

TEST_CASE("vtd: an event's message has an x2APIC destination in its upper address", "[iommu]") {
    VtdBench bench;
    bench.start();
    bench.set32(reg::kFaultUpperAddress, 0x12345600);
    bench.set32(reg::kFaultAddress, 0xfee78003);
    bench.set32(reg::kFaultData, 0xffff0031);
    bench.set32(reg::kFaultControl, 0);
    CHECK_FALSE(fault(bench));
    CHECK(bench.sink.sent == std::vector<std::pair<u64, u32>>{{0x12345600'fee78000, 0x31}});
}

TEST_CASE("vtd: the inspector shows devices, faults and transfers", "[iommu]") {
    VtdBench bench;
    const u64 table = bench.page();
    bench.set_context(kRid, table, 5);
    bench.map(table, 4, 0x1000, VtdBench::kData | 3);
    bench.start();
    CHECK(bench.write8(kRid, 0x1234));
    CHECK_FALSE(bench.write8(kRid, 0x2000));
    for (u32 i = 0; i < 200; ++i) CHECK_FALSE(fault(bench, 0x0a01));
    StatePrinter printer;
    bench.unit.fields(printer);
    const std::string& text = printer.result();
    INFO(text);
    CHECK(text.find("device 00:02.0 = domain 5 by 4 levels at 0x") != std::string::npos);
    CHECK(text.find("device 0a:00.1 = root entry not present") != std::string::npos);
    CHECK(text.find("0a:00.1 read 0x1000: 0x01 root entry not present (not recorded)") == std::string::npos);
    CHECK(text.find("0a:00.1 read iova 0x1000 size 0x1: fault 0x01 root entry not present") != std::string::npos);
    CHECK(bench.unit.history().transfers.size() == 64);
    CHECK(bench.unit.history().transfers.total() == 202);
    CHECK(bench.unit.history().faults.size() == 16);
}
