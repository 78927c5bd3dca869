#include "machine/legacy_chips.h"

#include <fmt/format.h>

#include "base/state.h"

namespace vg::machine {

LegacyChips::LegacyChips(EventQueue& events, devices::IoBus& io, Chipset& chipset, const std::function<void()>& reset,
                         bool shared)
    : timer_line_(chipset.isa_line(0)) {
    using devices::I8042, devices::PicPair, devices::Pit8254;
    io.map("pic_master", PicPair::kMasterPort, 2, pic_.master_ports());
    io.map("pic_slave", PicPair::kSlavePort, 2, pic_.slave_ports());
    io.map("pic_elcr", PicPair::kElcrPort, 2, pic_.elcr_ports());
    constexpr u32 kCascade = 2;  // the slave's own line
    for (u32 irq = 0; irq < inputs_.size(); ++irq) {
        if (irq == kCascade) continue;
        if (shared) inputs_[irq] = std::make_unique<devices::SharedLine>(pic_.line(irq));
        chipset.connect(irq, shared ? inputs_[irq]->first() : pic_.line(irq));
    }
    pit_ = std::make_unique<Pit8254>(events, timer_line_);
    io.map("pit", Pit8254::kPort, Pit8254::kPortCount, *pit_);
    io.map("speaker", Pit8254::kSpeakerPort, 1, pit_->speaker_port());
    i8042_ = std::make_unique<I8042>(chipset.isa_line(1), chipset.isa_line(12), I8042::Callbacks{reset, nullptr},
                                     &keyboard_, &mouse_);
    io.map("i8042_data", I8042::kDataPort, 1, i8042_->data_port());
    io.map("i8042_command", I8042::kCommandPort, 1, i8042_->command_port());
    system_control_ = std::make_unique<devices::SystemControlPort>(reset, nullptr);
    io.map("system_control", devices::SystemControlPort::kPort, 1, *system_control_);
    io.map("post", devices::PostPort::kPort, 1, post_);
    using devices::CoprocessorError;
    coprocessor_error_ = std::make_unique<CoprocessorError>(chipset.isa_line(CoprocessorError::kIrq));
    io.map("coprocessor_error", CoprocessorError::kPort, 1, *coprocessor_error_);
}

std::optional<std::array<devices::IrqLine*, 16>> LegacyChips::pci_inputs() {
    if (inputs_[0] == nullptr) return std::nullopt;
    std::array<devices::IrqLine*, 16> lines{};
    for (u32 irq = 0; irq < inputs_.size(); ++irq)
        if (inputs_[irq] != nullptr) lines[irq] = &inputs_[irq]->second();
    return lines;
}

cpu::FerrAnswer LegacyChips::ferr(bool active) {
    coprocessor_error_->set_error(active);
    return coprocessor_error_->ignored() ? cpu::FerrAnswer::Ignore : cpu::FerrAnswer::Freeze;
}

void LegacyChips::leave_as_firmware(devices::IoBus& io) {
    constexpr struct {
        u16 port;
        u8 value;
    } kWords[] = {{0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04}, {0x21, 0x01},  // vector 08H, slave on input 2, 8086 mode
                  {0xa0, 0x11}, {0xa1, 0x70}, {0xa1, 0x02}, {0xa1, 0x01},  // vector 70H
                  {0x64, 0x60}, {0x60, 0x45}};                             // keyboard: translated, with interrupt
    for (const auto& word : kWords) io.write(word.port, 1, word.value);
    constexpr u32 kSpurious = 0xf0, kLint0 = 0x350, kLint1 = 0x360;
    constexpr u32 kSoftwareEnable = 0x100, kSpuriousVector = 0x0f, kExtInt = 0x700, kNmi = 0x400;
    cpu::Apic& apic = intr_.boot_processor->apic();
    apic.mmio_write(kSpurious, kSoftwareEnable | kSpuriousVector);
    apic.mmio_write(kLint0, kExtInt);
    apic.mmio_write(kLint1, kNmi);
}

void LegacyChips::input_fields(StateVisitor& v) {
    for (u32 irq = 0; irq < inputs_.size(); ++irq) {
        if (inputs_[irq] == nullptr) continue;
        VisitScope scope(v, fmt::format("pic_input{}", irq));
        inputs_[irq]->fields(v);
    }
}

}  // namespace vg::machine
