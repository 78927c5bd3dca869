// The AHCI controller driven through its registers and memory structures as a driver does.
#include <catch2/catch.hpp>

#include "devices/ahci.h"
#include "tests/support/device_contract.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::ahci;
using namespace vg::test;

namespace {

constexpr u64 kList = 0x10000, kFis = 0x11000, kTables = 0x12000, kTableBytes = 0x400, kData = 0x100000;
constexpr u64 kDiskBytes = 4 << 20;
constexpr u32 kP0 = kPortsOffset;

struct Board : PciBench {
    Board() : adapter(bus.slot(31), time.events, 2) {
        bus.attach(*adapter.pci());
        auto medium = std::make_unique<MemoryDisk>(kDiskBytes);
        disk = medium.get();
        for (u64 i = 0; i < kDiskBytes; ++i) disk->data[i] = static_cast<u8>(i >> 9 ^ i);
        adapter.attach(0, std::make_unique<AtaDisk>(std::move(medium), "SERIAL"));
        place(*adapter.pci(), 5, 0);
    }
    /// Reset, addresses, engines on, interrupts on, MSI.
    void start() {
        write(kGhc, kGhcReset);
        write(kP0 + kPxClb, kList);
        write(kP0 + kPxFb, kFis);
        write(kP0 + kPxSerr, ~0u);
        write(kP0 + kPxIs, ~0u);
        write(kP0 + kPxCmd, kCmdFisReceive);
        write(kP0 + kPxCmd, kCmdFisReceive | kCmdStart);
        write(kP0 + kPxIe, ~0u);
        write(kGhc, kGhcAhci | kGhcInterrupts);
        const u32 msi = capability(*adapter.pci(), pci::kCapMsi);
        config(*adapter.pci(), msi + pci::kMsiAddress, 4, 0xfee00000);
        config(*adapter.pci(), msi + pci::kMsiData, 2, 0x41);
        config(*adapter.pci(), msi + pci::kMsiControl, 2, pci::kMsiEnable);
    }
    struct Piece {
        u64 address;
        u32 bytes;
    };
    /// Fills a slot with a command and its descriptors.
    void prepare(u32 slot, u8 command, u64 lba, u16 count, u16 features, const std::vector<Piece>& pieces) {
        const u64 table = kTables + slot * kTableBytes;
        const CommandHeader header{5 | static_cast<u32>(pieces.size()) << 16, 0, table, {}};
        put(kList + slot * sizeof header, header);
        const auto byte = [](u64 value, u32 index) { return static_cast<u8>(value >> (8 * index)); };
        const std::array<u8, 20> fis = {
            0x27, 0x80,         command,      byte(features, 0), byte(lba, 0),      byte(lba, 1),   byte(lba, 2),
            0x40, byte(lba, 3), byte(lba, 4), byte(lba, 5),      byte(features, 1), byte(count, 0), byte(count, 1)};
        put(table, fis);
        for (u32 i = 0; i < pieces.size(); ++i) {
            put(table + kTableDescriptors + i * sizeof(Descriptor),
                Descriptor{pieces[i].address, 0, pieces[i].bytes - 1});
        }
    }
    void queued(u32 slot, u8 command, u64 lba, u16 count, u64 address) {
        prepare(slot, command, lba, static_cast<u16>(slot << 3), count, {{address, count * 512u}});
        write(kP0 + kPxSact, 1u << slot);
        write(kP0 + kPxCi, 1u << slot);
    }
    void issue(u32 slot) {
        write(kP0 + kPxCi, 1u << slot);
        time.run_for(10'000'000);
    }
    u32 port(u32 offset) { return static_cast<u32>(read(kP0 + offset)); }
    bool holds_disk(u64 address, u64 lba, u64 count) {
        std::vector<u8> bytes(count * 512);
        memory.read(Spa(address), bytes.data(), bytes.size());
        return std::equal(bytes.begin(), bytes.end(), disk->data.begin() + static_cast<std::ptrdiff_t>(lba * 512));
    }

    TestTime time;
    Ahci adapter;
    MemoryDisk* disk = nullptr;
};

}  // namespace

TEST_CASE("ahci: keeps the device contract", "[devices][ahci]") {
    PciBench bench;
    TestTime time;
    std::deque<LoneSlot> slots;
    std::deque<TestTime> times;
    check_device_contract<Ahci>(
        [&] {
            auto device = std::make_unique<Ahci>(slots.emplace_back(bench.dma).slot(), times.emplace_back().events, 3);
            device->attach(1, std::make_unique<AtaDisk>(std::make_unique<MemoryDisk>(1 << 20), "S"));
            return device;
        },
        [](Ahci& device) {
            device.pci()->config_write(pci::kCommand, 2, 7);
            device.mmio_write(kPortsOffset + kPortStride + kPxClb, 4, 0x1400);
            device.mmio_write(kPortsOffset + kPortStride + kPxCmd, 4, kCmdStart | kCmdFisReceive);
            device.mmio_write(kPortsOffset + kPortStride + kPxCi, 4, 0x81);
            device.mmio_write(kGhc, 4, 2);
        },
        0, Ahci::kRegisterBytes);
}

TEST_CASE("ahci: says what it is and which port has a disk", "[devices][ahci]") {
    Board b;
    CHECK(b.read(kVs) == 0x10301);
    CHECK(b.read(kPi) == 3);
    CHECK((b.read(kCap) & 0x1f) == 1);
    CHECK((b.read(kCap) >> 8 & 0x1f) == 31);
    CHECK((b.read(kGhc) & kGhcAhci) != 0);
    CHECK(b.port(kPxSsts) == 0x133);
    CHECK(b.port(kPxSig) == 0x101);
    CHECK(b.port(kPxTfd) == 0x150);
    CHECK(b.read(kPortsOffset + kPortStride + kPxSsts) == 0);
    CHECK(b.read(kPortsOffset + 5 * kPortStride + kPxSig) == 0);
    b.start();
    CHECK((b.port(kPxCmd) & (kCmdRunning | kCmdFisRunning)) == (kCmdRunning | kCmdFisRunning));
    // COMRESET
    b.write(kP0 + kPxCmd, kCmdFisReceive);
    b.write(kP0 + kPxSctl, 0x301);
    CHECK(b.port(kPxSsts) == 0);
    b.write(kP0 + kPxSctl, 0x300);
    CHECK(b.port(kPxSsts) == 0x133);
    CHECK((b.port(kPxIs) & (kIsConnectChange | kIsPhyReady)) == (kIsConnectChange | kIsPhyReady));
    b.write(kP0 + kPxIs, ~0u);
    CHECK((b.port(kPxIs) & kIsConnectChange) != 0);  // follows PxSERR
    b.write(kP0 + kPxSerr, ~0u);
    CHECK((b.port(kPxIs) & kIsConnectChange) == 0);
    CHECK(b.get<u8>(kFis + kRfisDeviceToHost) == 0x34);
}

TEST_CASE("ahci: IDENTIFY describes the disk, by programmed I/O", "[devices][ahci]") {
    Board b;
    b.start();
    b.prepare(0, 0xec, 0, 0, 0, {{kData, 512}});
    b.issue(0);
    CHECK(b.port(kPxCi) == 0);
    CHECK(b.port(kPxTfd) == 0x50);
    CHECK((b.port(kPxIs) & kIsPioSetup) != 0);
    CHECK(b.read(kIs) == 1);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0] == std::pair<u64, u32>{0xfee00000, 0x41});
    const auto words = b.get<std::array<u16, 256>>(kData);
    CHECK(words[100] == kDiskBytes / 512);
    CHECK(words[10] == ('S' << 8 | 'E'));
    CHECK((words[76] & 0x100) != 0);
    u8 sum = 0;
    for (u32 i = 0; i < 512; ++i) sum = static_cast<u8>(sum + b.get<u8>(kData + i));
    CHECK(sum == 0);
    CHECK(b.get<u32>(kList + 4) == 512);  // bytes transferred
    CHECK(b.get<u8>(kFis + kRfisPioSetup) == 0x5f);
    CHECK(b.get<u8>(kFis + kRfisPioSetup + 15) == 0x50);
    b.write(kP0 + kPxIs, ~0u);
    b.write(kIs, 1);
    CHECK(b.read(kIs) == 0);
}

TEST_CASE("ahci: DMA commands gather and scatter over odd pieces", "[devices][ahci]") {
    Board b;
    b.start();
    b.prepare(3, 0x25, 100, 200, 0, {{kData + 2, 1000}, {kData + 0x20000, 100000}, {kData + 0x80000, 1400}});
    b.issue(3);
    CHECK((b.port(kPxIs) & kIsDeviceToHost) != 0);
    CHECK(b.get<u32>(kList + 3 * 32 + 4) == 200 * 512);
    CHECK(b.get<u8>(kData + 2) == b.disk->data[100 * 512]);
    CHECK(b.get<u8>(kData + 0x20000) == b.disk->data[100 * 512 + 1000]);
    CHECK(b.get<u8>(kData + 0x80000 + 1399) == b.disk->data[300 * 512 - 1]);
    CHECK(b.get<u8>(kData + 0x80000 + 1400) == 0);

    b.put(kData, std::array<u8, 512>{1, 2, 3});
    b.prepare(0, 0xca, 7, 1, 0, {{kData, 512}});  // WRITE DMA, 28 bits
    b.issue(0);
    CHECK(b.disk->data[7 * 512 + 2] == 3);
    CHECK(b.disk->flushes == 0);
    b.prepare(0, 0xea, 0, 0, 0, {});
    b.issue(0);
    CHECK(b.disk->flushes == 1);
    b.prepare(0, 0x3d, 8, 1, 0, {{kData, 512}});  // FUA
    b.issue(0);
    CHECK(b.disk->flushes == 2);
    // A count of zero is 65536 sectors: more than there are.
    b.prepare(0, 0x25, 0, 0, 0, {{kData, 512}});
    b.issue(0);
    CHECK(b.port(kPxTfd) == 0x1051);
}

TEST_CASE("ahci: queued commands complete one after the other in virtual time", "[devices][ahci]") {
    Board b;
    b.start();
    b.queued(5, 0x60, 10, 8, kData);
    b.queued(9, 0x60, 50, 128, kData + 0x10000);
    CHECK(b.port(kPxSact) == (1u << 5 | 1u << 9));
    CHECK(b.port(kPxCi) == (1u << 5 | 1u << 9));
    b.time.run_for(AhciPort::kCommandLatency);
    CHECK(b.port(kPxSact) == 1u << 9);
    CHECK(b.port(kPxCi) == 1u << 9);
    CHECK(b.holds_disk(kData, 10, 8));
    CHECK_FALSE(b.holds_disk(kData + 0x10000, 50, 128));
    CHECK(b.get<u8>(kFis + kRfisSetDeviceBits) == 0xa1);
    CHECK(b.get<u32>(kFis + kRfisSetDeviceBits + 4) == 1u << 5);
    CHECK(b.sink.sent.size() == 1);
    b.time.run_for(AhciPort::kCommandLatency + 8 * 512 * 1000 / AhciPort::kBytesPerMicrosecond);
    CHECK(b.port(kPxSact) == 0);
    CHECK(b.holds_disk(kData + 0x10000, 50, 128));
    CHECK(b.sink.sent.size() == 1);  // the first was not acknowledged yet
    b.write(kP0 + kPxIs, ~0u);
    b.write(kIs, 1);
    b.put(kData, std::array<u8, 512>{9});
    b.queued(0, 0x61, 20, 1, kData);
    b.time.run_for(1'000'000);
    CHECK(b.disk->data[20 * 512] == 9);
    CHECK(b.sink.sent.size() == 2);
}

TEST_CASE("ahci: a queued command that fails stops the list and is named in the log", "[devices][ahci]") {
    Board b;
    b.start();
    b.queued(4, 0x60, kDiskBytes / 512, 1, kData);
    b.queued(6, 0x60, 0, 1, kData);
    b.time.run_for(1'000'000);
    CHECK((b.port(kPxIs) & kIsTaskFile) != 0);
    CHECK(b.port(kPxTfd) == 0x1051);
    CHECK(b.port(kPxSact) == (1u << 4 | 1u << 6));
    // Recovery as drivers do it: stop, start, read the log.
    b.write(kP0 + kPxCmd, kCmdFisReceive);
    CHECK(b.port(kPxSact) == 0);
    CHECK(b.port(kPxCi) == 0);
    b.write(kP0 + kPxSerr, ~0u);
    b.write(kP0 + kPxIs, ~0u);
    b.write(kP0 + kPxCmd, kCmdFisReceive | kCmdStart);
    b.prepare(0, 0x2f, 0x10, 1, 0, {{kData, 512}});
    b.issue(0);
    CHECK(b.port(kPxTfd) == 0x50);
    CHECK(b.get<u8>(kData) == 4);         // the tag
    CHECK(b.get<u8>(kData + 3) == 0x10);  // the error: no such address
    b.issue(0);
    CHECK(b.get<u8>(kData) == 0x80);  // told once
    b.queued(6, 0x60, 0, 1, kData);
    b.time.run_for(1'000'000);
    CHECK(b.holds_disk(kData, 0, 1));
}

TEST_CASE("ahci: failures of the medium, unknown commands and locked disks are task file errors", "[devices][ahci]") {
    Board b;
    const auto answer = [&](u8 command, u16 count) {
        b.start();
        b.prepare(0, command, 0, count, 0, {{kData, 4096}});
        b.issue(0);
        return b.port(kPxTfd);
    };
    CHECK(answer(0xff, 0) == 0x0451);
    CHECK(answer(0xa1, 0) == 0x0451);  // no packets here
    CHECK(answer(0xc6, 3) == 0x0451);
    CHECK(answer(0xc6, 16) == 0x50);
    b.disk->broken = true;
    CHECK(answer(0x25, 1) == 0x4051);
    CHECK(answer(0x35, 1) == 0x4051);
    CHECK(answer(0xea, 0) == 0x0451);
    b.disk->broken = false;
    b.disk->locked = true;
    CHECK(answer(0x35, 1) == 0x0451);
    CHECK(answer(0x25, 1) == 0x50);
}

TEST_CASE("ahci: TRIM discards what its ranges say and nothing outside", "[devices][ahci]") {
    Board b;
    b.start();
    b.put(kData, std::array<u64, 64>{2 | u64{4} << 48, 0, 100 | u64{1} << 48});
    b.prepare(0, 0x06, 0, 1, 1, {{kData, 512}});
    b.issue(0);
    CHECK(b.port(kPxTfd) == 0x50);
    CHECK(b.disk->discards == 2);
    CHECK(b.disk->data[2 * 512 + 1] == 0);
    CHECK(b.disk->data[6 * 512 + 1] != 0);
    b.put(kData, std::array<u64, 64>{(kDiskBytes / 512 - 1) | u64{2} << 48});
    b.issue(0);
    CHECK(b.port(kPxTfd) == 0x0451);
    CHECK(b.disk->discards == 2);
}

TEST_CASE("ahci: hostile tables and addresses end in an error, not in the host's memory", "[devices][ahci]") {
    Board b;
    b.start();
    SECTION("the table is too short") {
        b.prepare(0, 0x25, 0, 16, 0, {{kData, 512}, {kData + 512, 2}});
        b.issue(0);
        CHECK((b.port(kPxIs) & (kIsOverflow | kIsTaskFile)) == (kIsOverflow | kIsTaskFile));
        CHECK(b.get<u8>(kData + 514) == 0);
    }
    SECTION("there is no table") {
        b.prepare(0, 0x35, 0, 16, 0, {});
        b.issue(0);
        CHECK((b.port(kPxIs) & kIsTaskFile) != 0);
    }
    SECTION("data outside of memory") {
        b.prepare(0, 0x25, 0, 1, 0, {{~u64{0} - 100, 512}});
        b.issue(0);
        CHECK((b.port(kPxIs) & kIsHostBusFatal) != 0);
        CHECK(b.port(kPxCi) == 1);
    }
    SECTION("data on the controller's own registers") {
        b.prepare(0, 0x25, 0, 1, 0, {{PciBench::kLow, 512}});
        b.issue(0);
        CHECK((b.port(kPxIs) & kIsHostBusFatal) != 0);
    }
    SECTION("a table that is its own target") {
        b.prepare(0, 0x25, 0, 256, 0, {{kTables, 4096}, {kTables, 0x400000}});
        b.issue(0);
        CHECK(b.port(kPxCi) <= 1);
    }
    SECTION("the command list is nowhere") {
        b.write(kP0 + kPxClbu, 0x80000000);
        b.issue(0);
        CHECK((b.port(kPxIs) & kIsHostBusFatal) != 0);
    }
    SECTION("the received FIS area is nowhere") {
        b.write(kP0 + kPxFbu, 0x80000000);
        b.prepare(0, 0x25, 0, 1, 0, {{kData, 512}});
        b.issue(0);
        CHECK((b.port(kPxIs) & kIsHostBusFatal) != 0);
    }
    SECTION("every slot at once, issued again and again") {
        for (int i = 0; i < 3; ++i) {
            for (u32 slot = 0; slot < 32; ++slot) b.queued(slot, 0x60, slot, 1, kData + slot * 512);
            b.time.run_for(1'000'000);
            CHECK(b.port(kPxSact) == 0);
        }
        CHECK(b.holds_disk(kData, 0, 32));
    }
    SECTION("bus mastering is off") {
        b.config(*b.adapter.pci(), pci::kCommand, 2, pci::kMemorySpace);
        b.issue(0);
        CHECK((b.port(kPxIs) & kIsHostBusFatal) != 0);
        CHECK(b.sink.sent.empty());
    }
    // Whatever it was: a reset brings everything back.
    b.start();
    b.config(*b.adapter.pci(), pci::kCommand, 2, pci::kMemorySpace | pci::kBusMaster);
    b.write(kP0 + kPxClbu, 0);
    b.write(kP0 + kPxFbu, 0);
    b.prepare(0, 0x25, 40, 4, 0, {{kData, 2048}});
    b.issue(0);
    CHECK(b.port(kPxTfd) == 0x50);
    CHECK(b.holds_disk(kData, 40, 4));
}

TEST_CASE("ahci: a software reset by control FISes gives the signature back", "[devices][ahci]") {
    Board b;
    b.start();
    b.prepare(0, 0, 0, 0, 0, {});
    b.put<u8>(kTables + 1, 0);
    b.put<u8>(kTables + 15, 4);
    b.issue(0);
    CHECK(b.port(kPxCi) == 0);
    b.put<u8>(kTables + 15, 0);
    b.issue(0);
    CHECK(b.port(kPxCi) == 0);
    CHECK(b.port(kPxTfd) == 0x150);
    CHECK(b.port(kPxSig) == 0x101);
}

TEST_CASE("ahci: the pin stays up until all is acknowledged", "[devices][ahci]") {
    Board b;
    b.start();
    const u32 msi = b.capability(*b.adapter.pci(), pci::kCapMsi);
    b.config(*b.adapter.pci(), msi + pci::kMsiControl, 2, 0);
    b.prepare(0, 0x25, 0, 1, 0, {{kData, 512}});
    b.issue(0);
    RecordingIrq& irq = b.irqs[b.bus.input_of(31, 1)];
    CHECK(irq.high);
    b.write(kIs, 1);
    CHECK(irq.high);  // the port still asks
    b.write(kP0 + kPxIs, ~0u);
    b.write(kIs, 1);
    CHECK_FALSE(irq.high);
}
