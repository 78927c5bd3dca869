// The chips that a PC has from IBM's time on and a generation-2 partition has not: what the bare PC and a generation-1
// partition share, and their wiring.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>

#include "cpu/vp.h"
#include "devices/coprocessor_error.h"
#include "devices/i8042.h"
#include "devices/pic8259.h"
#include "devices/pit8254.h"
#include "devices/ps2.h"
#include "devices/system_ports.h"
#include "machine/chipset.h"

namespace vg::machine {

/// Two 8259s with their output on the boot processor's LINT0, interval timer, keyboard controller with keyboard and
/// mouse, system control and POST ports, the coprocessor's error latch. Mapped on one port bus.
class LegacyChips {
  public:
    /// @param reset   what the keyboard controller and port 92 ask for
    /// @param shared  PCI interrupts share the 8259s' inputs (pci_inputs)
    LegacyChips(EventQueue& events, devices::IoBus& io, Chipset& chipset, const std::function<void()>& reset, bool shared);

    /// Whose LINT0 it is.
    void wire(cpu::Vp& boot_processor) { intr_.boot_processor = &boot_processor; }
    /// Inputs of the 8259s that PCI interrupts share, by ISA interrupt; nothing if they do not.
    [[nodiscard]] std::optional<std::array<devices::IrqLine*, 16>> pci_inputs();
    [[nodiscard]] int acknowledge() { return pic_.acknowledge(); }
    [[nodiscard]] cpu::FerrAnswer ferr(bool active);
    /// Cuts the interval timer off from its interrupt, while something else has taken it over.
    void cut_timer(bool cut) { timer_line_.cut = cut; }
    /// What a PC's firmware sets up before it hands over: the 8259s at their BIOS vectors, the keyboard, the boot
    /// processor's APIC as a virtual wire for them (MultiProcessor Specification 1.4 "Virtual Wire Mode").
    void leave_as_firmware(devices::IoBus& io);

    [[nodiscard]] devices::PicPair& pic() { return pic_; }
    [[nodiscard]] devices::Pit8254& pit() { return *pit_; }
    [[nodiscard]] devices::I8042& i8042() { return *i8042_; }
    [[nodiscard]] devices::SystemControlPort& system_control() { return *system_control_; }
    [[nodiscard]] devices::PostPort& post() { return post_; }
    [[nodiscard]] devices::CoprocessorError& coprocessor_error() { return *coprocessor_error_; }
    [[nodiscard]] devices::Ps2Keyboard& keyboard() { return keyboard_; }
    [[nodiscard]] devices::Ps2Mouse& mouse() { return mouse_; }
    /// Levels of shared inputs. The chips' own fields are their owner's to visit.
    void input_fields(StateVisitor& v);

  private:
    /// The 8259s' INTR output.
    struct IntrLine final : devices::IrqLine {
        void set(bool level) override {
            if (boot_processor != nullptr) boot_processor->set_external_line(level);
        }
        cpu::Vp* boot_processor = nullptr;
    };
    /// The interval timer's output.
    struct TimerLine final : devices::IrqLine {
        explicit TimerLine(devices::IrqLine& to) : target(to) {}
        void set(bool level) override {
            if (!cut) target.set(level);
        }
        devices::IrqLine& target;
        bool cut = false;
    };

    IntrLine intr_;
    devices::PicPair pic_{intr_};
    TimerLine timer_line_;
    std::array<std::unique_ptr<devices::SharedLine>, 16> inputs_;
    std::unique_ptr<devices::Pit8254> pit_;
    devices::Ps2Keyboard keyboard_;
    devices::Ps2Mouse mouse_;
    std::unique_ptr<devices::I8042> i8042_;
    std::unique_ptr<devices::SystemControlPort> system_control_;
    devices::PostPort post_;
    std::unique_ptr<devices::CoprocessorError> coprocessor_error_;
};

}  // namespace vg::machine
