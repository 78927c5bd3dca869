// Fuzz target of the decoder: any bytes, three code sizes, the invariants of tests/isa.
#include <cstddef>

#include "base/assert.h"
#include "tests/isa/invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    using vg::cpu::CodeMode;
    for (const CodeMode mode : {CodeMode::Bits16, CodeMode::Bits32, CodeMode::Bits64})
        VG_ASSERT(vg::cpu::broken_invariant({data, size}, mode).empty());
    return 0;
}
