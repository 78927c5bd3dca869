// libFuzzer target: arbitrary hypercalls, synthetic MSRs and guest memory; a parent's calls; trees of partitions.
#include "tests/fuzz/hypercall_fuzz.h"
#include "tests/fuzz/root_calls_fuzz.h"
#include "tests/hv/tree_random.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    if (size == 0) return 0;
    const std::span<const vg::u8> rest(data + 1, size - 1);
    switch (data[0] % 3) {
        case 0: vg::hv::test::fuzz_hypercalls(rest); break;
        case 1: vg::hv::test::fuzz_root_calls(rest); break;
        default: vg::hv::test::random_tree(rest); break;
    }
    return 0;
}
