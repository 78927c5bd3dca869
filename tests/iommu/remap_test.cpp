// Interrupt remapping against the specification's cases and against the reference.
#include <map>

#include "tests/iommu/bench.h"
#include "tests/iommu/reference_unit.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u16 kRid = 0x0310;  // 03:02.0

struct Remapping : VtdBench {
    explicit Remapping(bool x2apic = true, u64 size = 7, VtdConfig config = {}) : VtdBench(std::move(config)) {
        set64(reg::kInterruptTable, kIrt | (x2apic ? 1 << 11 : 0) | size);
        command(reg::global::kInterruptPointer);
        start_queue();
        queue(4, 0);
        command(reg::global::kInterruptRemapping);
    }
    void entry(u64 index, u64 low, u64 high = 0) {
        put(kIrt + index * 16, low);
        put(kIrt + index * 16 + 8, high);
        queue(4, 0);
    }
    static u64 address_of(u64 handle) { return 0xfee00010 | (handle & 0x7fff) << 5 | handle >> 15 << 2; }
    /// Sends one request; the fault code, or 0 and the message in `sink.sent.back()`.
    unsigned send(u64 address, u32 data = 0, u16 rid = kRid) {
        const std::size_t before = sink.sent.size();
        unit.messages(rid).send(address, data);
        const auto record = take_fault();
        const unsigned code = static_cast<unsigned>(record.reason);
        CHECK(sink.sent.size() - before == (code == 0 ? 1 : 0));
        if (code != 0) CHECK(record.rid == rid);
        last_index = record.info >> 48;
        return code;
    }
    u64 last_index = 0;
};

}  // namespace

TEST_CASE("vtd: with remapping off, requests pass as they are", "[iommu]") {
    VtdBench bench;
    bench.unit.messages(kRid).send(0xfee0100c, 0x4041);
    bench.unit.messages(kRid).send(0xfee00030, 1);
    CHECK(bench.sink.sent == std::vector<std::pair<u64, u32>>{{0xfee0100c, 0x4041}, {0xfee00030, 1}});
}

TEST_CASE("vtd: an entry becomes a message with a long or a short destination", "[iommu]") {
    Remapping x2(true);
    x2.entry(3, u64{0x12345678} << 32 | 0x99 << 16 | 1 << 5 | 1 << 3 | 1 << 2 | 1);
    CHECK(x2.send(Remapping::address_of(3)) == 0);
    CHECK(x2.sink.sent.back() == std::pair<u64, u32>{0x12345600'fee7800c, 0x199});
    x2.entry(4, u64{0x21} << 32 | 0x44 << 16 | 1 << 4 | 1);
    CHECK(x2.send(Remapping::address_of(4)) == 0);
    CHECK(x2.sink.sent.back() == std::pair<u64, u32>{0xfee21000, 0xc044});

    Remapping x(false);
    x.entry(3, u64{0x21} << 40 | 0x44 << 16 | 1);
    CHECK(x.send(Remapping::address_of(3)) == 0);
    CHECK(x.sink.sent.back() == std::pair<u64, u32>{0xfee21000, 0x44});
    x.entry(3, u64{0x1'21} << 40 | 0x44 << 16 | 1);
    CHECK(x.send(Remapping::address_of(3)) == 0x24);
    x.entry(3, u64{0x21} << 32 | 0x44 << 16 | 1);
    CHECK(x.send(Remapping::address_of(3)) == 0x24);
}

TEST_CASE("vtd: handles and subhandles find their entry", "[iommu]") {
    Remapping bench(true, 15);
    bench.entry(0x8001, 0x10 << 16 | 1);
    bench.entry(7, 0x11 << 16 | 1);
    CHECK(bench.send(Remapping::address_of(0x8001), 0xffff) == 0);  // without SHV the data is ignored
    CHECK(bench.sink.sent.back().second == 0x10);
    CHECK(bench.send(Remapping::address_of(4) | 8, 3) == 0);
    CHECK(bench.sink.sent.back().second == 0x11);
    CHECK(bench.send(Remapping::address_of(0xffff) | 8, 1) == 0x21);  // 65536 is no wrap to 0
}

TEST_CASE("vtd: every fault of interrupt remapping has its code", "[iommu]") {
    Remapping bench(true, 2);  // 8 entries
    bench.entry(5, 0x10 << 16 | 1);
    CHECK(bench.send(Remapping::address_of(5)) == 0);
    CHECK(bench.send(Remapping::address_of(5), 0x10000) == 0x20);
    CHECK(bench.send(Remapping::address_of(7)) == 0x22);
    CHECK(bench.last_index == 7);
    CHECK(bench.send(Remapping::address_of(8)) == 0x21);
    CHECK(bench.last_index == 8);
    for (const unsigned i : {12u, 13u, 14u, 15u, 24u, 31u}) {
        bench.entry(5, 0x10 << 16 | 1 | u64{1} << i);
        CHECK(bench.send(Remapping::address_of(5)) == 0x24);
    }
    for (const unsigned i : {20u, 63u}) {
        bench.entry(5, 0x10 << 16 | 1, u64{1} << i);
        CHECK(bench.send(Remapping::address_of(5)) == 0x24);
    }
    for (u64 mode = 0; mode < 8; ++mode) {
        bench.entry(5, 0x10 << 16 | mode << 5 | 0xf00 | 1);  // software's own bits besides
        CHECK(bench.send(Remapping::address_of(5)) == (mode == 3 || mode == 6 ? 0x24 : 0));
    }
    CHECK(bench.send(0xfee01000, 0x41) == 0x25);
    bench.set64(reg::kInterruptTable, VtdBench::kRam | 2);
    bench.command(reg::global::kInterruptPointer);
    bench.queue(4, 0);
    CHECK(bench.send(Remapping::address_of(5)) == 0x23);
}

TEST_CASE("vtd: compatibility format passes only where it is allowed", "[iommu]") {
    Remapping x(false);
    CHECK(x.send(0xfee01000, 0x41) == 0x25);
    x.command(reg::global::kCompatibilityFormat);
    CHECK(x.send(0xfee01000, 0x41) == 0);
    CHECK(x.sink.sent.back() == std::pair<u64, u32>{0xfee01000, 0x41});
    x.uncommand(reg::global::kCompatibilityFormat);
    CHECK(x.send(0xfee01000, 0x41) == 0x25);
    Remapping x2(true);
    x2.command(reg::global::kCompatibilityFormat);
    CHECK(x2.send(0xfee01000, 0x41) == 0x25);
}

TEST_CASE("vtd: the source of a request is verified as its entry says", "[iommu]") {
    Remapping bench;
    const auto allowed = [&](u64 svt, u64 sq, u16 sid, u16 rid) {
        bench.entry(0, 1, svt << 18 | sq << 16 | sid);
        const unsigned code = bench.send(Remapping::address_of(0), 0, rid);
        CHECK((code == 0 || code == 0x26));
        return code == 0;
    };
    CHECK(allowed(0, 0, 0x1234, kRid));
    CHECK(allowed(1, 0, kRid, kRid));
    CHECK_FALSE(allowed(1, 0, kRid, kRid + 1));
    CHECK_FALSE(allowed(1, 0, kRid, kRid + 0x100));
    CHECK(allowed(1, 1, 0x0314, 0x0310));
    CHECK_FALSE(allowed(1, 1, 0x0312, 0x0310));
    CHECK(allowed(1, 2, 0x0316, 0x0310));
    CHECK_FALSE(allowed(1, 2, 0x0311, 0x0310));
    CHECK(allowed(1, 3, 0x0317, 0x0310));
    CHECK_FALSE(allowed(1, 3, 0x0318, 0x0310));
    CHECK(allowed(2, 0, 0x0204, 0x02ff));
    CHECK(allowed(2, 0, 0x0204, 0x0400));
    CHECK_FALSE(allowed(2, 0, 0x0204, 0x01ff));
    CHECK_FALSE(allowed(2, 0, 0x0204, 0x0500));
    CHECK_FALSE(allowed(3, 0, kRid, kRid));
    // A chip without requester id is exempt, and only from this.
    bench.entry(0, 0x33 << 16 | 1, u64{1} << 18 | 0x1234);
    bench.unit.unidentified_messages().send(Remapping::address_of(0), 0);
    CHECK(bench.sink.sent.back().second == 0x33);
    bench.entry(0, 0);
    bench.unit.unidentified_messages().send(Remapping::address_of(0), 0);
    CHECK(bench.take_fault().reason == FaultReason::InterruptNotPresent);
}

TEST_CASE("vtd: an interrupt entry can switch the recording of its faults off", "[iommu]") {
    Remapping bench;
    const auto silent = [&](u64 low, u64 high) {
        bench.entry(1, low, high);
        const std::size_t before = bench.sink.sent.size();
        bench.unit.messages(kRid).send(Remapping::address_of(1), 0);
        CHECK(bench.sink.sent.size() == before);
        CHECK(bench.get32(reg::kFaultStatus) == 0);
        return bench.unit.history().faults.last().reason;
    };
    CHECK(silent(2, 0) == FaultReason::InterruptNotPresent);
    CHECK(silent(3 | 1 << 12, 0) == FaultReason::InterruptEntryReserved);
    CHECK(silent(3, u64{1} << 18 | 1) == FaultReason::SourceRefused);
}

TEST_CASE("vtd: entries are cached until they are invalidated, one by one, in blocks or as a whole", "[iommu]") {
    Remapping bench;
    for (u64 i = 0; i < 8; ++i) bench.entry(i, (0x40 + i) << 16 | 1);
    for (u64 i = 0; i < 8; ++i) CHECK(bench.send(Remapping::address_of(i)) == 0);
    for (u64 i = 0; i < 8; ++i) bench.put(VtdBench::kIrt + i * 16, 0);
    const auto present = [&] {
        unsigned mask = 0;
        for (u64 i = 0; i < 8; ++i) mask |= bench.send(Remapping::address_of(i)) == 0 ? 1u << i : 0;
        return mask;
    };
    CHECK(present() == 0xff);
    bench.queue(u64{3} << 32 | 1 << 4 | 4, 0);
    CHECK(present() == 0xf7);
    bench.queue(u64{5} << 32 | u64{1} << 27 | 1 << 4 | 4, 0);
    CHECK(present() == 0xc7);
    bench.queue(4, 0);
    CHECK(present() == 0);
    // Absent entries are looked up again.
    bench.put(VtdBench::kIrt, 0x40 << 16 | 1);
    CHECK(bench.send(Remapping::address_of(0)) == 0);
    // A new table counts after it is set, and old entries until they are invalidated.
    bench.set64(reg::kInterruptTable, 0x48000 | 1 << 11 | 7);
    bench.command(reg::global::kInterruptPointer);
    CHECK(present() == 1);
    bench.queue(4, 0);
    CHECK(present() == 0);
}

TEST_CASE("vtd: with caching mode an absent interrupt entry is cached too", "[iommu]") {
    VtdConfig config;
    config.caching_mode = true;
    Remapping bench(true, 7, config);
    CHECK(bench.send(Remapping::address_of(2)) == 0x22);
    bench.put(VtdBench::kIrt + 32, 0x40 << 16 | 1);
    CHECK(bench.send(Remapping::address_of(2)) == 0x22);
    bench.queue(u64{2} << 32 | 1 << 4 | 4, 0);
    CHECK(bench.send(Remapping::address_of(2)) == 0);
}

TEST_CASE("vtd: a device's write to the interrupt range is a request, and its message elsewhere is a write",
          "[iommu]") {
    Remapping bench;
    bench.entry(3, 0x61 << 16 | 1, u64{1} << 18 | kRid);
    bench.start();  // translation besides: the range is not translated
    u32 data = 0;
    CHECK(bench.write(kRid, Remapping::address_of(3), &data, 4));
    CHECK(bench.sink.sent.back() == std::pair<u64, u32>{0xfee00000, 0x61});
    const std::size_t sent = bench.sink.sent.size();
    CHECK(bench.write(kRid + 1, Remapping::address_of(3), &data, 4));  // posted: the device does not learn of it
    CHECK(bench.take_fault().reason == FaultReason::SourceRefused);
    u64 wide = 0;
    CHECK_FALSE(bench.write(kRid, Remapping::address_of(3), &wide, 8));
    CHECK_FALSE(bench.write(kRid, Remapping::address_of(3), &wide, 2));
    CHECK_FALSE(bench.write(kRid, Remapping::address_of(3) + 2, &wide, 4));
    CHECK_FALSE(bench.write(kRid, 0xfedffffe, &wide, 4));
    CHECK_FALSE(bench.read(kRid, Remapping::address_of(3), &data, 4));
    CHECK(bench.sink.sent.size() == sent);
    (void)bench.take_fault();

    const u64 table = bench.page();
    bench.set_context(kRid, table, 4);
    bench.map(table, 4, 0x1'0000'1000, VtdBench::kData | 3);
    bench.unit.messages(kRid).send(0x1'0000'1008, 0xabcd);
    CHECK(bench.memory.read<u32>(Spa(VtdBench::kData + 8)) == 0xabcd);
    bench.unit.messages(kRid).send(0x1'fee0'0008, 0xabcd);
    CHECK(bench.sink.sent.size() == sent);
}

TEST_CASE("vtd: remapping agrees with a second implementation on random tables", "[iommu]") {
    std::map<unsigned, u64> outcomes;
    for (u64 world = 0; world < 200; ++world) {
        Random random(world + 1);
        const bool x2apic = random.chance(50);
        Remapping bench(x2apic, random.below(9));
        if (random.chance(50)) bench.command(reg::global::kCompatibilityFormat);
        for (u64 i = 0; i < 512; ++i) {
            u64 low = random.below(256) << 16 | random.below(8) << 5 | random.below(8) << 2 | random.below(16) << 8 |
                      (random.chance(85) ? 1 : 0);
            low |= x2apic ? random.next() << 32 : random.below(256) << 40;
            u64 high = random.below(4) << 18 | random.below(4) << 16 | random.below(1024);
            if (random.chance(10)) low ^= u64{1} << random.below(64);
            if (random.chance(10)) high ^= u64{1} << random.below(64);
            bench.put(VtdBench::kIrt + i * 16, low);
            bench.put(VtdBench::kIrt + i * 16 + 8, high);
        }
        ReferenceUnit reference;
        reference.qword = [&](u64 spa) -> std::optional<u64> {
            if (spa + 8 > VtdBench::kRam) return std::nullopt;
            return bench.at(spa);
        };
        reference.irta = bench.get64(reg::kInterruptTable);
        reference.compatibility = (bench.get32(reg::kGlobalStatus) & reg::global::kCompatibilityFormat) != 0;
        for (u32 i = 0; i < 400; ++i) {
            const u64 address = 0xfee00000 | (random.chance(90) ? random.below(512) << 5 : random.below(0x100000)) |
                                (random.chance(95) ? 0x10 : 0) | random.below(16);
            const u32 data = static_cast<u32>(random.chance(90) ? random.below(8) : random.next());
            const u16 rid = static_cast<u16>(random.below(1024));
            const std::size_t before = bench.sink.sent.size();
            bench.unit.messages(rid).send(address, data);
            const auto record = bench.take_fault();
            const auto expected = reference.interrupt(rid, address, data);
            INFO(world << " " << std::hex << address << " " << data << " rid " << rid);
            REQUIRE(static_cast<unsigned>(record.reason) == (expected.quiet ? 0 : expected.fault));
            REQUIRE(bench.sink.sent.size() - before == (expected.fault == 0 ? 1 : 0));
            if (expected.fault == 0)
                CHECK(bench.sink.sent.back() == std::pair<u64, u32>{expected.address, expected.data});
            ++outcomes[expected.fault];
        }
    }
    for (const unsigned code : {0u, 0x20u, 0x21u, 0x22u, 0x24u, 0x25u, 0x26u}) {
        INFO(code);
        CHECK(outcomes[code] > 100);
    }
}
