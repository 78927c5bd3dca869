// Any sequence of accesses to the ports and MMIO of a bare PC's chips, with the clock, the lines and the host's side in
// between: every access is answered within its width, no chip's timer runs in circles, and at any point the state can
// be saved and restored into another board, which goes on from there.
#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/debug_exit.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/pic8259.h"
#include "devices/pit8254.h"
#include "devices/system_ports.h"
#include "devices/test_device.h"
#include "machine/acpi_tables.h"
#include "machine/chipset.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/state_tape.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::devices;
using vg::test::InputBytes;

/// Every chip that a machine has, on one bus. A new one joins with a member, a map line and a row of all().
struct Board {
    Board(Clock& clock, s64 start_seconds)
        : events(clock), chipset(events, io, apics, static_cast<u64>(start_seconds), {[] {}, [] {}, [](u8) {}}) {
        io.map("pic_master", PicPair::kMasterPort, 2, pic.master_ports());
        io.map("pic_slave", PicPair::kSlavePort, 2, pic.slave_ports());
        io.map("pic_elcr", PicPair::kElcrPort, 2, pic.elcr_ports());
        for (u32 irq = 0; irq < 16; ++irq) {
            if (irq != kCascade) chipset.connect(irq, pic.line(irq));
            lines.push_back(&chipset.isa_line(irq));
        }
        for (u32 pin = 16; pin < chipset.ioapic().pin_count(); ++pin) lines.push_back(&chipset.ioapic().line(pin));
        pit.emplace(events, chipset.isa_line(0));
        keyboard.emplace(chipset.isa_line(1), chipset.isa_line(12), I8042::Callbacks{[] {}, [](bool) {}}, &ps2_keyboard,
                         &ps2_mouse);
        test_device.emplace(lines, [](u32) {});
        io.map("pit", Pit8254::kPort, Pit8254::kPortCount, *pit);
        io.map("speaker", Pit8254::kSpeakerPort, 1, pit->speaker_port());
        io.map("keyboard_data", I8042::kDataPort, 1, keyboard->data_port());
        io.map("keyboard_command", I8042::kCommandPort, 1, keyboard->command_port());
        io.map("post", PostPort::kPort, 1, post);
        io.map("system_control", SystemControlPort::kPort, 1, system_control);
        io.map("debug_exit", kDebugExitPort, DebugExit::kPortCount, debug_exit);
        io.map("fw_cfg", FwCfg::kPort, FwCfg::kPortCount, fw_cfg);
        io.map("test_latch", TestDevice::kLatchPort, TestDevice::kLatchPortCount, test_device->latch_ports());
        io.map("test_lines", TestDevice::kLinePort, test_device->line_port_count(), test_device->line_ports());
        fw_cfg.set_number(FwCfg::kRamSize, 64 << 20, 8);
        fw_cfg.add_file("etc/fuzz", {1, 2, 3});
    }
    [[nodiscard]] std::array<Device*, 8> all() {
        return {&pic, &*pit, &*keyboard, &post, &system_control, &debug_exit, &fw_cfg, &*test_device};
    }
    void fields(StateVisitor& v) {
        chipset.fields(v);
        for (Device* device : all()) {
            VisitScope scope(v, device->name());
            device->fields(v);
        }
        events.fields(v);
    }
    [[nodiscard]] u64 hash() {
        StateHasher hasher;
        fields(hasher);
        return hasher.digest();
    }

    static constexpr u32 kCascade = 2;
    static constexpr u16 kDebugExitPort = 0xf4;

    Log log{[](Area, Level, std::string_view) {}};
    EventQueue events;
    IoBus io{log};
    cpu::ApicBus apics;
    machine::Chipset chipset;
    NoIrq intr;
    PicPair pic{intr};
    std::vector<IrqLine*> lines;
    std::optional<Pit8254> pit;
    Ps2Keyboard ps2_keyboard;
    Ps2Mouse ps2_mouse;
    std::optional<I8042> keyboard;
    PostPort post;
    SystemControlPort system_control{[] {}, [](bool) {}};
    DebugExit debug_exit{[](u32) {}};
    FwCfg fw_cfg;
    std::optional<TestDevice> test_device;
};

/// A board and the clock that it shares with its restored copy.
class Bench {
  public:
    explicit Bench(u8 start) : start_(kStarts[start % std::size(kStarts)]), board_(make()) {}

    void act(InputBytes& input) {
        const u8 action = input.take<u8>();
        switch (action % 8) {
            case 0:
            case 1:
            case 2: {  // a port of some chip
                const auto& ranges = board_->io.ranges();
                const auto& range = ranges[input.take<u8>() % ranges.size()];
                access_port(action, static_cast<u16>(range.base + input.take<u8>() % range.count), input);
                break;
            }
            case 3:
                access_port(action, input.take<u16>(), input);
                break;
            case 4:
                if ((action & 8) != 0)
                    access_memory(action, board_->chipset.ioapic(), Ioapic::kSize, input);
                else
                    access_memory(action, *board_->test_device, TestDevice::kMmioSize, input);
                break;
            case 5:
                pass_time(action, input);
                break;
            case 6:
                host_side(action, input);
                break;
            case 7:
                if (copies_++ < kMaxCopies) replace_by_copy();
                break;
        }
    }

  private:
    static constexpr s64 kStarts[] = {0, 1'767'225'600, 4'102'444'799, 253'402'300'799};  // 1970, 2026, 2099, 9999
    static constexpr u32 kMaxCopies = 2;         ///< they cost much more than an access
    static constexpr u32 kMaxEvents = 64;        ///< one after the other, before time jumps
    static constexpr VTime kEnd = VTime{1} << 62;  ///< 146 years

    std::unique_ptr<Board> make() { return std::make_unique<Board>(clock_, start_); }

    void access_port(u8 action, u16 port, InputBytes& input) {
        const unsigned size = 1u << ((action >> 4) % 3);
        if ((action & 8) != 0) {
            VG_ASSERT(board_->io.read(port, size) <= low_mask(size * 8));
        } else {
            board_->io.write(port, size, size == 1 ? input.take<u8>() : input.take<u32>());
        }
    }
    static void access_memory(u8 action, mmu::MmioHandler& handler, u64 region, InputBytes& input) {
        const unsigned size = 1u << ((action >> 4) % 4);
        const u64 offset = std::min<u64>(input.take<u16>() % region, region - size);
        if ((action & 128) != 0)
            (void)handler.mmio_read(offset, size);
        else
            handler.mmio_write(offset, size, input.take<u32>() * 0x1'0000'0001u);
    }
    void pass_time(u8 action, InputBytes& input) {
        EventQueue& events = board_->events;
        if ((action & 8) != 0) {  // every processor is halted
            if (events.next() < kEnd) clock_.set(std::max(events.next(), clock_.now()));
        } else {
            const VTime end = std::min(kEnd, clock_.now() + (u64{input.take<u16>()} << ((action >> 4) * 2)));
            for (u32 i = 0; i < kMaxEvents && events.next() <= end; ++i) {
                clock_.set(std::max(events.next(), clock_.now()));
                events.run_due(clock_.now());
            }
            clock_.set(end);
        }
        events.run_due(clock_.now());
        VG_ASSERT(events.next() > clock_.now());
    }
    void host_side(u8 action, InputBytes& input) {
        switch ((action >> 3) % 8) {
            case 0:
            case 1: {
                const auto text = input.span(input.take<u8>());
                VG_ASSERT(board_->chipset.com1().receive(text) <= text.size());
                break;
            }
            case 2:
                board_->ps2_keyboard.key(input.take<u8>(), (action & 128) != 0, (action & 64) != 0);
                board_->ps2_mouse.move(input.take<u8>() - 128, 0, 0, action);
                board_->chipset.pm().press_power_button();
                break;
            case 3:
                board_->chipset.ioapic().eoi(input.take<u8>());
                break;
            case 4:
                (void)board_->pic.acknowledge();
                break;
            case 5:
            case 6: {
                const u8 line = input.take<u8>();
                board_->lines[line % board_->lines.size()]->set((line & 128) != 0);
                break;
            }
            case 7:
                for (Device* device : board_->all()) device->reset();
                break;
        }
    }
    void replace_by_copy() {
        const u64 hash = board_->hash();
        test::StateTape tape;
        tape.save(*board_);
        auto copy = make();
        tape.restore(*copy);
        VG_ASSERT(copy->hash() == hash);
        board_ = std::move(copy);
    }

    ManualClock clock_;
    s64 start_;
    std::unique_ptr<Board> board_;
    u32 copies_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    InputBytes input({data, size});
    Bench bench(input.take<u8>());
    while (!input.empty()) bench.act(input);
    return 0;
}
