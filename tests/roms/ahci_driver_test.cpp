// The parent's AHCI driver against the machine's own controller, and against one that misbehaves.
#include <catch2/catch.hpp>

#include "devices/ahci.h"
#include "roms/parent/ahci.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::test;
using namespace vg::devices::ahci;
using Catch::Matchers::Contains;
using parent::AhciDisk;

namespace {

constexpr u64 kDiskBytes = 8 << 20;
constexpr u32 kPort = 1, kPortAt = kPortsOffset + kPort * kPortStride;
constexpr u64 kBufferAt = 8 << 20;  // of the caller, in memory that the device reaches

/// The controller with a disk at its second port, and the driver's view of it.
struct Rig final : PciBench, parent::AhciSystem {
    Rig() : adapter(bus.slot(31), time.events, 2) {
        bus.attach(*adapter.pci());
        auto medium_owner = std::make_unique<MemoryDisk>(kDiskBytes);
        medium = medium_owner.get();
        for (u64 i = 0; i < kDiskBytes; ++i) medium->data[i] = static_cast<u8>(i >> 9 ^ i);
        adapter.attach(kPort, std::make_unique<devices::AtaDisk>(std::move(medium_owner), "STORE-1"));
        PciBench::config(*adapter.pci(), devices::pci::kBar0 + 20, 4, kLow);
    }

    u32 config_read(u32 offset, u32 size) override { return PciBench::config(*adapter.pci(), offset, size); }
    void config_write(u32 offset, u32 size, u32 value) override {
        PciBench::config(*adapter.pci(), offset, size, value);
    }
    bool map_registers(u64 address) override { return address == kLow; }
    u32 read(u32 offset) override {
        if (offset == kCap) return static_cast<u32>(PciBench::read(offset)) & ~cap_cleared;
        if (offset == kPortAt + kPxCmd && stuck) return static_cast<u32>(PciBench::read(offset)) | kCmdRunning;
        if (offset == kPortAt + kPxCi) return static_cast<u32>(PciBench::read(offset)) | pending;
        return static_cast<u32>(PciBench::read(offset));
    }
    void write(u32 offset, u32 value) override {
        if (offset == kPortAt + kPxCi) {
            ++issued;
            if (swallow != 0) {
                --swallow;
                pending = value;
                return;
            }
        }
        if (offset == kPortAt + kPxCmd && (value & kCmdStart) == 0) pending = 0;
        PciBench::write(offset, value);
    }
    Memory allocate(u64 pages) override {
        const u64 at = next_page;
        next_page += pages * kPageSize;
        return {memory.ram(Spa(at)), at};
    }
    u64 device_address(const void* data, u64 size) override {
        if (wrong_address != 0) return wrong_address;
        const u64 at = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(memory.ram(Spa(0)));
        return at < kRam && size <= kRam - at ? at : 0;
    }
    Message message() override { return {0xfee00000, 0x41}; }
    u64 now_100ns() override { return time.clock.now() / 100; }
    void wait(u64 deadline_100ns) override {
        const std::size_t before = sink.sent.size();
        const VTime deadline = deadline_100ns * 100;
        while (sink.sent.size() == before && time.events.next() <= deadline) time.run_to(time.events.next());
        if (sink.sent.size() == before) time.run_to(std::max(deadline, time.clock.now()));
    }

    std::unique_ptr<AhciDisk> disk() {
        auto opened = AhciDisk::open(*this);
        REQUIRE(opened);
        return std::move(opened.value());
    }
    std::span<u8> buffer(u64 size) { return {memory.ram(Spa(kBufferAt)), size}; }
    bool holds_disk(std::span<const u8> bytes, u64 offset) {
        return std::equal(bytes.begin(), bytes.end(), medium->data.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    bool masters_bus() { return (config_read(devices::pci::kCommand, 2) & devices::pci::kBusMaster) != 0; }

    TestTime time;
    devices::Ahci adapter;
    MemoryDisk* medium = nullptr;
    u64 next_page = 1 << 20;
    u32 swallow = 0, pending = 0, issued = 0, cap_cleared = 0;
    bool stuck = false;
    u64 wrong_address = 0;
};

}  // namespace

TEST_CASE("AHCI driver: finds the disk, asks who it is, sleeps until the message", "[roms][ahci]") {
    Rig rig;
    const auto disk = rig.disk();
    CHECK(disk->port() == kPort);
    CHECK(disk->size_bytes() == kDiskBytes);
    CHECK(disk->serial() == "STORE-1");
    CHECK(!disk->model().empty());
    CHECK((disk->physical_sector_bytes() == 512 || disk->physical_sector_bytes() == 4096));
    CHECK(rig.sink.sent == std::vector{std::pair<u64, u32>{0xfee00000, 0x41}});

    rig.time.run_for(1000);  // what the last data took
    const VTime before = rig.time.clock.now();
    CHECK(disk->read(4096, rig.buffer(65536)));
    CHECK(rig.holds_disk(rig.buffer(65536), 4096));
    CHECK(rig.sink.sent.size() == 2);
    CHECK(rig.time.clock.now() - before == devices::AhciPort::kCommandLatency);
    CHECK(disk->stats().bounced == 0);
    CHECK(disk->stats().failures == 0);
    CHECK(disk->stats().resets == 0);
}

TEST_CASE("AHCI driver: moves any whole sectors, from memory that the device reaches and from other", "[roms][ahci]") {
    Rig rig;
    const auto disk = rig.disk();
    // Four commands: a mebibyte each, and what is left.
    const u64 large = 3 * AhciDisk::kMaxTransferBytes + 1536;
    rig.issued = 0;
    CHECK(disk->read(512, rig.buffer(large)));
    CHECK(rig.issued == 4);
    CHECK(rig.holds_disk(rig.buffer(large), 512));
    for (u64 i = 0; i < large; ++i) rig.buffer(large)[i] = static_cast<u8>(i * 31 >> 4);
    CHECK(disk->write(kDiskBytes - large, rig.buffer(large)));
    CHECK(rig.holds_disk(rig.buffer(large), kDiskBytes - large));
    CHECK(disk->stats().bounced == 0);

    std::vector<u8> other(AhciDisk::kBounceBytes * 2 + 512);
    rig.issued = 0;
    CHECK(disk->read(1024, other));
    CHECK(rig.issued == 3);
    CHECK(rig.holds_disk(other, 1024));
    for (u8& byte : other) byte = static_cast<u8>(byte + 1);
    CHECK(disk->write(2048, other));
    CHECK(rig.holds_disk(other, 2048));
    CHECK(disk->stats().bounced == 6);
    CHECK(disk->read(0, rig.buffer(513).subspan(1)));  // not aligned
    CHECK(disk->stats().bounced == 7);
    CHECK(rig.holds_disk(rig.buffer(513).subspan(1), 0));

    CHECK(disk->read(0, {}));
    CHECK(!disk->read(kDiskBytes, rig.buffer(512)));
    CHECK(!disk->read(kDiskBytes - 512, rig.buffer(1024)));
    CHECK(!disk->read(~u64{511}, rig.buffer(1024)));
    CHECK(!disk->read(256, rig.buffer(512)));
    CHECK(!disk->write(0, rig.buffer(100)));
    CHECK(!disk->discard(0, kDiskBytes + 512));
    CHECK(disk->flush());
    CHECK(rig.medium->flushes >= 1);
    CHECK(disk->discard(4096, 1 << 20));
    CHECK(rig.medium->discards == 1);
    CHECK(std::all_of(rig.medium->data.begin() + 4096, rig.medium->data.begin() + 4096 + (1 << 20),
                      [](u8 byte) { return byte == 0; }));
    CHECK(disk->stats().failures == 0);
}

TEST_CASE("AHCI driver: a command that the disk refuses is tried three times, then the disk goes on", "[roms][ahci]") {
    Rig rig;
    const auto disk = rig.disk();
    rig.medium->broken = true;
    rig.issued = 0;
    CHECK(!disk->read(0, rig.buffer(512)));
    CHECK(rig.issued == AhciDisk::kTries);
    CHECK(disk->stats().failures == AhciDisk::kTries);
    rig.medium->broken = false;
    CHECK(disk->read(0, rig.buffer(512)));
    CHECK(rig.holds_disk(rig.buffer(512), 0));
    CHECK(disk->stats().resets == 0);
}

TEST_CASE("AHCI driver: a flush that failed is not repeated, and none succeeds after it", "[roms][ahci]") {
    Rig rig;
    const auto disk = rig.disk();
    rig.medium->broken = true;
    rig.issued = 0;
    CHECK(!disk->flush());
    CHECK(rig.issued == 1);
    rig.medium->broken = false;
    CHECK(!disk->flush());
    CHECK(disk->write(0, rig.buffer(512)));
}

TEST_CASE("AHCI driver: a command that gets no answer ends by the clock and by a reset of the link", "[roms][ahci]") {
    Rig rig;
    const auto disk = rig.disk();
    rig.swallow = 2;
    const u64 before = rig.now_100ns();
    CHECK(disk->read(8192, rig.buffer(4096)));
    CHECK(rig.holds_disk(rig.buffer(4096), 8192));
    CHECK(disk->stats().failures == 2);
    CHECK(disk->stats().resets == 2);
    const u64 took = rig.now_100ns() - before;
    CHECK(took >= 2 * AhciDisk::kCommandLimit);
    CHECK(took < 2 * AhciDisk::kCommandLimit + AhciDisk::kSecond);
    rig.swallow = AhciDisk::kTries;
    CHECK(!disk->read(0, rig.buffer(512)));
    CHECK(disk->read(0, rig.buffer(512)));
    CHECK(rig.masters_bus());
}

TEST_CASE("AHCI driver: memory that refuses the device's access is an error of that command only", "[roms][ahci]") {
    Rig rig;
    const auto disk = rig.disk();
    rig.wrong_address = 0xe0000000;  // a hole
    CHECK(!disk->read(0, rig.buffer(4096)));
    CHECK(disk->stats().failures == AhciDisk::kTries);
    rig.wrong_address = 0;
    CHECK(disk->read(0, rig.buffer(4096)));
    CHECK(rig.holds_disk(rig.buffer(4096), 0));
}

TEST_CASE("AHCI driver: a port that does not stop loses its access to memory", "[roms][ahci]") {
    Rig rig;
    {
        const auto disk = rig.disk();
        rig.medium->broken = true;
        rig.stuck = true;
        CHECK(!disk->read(0, rig.buffer(512)));
        CHECK(disk->stats().failures == 1);
        CHECK(disk->stats().resets == 1);  // which did not help
    }
    CHECK(!rig.masters_bus());
    Rig other;
    (void)other.disk();
    CHECK(other.masters_bus());
    CHECK((other.read(kPortAt + kPxCmd) & (kCmdStart | kCmdFisReceive)) == 0);  // stopped with its driver
}

TEST_CASE("AHCI driver: says what is missing", "[roms][ahci]") {
    Rig rig;
    SECTION("an address") {
        rig.config_write(devices::pci::kBar0 + 20, 4, 0);
        CHECK_THAT(AhciDisk::open(rig).error().text, Contains("no address"));
    }
    SECTION("a disk that answers") {
        rig.swallow = ~0u;
        CHECK_THAT(AhciDisk::open(rig).error().text, Contains("does not identify itself"));
    }
    SECTION("a reach beyond 4 GiB") {
        rig.cap_cleared = kCap64Bit;
        const auto disk = rig.disk();
        CHECK(disk->read(0, rig.buffer(512)));
        rig.wrong_address = (u64{1} << 32) - 256;
        CHECK(disk->read(512, rig.buffer(512)));  // by the bounce buffer
        CHECK(disk->stats().bounced == 1);
        CHECK(rig.holds_disk(rig.buffer(512), 512));
    }
}
