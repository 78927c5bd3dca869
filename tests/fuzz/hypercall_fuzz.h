// One run of the hypercall and MSR interface on arbitrary bytes: shared by the fuzz target and a short random test.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>

#include "hv/parent/test_device.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/hv/fixture.h"

namespace vg::hv::test {

/// A parent that accepts everything.
class FuzzParent final : public PortOwner {
  public:
    HvStatus on_message(Partition&, u32, const PostedMessage& message) override {
        return message.payload.size() <= kMessagePayloadMax ? HvStatus::Success : HvStatus::InvalidParameter;
    }
    HvStatus on_signal(Partition&, u32, u16) override { return HvStatus::Success; }
};

/// Interprets `input` as a sequence of guest actions. Nothing it does may assert or grow without bound.
inline void fuzz_hypercalls(std::span<const u8> input) {
    static constexpr u64 kCodes[] = {2, 3, 8, 0xb, 0x13, 0x14, 0x15, 0x5c, 0x5d, 0x8001};
    vg::test::InputBytes bytes(input);
    PartitionConfig config;
    config.privileges = ~u64{0};
    config.features_edx = config.hints_eax = ~u32{0};
    static Fixture::Parts parts("verdigris-v2");
    // The guest's memory goes back to the host, so that every run finds it zeroed.
    madvise(parts.memory.ram(Spa(Fixture::kRamSpa)), Fixture::kRamSize, MADV_REMOVE);
    // A second processor is half of a run's time: only where the input wants one.
    Fixture f(config, 1 + (bytes.take<u8>() & 1), parts);
    FuzzParent parent;
    f.partition->connections().connect(1, {PortKind::Message, &parent});
    f.partition->connections().connect(2, {PortKind::Event, &parent});
    f.partition->connections().connect(3, {PortKind::Message, GuestPort{f.partition, 1, 2}});
    f.partition->connections().connect(4, {PortKind::Event, GuestPort{f.partition, 0, 2, 2000, 100}});
    parent::TestDevice device(*f.partition);
    f.enable_synic();
    f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId);
    while (!bytes.empty()) {
        const u8 action = bytes.take<u8>();
        switch (action % 7) {
            case 0:
                for (u64& reg : f.vp->processor().state().gpr) reg = bytes.take<u64>();
                f.call();
                break;
            case 1: {  // a known code with plausible pointers
                const u64 code = kCodes[bytes.take<u8>() % std::size(kCodes)];
                const u64 control = (bytes.take<u64>() & 0x0fff0fff07ff0000) | code;
                f.hypercall(control, u64{bytes.take<u16>()} * 8, u64{bytes.take<u16>()} * 8);
                break;
            }
            case 2: {  // memory, overlays included
                const u64 gpa = u64{bytes.take<u16>()} * 8;
                const u64 value = bytes.take<u64>();
                (void)f.partition->write_memory(Gpa(gpa), &value, sizeof value);
                break;
            }
            case 3: {
                const u32 index = 0x40000000 + (bytes.take<u16>() & 0x1ff);
                if (bytes.take<u8>() % 2 != 0)
                    f.wrmsr(index, bytes.take<u64>());
                else
                    f.rdmsr(index);
                break;
            }
            case 4:
                if ((action & 0x80) == 0)
                    f.advance_ns(bytes.take<u16>());
                else if (f.events.next() != kNever)  // every processor is halted
                    f.advance_ns(std::max(f.events.next(), f.clock.now()) - f.clock.now());
                break;
            case 5: {
                cpu::VpState& state = f.vp->processor().state();
                state.cpl = action & 0x80 ? 3 : 0;
                state.efer = action & 0x40 ? cpu::efer::LMA : 0;
                if (Vp* other = f.partition->find_vp(action >> 3 & 1)) f.vp = other;
                break;
            }
            case 6:  // ports and connections of the partition's own, some with ids that are taken
                (void)device.port_write(0, 4, bytes.take<u32>());
                break;
        }
    }
}

}  // namespace vg::hv::test
