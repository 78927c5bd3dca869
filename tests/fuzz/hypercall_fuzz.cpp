// libFuzzer target: arbitrary hypercalls, synthetic MSRs and guest memory.
#include "tests/fuzz/hypercall_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    vg::hv::test::fuzz_hypercalls({data, size});
    return 0;
}
