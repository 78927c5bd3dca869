#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace vg {

void assertion_failed(const char* expression, const char* file, int line) {
    std::fprintf(stderr, "verdigris: internal error at %s:%d: %s\n", file, line, expression);
    std::fflush(stderr);
    std::abort();
}

}  // namespace vg
