// What may be stale, what must not be, and what really is: invalidation against a model.
#include <algorithm>
#include <set>

#include "tests/iommu/bench.h"
#include "tests/support/state_tape.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u64 kRw = 3;

/// Domain 5 for 00:02.0 and 00:02.1, domain 6 for 00:03.0; IOVA n MiB + 4096 is page n of kData.
struct TwoDomains : VtdBench {
    explicit TwoDomains(VtdConfig config = {}) : VtdBench(std::move(config)) {
        for (const u16 rid : {u16{0x10}, u16{0x11}}) set_context(rid, five, 5);
        set_context(0x18, six, 6);
        for (u64 n = 0; n < 8; ++n) {
            map(five, 4, iova(n), kData + n * kPageSize | kRw);
            map(six, 4, iova(n), kData + n * kPageSize | kRw);
        }
        start();
        for (const u16 rid : {u16{0x10}, u16{0x11}, u16{0x18}}) {
            for (u64 n = 0; n < 8; ++n) REQUIRE(write8(rid, iova(n)));
        }
    }
    static u64 iova(u64 n) { return 0x7000 + n * kPageSize; }
    /// Takes the page away in both tables without telling the unit.
    void forget(u64 n) {
        put(slot(five, 4, iova(n)), 0);
        put(slot(six, 4, iova(n)), 0);
    }
    u64 five = page(), six = page();
};

u64 psi(u64 domain) { return u64{1} << 63 | u64{3} << 60 | domain << 32; }

}  // namespace

TEST_CASE("vtd: a translation stays until it is invalidated, by page, by domain or as a whole", "[iommu]") {
    TwoDomains bench;
    for (u64 n = 0; n < 8; ++n) bench.forget(n);
    for (u64 n = 0; n < 8; ++n) CHECK(bench.read8(0x10, bench.iova(n)));

    bench.set64(reg::kInvalidateAddress, bench.iova(1));
    bench.set64(reg::kIotlbInvalidate, psi(5));
    CHECK(bits(bench.get64(reg::kIotlbInvalidate), 58, 57) == 3);
    CHECK_FALSE(bit(bench.get64(reg::kIotlbInvalidate), 63));
    CHECK(bench.read8(0x10, bench.iova(0)));
    CHECK_FALSE(bench.read8(0x10, bench.iova(1)));
    CHECK_FALSE(bench.read8(0x11, bench.iova(1)));
    CHECK(bench.read8(0x18, bench.iova(1)));  // another domain
    CHECK(bench.read8(0x10, bench.iova(2)));

    // Mask 2: the four pages of 0x8000..0xbfff, whatever the address's low bits are.
    bench.set64(reg::kInvalidateAddress, 0xa000 | 2);
    bench.set64(reg::kIotlbInvalidate, psi(5));
    for (u64 n = 0; n < 8; ++n) CHECK(bench.read8(0x10, bench.iova(n)) == (n < 1 || n > 4));

    bench.set64(reg::kIotlbInvalidate, u64{1} << 63 | u64{2} << 60 | u64{5} << 32);
    CHECK(bits(bench.get64(reg::kIotlbInvalidate), 58, 57) == 2);
    for (u64 n = 0; n < 8; ++n) {
        CHECK_FALSE(bench.read8(0x11, bench.iova(n)));
        CHECK(bench.read8(0x18, bench.iova(n)));
    }
    bench.flush_iotlb();
    CHECK(bits(bench.get64(reg::kIotlbInvalidate), 58, 57) == 1);
    for (u64 n = 0; n < 8; ++n) CHECK_FALSE(bench.read8(0x18, bench.iova(n)));
}

TEST_CASE("vtd: a permission is cached with its translation", "[iommu]") {
    TwoDomains bench;
    bench.map(bench.five, 4, bench.iova(0), VtdBench::kData | 1);
    CHECK(bench.write8(0x10, bench.iova(0)));
    bench.flush_iotlb();
    CHECK_FALSE(bench.write8(0x10, bench.iova(0)));
    CHECK(bench.read8(0x10, bench.iova(0)));
    bench.map(bench.five, 4, bench.iova(0), VtdBench::kData | 3);
    CHECK_FALSE(bench.write8(0x10, bench.iova(0)));
    bench.flush_iotlb();
    CHECK(bench.write8(0x10, bench.iova(0)));
}

TEST_CASE("vtd: a large page goes as a whole, wherever the invalidation touches it", "[iommu]") {
    VtdBench bench;
    const u64 table = bench.page();
    bench.set_context(0x10, table, 5);
    bench.map(table, 4, 0x40000000, 0x400000 | kRw, 1);
    bench.start();
    CHECK(bench.read8(0x10, 0x40000000));
    CHECK(bench.read8(0x10, 0x401ff000));
    bench.put(bench.slot(table, 4, 0x40000000, 1), 0);
    bench.set64(reg::kInvalidateAddress, 0x40200000);
    bench.set64(reg::kIotlbInvalidate, psi(5));
    CHECK(bench.read8(0x10, 0x401ff000));
    bench.set64(reg::kInvalidateAddress, 0x40123000);
    bench.set64(reg::kIotlbInvalidate, psi(5));
    CHECK_FALSE(bench.read8(0x10, 0x40000000));
    CHECK_FALSE(bench.read8(0x10, 0x401ff000));
}

TEST_CASE("vtd: a context entry stays until it is invalidated, by device, by domain or as a whole", "[iommu]") {
    TwoDomains bench;
    const auto drop = [&] {
        for (const u16 rid : {u16{0x10}, u16{0x11}, u16{0x18}}) bench.put(bench.context_at(rid), 0);
    };
    const auto restore = [&] {
        for (const u16 rid : {u16{0x10}, u16{0x11}}) bench.set_context(rid, bench.five, 5);
        bench.set_context(0x18, bench.six, 6);
        for (const u16 rid : {u16{0x10}, u16{0x11}, u16{0x18}}) CHECK(bench.read8(rid, bench.iova(0)));
        drop();
    };
    const auto who = [&] {
        return std::vector<bool>{bench.read8(0x10, bench.iova(0)), bench.read8(0x11, bench.iova(0)),
                                 bench.read8(0x18, bench.iova(0))};
    };
    const auto command = [&](u64 granularity, u64 rest) {
        bench.set64(reg::kContextCommand, u64{1} << 63 | granularity << 61 | rest);
        CHECK(bits(bench.get64(reg::kContextCommand), 60, 59) == granularity);
        CHECK_FALSE(bit(bench.get64(reg::kContextCommand), 63));
    };
    drop();
    CHECK(who() == std::vector<bool>{true, true, true});
    command(3, 0x10 << 16 | 5);
    CHECK(who() == std::vector<bool>{false, true, true});
    restore();
    command(3, 0x10 << 16 | 6);  // tagged with another domain
    CHECK(who() == std::vector<bool>{true, true, true});
    command(3, u64{3} << 32 | 0x17 << 16 | 5);  // all functions of the device
    CHECK(who() == std::vector<bool>{false, false, true});
    restore();
    command(3, u64{1} << 32 | 0x14 << 16 | 5);  // function bit 2 ignored
    CHECK(who() == std::vector<bool>{false, true, true});
    restore();
    command(2, 6);
    CHECK(who() == std::vector<bool>{true, true, false});
    command(1, 0);
    CHECK(who() == std::vector<bool>{false, false, false});
    bench.set64(reg::kContextCommand, u64{1} << 63);  // granularity 0 does nothing, and says so
    CHECK(bits(bench.get64(reg::kContextCommand), 60, 59) == 0);
}

TEST_CASE("vtd: register invalidations that cannot be are ignored, and say so", "[iommu]") {
    TwoDomains bench;
    bench.forget(0);
    bench.set64(reg::kInvalidateAddress, 19);
    bench.set64(reg::kIotlbInvalidate, psi(5));  // a mask beyond MAMV
    CHECK(bits(bench.get64(reg::kIotlbInvalidate), 58, 57) == 0);
    CHECK(bench.read8(0x10, bench.iova(0)));
    bench.start_queue();
    bench.flush_iotlb();  // the queue is on
    CHECK(bits(bench.get64(reg::kIotlbInvalidate), 58, 57) == 0);
    bench.flush_contexts();
    CHECK(bits(bench.get64(reg::kContextCommand), 60, 59) == 0);
    CHECK(bench.read8(0x10, bench.iova(0)));
    bench.uncommand(reg::global::kQueuedInvalidation);
    bench.set64(reg::kInvalidateAddress, 18);
    bench.set64(reg::kIotlbInvalidate, psi(5));
    CHECK(bits(bench.get64(reg::kIotlbInvalidate), 58, 57) == 3);
    CHECK_FALSE(bench.read8(0x10, bench.iova(0)));
}

TEST_CASE("vtd: what is absent is looked up again, unless caching mode is on", "[iommu]") {
    VtdConfig config;
    config.caching_mode = GENERATE(false, true);
    INFO(config.caching_mode);
    const bool seen = !config.caching_mode;
    VtdBench bench(config);
    const u64 table = bench.page();
    bench.start();
    CHECK_FALSE(bench.read8(0x10, 0x1000));
    bench.set_context(0x10, table, 5);
    bench.map(table, 4, 0x1000, VtdBench::kData | kRw);
    CHECK(bench.read8(0x10, 0x1000) == seen);
    // "Not-present or erroneous entries are tagged with domain-id 0."
    bench.set64(reg::kContextCommand, u64{1} << 63 | u64{3} << 61 | 0x10 << 16 | 5);
    CHECK(bench.read8(0x10, 0x1000) == seen);
    bench.set64(reg::kContextCommand, u64{1} << 63 | u64{3} << 61 | 0x10 << 16);
    CHECK(bench.read8(0x10, 0x1000));

    CHECK_FALSE(bench.read8(0x10, 0x2000));
    bench.map(table, 4, 0x2000, VtdBench::kData | kRw);
    CHECK(bench.read8(0x10, 0x2000) == seen);
    bench.set64(reg::kInvalidateAddress, 0x2000);
    bench.set64(reg::kIotlbInvalidate, psi(5));
    CHECK(bench.read8(0x10, 0x2000));
    // A missing permission on a page that is there is no absence.
    bench.map(table, 4, 0x3000, VtdBench::kData | 1);
    CHECK_FALSE(bench.write8(0x10, 0x3000));
    CHECK(bench.read8(0x10, 0x3000));
}

TEST_CASE("vtd: caches are saved and restored with what is stale in them", "[iommu]") {
    TwoDomains bench;
    for (u64 n = 0; n < 8; ++n) bench.forget(n);
    StateTape tape;
    tape.save(bench.unit);
    VtdConfig config;
    config.name = "other";
    Vtd other(bench.memory, bench.time.events, bench.log, bench.sink, config);
    tape.restore(other);
    u8 byte = 0;
    for (u64 n = 0; n < 8; ++n) CHECK(other.dma(0x10).read(Iova(bench.iova(n)), &byte, 1));
    bench.flush_iotlb();
    CHECK_FALSE(bench.read8(0x10, bench.iova(0)));
    CHECK(other.dma(0x10).read(Iova(bench.iova(0)), &byte, 1));
}

namespace {

/// A small universe of devices, domains and pages, changed at random; what each access may see is kept beside it.
class StalenessModel {
  public:
    explicit StalenessModel(u64 seed) : random_(seed) {
        for (u64 d = 0; d < kDomains; ++d) {
            tables_.push_back(bench_.page());
            for (u64 p = 0; p < kPages; ++p) (void)bench_.slot(tables_[d], 4, iova(p));  // so that only leaves change
        }
        for (u64 r = 0; r < kRids; ++r) contexts_.push_back({0});
        pages_.assign(kDomains, std::vector<std::set<u64>>(kPages, {0}));
        now_context_.assign(kRids, 0);
        now_page_.assign(kDomains, std::vector<u64>(kPages, 0));
        bench_.start();
    }
    void step() {
        switch (random_.below(10)) {
            case 0:
                change_context();
                break;
            case 1:
            case 2:
                change_page();
                break;
            case 3:
                invalidate_context();
                break;
            case 4:
                invalidate_iotlb();
                break;
            default:
                access();
                break;
        }
    }
    u64 stale = 0, done = 0, refused = 0;

  private:
    static constexpr u64 kRids = 4, kDomains = 3, kPages = 8;
    static u64 iova(u64 p) { return (p < 4 ? 0x1000 : 0x40001000) + p * kPageSize; }
    static u16 rid(u64 r) { return static_cast<u16>(r < 2 ? 0x10 + r : 0x200 + r * 8); }
    static u16 domain(u64 d) { return static_cast<u16>(d + 1); }

    void change_context() {  // to domain d-1, or absent (0)
        const u64 r = random_.below(kRids), d = random_.below(kDomains + 1);
        if (d == 0) {
            bench_.put(bench_.context_at(rid(r)), 0);
        } else {
            bench_.set_context(rid(r), tables_[d - 1], domain(d - 1));
        }
        contexts_[r].insert(now_context_[r] = d);
    }
    void change_page() {
        const u64 d = random_.below(kDomains), p = random_.below(kPages);
        const u64 entry =
            random_.chance(25) ? 0 : VtdBench::kData + random_.below(64) * kPageSize | (random_.below(3) + 1);
        bench_.map(tables_[d], 4, iova(p), entry);
        pages_[d][p].insert(now_page_[d][p] = entry);
    }
    void invalidate_context() {
        const u64 r = random_.below(kRids), d = random_.below(kDomains), kind = random_.below(3) + 1;
        bench_.set64(reg::kContextCommand, u64{1} << 63 | kind << 61 | u64{rid(r)} << 16 | domain(d));
        for (u64 each = 0; each < kRids; ++each) {
            // What was cached under the domain goes; an absent entry is not cached.
            std::set<u64> left;
            for (const u64 value : contexts_[each]) {
                const bool hit = kind == 1 || (value == d + 1 && (kind == 2 || each == r));
                if (!hit || value == now_context_[each]) left.insert(value);
            }
            contexts_[each] = left;
        }
    }
    void invalidate_iotlb() {
        const u64 d = random_.below(kDomains), p = random_.below(kPages), kind = random_.below(3) + 1;
        const u64 mask = random_.below(4);
        bench_.set64(reg::kInvalidateAddress, iova(p) | mask);
        bench_.set64(reg::kIotlbInvalidate, u64{1} << 63 | kind << 60 | u64{domain(d)} << 32);
        for (u64 e = 0; e < kDomains; ++e) {
            for (u64 q = 0; q < kPages; ++q) {
                const bool near = iova(q) >> (12 + mask) == iova(p) >> (12 + mask);
                if (kind == 1 || (e == d && (kind == 2 || near))) pages_[e][q] = {now_page_[e][q]};
            }
        }
    }
    void access() {
        const u64 r = random_.below(kRids), p = random_.below(kPages);
        const bool write = random_.chance(50);
        const bool ok = write ? bench_.write8(rid(r), iova(p)) : bench_.read8(rid(r), iova(p));
        const u64 got = bench_.unit.history().transfers.last().spa;
        const u64 need = write ? 2 : 1;
        bool allowed = false, fresh = false;
        for (const u64 d : contexts_[r]) {
            if (d == 0) {
                allowed = allowed || !ok;
                continue;
            }
            for (const u64 entry : pages_[d - 1][p]) {
                const bool may = (entry & need) != 0;
                if (may != ok || (ok && (entry & ~kPageMask) != (got & ~kPageMask))) continue;
                allowed = true;
                fresh = fresh || (d == now_context_[r] && entry == now_page_[d - 1][p]);
            }
        }
        const u64 d = now_context_[r];
        if (d == 0) fresh = !ok;
        INFO("rid " << r << " page " << p << " write " << write << " ok " << ok << " spa " << std::hex << got);
        REQUIRE(allowed);
        stale += fresh ? 0 : 1;
        (ok ? done : refused) += 1;
        for (u32 i = 0; i < Vtd::kFaultRecords; ++i) bench_.set32(reg::kFaultRecords + i * 16 + 12, u32{1} << 31);
    }

    VtdBench bench_;
    Random random_;
    std::vector<u64> tables_;
    std::vector<std::set<u64>> contexts_;            // by device: what may be used; 0 absent, else domain index + 1
    std::vector<std::vector<std::set<u64>>> pages_;  // by domain and page: entries that may be used
    std::vector<u64> now_context_;
    std::vector<std::vector<u64>> now_page_;
};

}  // namespace

TEST_CASE("vtd: no access sees anything that an invalidation has ended", "[iommu]") {
    u64 stale = 0, done = 0, refused = 0;
    for (u64 seed = 1; seed <= 60; ++seed) {
        StalenessModel model(seed);
        for (u32 i = 0; i < 2000; ++i) model.step();
        stale += model.stale;
        done += model.done;
        refused += model.refused;
    }
    CHECK(stale > 1000);  // the caches are real
    CHECK(done > 10000);
    CHECK(refused > 10000);
}
