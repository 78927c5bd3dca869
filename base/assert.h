// Assertions: on in every build. A guest must never be able to reach one.
#pragma once

namespace vg {

/// Prints where and what, then aborts; the command line turns this into exit code 70.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace vg

#define VG_ASSERT(condition)                                                                     \
    do {                                                                                         \
        if (!(condition)) [[unlikely]] ::vg::assertion_failed(#condition, __FILE__, __LINE__);    \
    } while (false)

#define VG_UNREACHABLE() ::vg::assertion_failed("unreachable", __FILE__, __LINE__)
