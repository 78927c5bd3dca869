#include <catch2/catch.hpp>

#include "devices/core/pci_bus.h"
#include "tests/support/device_contract.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

/// A function with one of everything; its registers remember the last write.
class Sample final : public Device, public PortIo, public mmu::MmioHandler {
  public:
    explicit Sample(const PciSlot& slot)
        : pci_(slot, {.vendor = 0x1234, .device = 0x5678, .class_code = 0x010802, .revision = 3}) {
        pci_.add_memory_bar(0, 0x4000, PciFunction::Memory::Bits64, *this);
        pci_.add_memory_bar(2, 0x1000, PciFunction::Memory::Bits32, *this);
        pci_.add_io_bar(4, 32, *this);
        pci_.set_interrupt_pin(1);
        pci_.add_power_management();
        pci_.add_msi(4);
        pci_.add_msix(5, 2, 0x800, 0xc00);
        pci_.add_express([this] { reset(); });
        pci_.set_register(0xf0, 4, 0x11223344, 0x0000ff00);
    }
    [[nodiscard]] std::string_view name() const override { return "sample"; }
    void reset() override {
        last_ = offset_ = 0;
        pci_.reset();
    }
    void fields(StateVisitor& v) override {
        pci_.fields(v);
        v("last", last_);
        v("offset", offset_);
    }
    PciFunction* pci() override { return &pci_; }
    u64 mmio_read(u64 offset, unsigned) override { return 0xabc00000 + offset; }
    void mmio_write(u64 offset, unsigned, u64 value) override { offset_ = offset, last_ = value; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override {
        value = size == 4 ? 0x10u + offset : 0x77u;
        return IoStatus::Ok;
    }
    IoStatus port_write(u16 offset, unsigned, u32 value) override {
        offset_ = offset, last_ = value;
        return IoStatus::Ok;
    }

    PciFunction pci_;
    u64 last_ = 0, offset_ = 0;
};

struct Board : PciBench {
    Board() {
        bus.attach(device.pci_);
        bus.attach(other.pci_);
    }
    u32 read(u32 offset, unsigned size) { return config(device.pci_, offset, size); }
    void write(u32 offset, unsigned size, u32 value) { config(device.pci_, offset, size, value); }
    Sample device{bus.slot(3)};
    Sample other{bus.slot(11)};
};

}  // namespace

TEST_CASE("pci: a function keeps the device contract", "[devices][pci]") {
    PciBench bench;
    std::deque<LoneSlot> slots;
    check_device_contract<Sample>([&] { return std::make_unique<Sample>(slots.emplace_back(bench.dma).slot()); },
                                  [](Sample& sample) {
                                      sample.pci_.config_write(pci::kCommand, 2, 7);
                                      sample.pci_.config_write(pci::kBar0, 4, 0xc0000000);
                                      sample.pci_.memory_write(2, 0x804, 4, 5);
                                      sample.pci_.set_intx(true);
                                  });
}

TEST_CASE("pci: both configuration mechanisms reach the same registers", "[devices][pci]") {
    Board b;
    CHECK(b.read(0, 4) == 0x56781234);
    CHECK(b.read(8, 4) == 0x01080203);
    CHECK(b.read(2, 2) == 0x5678);
    const auto in = [&](u16 offset, unsigned size) {
        u32 value = 0;
        CHECK(b.bus.config_data().port_read(offset, size, value) == IoStatus::Ok);
        return value;
    };
    REQUIRE(b.bus.config_address().port_write(0, 4, 0x80000000 | 3u << 11 | 0xf0) == IoStatus::Ok);
    CHECK(in(0, 4) == 0x11223344);
    CHECK(in(1, 1) == 0x33);
    CHECK(in(2, 2) == 0x1122);
    CHECK(b.bus.config_data().port_write(0, 4, ~0u) == IoStatus::Ok);
    CHECK(b.read(0xf0, 4) == 0x1122ff44);
    // The low bits of the address add to the port's offset, cut to the access's size, and are not read back.
    REQUIRE(b.bus.config_address().port_write(0, 4, 0x80000000 | 3u << 11 | 0x02) == IoStatus::Ok);
    CHECK(in(0, 2) == 0x5678);
    CHECK(in(0, 1) == 0x78);
    CHECK(in(1, 1) == 0x56);
    CHECK(in(0, 4) == 0x56781234);
    u32 address = 0;
    CHECK(b.bus.config_address().port_read(0, 4, address) == IoStatus::Ok);
    CHECK(address == (0x80000000 | 3u << 11));
    REQUIRE(b.bus.config_address().port_write(0, 4, 3u << 11) == IoStatus::Ok);
    CHECK(in(0, 4) == ~0u);  // not enabled
    CHECK(b.bus.config_address().port_write(0, 1, 0) == IoStatus::NoRegister);
    // Nobody there, in whatever size and place.
    CHECK(b.bus.ecam().mmio_read(5 << 15, 4) == 0xffffffff);
    CHECK(b.bus.ecam().mmio_read(u64{200} << 20, 8) == ~u64{0});
    CHECK(b.bus.ecam().mmio_read(u64{3} << 15, 8) == 0x0010'0000'5678'1234);
    CHECK(b.bus.ecam().mmio_read((u64{3} << 15) + 1, 2) == 0x7812);
    CHECK(b.read(0x100, 4) == 0);  // no extended capabilities
}

TEST_CASE("pci: base addresses are sized and moved", "[devices][pci]") {
    Board b;
    b.write(pci::kBar0, 4, ~0u);
    b.write(pci::kBar0 + 4, 4, ~0u);
    CHECK(b.read(pci::kBar0, 4) == 0xffffc004);
    CHECK(b.read(pci::kBar0 + 4, 4) == 0xffffffff);
    b.write(pci::kBar0 + 8, 4, ~0u);
    CHECK(b.read(pci::kBar0 + 8, 4) == 0xfffff000);
    b.write(pci::kBar0 + 16, 4, ~0u);
    CHECK(b.read(pci::kBar0 + 16, 4) == 0xffffffe1);
    b.write(pci::kBar0 + 12, 4, ~0u);
    CHECK(b.read(pci::kBar0 + 12, 4) == 0);

    b.write(pci::kBar0 + 4, 4, 0);
    b.write(pci::kBar0, 4, 0xc0010000);
    CHECK(b.PciBench::read(0x10010) == 0xffffffff);  // decoding is off
    b.write(pci::kCommand, 2, pci::kMemorySpace | pci::kIoSpace);
    CHECK(b.PciBench::read(0x10010) == 0xabc00010);
    b.write(pci::kBar0, 4, 0xc0020000);
    CHECK(b.PciBench::read(0x10010) == 0xffffffff);
    CHECK(b.PciBench::read(0x20010) == 0xabc00010);
    b.PciBench::write(0x20020, 0x1234, 2);
    CHECK(b.device.last_ == 0x1234);
    CHECK(b.device.offset_ == 0x20);
    // Above 4 GiB.
    b.write(pci::kBar0 + 4, 4, 1);
    CHECK(b.bus.high_memory().mmio_read(0xc0020000, 4) == 0xabc00000);
    // Across the end of a range: all-ones from where nobody is.
    CHECK((b.bus.high_memory().mmio_read(0xc0023ffe, 4) >> 16) == 0xffff);

    b.write(pci::kBar0 + 16, 4, 0xc100);
    u32 value = 0;
    CHECK(b.bus.ports().port_read(0x104, 4, value) == IoStatus::Ok);
    CHECK(value == 0x14);
    CHECK(b.bus.ports().port_read(0x120, 1, value) == IoStatus::NoRegister);
    CHECK(b.bus.ports().port_read(0x11e, 4, value) == IoStatus::BadSize);
}

TEST_CASE("pci: a base address over RAM, chips or the end of the window has no effect", "[devices][pci]") {
    Board b;
    b.put<u32>(0x10000, 0x600d);
    b.write(pci::kCommand, 2, 7);
    for (const u64 base : {u64{0x10000}, u64{0xfec00000}, u64{0xfee00000}, ~u64{0}, u64{1} << 63}) {
        b.write(pci::kBar0, 4, static_cast<u32>(base));
        b.write(pci::kBar0 + 4, 4, static_cast<u32>(base >> 32));
        CHECK(b.memory.read<u32>(Spa(0x10000)) == 0x600d);
        CHECK(b.PciBench::read(0xfffe000) == 0xffffffff);
    }
    b.write(pci::kBar0 + 16, 4, 0x3f8);
    u32 value = 0;
    CHECK(b.bus.ports().port_read(0x3f8, 4, value) == IoStatus::NoRegister);
    // Two functions at one address: the one with the lower number answers, always.
    b.config(b.other.pci_, pci::kCommand, 2, 7);
    for (auto* f : {&b.other.pci_, &b.device.pci_}) {
        b.config(*f, pci::kBar0, 4, 0xc0000000);
        b.config(*f, pci::kBar0 + 4, 4, 0);
    }
    b.PciBench::write(0x40, 9);
    CHECK(b.device.last_ == 9);
    CHECK(b.other.last_ == 0);
}

TEST_CASE("pci: DMA and messages need bus mastering", "[devices][pci]") {
    Board b;
    u32 value = 0;
    CHECK_FALSE(b.device.pci_.dma().read(Iova(0x1000), &value, 4));
    CHECK_FALSE(b.device.pci_.dma().write(Iova(0x1000), &value, 4));
    const u32 msi = b.capability(b.device.pci_, pci::kCapMsi);
    REQUIRE(msi != 0);
    b.write(msi + pci::kMsiAddress, 4, 0xfee00000);
    b.write(msi + pci::kMsiControl, 2, pci::kMsiEnable);
    b.device.pci_.signal(0);
    CHECK(b.sink.sent.empty());
    b.write(pci::kCommand, 2, pci::kBusMaster);
    CHECK(b.device.pci_.dma().read(Iova(0x1000), &value, 4));
    CHECK_FALSE(b.device.pci_.dma().read(Iova(0xc0000000), &value, 4));  // not RAM
    b.device.pci_.signal(0);
    CHECK(b.sink.sent.size() == 1);
}

TEST_CASE("pci: MSI messages carry their vector and wait while masked", "[devices][pci]") {
    Board b;
    b.write(pci::kCommand, 2, pci::kBusMaster);
    const u32 msi = b.capability(b.device.pci_, pci::kCapMsi);
    CHECK(b.read(msi + pci::kMsiControl, 2) == (pci::kMsi64Bit | pci::kMsiPerVectorMask | 2u << 1));
    b.write(msi + pci::kMsiAddress, 4, 0xfee01004);
    b.write(msi + pci::kMsiAddressHigh, 4, 1);
    b.write(msi + pci::kMsiData, 2, 0x40);
    b.device.pci_.signal(1);
    CHECK(b.sink.sent.empty());
    b.write(msi + pci::kMsiControl, 2, pci::kMsiEnable | 2u << 4);
    CHECK(b.device.pci_.enabled_vectors() == 4);
    b.device.pci_.signal(3);
    CHECK(b.sink.sent.back() == std::pair<u64, u32>{0x1'fee01004, 0x43});
    b.write(msi + pci::kMsiMask, 4, 2);
    b.device.pci_.signal(1);
    CHECK(b.sink.sent.size() == 1);
    CHECK(b.read(msi + pci::kMsiPending, 4) == 2);
    b.write(msi + pci::kMsiMask, 4, 0);
    CHECK(b.sink.sent.back() == std::pair<u64, u32>{0x1'fee01004, 0x41});
    CHECK(b.read(msi + pci::kMsiPending, 4) == 0);
    b.write(msi + pci::kMsiControl, 2, pci::kMsiEnable | 7u << 4);  // more than it can
    CHECK(b.device.pci_.enabled_vectors() == 4);
    b.write(msi + pci::kMsiControl, 2, pci::kMsiEnable);
    b.device.pci_.signal(3);
    CHECK(b.sink.sent.back().second == 0x40);
}

TEST_CASE("pci: MSI-X vectors are masked one by one and as a whole", "[devices][pci]") {
    Board b;
    b.place(b.device.pci_, 2, 0);
    const u32 msix = b.capability(b.device.pci_, pci::kCapMsix);
    CHECK(b.read(msix + pci::kMsixControl, 2) == 4);
    CHECK(b.read(msix + pci::kMsixTable, 4) == 0x802);
    CHECK(b.PciBench::read(0x80c) == 1);
    b.PciBench::write(0x810, 0xfee00000);
    b.PciBench::write(0x814, 0);
    b.PciBench::write(0x818, 0x55);
    b.write(msix + pci::kMsixControl, 2, pci::kMsixEnable | pci::kMsixFunctionMask);
    b.device.pci_.signal(1);
    CHECK(b.PciBench::read(0xc00) == 2);
    b.write(msix + pci::kMsixControl, 2, pci::kMsixEnable);
    CHECK(b.sink.sent.empty());
    b.PciBench::write(0x81c, 0xfffffffe);
    CHECK(b.PciBench::read(0x81c) == 0);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0] == std::pair<u64, u32>{0xfee00000, 0x55});
    CHECK(b.PciBench::read(0xc00, 8) == 0);
    b.device.pci_.signal(1);
    CHECK(b.sink.sent.size() == 2);
    b.device.pci_.signal(5);
    b.device.pci_.signal(~0u);
    CHECK(b.sink.sent.size() == 2);
    // Eight bytes at once, and a write across two registers.
    b.PciBench::write(0x820, 0x1'fee02000, 8);
    CHECK(b.PciBench::read(0x820, 8) == 0x1'fee02000);
    CHECK(b.PciBench::read(0x840, 4) == 0);           // the fifth
    CHECK(b.PciBench::read(0x850, 4) == 0xabc00850);  // behind the table: the device's own
}

TEST_CASE("pci: pins share inputs and are silent with messages", "[devices][pci]") {
    Board b;  // devices 3 and 11 share input 3
    CHECK(b.bus.input_of(3, 1) == 3);
    CHECK(b.bus.input_of(11, 1) == 3);
    CHECK(b.bus.input_of(7, 2) == 0);
    b.device.pci_.set_intx(true);
    CHECK(b.irqs[3].high);
    CHECK((b.read(pci::kStatus, 2) & pci::kInterruptStatus) != 0);
    b.other.pci_.set_intx(true);
    b.device.pci_.set_intx(false);
    CHECK(b.irqs[3].high);
    b.other.pci_.set_intx(false);
    CHECK_FALSE(b.irqs[3].high);
    b.device.pci_.set_intx(true);
    b.write(pci::kCommand, 2, pci::kIntxDisable);
    CHECK_FALSE(b.irqs[3].high);
    CHECK((b.read(pci::kStatus, 2) & pci::kInterruptStatus) != 0);
    b.write(pci::kCommand, 2, 0);
    CHECK(b.irqs[3].high);
    const u32 msi = b.capability(b.device.pci_, pci::kCapMsi);
    b.write(msi + pci::kMsiControl, 2, pci::kMsiEnable);
    CHECK_FALSE(b.irqs[3].high);
}

TEST_CASE("pci: D3hot keeps state and answers nothing but configuration; a function level reset clears all",
          "[devices][pci]") {
    Board b;
    b.place(b.device.pci_, 2, 0);
    const u32 pm = b.capability(b.device.pci_, pci::kCapPowerManagement);
    REQUIRE(pm != 0);
    b.write(pm + pci::kPmControl, 2, 3);
    CHECK(b.PciBench::read(0) == 0xffffffff);
    b.write(pm + pci::kPmControl, 2, 0);
    CHECK(b.PciBench::read(0) == 0xabc00000);
    const u32 express = b.capability(b.device.pci_, pci::kCapExpress);
    REQUIRE(express != 0);
    b.write(express + pci::kExpDeviceControl, 2, pci::kExpInitiateReset);
    CHECK(b.read(pci::kCommand, 2) == 0);
    CHECK(b.read(pci::kBar0 + 8, 4) == 0);
    CHECK(b.read(express + pci::kExpDeviceControl, 2) == pci::kExpControlReset);
}
