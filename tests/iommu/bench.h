// A remapping unit with RAM, driven through its registers as a driver does, and helpers that write its tables.
#pragma once

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "base/bits.h"
#include "iommu/vtd.h"
#include "tests/support/devices.h"
#include "tests/support/random.h"

namespace vg::test {

using namespace vg::iommu;

struct VtdBench {
    static constexpr u64 kRam = u64{8} << 20;
    static constexpr u64 kRoot = 0x10000;     ///< root table
    static constexpr u64 kQueue = 0x20000;    ///< invalidation queue
    static constexpr u64 kIrt = 0x30000;      ///< interrupt remapping table
    static constexpr u64 kStatus = 0x40000;   ///< where wait descriptors write
    static constexpr u64 kTables = 0x100000;  ///< pages given out for tables
    static constexpr u64 kData = 0x400000;    ///< what devices may reach

    explicit VtdBench(VtdConfig config = {}) : unit(memory, time.events, log, sink, std::move(config)) {
        REQUIRE(memory.add_ram("ram", Spa(0), kRam));
    }

    u32 get32(u32 offset) { return static_cast<u32>(unit.mmio_read(offset, 4)); }
    u64 get64(u32 offset) { return unit.mmio_read(offset, 8); }
    void set32(u32 offset, u32 value) { unit.mmio_write(offset, 4, value); }
    void set64(u32 offset, u64 value) { unit.mmio_write(offset, 8, value); }

    /// "Software must not set one-shot bits again": the levels that are on, and one more.
    void command(u32 bit) { set32(reg::kGlobalCommand, (get32(reg::kGlobalStatus) & 0x96ffffff) | bit); }
    void uncommand(u32 bit) { set32(reg::kGlobalCommand, get32(reg::kGlobalStatus) & 0x96ffffff & ~bit); }

    u64 page() {
        next_table += kPageSize;
        REQUIRE(next_table <= kData);
        const std::vector<u8> zero(kPageSize);
        memory.write(Spa(next_table - kPageSize), zero.data(), zero.size());
        return next_table - kPageSize;
    }
    void put(u64 spa, u64 value) { memory.write<u64>(Spa(spa), value); }
    u64 at(u64 spa) { return memory.read<u64>(Spa(spa)); }

    u64 context_at(u16 rid) {
        const u64 root = kRoot + (rid >> 8) * 16u;
        if (at(root) == 0) put(root, page() | 1);
        return (at(root) & ~kPageMask) + (rid & 0xff) * 16u;
    }
    /// @param aw  1: three levels, 2: four
    void set_context(u16 rid, u64 table, u16 domain, u64 aw = 2, u64 type = 0, u64 flags = 1) {
        const u64 entry = context_at(rid);
        put(entry + 8, u64{domain} << 8 | aw);
        put(entry, table | type << 2 | flags);
    }
    /// The place of the entry for `iova` at `level` (0: 4 KiB), with tables made on the way.
    u64 slot(u64 table, unsigned levels, u64 iova, unsigned level = 0) {
        for (unsigned l = levels - 1;; --l) {
            const u64 place = table + ((iova >> (12 + 9 * l)) & 511) * 8;
            if (l == level) return place;
            if (at(place) == 0) put(place, page() | 3);
            table = at(place) & low_mask(52) & ~kPageMask;
        }
    }
    void map(u64 table, unsigned levels, u64 iova, u64 entry, unsigned level = 0) {
        put(slot(table, levels, iova, level), entry | (level > 0 ? 0x80 : 0));
    }
    /// Root table set and translation on, as in VT-d "Set Root Table Pointer Operation".
    void start() {
        set64(reg::kRootTable, kRoot);
        command(reg::global::kRootPointer);
        flush_contexts();
        flush_iotlb();
        command(reg::global::kTranslation);
    }
    void flush_contexts() { set64(reg::kContextCommand, u64{1} << 63 | u64{1} << 61); }
    void flush_iotlb() { set64(reg::kIotlbInvalidate, u64{1} << 63 | u64{1} << 60); }

    void start_queue() {
        set32(reg::kQueueTail, 0);
        set64(reg::kQueueAddress, kQueue);
        command(reg::global::kQueuedInvalidation);
    }
    void queue(u64 low, u64 high) {
        const u32 tail = get32(reg::kQueueTail);
        put(kQueue + tail, low);
        put(kQueue + tail + 8, high);
        set32(reg::kQueueTail, (tail + 16) % kPageSize);
    }
    bool queue_idle() { return get32(reg::kQueueHead) == get32(reg::kQueueTail); }

    bool read(u16 rid, u64 iova, void* out, u64 size) { return unit.dma(rid).read(Iova(iova), out, size); }
    bool write(u16 rid, u64 iova, const void* data, u64 size) { return unit.dma(rid).write(Iova(iova), data, size); }
    bool read8(u16 rid, u64 iova) {
        u8 byte = 0;
        return read(rid, iova, &byte, 1);
    }
    bool write8(u16 rid, u64 iova, u8 byte = 0x5a) { return write(rid, iova, &byte, 1); }

    /// The next fault record, taken and cleared; reason None if there is none.
    struct Record {
        FaultReason reason = FaultReason::None;
        u16 rid = 0;
        bool read = false;
        u64 info = 0;
    };
    Record take_fault() {
        const u32 status = get32(reg::kFaultStatus);
        if ((status & reg::fsts::kPending) == 0) return {};
        u32 index = static_cast<u32>(bits(status, 15, 8));  // of the first one; those that follow may be left
        while (!bit(get64(reg::kFaultRecords + index * 16 + 8), 63)) index = (index + 1) % Vtd::kFaultRecords;
        const u32 place = reg::kFaultRecords + index * 16;
        const u64 high = get64(place + 8);
        Record record{static_cast<FaultReason>(bits(high, 39, 32)), static_cast<u16>(high), bit(high, 62),
                      get64(place)};
        set32(place + 12, u32{1} << 31);
        return record;
    }

    TestTime time;
    mmu::PhysicalMemory memory;
    Log log;
    RecordingSink sink;
    Vtd unit;
    u64 next_table = kTables;
};

}  // namespace vg::test
