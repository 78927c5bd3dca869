// The IDE function driven through its ports and region tables as a driver does.
#include <catch2/catch.hpp>

#include "devices/ide.h"
#include "tests/support/device_contract.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::ide;
using namespace vg::test;

namespace {

constexpr u64 kDiskBytes = 4 << 20, kTable = 0x10000, kBuffer = 0x100000;
constexpr u8 kReadyStatus = 0x50, kBusyStatus = 0x80, kDataStatus = 0x58, kErrorStatus = 0x51;

struct Board : PciBench {
    Board() : ide(bus.slot(7), time.events, {&irqs[0], &irqs[1]}) {
        bus.attach(*ide.pci());
        auto medium = std::make_unique<MemoryDisk>(kDiskBytes);
        disk = medium.get();
        for (u64 i = 0; i < kDiskBytes; ++i) disk->data[i] = static_cast<u8>(i >> 9 ^ i);
        ide.attach(0, 0, std::make_unique<AtaDisk>(std::move(medium), "SERIAL", AtaDisk::Transport::Parallel));
        ide.leave_as_firmware();
        config(*ide.pci(), pci::kBar0 + Ide::kMasterBar * 4, 4, 0xc000);
        config(*ide.pci(), pci::kCommand, 2, pci::kIoSpace | pci::kBusMaster);
    }
    u8 in(u16 reg, u32 channel = 0) { return in8(ide.command_ports(channel), reg); }
    void out(u16 reg, u8 value, u32 channel = 0) { out8(ide.command_ports(channel), reg, value); }
    u8 alternate() { return in8(ide.control_port(0), 0); }
    u16 word() {
        u32 value = 0;
        CHECK(ide.command_ports(0).port_read(ide::kData, 2, value) == IoStatus::Ok);
        return static_cast<u16>(value);
    }
    void word(u16 value) { CHECK(ide.command_ports(0).port_write(ide::kData, 2, value) == IoStatus::Ok); }
    /// A 28-bit command to the first drive.
    void command(u8 code, u32 lba, u8 count) {
        out(kCount, count);
        out(kLbaLow, static_cast<u8>(lba));
        out(kLbaMid, static_cast<u8>(lba >> 8));
        out(kLbaHigh, static_cast<u8>(lba >> 16));
        out(kDevice, static_cast<u8>(0xe0 | lba >> 24));
        out(kStatusCommand, code);
    }
    /// A 48-bit one.
    void extended(u8 code, u64 lba, u16 count) {
        out(kCount, static_cast<u8>(count >> 8));
        out(kLbaLow, static_cast<u8>(lba >> 24));
        out(kLbaMid, static_cast<u8>(lba >> 32));
        out(kLbaHigh, static_cast<u8>(lba >> 40));
        command(code, static_cast<u32>(lba & 0xffffff), static_cast<u8>(count));
    }
    void settle() { time.run_for(100'000'000); }
    u8 master(u16 reg) { return in8(*ide.port_io(), reg); }
    void master(u16 reg, u8 value) { out8(*ide.port_io(), reg, value); }
    void table(std::initializer_list<Region> regions) {
        u64 at = kTable;
        for (const Region& region : regions) {
            put(at, region);
            at += sizeof region;
        }
        CHECK(ide.port_io()->port_write(kMasterTable, 4, kTable) == IoStatus::Ok);
    }
    bool holds_disk(u64 address, u64 lba, u64 bytes) {
        std::vector<u8> content(bytes);
        memory.read(Spa(address), content.data(), content.size());
        return std::equal(content.begin(), content.end(), disk->data.begin() + static_cast<std::ptrdiff_t>(lba * 512));
    }

    TestTime time;
    Ide ide;
    MemoryDisk* disk = nullptr;
};

}  // namespace

TEST_CASE("ide: keeps the device contract", "[devices][ide]") {
    PciBench bench;
    std::deque<LoneSlot> slots;
    std::deque<TestTime> times;
    std::deque<RecordingIrq> lines;
    check_device_contract<Ide>(
        [&] {
            auto& first = lines.emplace_back();
            auto& second = lines.emplace_back();
            auto device = std::make_unique<Ide>(slots.emplace_back(bench.dma).slot(), times.emplace_back().events,
                                                std::array<IrqLine*, 2>{&first, &second});
            device->attach(1, 1, std::make_unique<AtaDisk>(std::make_unique<MemoryDisk>(1 << 20), "S",
                                                           AtaDisk::Transport::Parallel));
            return device;
        },
        [](Ide& device) {
            device.leave_as_firmware();
            device.pci()->config_write(pci::kCommand, 2, 5);
            out8(device.command_ports(1), kDevice, 0xf0);
            out8(device.command_ports(1), kCount, 3);
            out8(device.command_ports(1), kStatusCommand, 0x20);
            out8(*device.port_io(), kMasterTable, 0x44);
        },
        16);
}

TEST_CASE("ide: a channel is decoded when its bit and I/O space are on", "[devices][ide]") {
    Board b;
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    u32 value = 0;
    b.config(*b.ide.pci(), kTiming, 2, 0);
    CHECK(b.ide.command_ports(0).port_read(kStatusCommand, 1, value) == IoStatus::NoRegister);
    CHECK(b.ide.command_ports(1).port_read(kStatusCommand, 1, value) == IoStatus::Ok);
    b.config(*b.ide.pci(), pci::kCommand, 2, 0);
    CHECK(b.ide.command_ports(1).port_read(kStatusCommand, 1, value) == IoStatus::NoRegister);
    CHECK(b.ide.control_port(1).port_write(0, 1, 0) == IoStatus::NoRegister);
}

TEST_CASE("ide: an absent drive reads as zero and executes nothing", "[devices][ide]") {
    Board b;
    b.out(kDevice, 0xb0);
    b.out(kCount, 0x55);
    CHECK(b.in(kCount) == 0);
    CHECK(b.in(kStatusCommand) == 0);
    b.out(kStatusCommand, 0xec);
    b.settle();
    CHECK(b.irqs[0].rises == 0);
    b.out(kDevice, 0xa0, 1);
    CHECK(b.in(kStatusCommand, 1) == 0);
    b.out(kDevice, 0xa0);
    CHECK(b.in(kCount) == 0x55);  // the other one has it too
}

TEST_CASE("ide: IDENTIFY describes a disk without a queue, by programmed I/O", "[devices][ide]") {
    Board b;
    b.command(0xec, 0, 0);
    CHECK(b.alternate() == kBusyStatus);
    b.time.run_for(IdeChannel::kCommandLatency);
    CHECK(b.irqs[0].high);
    CHECK(b.alternate() == kDataStatus);  // does not take the interrupt back
    CHECK(b.irqs[0].high);
    CHECK(b.in(kStatusCommand) == kDataStatus);
    CHECK_FALSE(b.irqs[0].high);
    std::array<u16, 256> words{};
    u8 sum = 0;
    for (u16& each : words) {
        each = b.word();
        sum = static_cast<u8>(sum + (each & 0xff) + (each >> 8));
    }
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    CHECK(sum == 0);
    CHECK(words[60] == kDiskBytes / 512);
    CHECK(words[100] == kDiskBytes / 512);
    CHECK(words[76] == 0);
    CHECK(words[88] == 0x0407);  // Ultra DMA 2 of 2
    CHECK(words[10] == ('S' << 8 | 'E'));
    // SET FEATURES chooses another mode, and IDENTIFY says so.
    b.out(kErrorFeatures, 3);
    b.command(0xef, 0, 0x21);
    b.settle();
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    b.command(0xec, 0, 0);
    b.settle();
    for (u16& each : words) each = b.word();
    CHECK(words[63] == 0x0207);
    CHECK(words[88] == 0x0007);
}

TEST_CASE("ide: sectors are read by programmed I/O, an interrupt for each block", "[devices][ide]") {
    Board b;
    const bool multiple = GENERATE(false, true);
    if (multiple) {
        b.command(0xc6, 0, 4);
        b.settle();
        CHECK(b.in(kStatusCommand) == kReadyStatus);
    }
    const int before = b.irqs[0].rises;
    b.command(multiple ? 0xc4 : 0x20, 300, 6);
    std::vector<u8> content;
    for (u32 sector = 0; sector < 6; ++sector) {
        if (sector == 0 || !multiple || sector == 4) {
            b.settle();
            REQUIRE(b.in(kStatusCommand) == kDataStatus);
        }
        for (u32 i = 0; i < 256; ++i) {
            const u16 word = b.word();
            content.push_back(static_cast<u8>(word));
            content.push_back(static_cast<u8>(word >> 8));
        }
    }
    CHECK(b.irqs[0].rises - before == (multiple ? 2 : 6));
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    CHECK(std::equal(content.begin(), content.end(), b.disk->data.begin() + 300 * 512));
    CHECK(b.word() == 0);
}

TEST_CASE("ide: sectors are written by programmed I/O, the first block without an interrupt", "[devices][ide]") {
    Board b;
    b.extended(0x34, 1000, 2);
    b.settle();
    CHECK(b.irqs[0].rises == 0);
    for (u32 sector = 0; sector < 2; ++sector) {
        REQUIRE(b.in(kStatusCommand) == kDataStatus);
        for (u32 i = 0; i < 128; ++i) {
            CHECK(b.ide.command_ports(0).port_write(kData, 4, 0xabcd0000 + sector * 128 + i) == IoStatus::Ok);
        }
        CHECK(b.in(kStatusCommand) == kBusyStatus);
        b.settle();
    }
    CHECK(b.irqs[0].rises == 2);
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    CHECK(b.disk->data[1000 * 512 + 4 * 7] == 7);
    CHECK(b.disk->data[1001 * 512] == 128);
    CHECK(b.disk->data[1001 * 512 + 3] == 0xab);
    CHECK(b.disk->flushes == 0);
    b.command(0xe7, 0, 0);
    b.settle();
    CHECK(b.disk->flushes == 1);
}

TEST_CASE("ide: DMA gathers and scatters as the table says", "[devices][ide]") {
    Board b;
    b.table({{kBuffer, 1024}, {kBuffer + 0x20000, 0}, {kBuffer + 0x80000, 1024 | kRegionLast}});
    b.extended(0x25, 100, 132);
    b.settle();
    CHECK(b.alternate() == kBusyStatus);  // waits for the bus master
    b.master(kMasterCommand, kMasterStart | kMasterToMemory);
    CHECK((b.master(kMasterStatus) & kMasterActive) != 0);
    b.settle();
    CHECK(b.irqs[0].high);
    CHECK((b.master(kMasterStatus) & 7) == kMasterInterrupt);
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    CHECK(b.holds_disk(kBuffer, 100, 1024));
    CHECK(b.holds_disk(kBuffer + 0x20000, 102, 65536));
    CHECK(b.holds_disk(kBuffer + 0x80000, 230, 1024));
    b.master(kMasterCommand, 0);
    b.master(kMasterStatus, kMasterInterrupt);
    CHECK((b.master(kMasterStatus) & kMasterInterrupt) == 0);

    // To the disk, the table longer than what is moved: active until it is stopped.
    b.put(kBuffer, std::array<u8, 512>{1, 2, 3});
    b.table({{kBuffer, 4096 | kRegionLast}});
    b.master(kMasterCommand, kMasterStart);
    b.command(0xca, 7, 1);
    b.settle();
    CHECK(b.disk->data[7 * 512 + 2] == 3);
    CHECK((b.master(kMasterStatus) & 7) == (kMasterInterrupt | kMasterActive));
    b.master(kMasterCommand, 0);
    CHECK((b.master(kMasterStatus) & 7) == kMasterInterrupt);
}

TEST_CASE("ide: a table without room, and a refused access, leave the drive waiting until a reset", "[devices][ide]") {
    Board b;
    const bool refused = GENERATE(false, true);
    b.table({{kBuffer, 512 | kRegionLast}});
    if (refused) b.config(*b.ide.pci(), pci::kCommand, 2, pci::kIoSpace);
    b.master(kMasterCommand, kMasterStart | kMasterToMemory);
    b.command(0xc8, 0, 2);
    b.settle();
    CHECK(b.irqs[0].rises == 0);
    CHECK((b.master(kMasterStatus) & 7) == (refused ? kMasterError : 0));
    CHECK(b.alternate() == kBusyStatus);
    b.out(kStatusCommand, 0xec);  // nobody listens
    b.settle();
    CHECK(b.alternate() == kBusyStatus);
    b.master(kMasterCommand, 0);
    out8(b.ide.control_port(0), 0, ata::kControlSoftReset);
    CHECK(b.alternate() == kBusyStatus);
    out8(b.ide.control_port(0), 0, 0);
    CHECK(b.in(kStatusCommand) == kReadyStatus);
    CHECK(b.in(kErrorFeatures) == 1);
    CHECK(b.in(kCount) == 1);
    CHECK(b.in(kLbaLow) == 1);
    CHECK(b.in(kLbaMid) == 0);
    b.command(0xe5, 0, 0);
    b.settle();
    CHECK(b.in(kCount) == 0xff);
}

TEST_CASE("ide: errors are told in the error register", "[devices][ide]") {
    Board b;
    const auto result = [&] {
        b.settle();
        CHECK(b.irqs[0].high);
        CHECK(b.in(kStatusCommand) == kErrorStatus);
        return b.in(kErrorFeatures);
    };
    b.command(0x20, kDiskBytes / 512, 1);
    CHECK(result() == ata::kIdNotFound);
    b.command(0xa1, 0, 0);  // IDENTIFY PACKET DEVICE
    CHECK(result() == ata::kAborted);
    b.command(0x60, 0, 8);  // queued
    CHECK(result() == ata::kAborted);
    b.disk->broken = true;
    b.command(0x20, 0, 1);
    CHECK(result() == ata::kUncorrectable);
    b.command(0xe7, 0, 0);
    CHECK(result() == ata::kAborted);
    b.table({{kBuffer, 512 | kRegionLast}});
    b.master(kMasterCommand, kMasterStart | kMasterToMemory);
    b.command(0xc8, 0, 1);
    CHECK(result() == ata::kUncorrectable);
    b.disk->broken = false;
    b.disk->locked = true;
    b.command(0x30, 0, 1);
    CHECK(result() == ata::kAborted);
}

TEST_CASE("ide: cylinders, heads and sectors are addresses too; the bytes written before are the upper ones", "[devices][ide]") {
    Board b;
    b.out(kCount, 1);
    b.out(kLbaLow, 5);
    b.out(kLbaMid, 1);
    b.out(kLbaHigh, 0);
    b.out(kDevice, 0xa2);
    b.out(kStatusCommand, 0x20);
    b.settle();
    CHECK(b.in(kStatusCommand) == kDataStatus);
    const u64 lba = (1 * 16 + 2) * 63 + 4;
    CHECK((b.word() & 0xff) == b.disk->data[lba * 512]);
    b.out(kLbaLow, 0);  // between two blocks of data nothing is started
    for (u32 i = 1; i < 256; ++i) (void)b.word();
    b.out(kStatusCommand, 0x20);
    b.settle();
    CHECK(b.in(kErrorFeatures) == ata::kIdNotFound);  // there is no sector 0
    b.out(kLbaLow, 0x12);
    b.out(kLbaLow, 0x34);
    out8(b.ide.control_port(0), 0, kHighOrderByte);
    CHECK(b.in(kLbaLow) == 0x12);
    b.out(kCount, 1);
    CHECK(b.in(kLbaLow) == 0x34);
}

TEST_CASE("ide: interrupts can be turned off; a command takes the last one back", "[devices][ide]") {
    Board b;
    out8(b.ide.control_port(0), 0, kNoInterrupt);
    b.command(0xe7, 0, 0);
    b.settle();
    CHECK(b.irqs[0].rises == 0);
    out8(b.ide.control_port(0), 0, 0);
    CHECK(b.irqs[0].high);  // it was pending
    b.command(0xe7, 0, 0);
    CHECK_FALSE(b.irqs[0].high);
    b.settle();
    CHECK(b.irqs[0].high);
    b.out(kDevice, 0xb0);  // the line is that of the selected drive
    CHECK_FALSE(b.irqs[0].high);
}
