// Any sequence of configuration, register and memory accesses to the PCI devices of a bare PC, with time and copies in
// between: every access is answered within its width, transfers end, and the state can be saved and restored at any
// point.
#include <algorithm>
#include <cstddef>
#include <memory>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/ahci.h"
#include "devices/display.h"
#include "devices/edu.h"
#include "devices/hpet.h"
#include "devices/nvme.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"
#include "tests/support/state_tape.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::devices;
using vg::test::InputBytes;

/// The devices in their slots. A new one joins with a member, a line of the constructor and a row of all().
struct Board {
    explicit Board(const Clock& clock, mmu::PhysicalMemory& memory) : events(clock), dma(memory) {
        constexpr u64 kDiskBytes = 1 << 20;
        ahci.attach(0, std::make_unique<AtaDisk>(std::make_unique<test::MemoryDisk>(kDiskBytes), "FUZZ"));
        nvme.attach(std::make_unique<test::MemoryDisk>(kDiskBytes));
        bus.attach(*ahci.pci());
        bus.attach(*nvme.pci());
        bus.attach(*display.pci());
        bus.attach(*edu.pci());
    }
    [[nodiscard]] std::array<Device*, 6> all() { return {&bus, &ahci, &nvme, &display, &edu, &hpet}; }
    void fields(StateVisitor& v) {
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

    static constexpr u64 kLow = 0xc0000000, kWindow = 0x200000;

    EventQueue events;
    mmu::DirectDma dma;
    test::RecordingSink sink;
    NoIrq none;
    DirectUpstream upstream{dma, sink};
    PciBus bus{upstream, {{kLow, kWindow}, {u64{1} << 32, 1 << 20}, {0xc000, 0x1000}}, {&none, &none}};
    Ahci ahci{bus.slot(1), events, 2};
    Nvme nvme{bus.slot(2), events, 0};
    Display display{bus.slot(3), dma, Iova(0)};
    Edu edu{bus.slot(4), events};
    Hpet hpet{events, {none, none, {}, nullptr}};
};

/// Memory that outlives copies of the board, zeroed for each input.
class Bench {
  public:
    Bench() {
        VG_ASSERT(memory_.add_ram("ram", Spa(0), kRam));
        board_ = make();
        place(1, pci::kBar0 + 5 * 4, 0);
        place(2, pci::kBar0, 0x8000);
        place(3, pci::kBar0 + 2 * 4, 0x4000);
        place(4, pci::kBar0, 0x100000);
    }

    void act(InputBytes& input) {
        const u8 action = input.take<u8>();
        switch (action % 8) {
            case 0: {
                const u64 offset = (u64{1} + input.take<u8>() % 4) << 15 | (input.take<u8>() * 4u);
                access(board_->bus.ecam(), action, offset, input);
                break;
            }
            case 1:
            case 2:
                access(board_->bus.low_memory(), action, input.take<u16>() % 0x10000, input);
                break;
            case 3: {  // a register of the controllers that means something
                const u64 place = (action & 32) != 0 ? 0x100000 : (action & 128) != 0 ? 0x8000 : 0x100;
                const u64 count = (action & 32) != 0 ? 40 : 16;
                access(board_->bus.low_memory(), action & 0x7f, place + input.take<u8>() % count * 4, input);
                break;
            }
            case 4: {  // structures in memory
                const u64 at = input.take<u16>() * 8u % kRam;
                const auto bytes = input.span(input.take<u8>() % 64);
                if (fits(at, bytes.size(), kRam)) memory_.write(Spa(at), bytes.data(), bytes.size());
                break;
            }
            case 5:
                pass_time(input);
                break;
            case 6:
                access(board_->hpet, action, input.take<u16>() % 0x200, input);
                break;
            case 7:
                if (copies_++ < 2) replace_by_copy();
                break;
        }
    }

  private:
    static constexpr u64 kRam = 1 << 19;

    std::unique_ptr<Board> make() { return std::make_unique<Board>(clock_, memory_); }
    void place(u32 device, u32 bar, u64 at) {
        board_->bus.ecam().mmio_write(device << 15 | bar, 4, Board::kLow + at);
        board_->bus.ecam().mmio_write(device << 15 | pci::kCommand, 2, 7);
    }
    static void access(mmu::MmioHandler& handler, u8 action, u64 offset, InputBytes& input) {
        const unsigned size = 1u << ((action >> 3) % 4);
        if ((action & 64) != 0) {
            VG_ASSERT((handler.mmio_read(offset, size) & ~low_mask(size * 8)) == 0);
        } else {
            handler.mmio_write(offset, size, (input.take<u32>() * 0x1'0000'0001u) & low_mask(size * 8));
        }
    }
    void pass_time(InputBytes& input) {
        EventQueue& events = board_->events;
        const VTime end = clock_.now() + (u64{input.take<u8>()} << 10);
        for (u32 i = 0; i < 64 && events.next() <= end; ++i) {
            clock_.set(std::max(events.next(), clock_.now()));
            events.run_due(clock_.now());
            VG_ASSERT(events.next() > clock_.now());
        }
        clock_.set(end);
        events.run_due(clock_.now());
        board_->sink.sent.clear();
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
    mmu::PhysicalMemory memory_;
    std::unique_ptr<Board> board_;
    u32 copies_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    InputBytes input({data, size});
    Bench bench;
    while (!input.empty()) bench.act(input);
    return 0;
}
