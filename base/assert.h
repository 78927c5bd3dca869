// Assertions: on in every build. A guest must never be able to reach one.
#pragma once

namespace vg {

/// Prints where and what, then aborts; the command line's handler of the abort makes it exit code 70.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

/// Told the text of a failed assertion before the program ends. One for the process, set at its start; null: nobody.
using AssertionReporter = void (*)(const char* text);
void report_assertions_to(AssertionReporter reporter);

}  // namespace vg

#define VG_ASSERT(condition)                                                                     \
    do {                                                                                         \
        if (!(condition)) [[unlikely]] ::vg::assertion_failed(#condition, __FILE__, __LINE__);    \
    } while (false)

#define VG_UNREACHABLE() ::vg::assertion_failed("unreachable", __FILE__, __LINE__)
