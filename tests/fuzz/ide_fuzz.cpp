// Any sequence of port and configuration accesses to the IDE function, region tables and time: commands end or wait for a
// reset, every access is answered within its width, and the state can be saved and restored at any point.
#include <algorithm>
#include <cstddef>
#include <memory>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/ide.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"
#include "tests/support/state_tape.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::devices;
using vg::test::InputBytes;

constexpr u64 kRam = 1 << 18, kDiskBytes = 1 << 18;

struct Copy {
    Copy(const Clock& clock, mmu::Dma& dma) : events(clock), slot(dma) {
        for (const auto& [channel, drive] : {std::pair{0u, 0u}, {0u, 1u}, {1u, 1u}})
            ide.attach(channel, drive,
                       std::make_unique<AtaDisk>(std::make_unique<test::MemoryDisk>(kDiskBytes), "FUZZ",
                                                 AtaDisk::Transport::Parallel));
        ide.leave_as_firmware();
        ide.pci()->config_write(pci::kCommand, 2, 5);
    }
    void fields(StateVisitor& v) {
        ide.fields(v);
        events.fields(v);
    }
    [[nodiscard]] u64 hash() {
        StateHasher hasher;
        fields(hasher);
        return hasher.digest();
    }
    EventQueue events;
    test::LoneSlot slot;
    test::RecordingIrq first, second;
    Ide ide{slot.slot(), events, {&first, &second}};
};

class Bench {
  public:
    Bench() {
        VG_ASSERT(memory_.add_ram("ram", Spa(0), kRam));
        board_ = std::make_unique<Copy>(clock_, dma_);
    }
    void act(InputBytes& input) {
        const u8 action = input.take<u8>();
        const u32 channel = action >> 7;
        switch (action % 8) {
            case 0:
            case 1:
                access(board_->ide.command_ports(channel), action, input.take<u8>() % 9, input);
                break;
            case 2:
                access(board_->ide.control_port(channel), action, 0, input);
                break;
            case 3:
                access(*board_->ide.port_io(), action, input.take<u8>() % 18, input);
                break;
            case 4: {  // a whole block of data
                const u32 words = std::min<u32>(input.take<u8>() * 16u, 256);
                for (u32 i = 0; i < words; ++i) access(board_->ide.command_ports(channel), (action & 64) | 16, 0, input);
                break;
            }
            case 5: {
                const u64 at = input.take<u16>() * 4u % kRam;
                const auto bytes = input.span(input.take<u8>() % 64);
                if (fits(at, bytes.size(), kRam)) memory_.write(Spa(at), bytes.data(), bytes.size());
                break;
            }
            case 6:
                pass_time(input);
                break;
            case 7:
                if ((action & 64) != 0)
                    board_->ide.pci()->config_write((input.take<u8>() % 0x60) & ~3u, 4, input.take<u32>());
                else if (copies_++ < 4)
                    replace_by_copy();
                break;
        }
    }

  private:
    static void access(PortIo& ports, u8 action, u16 offset, InputBytes& input) {
        const unsigned size = 1u << ((action >> 4) % 3);
        if ((action & 8) == 0) {
            (void)ports.port_write(offset, size, input.take<u32>() & static_cast<u32>(low_mask(size * 8)));
            return;
        }
        u32 value = 0;
        const IoStatus status = ports.port_read(offset, size, value);
        VG_ASSERT(status != IoStatus::Ok || (value & ~low_mask(size * 8)) == 0);
    }
    void pass_time(InputBytes& input) {
        EventQueue& events = board_->events;
        const VTime end = clock_.now() + (u64{input.take<u8>()} << 12);
        for (u32 i = 0; i < 64 && events.next() <= end; ++i) {
            clock_.set(std::max(events.next(), clock_.now()));
            events.run_due(clock_.now());
            VG_ASSERT(events.next() > clock_.now());
        }
        clock_.set(end);
        events.run_due(clock_.now());
    }
    void replace_by_copy() {
        const u64 hash = board_->hash();
        test::StateTape tape;
        tape.save(*board_);
        auto copy = std::make_unique<Copy>(clock_, dma_);
        tape.restore(*copy);
        VG_ASSERT(copy->hash() == hash);
        board_ = std::move(copy);
    }

    ManualClock clock_;
    mmu::PhysicalMemory memory_;
    mmu::DirectDma dma_{memory_};
    std::unique_ptr<Copy> board_;
    u32 copies_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    InputBytes input({data, size});
    Bench bench;
    while (!input.empty()) bench.act(input);
    return 0;
}
