// Virtio devices driven through their registers and rings as a driver does.
#include <catch2/catch.hpp>

#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "tests/support/device_contract.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::virtio;
using namespace vg::test;

namespace {

constexpr u64 kRings = 0x10000, kRingBytes = 0x4000, kData = 0x100000;
constexpr u16 kSize = 16;

/// A driver for one device: rings of kSize at kRings + queue * kRingBytes.
template <class D>
struct Driver : PciBench {
    template <class... Args>
    explicit Driver(Args&&... args) : device(bus.slot(3), time.events, std::forward<Args>(args)...) {
        bus.attach(*device.pci());
        place(*device.pci(), 0, 0);
    }
    void common(u32 at, u32 value, unsigned size = 4) { write(at, value, size); }
    u64 features() {
        common(kDeviceFeatureSelect, 0);
        const u64 low = read(kDeviceFeature);
        common(kDeviceFeatureSelect, 1);
        return low | read(kDeviceFeature) << 32;
    }
    void start(u64 wanted, u32 queues) {
        common(kDeviceStatus, 0, 1);
        common(kDeviceStatus, kAcknowledge | virtio::kDriver, 1);
        common(kDriverFeatureSelect, 0);
        common(kDriverFeature, static_cast<u32>(wanted));
        common(kDriverFeatureSelect, 1);
        common(kDriverFeature, static_cast<u32>(wanted >> 32));
        common(kDeviceStatus, kAcknowledge | virtio::kDriver | kFeaturesOk, 1);
        REQUIRE((read(kDeviceStatus, 1) & kFeaturesOk) != 0);
        for (u32 i = 0; i < queues; ++i) {
            for (u64 at = 0; at < kRingBytes; at += 8) put<u64>(ring(i) + at, 0);
            common(kQueueSelect, i, 2);
            common(kQueueSize, kSize, 2);
            common(kQueueDescriptors, static_cast<u32>(ring(i)));
            common(kQueueDriver, static_cast<u32>(available(i)));
            common(kQueueDevice, static_cast<u32>(used(i)));
            common(kQueueEnable, 1, 2);
            next[i] = 0;
            seen[i] = 0;
        }
        common(kDeviceStatus, kAcknowledge | virtio::kDriver | kFeaturesOk | kDriverOk, 1);
    }
    static u64 ring(u32 queue) { return kRings + queue * kRingBytes; }
    static u64 available(u32 queue) { return ring(queue) + 0x1000; }
    static u64 used(u32 queue) { return ring(queue) + 0x2000; }

    struct Part {
        u64 address;
        u32 length;
        bool writable;
    };
    /// Offers a chain whose descriptors begin at `first`.
    void offer(u32 queue, const std::vector<Part>& parts, u16 first = 0) {
        for (std::size_t i = 0; i < parts.size(); ++i) {
            const bool last = i + 1 == parts.size();
            put(ring(queue) + (first + i) * 16,
                Descriptor{parts[i].address, parts[i].length,
                           static_cast<u16>((last ? 0 : kNext) | (parts[i].writable ? kWrite : 0)),
                           static_cast<u16>(last ? 0 : first + i + 1)});
        }
        publish(queue, first);
    }
    void publish(u32 queue, u16 head) {
        put<u16>(available(queue) + 4 + next[queue] % kSize * 2, head);
        put<u16>(available(queue) + 2, ++next[queue]);
        notify(queue);
    }
    void notify(u32 queue) { write(0x3000 + queue * 4, queue, 2); }
    /// The next used element.
    std::optional<UsedElement> reap(u32 queue) {
        time.run_for(100'000'000);
        if (get<u16>(used(queue) + 2) == seen[queue]) return std::nullopt;
        return get<UsedElement>(used(queue) + 4 + seen[queue]++ % kSize * 8);
    }
    [[nodiscard]] bool needs_reset() { return (read(kDeviceStatus, 1) & kNeedsReset) != 0; }

    TestTime time;
    D device;
    std::array<u16, 3> next{}, seen{};
};

constexpr u64 kDiskBytes = 4 << 20;

struct Disk : Driver<VirtioBlock> {
    Disk() : Driver(0u) {
        auto medium = std::make_unique<MemoryDisk>(kDiskBytes);
        disk = medium.get();
        for (u64 i = 0; i < kDiskBytes; ++i) disk->data[i] = static_cast<u8>(i >> 9 ^ i);
        device.attach(std::move(medium));
    }
    void begin() { start(features(), 1); }
    void request(block::Type type, u64 sector) {
        put(kData, block::Request{static_cast<u32>(type), 0, sector});
        put<u8>(kData + 0x20, 0xee);
    }
    u8 status() { return get<u8>(kData + 0x20); }
    MemoryDisk* disk;
};

struct Cable final : FrameSink {
    void put(std::span<const u8> frame) override { frames.emplace_back(frame.begin(), frame.end()); }
    std::vector<std::vector<u8>> frames;
};
constexpr MacAddress kAddress = {0x52, 0x54, 0, 1, 2, 3};

}  // namespace

TEST_CASE("virtio: the transport's capabilities lead to its structures", "[devices][virtio]") {
    Disk board;
    const PciFunction& function = *board.device.pci();
    CHECK(board.config(function, pci::kVendorId, 4) == 0x10421af4);
    std::array<u32, 6> found{};
    for (u32 at = board.config(function, pci::kCapabilities, 1); at != 0; at = board.config(function, at + 1, 1)) {
        if (board.config(function, at, 1) != pci::kCapVendor) continue;
        const u32 type = board.config(function, at + 3, 1);
        REQUIRE(type >= 1);
        REQUIRE(type <= 5);
        found[type] = at;
        if (type == kNotifyConfig) CHECK(board.config(function, at + 16, 4) == 4);
    }
    for (u32 type = 1; type <= 5; ++type) CHECK(found[type] != 0);
    // The same registers through configuration space.
    const u32 window = found[kPciConfig];
    board.config(function, window + kCapabilityOffset, 4, kNumQueues);
    board.config(function, window + kCapabilityLength, 4, 2);
    CHECK(board.config(function, window + kCapabilityData, 2) == 1);
    board.config(function, window + kCapabilityOffset, 4, kDeviceStatus);
    board.config(function, window + kCapabilityLength, 4, 1);
    board.config(function, window + kCapabilityData, 1, kAcknowledge);
    CHECK(board.read(kDeviceStatus, 1) == kAcknowledge);
    board.config(function, window + kCapabilityOffset, 4, VirtioDevice::kRegisterBytes - 1);
    board.config(function, window + kCapabilityLength, 4, 4);
    CHECK(board.config(function, window + kCapabilityData, 4) == 0);
}

TEST_CASE("virtio: features that were not offered are refused", "[devices][virtio]") {
    Disk board;
    board.common(kDeviceStatus, kAcknowledge | virtio::kDriver, 1);
    board.common(kDriverFeatureSelect, 1);
    board.common(kDriverFeature, 0xffffffff);
    board.common(kDeviceStatus, kAcknowledge | virtio::kDriver | kFeaturesOk, 1);
    CHECK((board.read(kDeviceStatus, 1) & kFeaturesOk) == 0);
    board.common(kDriverFeature, 0);  // without VERSION_1 it would be a legacy driver
    board.common(kDeviceStatus, kAcknowledge | virtio::kDriver | kFeaturesOk, 1);
    CHECK((board.read(kDeviceStatus, 1) & kFeaturesOk) == 0);
    board.common(kDriverFeature, 1);
    board.common(kDeviceStatus, kAcknowledge | virtio::kDriver | kFeaturesOk, 1);
    CHECK((board.read(kDeviceStatus, 1) & kFeaturesOk) != 0);
}

TEST_CASE("virtio block: reads and writes through direct and indirect descriptors", "[devices][virtio]") {
    Disk board;
    board.begin();
    CHECK(board.read(0x2000, 8) == kDiskBytes / 512);
    CHECK(board.read(0x2014) == 512);
    board.request(block::Type::In, 2);
    board.offer(
        0, {{kData, 16, false}, {kData + 0x1000, 700, true}, {kData + 0x2000, 324, true}, {kData + 0x20, 1, true}});
    auto used = board.reap(0);
    REQUIRE(used);
    CHECK(used->id == 0);
    CHECK(used->length == 1025);
    CHECK(board.status() == block::kOk);
    CHECK(board.get<u8>(kData + 0x1000 + 699) == board.disk->data[1024 + 699]);
    CHECK(board.get<u8>(kData + 0x2000) == board.disk->data[1024 + 700]);
    CHECK(board.irqs[4 % board.irqs.size()].rises + board.irqs[3].rises >= 1);

    board.put<u64>(kData + 0x1000, 0x1122334455667788);
    board.request(block::Type::Out, 7);
    const u64 table = kData + 0x5000;
    board.put(table, Descriptor{kData, 16, kNext, 1});
    board.put(table + 16, Descriptor{kData + 0x1000, 512, kNext, 2});
    board.put(table + 32, Descriptor{kData + 0x20, 1, kWrite, 0});
    board.put(board.ring(0) + 5 * 16, Descriptor{table, 48, kIndirectTable, 0});
    board.publish(0, 5);
    used = board.reap(0);
    REQUIRE(used);
    CHECK(used->id == 5);
    CHECK(used->length == 1);
    CHECK(board.status() == block::kOk);
    CHECK(board.disk->data[7 * 512] == 0x88);

    board.request(block::Type::GetId, 0);
    board.offer(0, {{kData, 16, false}, {kData + 0x3000, 20, true}, {kData + 0x20, 1, true}});
    REQUIRE(board.reap(0));
    CHECK(board.get<u32>(kData + 0x3000) == 0x30424756);  // "VGB0"
    board.request(block::Type::Flush, 0);
    board.offer(0, {{kData, 16, false}, {kData + 0x20, 1, true}});
    REQUIRE(board.reap(0));
    CHECK(board.status() == block::kOk);
    board.request(static_cast<block::Type>(99), 0);
    board.offer(0, {{kData, 16, false}, {kData + 0x20, 1, true}});
    REQUIRE(board.reap(0));
    CHECK(board.status() == block::kUnsupported);
    board.request(block::Type::In, kDiskBytes / 512);
    board.offer(0, {{kData, 16, false}, {kData + 0x1000, 512, true}, {kData + 0x20, 1, true}});
    REQUIRE(board.reap(0));
    CHECK(board.status() == block::kIoError);
    CHECK_FALSE(board.needs_reset());
}

TEST_CASE("virtio block: ranges are zeroed and discarded within limits", "[devices][virtio]") {
    Disk board;
    board.begin();
    const auto run = [&](block::Type type, const block::Range& range) {
        board.request(type, 0);
        board.put(kData + 0x1000, range);
        board.offer(0, {{kData, 16, false}, {kData + 0x1000, 16, false}, {kData + 0x20, 1, true}});
        REQUIRE(board.reap(0));
        return board.status();
    };
    CHECK(run(block::Type::WriteZeroes, {4, 2, block::kUnmap}) == block::kOk);
    CHECK(board.disk->data[4 * 512 + 7] == 0);
    CHECK(board.disk->data[6 * 512 - 1] == 0);
    CHECK(board.disk->data[6 * 512 + 1] != 0);
    CHECK(run(block::Type::Discard, {8, 2, 0}) == block::kOk);
    CHECK(run(block::Type::Discard, {8, 2, block::kUnmap}) == block::kUnsupported);
    CHECK(run(block::Type::WriteZeroes, {kDiskBytes / 512 - 1, 2, 0}) == block::kIoError);
    CHECK(run(block::Type::WriteZeroes, {~u64{0}, 2, 0}) == block::kIoError);
}

TEST_CASE("virtio: a driver that forges its rings gets a device that wants a reset", "[devices][virtio]") {
    Disk board;
    board.begin();
    const int what = GENERATE(range(0, 8));
    CAPTURE(what);
    switch (what) {
        case 0:  // more chains than there are descriptors
            board.put<u16>(board.available(0) + 2, kSize + 1);
            board.notify(0);
            break;
        case 1:  // a loop
            board.put(board.ring(0), Descriptor{kData, 16, kNext, 1});
            board.put(board.ring(0) + 16, Descriptor{kData, 16, kNext, 0});
            board.publish(0, 0);
            break;
        case 2:  // a head beyond the table
            board.publish(0, kSize);
            break;
        case 3:  // read after write
            board.offer(0, {{kData, 16, true}, {kData, 16, false}});
            break;
        case 4:  // an indirect table in an indirect table
            board.put(kData + 0x5000, Descriptor{kData + 0x5000, 16, kIndirectTable, 0});
            board.put(board.ring(0), Descriptor{kData + 0x5000, 16, kIndirectTable, 0});
            board.publish(0, 0);
            break;
        case 5:  // a table of no whole descriptors
            board.put(board.ring(0), Descriptor{kData + 0x5000, 17, kIndirectTable, 0});
            board.publish(0, 0);
            break;
        case 6:  // no room for an answer
            board.offer(0, {{kData, 16, false}});
            break;
        default:  // the status lies where no memory is
            board.request(block::Type::Flush, 0);
            board.offer(0, {{kData, 16, false}, {u64{1} << 40, 1, true}});
            break;
    }
    CHECK_FALSE(board.reap(0));
    CHECK(board.needs_reset());
    // After the reset it works again.
    board.begin();
    CHECK_FALSE(board.needs_reset());
    board.request(block::Type::In, 0);
    board.offer(0, {{kData, 16, false}, {kData + 0x1000, 512, true}, {kData + 0x20, 1, true}});
    CHECK(board.reap(0));
}

TEST_CASE("virtio: interrupts come when the driver asked for them", "[devices][virtio]") {
    Disk board;
    const PciFunction& function = *board.device.pci();
    const u32 msix = board.capability(function, pci::kCapMsix);
    board.write(0x4010, 0xfee00000, 8);
    board.write(0x4018, 0x41, 8);
    board.config(function, msix + pci::kMsixControl, 2, pci::kMsixEnable);
    const auto set_up = [&](u64 features) {
        board.start(features, 1);
        board.common(kQueueSelect, 0, 2);
        board.common(kQueueVector, 1, 2);
        board.sink.sent.clear();
    };
    const auto flush = [&] {
        board.request(block::Type::Flush, 0);
        board.offer(0, {{kData, 16, false}, {kData + 0x20, 1, true}});
        REQUIRE(board.reap(0));
        return board.sink.sent.size();
    };
    set_up(kVersion1);
    CHECK(flush() == 1);
    CHECK(board.sink.sent.back() == std::pair<u64, u32>{0xfee00000, 0x41});
    board.put<u16>(board.available(0), kNoInterrupt);
    CHECK(flush() == 1);
    set_up(kVersion1 | kEventIndex);
    board.put<u16>(board.available(0) + 4 + kSize * 2, 1);  // used_event: when the second one is there
    CHECK(flush() == 0);
    CHECK(flush() == 1);
    CHECK(flush() == 1);
    CHECK(board.get<u16>(board.used(0) + 4 + kSize * 8) == 3);  // the device wants to hear of the next one
    board.common(kQueueVector, 9, 2);
    CHECK(board.read(kQueueVector, 2) == kNoVector);
}

TEST_CASE("virtio network: frames go both ways, with checksums and merged buffers", "[devices][virtio]") {
    Driver<VirtioNet> board(0u, kAddress);
    Cable cable;
    board.device.connect(cable);
    board.start(board.features(), 3);
    CHECK(board.read(0x2000) == 0x01005452);
    // Sent: the sum over the rest of the frame is put where the header says.
    std::vector<u8> frame(64, 0x11);
    frame[40] = frame[41] = 0;
    board.put(kData, net::Header{net::kNeedsChecksum, 0, 0, 0, 34, 6, 0});
    board.memory.write(Spa(kData + 0x100), frame.data(), frame.size());
    board.offer(1, {{kData, 12, false}, {kData + 0x100, 64, false}});
    REQUIRE(board.reap(1));
    REQUIRE(cable.frames.size() == 1);
    u32 sum = 0;
    for (std::size_t i = 34; i < 64; i += 2) sum += u32{cable.frames[0][i]} << 8 | cable.frames[0][i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    CHECK(((sum & 0xffff) + (sum >> 16)) == 0xffff);
    // A frame that is none is answered and not sent.
    board.offer(1, {{kData, 12, false}});
    REQUIRE(board.reap(1));
    CHECK(cable.frames.size() == 1);

    std::vector<u8> arriving(300);
    std::copy(kAddress.begin(), kAddress.end(), arriving.begin());
    for (std::size_t i = 6; i < arriving.size(); ++i) arriving[i] = static_cast<u8>(i);
    board.device.receive(arriving);
    board.offer(0, {{kData + 0x1000, 200, true}}, 0);
    CHECK_FALSE(board.reap(0));  // waits for enough buffers
    board.offer(0, {{kData + 0x2000, 200, true}}, 1);
    const auto first = board.reap(0), second = board.reap(0);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(first->length == 200);
    CHECK(second->length == 112);
    CHECK(board.get<u16>(kData + 0x1000 + 10) == 2);
    CHECK(board.get<u8>(kData + 0x2000) == arriving[188]);
    // Of others: not ours, unless all are wanted.
    arriving[5] ^= 1;
    board.device.receive(arriving);
    CHECK(board.device.receive_room() == VirtioNet::kReceiveBufferBytes);
    board.put<u8>(kData, net::kClassReceive);
    board.put<u8>(kData + 1, net::kPromiscuous);
    board.put<u8>(kData + 2, 1);
    board.offer(2, {{kData, 2, false}, {kData + 2, 1, false}, {kData + 0x20, 1, true}});
    REQUIRE(board.reap(2));
    CHECK(board.get<u8>(kData + 0x20) == net::kControlOk);
    board.device.receive(arriving);
    CHECK(board.device.receive_room() < VirtioNet::kReceiveBufferBytes);
}

TEST_CASE("virtio console: bytes go both ways once a driver is there", "[devices][virtio]") {
    std::string output;
    Driver<VirtioConsole> board(std::function<void(u8)>([&](u8 byte) { output += static_cast<char>(byte); }));
    const std::vector<u8> typed = {'l', 's', '\n'};
    CHECK(board.device.receive(typed) == 0);
    board.start(board.features(), 2);
    CHECK(board.device.receive(typed) == 3);
    board.offer(0, {{kData, 2, true}}, 0);
    board.offer(0, {{kData + 0x10, 2, true}}, 1);
    const auto first = board.reap(0), second = board.reap(0);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(first->length == 2);
    CHECK(second->length == 1);
    CHECK(board.get<u8>(kData + 0x10) == '\n');
    board.put<u32>(kData, 0x6c6c6568);
    board.offer(1, {{kData, 4, false}});
    REQUIRE(board.reap(1));
    CHECK(output == "hell");
}

TEST_CASE("virtio: devices keep the contract", "[devices][virtio]") {
    struct World {
        PciBench bench;
        TestTime time;
    };
    std::deque<World> worlds;
    const auto check = [&]<class D>(auto make) {
        check_device_contract<D>(
            [&] {
                World& world = worlds.emplace_back();
                return make(world);
            },
            [](D& device) {
                device.pci()->config_write(pci::kCommand, 2, pci::kMemorySpace | pci::kBusMaster);
                device.mmio_write(kDeviceStatus, 1, 3);
                device.mmio_write(kQueueSize, 2, 8);
            },
            0, VirtioDevice::kRegisterBytes);
    };
    check.operator()<VirtioBlock>(
        [](World& w) { return std::make_unique<VirtioBlock>(w.bench.bus.slot(1), w.time.events, 0u); });
    check.operator()<VirtioNet>(
        [](World& w) { return std::make_unique<VirtioNet>(w.bench.bus.slot(1), w.time.events, 0u, kAddress); });
    check.operator()<VirtioConsole>(
        [](World& w) { return std::make_unique<VirtioConsole>(w.bench.bus.slot(1), w.time.events, [](u8) {}); });
}
