// libFuzzer target: arbitrary channel messages and signals.
#include "tests/fuzz/vmbus_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    vg::test::fuzz_messages({data, size});
    return 0;
}
