// One run of the parent's side of the hypercall interface on arbitrary parameters: shared by the fuzz target and a short
// random test.
#pragma once

#include <span>

#include "tests/fuzz/input_bytes.h"
#include "tests/hv/root_fixture.h"

namespace vg::hv::test {

/// A root with two children that are set up as far as it goes; then calls with parameters that are half right, and the
/// children's processors run what they find. Nothing may assert, hang, or grow without bound.
inline void fuzz_root_calls(std::span<const u8> input) {
    static constexpr u16 kCodes[] = {0x04, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b,
                                     0x4c, 0x4d, 0x4e, 0x4f, 0x50, 0x51, 0x51, 0x51, 0x52, 0x53, 0x54, 0x56, 0x58,
                                     0x5b, 0x6c, 0x6d, 0x6f, 0x76, 0x7b, 0x7c, 0x7d, 0x84, 0x87, 0x8b, 0x91, 0x92,
                                     0x94, 0x95, 0x96, 0xac, 0xc0, 0xc1, 0xc2, 0xe1, 0xe2, 0xe3, 0xe4, 0xf4, 0x101, 0x10a};
    static constexpr u32 kRegisterBases[] = {0, 0x10000, 0x20000, 0x30000, 0x40000, 0x41000, 0x50000, 0x60000, 0x70000,
                                             0x80000, 0x80070, 0x90000, 0xa0000, 0xa0010, 0xb0000, 0x200};
    vg::test::InputBytes bytes(input);
    static RootFixture::Parts parts;
    RootFixture f(parts, (bytes.take<u8>() & 1) != 0, 2);
    f.enable_synic();
    const u64 ids[] = {f.make_child(), f.make_child(4, 0), f.root->id(), kPartitionSelf, 0, 77};
    while (!bytes.empty()) {
        const u8 action = bytes.take<u8>();
        if (action % 4 == 3) {
            for (std::size_t i = 0; i < f.host.vps.size() && i < 4; ++i) {
                cpu::Vp& processor = *f.host.vps[i];
                if (&processor == &f.vp->processor() || processor.index() != 0) continue;
                f.run_processor(processor, 50);
            }
            f.events.run_due(f.clock.now());
            continue;
        }
        std::array<u64, 12> words{};
        words[0] = ids[bytes.take<u8>() % std::size(ids)];
        for (std::size_t i = 1; i < words.size(); ++i) {
            const u8 kind = bytes.take<u8>();
            words[i] = kind % 4 == 0   ? bytes.take<u64>()
                       : kind % 4 == 1 ? bytes.take<u16>() % 0x1000
                       : kind % 4 == 2 ? bytes.take<u8>() % 4
                                       : 0;
        }
        const u16 code = kCodes[bytes.take<u8>() % std::size(kCodes)];
        if (code == 0x51) words[2] = kRegisterBases[bytes.take<u8>() % std::size(kRegisterBases)] + bytes.take<u8>() % 32;
        f.memory.write(Spa(RootFixture::kInput), words);
        const u32 reps = action % 4 == 0 ? bytes.take<u8>() % 8 : action % 4 == 1 ? 1 : 0;
        f.call(RootFixture::control(code, reps, 0, action % 4 == 2 ? bytes.take<u8>() % 4 : 0));
        // a dispatch that waits: the caller's own interrupt ends it
        if (f.vp->processor().held()) VpControl::interrupt_caller(*f.vp);
    }
}

}  // namespace vg::hv::test
