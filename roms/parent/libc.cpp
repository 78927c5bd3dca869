// The few functions of a C and C++ runtime that compiled code and headers of the standard library call.
#include <cstdarg>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/assert.h"
#include "roms/parent/platform.h"

namespace vg {

void assertion_failed(const char* expression, const char* file, int line) {
    parent::panic(fmt::format("internal error at {}:{}: {}", file, line, expression));
}

namespace parent {
void format_failed() { panic("a log line was malformed"); }
}  // namespace parent

}  // namespace vg

extern "C" {

void* memcpy(void* to, const void* from, std::size_t size) {
    void* const start = to;
    std::size_t words = size / 8, rest = size % 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return start;
}

void* memmove(void* to, const void* from, std::size_t size) {
    const auto target = reinterpret_cast<std::uintptr_t>(to), source = reinterpret_cast<std::uintptr_t>(from);
    if (target - source >= size) return memcpy(to, from, size);
    void* last_to = static_cast<char*>(to) + size - 1;
    const void* last_from = static_cast<const char*>(from) + size - 1;
    asm volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(size) : : "memory");
    return to;
}

void* memset(void* to, int value, std::size_t size) {
    void* const start = to;
    const std::uint64_t pattern = 0x0101010101010101 * static_cast<std::uint64_t>(static_cast<unsigned char>(value));
    std::size_t words = size / 8, rest = size % 8;
    asm volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    asm volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
    return start;
}

int memcmp(const void* left, const void* right, std::size_t size) {
    const auto* a = static_cast<const unsigned char*>(left);
    const auto* b = static_cast<const unsigned char*>(right);
    for (; size != 0; --size, ++a, ++b) {
        if (*a != *b) return *a < *b ? -1 : 1;
    }
    return 0;
}

// <cstring> declares it twice, with and without const; this one has the name of both.
void* find_byte(const void* block, int value, std::size_t size) __asm__("memchr");
void* find_byte(const void* block, int value, std::size_t size) {
    const auto* p = static_cast<const unsigned char*>(block);
    for (; size != 0; --size, ++p) {
        if (*p == static_cast<unsigned char>(value)) return const_cast<unsigned char*>(p);
    }
    return nullptr;
}

std::size_t strlen(const char* text) {
    const char* end = text;
    while (*end != 0) asm volatile("" : "+r"(++end));  // or the compiler calls strlen
    return static_cast<std::size_t>(end - text);
}

/// {fmt} would print floating-point numbers of a given precision by it: no line here has one.
int snprintf(char*, std::size_t, const char*, ...) noexcept { vg::parent::format_failed(); }

void abort() { vg::parent::panic("abort"); }

int atexit(void (*)()) noexcept { return 0; }  // nothing here ends
void __cxa_pure_virtual() { vg::parent::panic("a pure virtual function was called"); }
void* __dso_handle = nullptr;  // tidy: a name that the ABI asks for
}

namespace std {

void __throw_length_error(const char* what) { vg::parent::panic(what); }
void __throw_logic_error(const char* what) { vg::parent::panic(what); }
void __throw_out_of_range(const char* what) { vg::parent::panic(what); }
void __throw_out_of_range_fmt(const char* what, ...) { vg::parent::panic(what); }
void __throw_invalid_argument(const char* what) { vg::parent::panic(what); }
void __throw_bad_alloc() { vg::parent::panic("no memory left"); }
void __throw_bad_array_new_length() { vg::parent::panic("an array of impossible length"); }
void __throw_bad_function_call() { vg::parent::panic("an empty function was called"); }

}  // namespace std
