// libFuzzer target: arbitrary storage packets and SCSI commands.
#include "tests/fuzz/vmbus_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    vg::test::fuzz_storage({data, size});
    return 0;
}
