// libFuzzer target: messages to keyboard, mouse and dynamic memory.
#include <memory>
#include <set>

#include "hv/vsp/balloon.h"
#include "hv/vsp/keyboard.h"
#include "hv/vsp/mouse.h"
#include "tests/fuzz/message_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::hv::vsp;

/// Memory of 4096 pages: no page may be taken twice or given twice.
struct Memory final : BalloonHost {
    bool take(PageSpan pages) override {
        if (pages.first >= 8192 || pages.count > 8192) return false;
        for (u64 i = 0; i < pages.count; ++i)
            if (pages.first + i >= 4096 || gone.count(pages.first + i) != 0) return false;
        for (u64 i = 0; i < pages.count; ++i) gone.insert(pages.first + i);
        return true;
    }
    bool give(PageSpan pages) override {
        for (u64 i = 0; i < pages.count; ++i)
            if (pages.first + i < 4096 && gone.erase(pages.first + i) == 0) __builtin_trap();
        return true;
    }
    void finished(BalloonOperation, u64) override {}
    std::set<u64> gone;
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    test::InputBytes in({data, size});
    switch (in.take<u8>() % 3) {
        case 0: {
            Keyboard core;
            test::fuzz_messages(core, in, [&](test::InputBytes& more) { (void)core.press({more.take<u8>(), more.take<u8>()}); });
            break;
        }
        case 1: {
            Mouse core;
            test::fuzz_messages(core, in, [&](test::InputBytes& more) {
                (void)core.report({more.take<u8>(), more.take<u16>(), more.take<u16>(), more.take<s16>()});
            });
            break;
        }
        default: {
            Memory memory;
            const auto core = std::make_unique<Balloon>(memory);
            test::fuzz_messages(*core, in, [&](test::InputBytes& more) {
                const u8 what = more.take<u8>();
                if (what % 3 == 0) (void)core->inflate(more.take<u16>());
                if (what % 3 == 1) (void)core->deflate(more.take<u16>());
                if (what % 3 == 2) (void)core->hot_add({4096 + u64{more.take<u16>()}, more.take<u16>()});
            });
            if (!memory.gone.empty()) __builtin_trap();
        }
    }
    return 0;
}
