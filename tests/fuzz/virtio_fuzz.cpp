// A driver that means harm: any sequence of register accesses, forged rings, frames, input and time with virtio
// devices. Chains end, what a device does in an event is bounded, and the state can be saved and restored at any point.
#include <algorithm>
#include <cstddef>
#include <memory>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/memory_disk.h"
#include "tests/support/pci.h"
#include "tests/support/state_tape.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::virtio;
using vg::test::InputBytes;

constexpr u64 kRam = 1 << 18, kRings = 0x8000;

struct Cable final : FrameSink {
    void put(std::span<const u8>) override { ++frames; }
    u64 frames = 0;
};

struct Copy {
    Copy(const Clock& clock, mmu::Dma& dma, FrameSink& cable) : events(clock), slot(dma) {
        block.attach(std::make_unique<test::MemoryDisk>(1 << 18));
        net.connect(cable);
        for (VirtioDevice* device : all()) device->pci()->config_write(pci::kCommand, 2, 7);
    }
    [[nodiscard]] std::array<VirtioDevice*, 3> all() { return {&block, &net, &console}; }
    void fields(StateVisitor& v) {
        for (VirtioDevice* device : all()) {
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
    EventQueue events;
    test::LoneSlot slot;
    VirtioBlock block{slot.slot(), events, 0};
    VirtioNet net{slot.slot(), events, 0, {2, 0, 0, 0, 0, 1}};
    VirtioConsole console{slot.slot(), events, [](u8) {}};
};

class Bench {
  public:
    Bench() {
        VG_ASSERT(memory_.add_ram("ram", Spa(0), kRam));
        board_ = std::make_unique<Copy>(clock_, dma_, cable_);
        for (VirtioDevice* device : board_->all()) start(*device);
    }

    void act(InputBytes& input) {
        const u8 action = input.take<u8>();
        VirtioDevice& device = *board_->all()[action / 8 % 3];
        switch (action % 8) {
            case 0:
                return access(device, input.take<u8>() % kCommonSize, action, input);
            case 1:
                return access(device, input.take<u16>() % VirtioDevice::kRegisterBytes, action, input);
            case 2: {  // a descriptor, in a table
                const u64 at = kRings + input.take<u8>() % 6 * 0x1000u + input.take<u8>() % 16 * 16u;
                const Descriptor descriptor{input.take<u16>(), input.take<u16>(),
                                            static_cast<u16>(input.take<u8>() & 7),
                                            static_cast<u16>(input.take<u8>() % 18)};
                memory_.write(Spa(at), &descriptor, sizeof descriptor);
                return;
            }
            case 3: {  // a chain is offered
                const u64 queue = input.take<u8>() % 3, available = kRings + queue * 0x1000 + 0x400;
                const u16 index = memory_.read<u16>(Spa(available + 2));
                memory_.write<u16>(Spa(available + 4 + index % 16 * 2), input.take<u8>() % 17);
                memory_.write<u16>(Spa(available + 2),
                                   static_cast<u16>(index + 1 + (action >= 248 ? input.take<u8>() : 0)));
                device.mmio_write(0x3000 + queue * 4, 2, queue);
                return;
            }
            case 4: {
                std::vector<u8> bytes(kEthernetHeaderBytes + input.take<u16>() % 4096);
                const auto given = input.span(input.take<u8>() % 64);
                std::copy(given.begin(),
                          given.begin() + static_cast<std::ptrdiff_t>(std::min(given.size(), bytes.size())),
                          bytes.begin());
                board_->net.receive(bytes);
                (void)board_->console.receive(bytes);
                return;
            }
            case 5:
                return pass_time(input);
            case 6:
                if ((action & 64) != 0) return start(device);
                device.pci()->config_write(input.take<u8>() & ~3u, 4, input.take<u32>());
                return;
            default: {
                const auto bytes = input.span(input.take<u8>() % 64);
                memory_.write(Spa(input.take<u16>() % (kRam - 64)), bytes.data(), bytes.size());
                if (copies_++ < 2) replace_by_copy();
                return;
            }
        }
    }

  private:
    /// As a driver sets it up: queue n has its rings in one page.
    static void start(VirtioDevice& device) {
        device.mmio_write(kDeviceStatus, 1, 0);
        device.mmio_write(kDriverFeatureSelect, 4, 1);
        device.mmio_write(kDriverFeature, 4, 1);
        device.mmio_write(kDriverFeatureSelect, 4, 0);
        device.mmio_write(kDriverFeature, 4,
                          static_cast<u32>(kIndirect | kEventIndex | net::kMergeBuffers | net::kChecksum));
        device.mmio_write(kDeviceStatus, 1, kAcknowledge | kDriver | kFeaturesOk);
        for (u32 i = 0; i < 3; ++i) {
            device.mmio_write(kQueueSelect, 2, i);
            device.mmio_write(kQueueSize, 2, 16);
            device.mmio_write(kQueueDescriptors, 8, kRings + i * 0x1000);
            device.mmio_write(kQueueDriver, 8, kRings + i * 0x1000 + 0x400);
            device.mmio_write(kQueueDevice, 8, kRings + i * 0x1000 + 0x800);
            device.mmio_write(kQueueEnable, 2, 1);
        }
        device.mmio_write(kDeviceStatus, 1, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    }
    static void access(VirtioDevice& device, u64 offset, u8 action, InputBytes& input) {
        const unsigned size = 1u << (action >> 3) % 4;
        if (!fits(offset, size, VirtioDevice::kRegisterBytes)) return;
        if ((action & 64) != 0)
            VG_ASSERT((device.mmio_read(offset, size) & ~low_mask(size * 8)) == 0);
        else
            device.mmio_write(offset, size, (input.take<u32>() * 0x1'0000'0001u) & low_mask(size * 8));
    }
    void pass_time(InputBytes& input) {
        EventQueue& events = board_->events;
        const VTime end = clock_.now() + (u64{input.take<u8>()} << 12);
        for (u32 i = 0; i < 64 && events.next() <= end; ++i) {
            clock_.set(std::max(events.next(), clock_.now()));
            const u64 before = cable_.frames;
            events.run_due(clock_.now());
            VG_ASSERT(events.next() > clock_.now());
            VG_ASSERT(cable_.frames - before <= VirtioNet::kFramesPerEvent);
        }
        clock_.set(std::max(end, clock_.now()));
        VG_ASSERT(board_->net.receive_room() <= VirtioNet::kReceiveBufferBytes);
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
