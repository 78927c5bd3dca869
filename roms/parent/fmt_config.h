// Included before everything else: {fmt} without its library, without locales, without exceptions.
#pragma once

#define FMT_HEADER_ONLY 1
#define FMT_STATIC_THOUSANDS_SEPARATOR ','
#define FMT_THROW(exception) ::vg::parent::format_failed()
#define FMT_ASSERT(condition, message) ((condition) ? (void)0 : ::vg::parent::format_failed())

namespace vg::parent {
[[noreturn]] void format_failed();
}
