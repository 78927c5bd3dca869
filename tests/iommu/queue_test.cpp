// Queued invalidation: descriptors, waits, errors and what follows them.
#include "tests/iommu/bench.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u16 kRid = 0x10;
constexpr u64 kIova = 0x9000;

/// Domain 5, one page, cached and then taken away.
struct Queued : VtdBench {
    explicit Queued(VtdConfig config = {}) : VtdBench(std::move(config)) {
        set_context(kRid, table, 5);
        map(table, 4, kIova, kData | 3);
        start();
        start_queue();
        REQUIRE(read8(kRid, kIova));
        put(slot(table, 4, kIova), 0);
        REQUIRE(read8(kRid, kIova));
    }
    /// Error code if the queue stopped; then it is emptied and switched on again.
    unsigned error_of(u64 low, u64 high) {
        queue(low, high);
        if (queue_idle()) return 0;
        CHECK((get32(reg::kFaultStatus) & 0x10) != 0);
        const unsigned code = get32(reg::kQueueError) & 0xf;
        uncommand(reg::global::kQueuedInvalidation);
        set32(reg::kFaultStatus, 0x10);
        start_queue();
        return code;
    }
    u64 table = page();
};

}  // namespace

TEST_CASE("vtd: queued invalidations of every granularity", "[iommu]") {
    const bool page = GENERATE(false, true);
    Queued bench;
    bench.queue(u64{6} << 16 | 2 << 4 | 2, 0);                  // another domain
    bench.queue(u64{5} << 16 | 3 << 4 | 2, kIova + kPageSize);  // another page
    bench.queue(u64{1} << 4 | 1, 0);                            // contexts are another cache
    CHECK(bench.queue_idle());
    CHECK(bench.read8(kRid, kIova));
    bench.queue(page ? u64{5} << 16 | 3 << 6 | 3 << 4 | 2 : u64{5} << 16 | 2 << 4 | 2, page ? kIova | 1 << 6 : 0);
    CHECK_FALSE(bench.read8(kRid, kIova));

    bench.put(bench.context_at(kRid), 0);
    bench.queue(u64{0x18} << 32 | u64{5} << 16 | 3 << 4 | 1, 0);
    CHECK_FALSE(bench.read8(kRid, kIova));
    for (auto record = bench.take_fault(); record.reason != FaultReason::None; record = bench.take_fault()) {
        CHECK(record.reason == FaultReason::NoRead);
    }
    bench.queue(u64{3} << 48 | u64{0x12} << 32 | u64{5} << 16 | 3 << 4 | 1, 0);
    CHECK_FALSE(bench.read8(kRid, kIova));
    CHECK(bench.take_fault().reason == FaultReason::ContextNotPresent);
    CHECK(bench.queue_idle());
}

TEST_CASE("vtd: a wait descriptor writes its status and then interrupts", "[iommu]") {
    Queued bench;
    bench.put(VtdBench::kStatus, 0xaaaa'aaaa'aaaa'aaaa);
    bench.queue(u64{0x1234} << 32 | 1 << 5 | 5, VtdBench::kStatus + 4);
    CHECK(bench.at(VtdBench::kStatus) == 0x0000'1234'aaaa'aaaa);
    CHECK(bench.get32(reg::kCompletionStatus) == 0);
    CHECK(bench.sink.sent.empty());

    bench.queue(1 << 6 | 1 << 4 | 5, 0);  // masked
    CHECK(bench.get32(reg::kCompletionStatus) == 1);
    CHECK(bench.get32(reg::kCompletionControl) == 0xc0000000);
    bench.set32(reg::kCompletionData, 0x61);
    bench.set32(reg::kCompletionAddress, 0xfee02000);
    bench.set32(reg::kCompletionControl, 0);
    CHECK(bench.sink.sent == std::vector<std::pair<u64, u32>>{{0xfee02000, 0x61}});
    bench.queue(1 << 4 | 5, 0);  // not served yet: no new condition
    CHECK(bench.sink.sent.size() == 1);
    bench.set32(reg::kCompletionStatus, 0);
    CHECK(bench.get32(reg::kCompletionStatus) == 1);
    bench.set32(reg::kCompletionStatus, 1);
    CHECK(bench.get32(reg::kCompletionStatus) == 0);
    bench.queue(u64{7} << 32 | 3 << 4 | 5, VtdBench::kStatus);
    CHECK(bench.sink.sent.size() == 2);
    CHECK(bench.memory.read<u32>(Spa(VtdBench::kStatus)) == 7);
    // A status that goes nowhere is lost; it reaches no device and stops nothing.
    bench.queue(u64{7} << 32 | 1 << 5 | 5, 0xfee00000);
    bench.queue(u64{7} << 32 | 1 << 5 | 5, ~u64{3});
    CHECK(bench.queue_idle());
    CHECK(bench.sink.sent.size() == 2);
}

TEST_CASE("vtd: a wrong descriptor stops the queue where it is, with an event, until software clears the error",
          "[iommu]") {
    Queued bench;
    bench.set32(reg::kFaultData, 0x55);
    bench.set32(reg::kFaultAddress, 0xfee01000);
    bench.set32(reg::kFaultControl, 0);
    bench.queue(5, 0);
    bench.queue(3, 0);  // device TLB
    bench.queue(u64{9} << 32 | 1 << 5 | 5, VtdBench::kStatus);
    CHECK(bench.get32(reg::kQueueHead) == 16);
    CHECK(bench.get32(reg::kFaultStatus) == 0x10);
    CHECK(bench.get64(reg::kQueueError) == 3);
    CHECK(bench.at(VtdBench::kStatus) == 0);
    CHECK(bench.sink.sent == std::vector<std::pair<u64, u32>>{{0xfee01000, 0x55}});
    bench.set32(reg::kQueueTail, bench.get32(reg::kQueueTail));
    CHECK(bench.get32(reg::kQueueHead) == 16);
    CHECK(bench.sink.sent.size() == 1);
    // As Linux does: a wait in the place of the wrong descriptor, then the error away.
    bench.put(VtdBench::kQueue + 16, u64{8} << 32 | 1 << 5 | 5);
    bench.put(VtdBench::kQueue + 24, VtdBench::kStatus + 4);
    bench.set32(reg::kFaultStatus, 0x10);
    CHECK(bench.queue_idle());
    CHECK(bench.at(VtdBench::kStatus) == 0x8'0000'0009);
    CHECK(bench.get32(reg::kFaultStatus) == 0);
    CHECK(bench.get64(reg::kQueueError) == 0);
}

TEST_CASE("vtd: every reserved bit and value of a descriptor is an error", "[iommu]") {
    Queued bench;
    struct Kind {
        u64 low, high;            ///< a good one
        u64 free_low, free_high;  ///< bits that may have any value
    };
    const u64 did = u64{0xffff} << 16;
    const Kind kinds[] = {
        {u64{1} << 4 | 1, 0, did | u64{0x3ffff} << 32 | 1 << 5, 0},
        {u64{2} << 4 | 2, 0, did | 0xd0, ~u64{0xfbf}},            // granularity 2 or 3; mask below
        {4, 0, u64{0xffff} << 32 | u64{0x1f} << 27 | 1 << 4, 0},  // the mask counts in selective ones only
        {5, 0, u64{0xffffffff} << 32 | 0x70, ~u64{3}},
    };
    for (const Kind& kind : kinds) {
        INFO(kind.low);
        CHECK(bench.error_of(kind.low, kind.high) == 0);
        for (unsigned i = 4; i < 64; ++i) {
            INFO("low bit " << i);
            const bool free = bit(kind.free_low, i) || bit(kind.low, i);
            const unsigned code = i >= 9 && i <= 11 ? 3 : 4;
            CHECK(bench.error_of(kind.low | u64{1} << i, kind.high) == (free ? 0 : code));
        }
        for (unsigned i = 0; i < 64; ++i) {
            INFO("high bit " << i);
            const bool free =
                bit(kind.free_high, i) || ((kind.low & 0xf) == 2 && i < 6);  // ignored unless pages are selected
            CHECK(bench.error_of(kind.low, kind.high | u64{1} << i) == (free ? 0 : 4));
        }
    }
    for (const u64 type : {0, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) {
        INFO(type);
        CHECK(bench.error_of(type, 0) == 3);
    }
    CHECK(bench.error_of(1, 0) == 4);  // granularity 0
    CHECK(bench.error_of(2, 0) == 4);
    CHECK(bench.error_of(3 << 4 | 2, 18) == 0);
    CHECK(bench.error_of(3 << 4 | 2, 19) == 4);  // beyond MAMV
    CHECK(bench.error_of(u64{15} << 27 | 1 << 4 | 4, 0) == 0);
    CHECK(bench.error_of(u64{16} << 27 | 1 << 4 | 4, 0) == 4);  // beyond MHMV
    VtdConfig config;
    config.interrupt_remapping = false;
    Queued plain(config);
    CHECK(plain.error_of(4, 0) == 3);
}

TEST_CASE("vtd: a queue that cannot be read, has a tail beyond its end or another width, stops", "[iommu]") {
    Queued bench;
    const auto error = [&](u64 address, u32 tail) {
        bench.uncommand(reg::global::kQueuedInvalidation);
        bench.set32(reg::kFaultStatus, 0x10);
        bench.set32(reg::kQueueTail, 0);
        bench.set64(reg::kQueueAddress, address);
        bench.command(reg::global::kQueuedInvalidation);
        bench.set32(reg::kQueueTail, tail);
        return bench.get32(reg::kQueueError);
    };
    CHECK(error(VtdBench::kQueue, 0x1000) == 1);
    CHECK(bench.get32(reg::kQueueHead) == 0);
    CHECK(error(VtdBench::kRam, 0x10) == 2);
    CHECK(error(VtdBench::kQueue | 1 << 11, 0x20) == 5);
    bench.put(VtdBench::kQueue, 5);
    CHECK(error(VtdBench::kQueue | 1, 0x10) == 0);
    CHECK(bench.get32(reg::kQueueHead) == 0x10);
    bench.set32(reg::kQueueTail, ~u32{0});
    CHECK(bench.get32(reg::kQueueTail) == 0x7fff0);
}

TEST_CASE("vtd: the queue wraps, and a long one goes on later", "[iommu]") {
    Queued bench;
    for (u32 i = 0; i < 1000; ++i) {
        bench.queue(u64{i} << 32 | 1 << 5 | 5, VtdBench::kStatus);
        REQUIRE(bench.queue_idle());
    }
    CHECK(bench.memory.read<u32>(Spa(VtdBench::kStatus)) == 999);

    bench.uncommand(reg::global::kQueuedInvalidation);
    bench.set64(reg::kQueueAddress, 0x200000 | 7);  // 32768 descriptors
    bench.set32(reg::kQueueTail, 0);
    bench.command(reg::global::kQueuedInvalidation);
    for (u64 i = 0; i < 32768; ++i) {
        bench.put(0x200000 + i * 16, i << 32 | 1 << 5 | 5);
        bench.put(0x200000 + i * 16 + 8, VtdBench::kStatus);
    }
    bench.set32(reg::kQueueTail, 0x7fff0);
    CHECK(bench.get32(reg::kQueueHead) == Vtd::kQueueBurst * 16);
    bench.time.run_for(100);
    CHECK(bench.get32(reg::kQueueHead) == Vtd::kQueueBurst * 16);
    bench.time.run_for(Vtd::kQueuePause);
    CHECK(bench.get32(reg::kQueueHead) == Vtd::kQueueBurst * 32);
    bench.time.run_for(Vtd::kQueuePause * 600);
    CHECK(bench.queue_idle());
    CHECK(bench.memory.read<u32>(Spa(VtdBench::kStatus)) == 32766);
    CHECK(bench.time.events.next() == kNever);
    // Switched off in the middle: nothing goes on.
    bench.set32(reg::kQueueTail, 0x7ffe0);
    CHECK_FALSE(bench.queue_idle());
    bench.uncommand(reg::global::kQueuedInvalidation);
    CHECK(bench.time.events.next() == kNever);
    CHECK(bench.get32(reg::kQueueHead) == 0);
}

TEST_CASE("vtd: a write buffer flush is over at once, and ignored where none is needed", "[iommu]") {
    VtdConfig config;
    config.write_buffer_flush = GENERATE(false, true);
    VtdBench bench(config);
    bench.start();
    const u32 before = bench.get32(reg::kGlobalStatus);
    bench.command(reg::global::kWriteBufferFlush);
    CHECK(bench.get32(reg::kGlobalStatus) == before);
}
