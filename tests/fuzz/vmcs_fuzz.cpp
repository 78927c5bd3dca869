// VM entries of VMX near the border of what they accept (guest_mode_fuzz.h).
#include "tests/fuzz/guest_mode_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    static vg::test::VmcsFuzz fuzz;
    fuzz.run({data, size});
    return 0;
}
