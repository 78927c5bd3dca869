// Random VMCSs and VMCBs near the border of what an entry accepts: the fuzz targets' check, a few thousand times.
#include <catch2/catch.hpp>

#include <random>

#include "tests/fuzz/guest_mode_fuzz.h"

using namespace vg;

namespace {

template <class Fuzz>
void random_inputs(Fuzz& fuzz, unsigned count) {
    std::mt19937_64 random(2026);
    for (unsigned n = 0; n < count; ++n) {
        std::vector<u8> bytes(64);
        for (u8& byte : bytes) byte = static_cast<u8>(random());
        bytes[0] = static_cast<u8>(random() % 4);
        // Fields of a valid state mostly change by a bit.
        for (unsigned change = 0; change < bytes[0]; ++change) bytes[2 + 2 * change] = static_cast<u8>(64 + random() % 192);
        fuzz.run(bytes);
    }
}

}  // namespace

TEST_CASE("vmx: what an entry does with random states is what the rules say", "[cpu][vmx]") {
    test::VmcsFuzz fuzz;
    random_inputs(fuzz, 4000);
    CHECK(fuzz.entered > 400);
    CHECK(fuzz.refused > 400);
}

TEST_CASE("svm: what VMRUN does with random states is what the rules say", "[cpu][svm]") {
    test::VmcbFuzz fuzz;
    random_inputs(fuzz, 4000);
    CHECK(fuzz.entered > 400);
    CHECK(fuzz.refused > 200);
}
