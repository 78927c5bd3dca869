// libFuzzer target: messages to the synthetic video device.
#include "hv/vsp/video.h"
#include "tests/fuzz/message_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

constexpr vg::u32 kMemory = 8 << 20;
struct Host final : vg::hv::vsp::VideoHost {
    bool place(vg::u64 gpa) override { return (gpa & 1) == 0; }
};

}  // namespace

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    vg::test::InputBytes in({data, size});
    Host host;
    vg::hv::vsp::Video video(host, kMemory, {1024, 768});
    vg::test::fuzz_messages(video, in, [&](vg::test::InputBytes&) {
        const vg::hv::vsp::Screen& s = video.screen();
        if (!s.on) return;
        const vg::u64 end = vg::u64{s.offset} + vg::u64{s.pitch_bytes} * (s.height - 1) + vg::u64{s.width} * s.depth_bits / 8;
        if (end > kMemory) __builtin_trap();
    });
    return 0;
}
