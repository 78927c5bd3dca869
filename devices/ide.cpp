#include "devices/ide.h"

namespace vg::devices {

using namespace ide;

namespace {

constexpr u32 kMasterPortsOfAll = Ide::kChannels * kMasterPorts;

}  // namespace

Ide::Ide(const PciSlot& slot, EventQueue& events, const std::array<IrqLine*, kChannels>& irqs)
    : pci_(slot, {.vendor = 0x8086, .device = kDeviceId, .class_code = 0x010180, .revision = 1}),
      master_(
          [this](u16 offset, unsigned size, u32& value) {
              return offset < kMasterPortsOfAll
                         ? channels_[offset / kMasterPorts]->read_master(offset % kMasterPorts, size, value)
                         : IoStatus::NoRegister;
          },
          [this](u16 offset, unsigned size, u32 value) {
              return offset < kMasterPortsOfAll
                         ? channels_[offset / kMasterPorts]->write_master(offset % kMasterPorts, size, value)
                         : IoStatus::NoRegister;
          }) {
    pci_.add_io_bar(kMasterBar, kMasterPortsOfAll, master_);
    for (u32 i = 0; i < kChannels; ++i) pci_.set_register(kTiming + i * 2, 2, 0, 0xffff);
    pci_.set_register(kSlaveTiming, 1, 0, 0xff);
    pci_.set_register(kUdmaControl, 1, 0, 0x0f);
    pci_.set_register(kUdmaTiming, 2, 0, 0x3333);
    for (u32 i = 0; i < kChannels; ++i) {
        channels_[i] = std::make_unique<IdeChannel>(i, events, pci_.dma(), *irqs[i]);
        command_[i] = std::make_unique<PortWindow>(
            [this, i](u16 offset, unsigned size, u32& value) {
                if (!decodes(i) || offset >= kCommandPorts) return IoStatus::NoRegister;
                return channels_[i]->read(offset, size, value);
            },
            [this, i](u16 offset, unsigned size, u32 value) {
                if (!decodes(i) || offset >= kCommandPorts) return IoStatus::NoRegister;
                return channels_[i]->write(offset, size, value);
            });
        control_[i] = std::make_unique<PortWindow>(
            [this, i](u16 offset, unsigned size, u32& value) {
                if (!decodes(i) || offset != 0) return IoStatus::NoRegister;
                if (size != 1) return IoStatus::BadSize;
                value = channels_[i]->alternate_status();
                return IoStatus::Ok;
            },
            [this, i](u16 offset, unsigned size, u32 value) {
                if (!decodes(i) || offset != 0) return IoStatus::NoRegister;
                if (size != 1) return IoStatus::BadSize;
                channels_[i]->write_control(static_cast<u8>(value));
                return IoStatus::Ok;
            });
    }
}

void Ide::map_ports(IoBus& io) {
    static constexpr const char* kNames[][2] = {{"ide_primary", "ide_primary_control"},
                                                {"ide_secondary", "ide_secondary_control"}};
    for (u32 i = 0; i < kChannels; ++i) {
        io.map(kNames[i][0], kCommandPort[i], kCommandPorts, *command_[i]);
        io.map(kNames[i][1], kControlPort[i], 1, *control_[i]);
    }
}

void Ide::leave_as_firmware() {
    for (u32 i = 0; i < kChannels; ++i) pci_.config_write(kTiming + i * 2, 2, kDecodeEnable);
}

bool Ide::decodes(u32 channel) const {
    return (pci_.peek(pci::kCommand, 2) & pci::kIoSpace) != 0 &&
           (pci_.peek(kTiming + channel * 2, 2) & kDecodeEnable) != 0;
}

void Ide::reset() {
    for (const auto& channel : channels_) channel->reset();
    pci_.reset();
}

void Ide::fields(StateVisitor& v) {
    pci_.fields(v);
    for (const auto& channel : channels_) channel->fields(v);
}

}  // namespace vg::devices
