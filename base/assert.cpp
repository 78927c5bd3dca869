#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace vg {

namespace {

AssertionReporter reporter = nullptr;  // tidy: one process, one report

}  // namespace

void report_assertions_to(AssertionReporter to) { reporter = to; }

void assertion_failed(const char* expression, const char* file, int line) {
    char text[1024];
    std::snprintf(text, sizeof text, "internal error at %s:%d: %s", file, line, expression);
    std::fprintf(stderr, "verdigris: %s\n", text);
    std::fflush(stderr);
    if (reporter != nullptr) reporter(text);
    std::abort();
}

}  // namespace vg
