// The NVMe controller driven through its registers and queues as a driver does.
#include <catch2/catch.hpp>

#include <deque>

#include "devices/nvme.h"
#include "tests/support/device_contract.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::nvme;
using namespace vg::test;

namespace {

constexpr u64 kAdminSq = 0x10000, kAdminCq = 0x11000, kIoSq = 0x12000, kIoCq = 0x13000, kLists = 0x20000,
              kData = 0x100000;
constexpr u64 kDiskBytes = 4 << 20;
constexpr u32 kEntries = 16;

struct Board : PciBench {
    Board() : controller(bus.slot(8), time.events, 0) {
        bus.attach(*controller.pci());
        auto medium = std::make_unique<MemoryDisk>(kDiskBytes);
        disk = medium.get();
        for (u64 i = 0; i < kDiskBytes; ++i) disk->data[i] = static_cast<u8>(i >> 9 ^ i);
        controller.attach(std::move(medium));
        place(*controller.pci(), 0, 0);
        // Vectors 0 and 1 have a message.
        const u32 msix = capability(*controller.pci(), pci::kCapMsix);
        for (const u32 vector : {0u, 1u}) {
            write(0x2000 + vector * 16, 0xfee00000, 8);
            write(0x2008 + vector * 16, u64{0x40} + vector, 8);
        }
        config(*controller.pci(), msix + pci::kMsixControl, 2, pci::kMsixEnable);
    }
    void start() {
        sq_tail[0] = sq_tail[1] = cq_head[0] = cq_head[1] = 0;
        phase[0] = phase[1] = 1;
        write(kCc, 0);
        write(kAqa, (kEntries - 1) << 16 | (kEntries - 1));
        write(kAsq, kAdminSq, 8);
        write(kAcq, kAdminCq, 8);
        for (u64 at = kAdminSq; at < kIoCq + 0x1000; at += 8) put<u64>(at, 0);
        write(kCc, 4 << 20 | 6 << 16 | 1);
        REQUIRE(read(kCsts) == kReady);
    }
    void start_io() {
        start();
        REQUIRE(admin({.opcode = 0x05, .prp1 = kIoCq, .dw10 = (kEntries - 1) << 16 | 1, .dw11 = 1 << 16 | 3}) ==
                kSuccess);
        REQUIRE(admin({.opcode = 0x01, .prp1 = kIoSq, .dw10 = (kEntries - 1) << 16 | 1, .dw11 = 1 << 16 | 1}) ==
                kSuccess);
    }
    void submit(u32 queue, Command command) {
        command.id = ++next_id;
        put((queue == 0 ? kAdminSq : kIoSq) + sq_tail[queue] * sizeof command, command);
        sq_tail[queue] = (sq_tail[queue] + 1) % kEntries;
        write(kDoorbells + queue * 8, sq_tail[queue]);
    }
    /// Status of the next completion, or 0xffff if there is none.
    u16 reap(u32 queue) {
        const auto entry = get<Completion>((queue == 0 ? kAdminCq : kIoCq) + cq_head[queue] * sizeof(Completion));
        if ((entry.status & 1) != phase[queue]) return 0xffff;
        last = entry;
        cq_head[queue] = (cq_head[queue] + 1) % kEntries;
        if (cq_head[queue] == 0) phase[queue] ^= 1;
        write(kDoorbells + queue * 8 + 4, cq_head[queue]);
        return static_cast<u16>(entry.status >> 1);
    }
    u16 run(u32 queue, const Command& command) {
        submit(queue, command);
        time.run_for(10'000'000);
        return reap(queue);
    }
    u16 admin(const Command& command) { return run(0, command); }
    u16 io(const Command& command) { return run(1, command); }
    u16 read_blocks(u64 first, u32 count, u64 prp1, u64 prp2 = 0) {
        return io({.opcode = 2,
                   .nsid = 1,
                   .prp1 = prp1,
                   .prp2 = prp2,
                   .dw10 = static_cast<u32>(first),
                   .dw11 = static_cast<u32>(first >> 32),
                   .dw12 = count - 1});
    }
    bool holds_disk(u64 address, u64 offset, u64 count) {
        std::vector<u8> bytes(count);
        memory.read(Spa(address), bytes.data(), count);
        return std::equal(bytes.begin(), bytes.end(), disk->data.begin() + static_cast<std::ptrdiff_t>(offset));
    }

    TestTime time;
    Nvme controller;
    MemoryDisk* disk = nullptr;
    std::array<u32, 2> sq_tail{}, cq_head{}, phase{1, 1};
    u16 next_id = 0;
    Completion last{};
};

}  // namespace

TEST_CASE("nvme: keeps the device contract", "[devices][nvme]") {
    PciBench bench;
    std::deque<LoneSlot> slots;
    std::deque<TestTime> times;
    check_device_contract<Nvme>(
        [&] {
            auto device = std::make_unique<Nvme>(slots.emplace_back(bench.dma).slot(), times.emplace_back().events, 2);
            device->attach(std::make_unique<MemoryDisk>(1 << 20));
            return device;
        },
        [](Nvme& device) {
            device.pci()->config_write(pci::kCommand, 2, 7);
            device.mmio_write(kAqa, 4, 0x000f000f);
            device.mmio_write(kAsq, 8, 0x10000);
            device.mmio_write(kAcq, 8, 0x11000);
            device.mmio_write(kCc, 4, 1);
            device.mmio_write(kDoorbells, 4, 3);
        },
        0, Nvme::kRegisterBytes);
}

TEST_CASE("nvme: the controller becomes ready, resets and shuts down", "[devices][nvme]") {
    Board b;
    CHECK(b.read(kVs) == 0x10400);
    CHECK((b.read(kCap, 8) & 0xffff) == 1023);
    CHECK(b.read(kCsts) == 0);
    b.start();
    b.write(kCc, b.read(kCc) | 1 << 14);
    CHECK((b.read(kCsts) & 0xc) == 8);
    CHECK(b.disk->flushes == 1);
    b.write(kCc, 0);
    CHECK(b.read(kCsts) == 0);
    CHECK(b.read(kAsq, 8) == kAdminSq);
    b.write(kCc, 1 | 1 << 7);  // a page size that is not offered
    CHECK(b.read(kCsts) == kFatal);
    b.write(kCc, 0);
    b.write(kAqa, 0);  // queues of one entry
    b.write(kCc, 1);
    CHECK(b.read(kCsts) == kFatal);
    b.start();
}

TEST_CASE("nvme: identify, features and log pages", "[devices][nvme]") {
    Board b;
    b.start();
    CHECK(b.admin({.opcode = 6, .prp1 = kData, .dw10 = 1}) == kSuccess);
    CHECK(b.get<u8>(kData + 77) == 7);
    CHECK(b.get<u32>(kData + 516) == 1);
    CHECK(b.get<u8>(kData + 4) == 'V');
    CHECK(b.admin({.opcode = 6, .nsid = 1, .prp1 = kData, .dw10 = 0}) == kSuccess);
    CHECK(b.get<u64>(kData) == kDiskBytes / 512);
    CHECK(b.get<u32>(kData + 128) == 9 << 16);
    CHECK(b.admin({.opcode = 6, .nsid = 2, .prp1 = kData, .dw10 = 0}) == kInvalidNamespace);
    CHECK(b.admin({.opcode = 6, .nsid = 0, .prp1 = kData, .dw10 = 2}) == kSuccess);
    CHECK(b.get<u64>(kData) == 1);
    CHECK(b.admin({.opcode = 6, .nsid = 1, .prp1 = kData, .dw10 = 3}) == kSuccess);
    CHECK(b.get<u16>(kData) == 0x0801);
    CHECK(b.admin({.opcode = 6, .prp1 = kData, .dw10 = 0x99}) == kInvalidField);
    CHECK(b.admin({.opcode = 6, .prp1 = kData + 0x800, .prp2 = kData + 0x4000, .dw10 = 1}) ==
          kSuccess);  // in two pieces
    CHECK(b.get<u32>(kData + 0x800 + 516) == 1);
    CHECK(b.get<u16>(kData + 0x4000) == 2500);

    CHECK(b.admin({.opcode = 9, .dw10 = 7, .dw11 = 0x001f001f}) == kSuccess);
    CHECK(b.last.result == 0x000f000f);
    CHECK(b.admin({.opcode = 9, .dw10 = 6, .dw11 = 0}) == kSuccess);
    CHECK(b.admin({.opcode = 10, .dw10 = 6}) == kSuccess);
    CHECK(b.last.result == 0);
    CHECK(b.admin({.opcode = 10, .dw10 = 1 << 8 | 6}) == kSuccess);  // the default
    CHECK(b.last.result == 1);
    CHECK(b.admin({.opcode = 10, .dw10 = 0xff}) == kInvalidField);
    CHECK(b.admin({.opcode = 2, .prp1 = kData, .dw10 = 127 << 16 | 2}) == kSuccess);
    CHECK(b.get<u8>(kData + 3) == 100);
    CHECK(b.admin({.opcode = 2, .prp1 = kData, .dw10 = 0xffffu << 16 | 2, .dw11 = 0xffff}) == kInvalidField);
    CHECK(b.admin({.opcode = 2, .prp1 = kData, .dw10 = 99}) == kInvalidLogPage);
    CHECK(b.admin({.opcode = 8}) == kSuccess);
    CHECK(b.last.result == 1);
    for (int i = 0; i < 4; ++i) CHECK(b.admin({.opcode = 12}) == 0xffff);  // they wait
    CHECK(b.admin({.opcode = 12}) == kTooManyEventRequests);
    CHECK(b.admin({.opcode = 0x7f}) == kInvalidOpcode);
    CHECK(b.admin({.opcode = 6, .flags = 0x40, .prp1 = kData, .dw10 = 1}) == kInvalidField);  // scatter-gather lists
    CHECK(b.sink.sent.back() == std::pair<u64, u32>{0xfee00000, 0x40});
}

TEST_CASE("nvme: queues are created in their order and deleted in the opposite", "[devices][nvme]") {
    Board b;
    b.start();
    const u32 size = (kEntries - 1) << 16;
    CHECK(b.admin({.opcode = 1, .prp1 = kIoSq, .dw10 = size | 1, .dw11 = 1 << 16 | 1}) == kInvalidCompletionQueue);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = size | 0, .dw11 = 1}) == kInvalidQueueId);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = size | 17, .dw11 = 1}) == kInvalidQueueId);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = 0xffff0001, .dw11 = 1}) == kInvalidQueueSize);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = 1, .dw11 = 1}) == kInvalidQueueSize);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq + 8, .dw10 = size | 1, .dw11 = 1}) == kInvalidPrpOffset);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = size | 1, .dw11 = 0}) == kInvalidField);
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = size | 1, .dw11 = 17 << 16 | 3}) == kInvalidVector);
    b.start_io();
    CHECK(b.admin({.opcode = 5, .prp1 = kIoCq, .dw10 = size | 1, .dw11 = 1}) == kInvalidQueueId);
    CHECK(b.admin({.opcode = 4, .dw10 = 1}) == kInvalidQueueDeletion);
    CHECK(b.admin({.opcode = 0, .dw10 = 1}) == kSuccess);
    CHECK(b.admin({.opcode = 0, .dw10 = 1}) == kInvalidQueueId);
    CHECK(b.admin({.opcode = 4, .dw10 = 1}) == kSuccess);
}

TEST_CASE("nvme: reads and writes follow their PRP entries and lists", "[devices][nvme]") {
    Board b;
    b.start_io();
    CHECK(b.read_blocks(3, 8, kData) == kSuccess);
    CHECK(b.holds_disk(kData, 3 * 512, 4096));
    CHECK(b.sink.sent.back() == std::pair<u64, u32>{0xfee00000, 0x41});
    CHECK(b.read_blocks(3, 8, kData + 0xe00, kData + 0x5000) == kSuccess);
    CHECK(b.holds_disk(kData + 0xe00, 3 * 512, 0x200));
    CHECK(b.holds_disk(kData + 0x5000, 4 * 512, 0xe00));
    // 512 KiB: 127 entries behind the first page, in a list that starts late and goes on in another.
    for (u64 i = 0; i < 127; ++i) {
        const u64 at = i < 9 ? kLists + 0xfb0 + i * 8 : kLists + 0x2000 + (i - 9) * 8;
        b.put<u64>(at, kData + 0x10000 + (126 - i) * 4096);
    }
    b.put<u64>(kLists + 0xff8, kLists + 0x2000);
    CHECK(b.read_blocks(0, 1024, kData, kLists + 0xfb0) == kSuccess);
    CHECK(b.holds_disk(kData, 0, 4096));
    for (u64 i = 0; i < 127; ++i) CHECK(b.holds_disk(kData + 0x10000 + (126 - i) * 4096, (i + 1) * 4096, 4096));
    CHECK(b.read_blocks(0, 1025, kData, kLists) == kInvalidField);

    b.put(kData, std::array<u8, 512>{7, 8, 9});
    const Command write{.opcode = 1, .nsid = 1, .prp1 = kData, .dw10 = 40};
    CHECK(b.io(write) == kSuccess);
    CHECK(b.disk->data[40 * 512 + 2] == 9);
    CHECK(b.disk->flushes == 0);
    Command durable = write;
    durable.dw12 = kForceUnitAccess;
    CHECK(b.io(durable) == kSuccess);
    CHECK(b.disk->flushes == 1);
    CHECK(b.io({.opcode = 0, .nsid = 0xffffffff}) == kSuccess);
    CHECK(b.disk->flushes == 2);
    CHECK(b.io({.opcode = 8, .nsid = 1, .dw10 = 40, .dw12 = 1}) == kSuccess);
    CHECK(b.disk->data[40 * 512 + 2] == 0);
    CHECK(b.disk->data[41 * 512 + 1] == 0);
    CHECK(b.disk->data[42 * 512 + 1] != 0);
    b.put(kData, std::array<u32, 4>{0, 2, 50, 0});
    CHECK(b.io({.opcode = 9, .nsid = 1, .prp1 = kData, .dw11 = kDeallocate}) == kSuccess);
    CHECK(b.disk->discards == 1);
    CHECK(b.disk->data[51 * 512 + 1] == 0);
}

TEST_CASE("nvme: what is outside of the namespace or broken has its status", "[devices][nvme]") {
    Board b;
    b.start_io();
    const u64 end = kDiskBytes / 512;
    CHECK(b.read_blocks(end - 1, 1, kData) == kSuccess);
    CHECK(b.read_blocks(end - 1, 2, kData) == kLbaRange);
    CHECK(b.read_blocks(~u64{0}, 2, kData) == kLbaRange);
    CHECK(b.io({.opcode = 2, .nsid = 2, .prp1 = kData}) == kInvalidNamespace);
    CHECK(b.io({.opcode = 0x55, .nsid = 1}) == kInvalidOpcode);
    b.put(kData, std::array<u32, 4>{0, 2, static_cast<u32>(end - 1), 0});
    CHECK(b.io({.opcode = 9, .nsid = 1, .prp1 = kData, .dw11 = kDeallocate}) == kLbaRange);
    b.disk->locked = true;
    CHECK(b.io({.opcode = 1, .nsid = 1, .prp1 = kData}) == kWriteProtected);
    CHECK(b.io({.opcode = 0, .nsid = 1}) == kSuccess);
    b.disk->locked = false;
    b.disk->broken = true;
    CHECK(b.io({.opcode = 1, .nsid = 1, .prp1 = kData}) == kWriteFault);
    CHECK(b.read_blocks(0, 1, kData) == kUnrecoveredRead);
    CHECK(b.io({.opcode = 0, .nsid = 1}) == kWriteFault);
}

TEST_CASE("nvme: hostile addresses, lists and doorbells do no harm", "[devices][nvme]") {
    Board b;
    b.start_io();
    SECTION("data outside of memory") {
        CHECK(b.read_blocks(0, 1, u64{1} << 60) == kTransferError);
        CHECK(b.read_blocks(0, 1, PciBench::kLow) == kTransferError);  // its own registers
        CHECK(b.read_blocks(0, 64, kData, u64{1} << 60) == kTransferError);
    }
    SECTION("offsets where none may be") {
        CHECK(b.read_blocks(0, 1, kData + 2) == kInvalidPrpOffset);
        CHECK(b.read_blocks(0, 16, kData, kData + 8) == kInvalidPrpOffset);
        CHECK(b.read_blocks(0, 64, kData, kLists + 4) == kInvalidPrpOffset);
    }
    SECTION("a list that is its own continuation") {
        for (u64 i = 0; i < 512; ++i) b.put<u64>(kLists + i * 8, kLists);
        CHECK(b.read_blocks(0, 1024, kData, kLists + 0xff8) == kSuccess);
        b.put<u64>(kLists + 0xff8, kLists + 0xff8);
        CHECK(b.read_blocks(0, 1024, kData, kLists + 0xff8) == kInvalidPrpOffset);
    }
    SECTION("doorbells of queues that are not there, or beyond their end") {
        for (u32 i = 0; i < 0x400; ++i) b.write(kDoorbells + i * 4, 0xffffffff);
        for (u32 i = 4; i < 40; ++i) b.write(kDoorbells + i * 4, 1);
        b.time.run_for(1'000'000);
        CHECK(b.read(kCsts) == kReady);
    }
    SECTION("a completion queue that is never emptied holds its commands back") {
        for (u32 i = 0; i < kEntries - 1; ++i) b.submit(1, {.opcode = 0, .nsid = 1});
        b.time.run_for(10'000'000);
        b.submit(1, {.opcode = 0, .nsid = 1});
        b.time.run_for(10'000'000);
        CHECK(b.disk->flushes == kEntries - 1);
        CHECK(b.reap(1) == kSuccess);
        b.time.run_for(10'000'000);
        CHECK(b.disk->flushes == kEntries);
    }
    SECTION("the queue lies nowhere") {
        b.write(kCc, 0);
        b.write(kAsq, u64{1} << 60, 8);
        b.write(kCc, 1);
        b.write(kDoorbells, 1);
        b.time.run_for(1'000'000);
        CHECK(b.read(kCsts) == (kReady | kFatal));
    }
    b.write(kCc, 0);
    b.start_io();
    CHECK(b.read_blocks(9, 1, kData) == kSuccess);
    CHECK(b.holds_disk(kData, 9 * 512, 512));
}

TEST_CASE("nvme: without messages the pin follows the completion queues", "[devices][nvme]") {
    Board b;
    const u32 msix = b.capability(*b.controller.pci(), pci::kCapMsix);
    b.config(*b.controller.pci(), msix + pci::kMsixControl, 2, 0);
    b.start();
    RecordingIrq& irq = b.irqs[b.bus.input_of(8, 1)];
    b.submit(0, {.opcode = 8});
    b.time.run_for(1'000'000);
    CHECK(irq.high);
    b.write(kIntms, 1);
    CHECK_FALSE(irq.high);
    b.write(kIntmc, 1);
    CHECK(irq.high);
    CHECK(b.reap(0) == kSuccess);
    CHECK_FALSE(irq.high);
}

TEST_CASE("nvme: submission queues take turns", "[devices][nvme]") {
    Board b;
    b.start_io();
    for (int i = 0; i < 4; ++i) b.submit(1, {.opcode = 0, .nsid = 1});
    b.submit(0, {.opcode = 8});
    b.time.run_for(2 * Nvme::kCommandLatency);
    CHECK(b.reap(0) == kSuccess);
    CHECK(b.disk->flushes == 1);
    b.time.run_for(3 * Nvme::kCommandLatency);
    CHECK(b.disk->flushes == 4);
}
