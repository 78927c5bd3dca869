// DMA remapping against the specification's cases and against the reference.
#include <map>

#include "iommu/spec/slpte.h"
#include "tests/iommu/bench.h"
#include "tests/iommu/reference_unit.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u16 kRid = 0x0010;  // 00:02.0
constexpr u64 kRw = 3;

ReferenceUnit reference_for(VtdBench& bench) {
    ReferenceUnit unit;
    unit.qword = [&](u64 spa) -> std::optional<u64> {
        if (spa + 8 > VtdBench::kRam) return std::nullopt;
        return bench.at(spa);
    };
    unit.rtaddr = bench.get64(reg::kRootTable);
    const VtdConfig& config = bench.unit.config();
    unit.haw = config.host_address_bits;
    unit.three = config.levels3;
    unit.four = config.levels4;
    unit.two_mib = config.pages_2m;
    unit.one_gib = config.pages_1g;
    unit.pass = config.pass_through;
    unit.snoop = config.snoop_control;
    return unit;
}

}  // namespace

TEST_CASE("vtd: without translation a device reaches RAM at its own address, and nothing else", "[iommu]") {
    VtdBench bench;
    const u32 word = 0x12345678;
    CHECK(bench.write(kRid, VtdBench::kData, &word, 4));
    CHECK(bench.memory.read<u32>(Spa(VtdBench::kData)) == word);
    CHECK_FALSE(bench.read8(kRid, VtdBench::kRam));
    CHECK_FALSE(bench.read8(kRid, 0xfed90000));
    CHECK_FALSE(bench.read8(kRid, ~u64{0}));
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    CHECK(bench.unit.history().transfers[0].verdict == Verdict::Ok);
    CHECK(bench.unit.history().transfers[1].verdict == Verdict::NoMemory);
}

TEST_CASE("vtd: a transfer follows its pages and stops before the one that is refused", "[iommu]") {
    VtdBench bench;
    const u64 table = bench.page();
    bench.set_context(kRid, table, 5);
    bench.map(table, 4, 0x7000, 0x500000 | kRw);
    bench.map(table, 4, 0x8000, 0x403000 | kRw);
    bench.start();
    std::vector<u8> data(6000);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<u8>(i * 7);
    CHECK(bench.write(kRid, 0x7800, data.data(), data.size()));
    CHECK(bench.memory.read<u8>(Spa(0x500800)) == data[0]);
    CHECK(bench.memory.read<u8>(Spa(0x403000)) == data[0x800]);
    std::vector<u8> back(data.size());
    CHECK(bench.read(kRid, 0x7800, back.data(), back.size()));
    CHECK(back == data);

    CHECK_FALSE(bench.write(kRid, 0x8ffe, data.data() + 1, 4));
    CHECK(bench.memory.read<u8>(Spa(0x403ffe)) == data[1]);
    CHECK(bench.memory.read<u8>(Spa(0x403fff)) == data[2]);
    const auto record = bench.take_fault();
    CHECK(record.reason == FaultReason::NoWrite);
    CHECK(record.rid == kRid);
    CHECK_FALSE(record.read);
    CHECK(record.info == 0x9000);
    const Transfer& last = bench.unit.history().transfers.last();
    CHECK(last.verdict == Verdict::Fault);
    CHECK(last.iova == 0x8ffe);
    CHECK(last.size == 4);
    CHECK(bench.read(kRid, 0x123456789, nullptr, 0));  // nothing asked, nothing checked
}

TEST_CASE("vtd: pages of 2 MiB and 1 GiB, in tables of three and four levels", "[iommu]") {
    VtdBench bench;
    for (const u64 aw : {u64{1}, u64{2}}) {
        const unsigned levels = static_cast<unsigned>(aw) + 2;
        const u16 rid = static_cast<u16>(kRid + aw * 8);
        const u64 table = bench.page();
        bench.set_context(rid, table, static_cast<u16>(aw), aw);
        bench.map(table, levels, 0x40000000, 0 | kRw, 2);
        bench.map(table, levels, 0x600000, 0x400000 | kRw, 1);
    }
    bench.start();
    for (const u16 rid : {u16{kRid + 8}, u16{kRid + 16}}) {
        const u64 a = 0x1111, b = 0x2222;
        CHECK(bench.write(rid, 0x40000000 + 0x412340, &a, 8));
        CHECK(bench.write(rid, 0x600000 + 0x12348, &b, 8));
        CHECK(bench.at(0x412340) == a);
        CHECK(bench.at(0x412348) == b);
        CHECK_FALSE(bench.read8(rid, 0x800000));
    }
}

TEST_CASE("vtd: pass-through", "[iommu]") {
    VtdBench bench;
    bench.set_context(kRid, 0, 9, 2, 2);
    bench.start();
    CHECK(bench.write8(kRid, VtdBench::kData, 0x77));
    CHECK(bench.memory.read<u8>(Spa(VtdBench::kData)) == 0x77);
    CHECK_FALSE(bench.write8(kRid + 1, VtdBench::kData, 0x78));
    CHECK(bench.take_fault().reason == FaultReason::ContextNotPresent);
    CHECK_FALSE(bench.read8(kRid, u64{1} << 46));
    CHECK(bench.take_fault().reason == FaultReason::AddressTooHigh);
    CHECK(bench.unit.peek_context(kRid).pass_through);
}

TEST_CASE("vtd: every fault of DMA remapping has its code", "[iommu]") {
    VtdBench bench;
    const u64 table = bench.page();
    bench.set_context(kRid, table, 3);
    bench.map(table, 4, 0x1000, 0x400000 | kRw);
    bench.start();
    const u64 context = bench.context_at(kRid), pte = bench.slot(table, 4, 0x1000),
              pde = bench.slot(table, 4, 0x1000, 1);
    const u64 pml4e = bench.slot(table, 4, 0x1000, 3);
    const u64 good_low = bench.at(context), good_high = bench.at(context + 8);
    const u64 good_pte = bench.at(pte), good_pde = bench.at(pde), good_pml4e = bench.at(pml4e),
              good_root = bench.at(VtdBench::kRoot);
    const auto code = [&](u64 iova = 0x1000, bool write = false) {
        bench.flush_contexts();
        bench.flush_iotlb();
        const bool ok = write ? bench.write8(kRid, iova) : bench.read8(kRid, iova);
        const auto record = bench.take_fault();
        CHECK(ok == (record.reason == FaultReason::None));
        if (!ok) {
            CHECK(record.rid == kRid);
            CHECK(record.read == !write);
            CHECK(record.info == (iova & ~kPageMask));
        }
        return static_cast<unsigned>(record.reason);
    };
    const auto with_root = [&](u64 root) {
        bench.set64(reg::kRootTable, root);
        bench.command(reg::global::kRootPointer);
        const unsigned result = code();
        bench.set64(reg::kRootTable, VtdBench::kRoot);
        bench.command(reg::global::kRootPointer);
        return result;
    };
    CHECK(code() == 0);
    CHECK(with_root(VtdBench::kRam) == 0x8);
    CHECK(with_root(VtdBench::kRoot | 1 << 10) == 0x30);
    CHECK(with_root(VtdBench::kRoot | 3 << 10) == 0x30);

    const auto with = [&](u64 place, u64 value, u64 good, u64 iova = 0x1000, bool write = false) {
        bench.put(place, value);
        const unsigned result = code(iova, write);
        bench.put(place, good);
        return result;
    };
    CHECK(with(VtdBench::kRoot, 0, good_root) == 0x1);
    CHECK(with(VtdBench::kRoot, good_root | 2, good_root) == 0xa);
    CHECK(with(VtdBench::kRoot, good_root | u64{1} << 46, good_root) == 0xa);
    CHECK(with(VtdBench::kRoot + 8, 1, 0) == 0xa);
    CHECK(with(VtdBench::kRoot, VtdBench::kRam | 1, good_root) == 0x9);

    CHECK(with(context, good_low & ~u64{1}, good_low) == 0x2);
    CHECK(with(context, good_low | 0x10, good_low) == 0xb);
    CHECK(with(context, good_low | 0x800, good_low) == 0xb);
    CHECK(with(context, good_low | u64{1} << 46, good_low) == 0xb);
    CHECK(with(context + 8, good_high | 0x80, good_high) == 0xb);
    CHECK(with(context + 8, good_high | u64{1} << 24, good_high) == 0xb);
    CHECK(with(context + 8, good_high | 0x78, good_high) == 0);  // ignored bits
    CHECK(with(context, good_low | 1 << 2, good_low) == 0x3);    // device TLB
    CHECK(with(context, good_low | 3 << 2, good_low) == 0x3);
    for (const u64 aw : {0, 3, 4, 7}) CHECK(with(context + 8, (good_high & ~u64{7}) | aw, good_high) == 0x3);
    CHECK(with(context, VtdBench::kRam | 1, good_low) == 0x3);  // the top-level table cannot be read
    bench.put(context, 1 | 2 << 2);
    CHECK(with(context + 8, (good_high & ~u64{7}) | 1, good_high) == 0x3);  // pass-through, but not the largest width
    bench.put(context, good_low);

    CHECK(code(u64{1} << 48) == 0x4);
    CHECK(code((u64{1} << 48) - 1) == 0x6);
    CHECK(with(context + 8, (good_high & ~u64{7}) | 1, good_high, u64{1} << 39) == 0x4);

    CHECK(with(pte, good_pte & ~u64{2}, good_pte, 0x1000, true) == 0x5);
    CHECK(with(pte, good_pte & ~u64{2}, good_pte) == 0);
    CHECK(with(pte, good_pte & ~u64{1}, good_pte) == 0x6);
    CHECK(with(pte, good_pte & ~u64{1}, good_pte, 0x1000, true) == 0);
    CHECK(with(pde, good_pde & ~u64{2}, good_pde, 0x1000, true) == 0x5);
    CHECK(with(pml4e, good_pml4e & ~u64{1}, good_pml4e) == 0x6);
    CHECK(with(pte, 0, good_pte) == 0x6);
    CHECK(with(pte, ~u64{3}, good_pte) == 0x6);  // no right: the rest does not count
    CHECK(with(pte, 0, good_pte, 0x1000, true) == 0x5);

    CHECK(with(pde, VtdBench::kRam | kRw, good_pde) == 0x7);

    CHECK(with(pte, good_pte | u64{1} << 46, good_pte) == 0xc);
    CHECK(with(pte, good_pte | u64{1} << 51, good_pte) == 0xc);
    CHECK(with(pte, good_pte | u64{1} << 62, good_pte) == 0xc);
    CHECK(with(pte, good_pte | 0xbff0'0000'0000'07fc, good_pte) == 0);  // ignored, EPT's bits among them
    CHECK(with(pte, good_pte | slpte::kSnoop, good_pte) == 0);
    CHECK(with(pde, good_pde | slpte::kSnoop, good_pde) == 0xc);
    CHECK(with(pml4e, good_pml4e | slpte::kLarge, good_pml4e) == 0xc);
    CHECK(with(pde, 0x400000 | kRw | slpte::kLarge, good_pde) == 0);
    CHECK(with(pde, 0x401000 | kRw | slpte::kLarge, good_pde) == 0xc);

    CHECK(with(pte, 0xfee00000 | kRw, good_pte) == 0xe);
    CHECK(with(pte, 0xfeeff000 | kRw, good_pte, 0x1000, true) == 0xe);
    // Outside RAM, but translated: refused by the bus, which is no fault of the tables.
    bench.put(pte, 0xfef00000 | kRw);
    bench.flush_iotlb();
    CHECK_FALSE(bench.read8(kRid, 0x1000));
    CHECK(bench.take_fault().reason == FaultReason::None);
    CHECK(bench.unit.history().transfers.last().verdict == Verdict::NoMemory);
    bench.put(pte, good_pte);
    CHECK(code() == 0);
}

TEST_CASE("vtd: what is not offered is reserved in the tables", "[iommu]") {
    VtdConfig config;
    config.levels4 = false;
    config.pages_1g = false;
    config.pages_2m = false;
    config.pass_through = false;
    config.snoop_control = false;
    config.host_address_bits = 39;
    VtdBench bench(config);
    CHECK(bits(bench.unit.capabilities(), 12, 8) == 2);
    CHECK(bits(bench.unit.capabilities(), 21, 16) == 38);
    CHECK(bits(bench.unit.capabilities(), 37, 34) == 0);
    const u64 table = bench.page();
    bench.set_context(kRid, table, 1, 1);
    bench.map(table, 3, 0x1000, 0x400000 | kRw);
    bench.start();
    CHECK(bench.read8(kRid, 0x1000));
    const auto code = [&] {
        bench.flush_contexts();
        bench.flush_iotlb();
        (void)bench.read8(kRid, 0x1000);
        return static_cast<unsigned>(bench.take_fault().reason);
    };
    for (const unsigned level : {1u, 2u}) {
        const u64 place = bench.slot(table, 3, 0x1000, level), good = bench.at(place);
        bench.put(place, 0 | kRw | slpte::kLarge);
        CHECK(code() == 0xc);
        bench.put(place, good);
    }
    bench.map(table, 3, 0x1000, 0x400000 | kRw | slpte::kSnoop);
    CHECK(code() == 0xc);
    bench.map(table, 3, 0x1000, u64{1} << 39 | kRw);
    CHECK(code() == 0xc);
    bench.set_context(kRid, table, 1, 2);
    CHECK(code() == 0x3);
    bench.set_context(kRid, 0, 1, 1, 2);
    CHECK(code() == 0x3);
}

TEST_CASE("vtd: a context entry can switch the recording of its faults off", "[iommu]") {
    VtdBench bench;
    bench.set_context(kRid, bench.page(), 3, 2, 0, 3);
    bench.start();
    CHECK_FALSE(bench.read8(kRid, 0x1000));
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    CHECK(bench.unit.history().faults.last().reason == FaultReason::NoRead);
    CHECK_FALSE(bench.unit.history().faults.last().recorded);
    // "This field is evaluated by hardware irrespective of the setting of the Present field."
    bench.set_context(kRid + 1, 0, 0, 0, 0, 2);
    CHECK_FALSE(bench.read8(kRid + 1, 0x1000));
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    // Faults before the context entry are always recorded.
    CHECK_FALSE(bench.read8(0x0100, 0x1000));
    CHECK(bench.take_fault().reason == FaultReason::RootNotPresent);
}

TEST_CASE("vtd: protected regions keep out what no table translates", "[iommu]") {
    VtdBench bench;
    bench.set32(reg::kProtectedLowBase, ~u32{0});
    CHECK(bench.get32(reg::kProtectedLowBase) == 0xffe00000);  // how software finds the granularity
    bench.set32(reg::kProtectedLowBase, 0x400000);
    bench.set32(reg::kProtectedLowLimit, 0x400000);
    bench.set64(reg::kProtectedHighBase, ~u64{0});
    CHECK(bench.get64(reg::kProtectedHighBase) == (low_mask(46) & ~low_mask(21)));
    bench.set32(reg::kProtectedEnable, u32{1} << 31);
    CHECK(bench.get32(reg::kProtectedEnable) == 0x80000001);
    CHECK_FALSE(bench.read8(kRid, 0x400000));
    CHECK_FALSE(bench.write8(kRid, 0x5fffff));
    CHECK(bench.read8(kRid, 0x3fffff));
    CHECK(bench.read8(kRid, 0x600000));
    const u64 table = bench.page();
    bench.set_context(kRid, table, 3);
    bench.set_context(kRid + 1, 0, 4, 2, 2);
    bench.map(table, 4, 0x1000, 0x400000 | kRw);
    bench.start();
    CHECK(bench.read8(kRid, 0x1000));
    CHECK_FALSE(bench.read8(kRid + 1, 0x400000));
    CHECK(bench.unit.history().transfers.last().verdict == Verdict::Protected);
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    bench.set32(reg::kProtectedEnable, 0);
    CHECK(bench.get32(reg::kProtectedEnable) == 0);
    CHECK(bench.read8(kRid + 1, 0x400000));
}

TEST_CASE("vtd: lookups agree with a second implementation on random tables", "[iommu]") {
    const unsigned worlds = 300, accesses = 300;
    u64 completed = 0;
    std::map<unsigned, u64> faults;
    for (unsigned world = 0; world < worlds; ++world) {
        Random random(world + 1);
        VtdConfig config;
        config.host_address_bits = random.chance(50) ? 46 : 39;
        config.levels4 = random.chance(80);
        config.pages_1g = random.chance(70);
        config.pages_2m = random.chance(80);
        config.snoop_control = random.chance(50);
        config.pass_through = random.chance(70);
        VtdBench bench(config);
        // 16 pages that are tables of every level at once: a walk through random entries keeps meeting them.
        std::vector<u64> pages;
        for (unsigned i = 0; i < 16; ++i) pages.push_back(bench.page());
        const auto noise = [&](u64 good, unsigned percent) {
            return random.chance(percent) ? good ^ (u64{1} << random.below(64)) : good;
        };
        for (u64 i = 0; i < 512; ++i) {
            for (const u64 page : pages) {
                u64 target = random.chance(90) ? pages[random.below(pages.size())]
                                               : random.below(VtdBench::kRam / kPageSize) * kPageSize;
                if (random.chance(3)) target = 0xfee00000;
                if (random.chance(3)) target = VtdBench::kRam;
                u64 rights = random.chance(88) ? 3 : random.below(4);
                if (random.chance(8)) {
                    rights |= slpte::kLarge;
                    target &= random.chance(50) ? ~low_mask(21) : ~low_mask(30);
                }
                bench.put(page + i * 8, noise(target | rights, 5));
            }
        }
        std::vector<u16> rids;
        for (u16 rid = 0; rid < 1024; ++rid) {
            if (!random.chance(12)) continue;
            rids.push_back(rid);
            bench.put(bench.context_at(rid) + 8,
                      noise(random.below(65536) << 8 | (random.chance(85) ? random.below(2) + 1 : random.below(8)), 8));
            bench.put(bench.context_at(rid),
                      noise(pages[random.below(pages.size())] | (random.chance(75) ? 0 : random.below(4)) << 2 |
                                (random.chance(10) ? 3 : 1),
                            8));
        }
        for (unsigned bus = 0; bus < 4; ++bus)
            bench.put(VtdBench::kRoot + bus * 16, noise(bench.at(VtdBench::kRoot + bus * 16), 10));
        bench.start();
        const ReferenceUnit reference = reference_for(bench);
        std::vector<u64> iovas(24);
        for (u64& iova : iovas) iova = random.next() & low_mask(random.chance(60) ? 39 : random.chance(90) ? 48 : 64);
        for (unsigned i = 0; i < accesses; ++i) {
            const u16 rid =
                random.chance(80) ? rids[random.below(rids.size())] : static_cast<u16>(random.below(1024 + 40));
            const u64 iova = iovas[random.below(iovas.size())];
            if (iova >= 0xfee00000 && iova < 0xfef00000) continue;
            const bool write = random.chance(50);
            const auto expected = reference.dma(rid, iova, write);
            // Writes put back what is there, so that tables stay as they are.
            u8 byte =
                expected.fault == 0 && expected.spa < VtdBench::kRam ? bench.memory.read<u8>(Spa(expected.spa)) : u8{0};
            const bool ok = write ? bench.write(rid, iova, &byte, 1) : bench.read(rid, iova, &byte, 1);
            const Transfer& seen = bench.unit.history().transfers.last();
            INFO("world " << world << " " << describe(seen));
            const auto record = bench.take_fault();
            CHECK(ok == (expected.fault == 0 && expected.spa < VtdBench::kRam));
            REQUIRE(static_cast<unsigned>(seen.reason) == expected.fault);
            CHECK(static_cast<unsigned>(record.reason) == (expected.quiet ? 0 : expected.fault));
            if (expected.fault == 0) CHECK(seen.spa == expected.spa);
            completed += ok ? 1 : 0;
            ++faults[expected.fault];
        }
    }
    // The tables were neither all wrong nor all right: every code that tables alone can cause was met.
    CHECK(completed > 5000);
    for (const unsigned code : {0x1u, 0x2u, 0x3u, 0x4u, 0x5u, 0x6u, 0x7u, 0xau, 0xbu, 0xcu, 0xeu}) {
        INFO(code);
        CHECK(faults[code] > 10);
    }
}
