// libFuzzer target: NVSP and RNDIS messages of any content, frames that arrive, and channels that come and go.
#include "tests/fuzz/network_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    vg::test::fuzz_network({data, size});
    return 0;
}
