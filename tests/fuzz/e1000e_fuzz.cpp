// A driver of the network card that means it no good: any registers, rings, descriptors, frames and moments. The card
// answers within the width of an access, does bounded work, and can be saved and restored at any point.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/e1000e.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/pci.h"
#include "tests/support/state_tape.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::e1000e;
using vg::test::InputBytes;

constexpr u64 kRam = 1 << 18;
/// Registers that do something; the rest is reached by their plain offset.
constexpr u32 kRegisters[] = {kCtrl,   kEerd, kEewr,    kCtrlExt, kMdic, kIcr,  kItr,  kIcs,     kIms,
                              kImc,    kEiac, kIam,     kIvar,    kEitr, kRctl, kTctl, kRxcsum,  kRfctl,
                              kPsrctl, kRal,  kRal + 4, kMta,     kVfta, kSwsm, kVet,  kTiminca, kSystiml};
constexpr u32 kRingRegisters[] = {kRingBaseLow, kRingBaseHigh, kRingLength, kRingHead, kRingTail};

struct Cable final : FrameSink {
    void put(std::span<const u8> frame) override {
        VG_ASSERT(frame.size() >= kEthernetHeaderBytes && frame.size() <= kMaxFrameBytes);
        ++frames;
    }
    u64 frames = 0;
};

struct Copy {
    Copy(const Clock& clock, mmu::Dma& dma, FrameSink& cable)
        : events(clock), slot(dma), card(slot.slot(), events, 0, {2, 0, 0, 0, 0, 1}) {
        card.connect(cable);
    }
    void fields(StateVisitor& v) {
        card.fields(v);
        events.fields(v);
    }
    [[nodiscard]] u64 hash() {
        StateHasher hasher;
        fields(hasher);
        return hasher.digest();
    }
    EventQueue events;
    test::LoneSlot slot;
    E1000e card;
};

class Bench {
  public:
    Bench() {
        VG_ASSERT(memory_.add_ram("ram", Spa(0), kRam));
        board_ = std::make_unique<Copy>(clock_, dma_, cable_);
        board_->card.pci()->config_write(pci::kCommand, 2, 7);
        for (u32 i = 0; i < 4; ++i) {
            const u32 ring = (i < 2 ? kReceiveRing : kTransmitRing) + i % 2 * kRingStride;
            board_->card.mmio_write(ring + kRingBaseLow, 4, 0x1000 * (i + 1));
            board_->card.mmio_write(ring + kRingLength, 4, 0x80);
        }
        board_->card.mmio_write(kTctl, 4, kTctlEnable | kTctlPad);
        board_->card.mmio_write(kRctl, 4, kRctlEnable | kRctlUnicastAll | kRctlBroadcast);
        board_->card.mmio_write(kIms, 4, kAllCauses);
    }

    void act(InputBytes& input) {
        E1000e& card = board_->card;
        const u8 action = input.take<u8>();
        switch (action % 8) {
            case 0:
                return access(kRegisters[input.take<u8>() % std::size(kRegisters)], action, input);
            case 1:
                return access(input.take<u32>() % E1000e::kRegisterBytes, action, input);
            case 2: {
                const u32 which = input.take<u8>();
                const u32 ring = ((which & 1) != 0 ? kReceiveRing : kTransmitRing) + (which >> 1 & 1) * kRingStride;
                card.mmio_write(ring + kRingRegisters[(which >> 2) % std::size(kRingRegisters)], 4,
                                action >= 128 ? input.take<u32>() : input.take<u8>() % 16);
                return;
            }
            case 3: {  // a descriptor, in a ring
                const u64 at = 0x1000 * (u64{1} + input.take<u8>() % 4) + input.take<u8>() % 8 * 16u;
                TransmitDescriptor descriptor{input.take<u16>(), input.take<u32>(), input.take<u32>()};
                if ((action & 128) != 0) descriptor.lower &= 0xfff00fff;
                memory_.write(Spa(at), &descriptor, sizeof descriptor);
                return;
            }
            case 4: {
                std::vector<u8> frame(input.take<u16>() % 4096);
                const auto bytes = input.span(input.take<u8>() % 80);
                std::copy_n(bytes.begin(), std::min(bytes.size(), frame.size()), frame.begin());
                if (frame.size() >= kEthernetHeaderBytes) card.receive(frame);
                return;
            }
            case 5:
                return pass_time(input);
            case 6:
                card.pci()->config_write(input.take<u8>() & ~3u, 4, input.take<u32>());
                return;
            default:
                if (copies_++ < 2) replace_by_copy();
                return;
        }
    }

  private:
    void access(u32 offset, u8 action, InputBytes& input) {
        const unsigned size = 1u << ((action >> 3) % 4);
        if (offset + size > E1000e::kRegisterBytes) return;
        if ((action & 64) != 0) {
            VG_ASSERT((board_->card.mmio_read(offset, size) & ~low_mask(size * 8)) == 0);
        } else {
            board_->card.mmio_write(offset, size, (input.take<u32>() * 0x1'0000'0001u) & low_mask(size * 8));
        }
    }
    void pass_time(InputBytes& input) {
        EventQueue& events = board_->events;
        const VTime end = clock_.now() + (u64{input.take<u8>()} << 10);
        for (u32 i = 0; i < 64 && events.next() <= end; ++i) {
            clock_.set(std::max(events.next(), clock_.now()));
            const u64 before = cable_.frames;
            events.run_due(clock_.now());
            VG_ASSERT(events.next() > clock_.now());
            VG_ASSERT(cable_.frames - before <= E1000e::kFramesPerEvent);
        }
        clock_.set(std::max(end, clock_.now()));
        VG_ASSERT(board_->card.receive_room() <= E1000e::kReceiveBufferBytes);
        board_->slot.sink.sent.clear();
    }
    void replace_by_copy() {
        const u64 hash = board_->hash();
        test::StateTape tape;
        tape.save(*board_);
        auto copy = std::make_unique<Copy>(clock_, dma_, cable_);
        tape.restore(*copy);
        VG_ASSERT(copy->hash() == hash);
        board_ = std::move(copy);
    }

    ManualClock clock_;
    mmu::PhysicalMemory memory_;
    mmu::DirectDma dma_{memory_};
    Cable cable_;
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
