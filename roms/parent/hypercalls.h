// Hypercalls as functions: typed input and output, repetitions, statuses. TLFS 6.0b "Hypercall Interface"; H-01..H-64.
#pragma once

#include <span>

#include "base/types.h"
#include "hv/spec/hypercall.h"
#include "hv/spec/partition.h"
#include "hv/spec/status.h"

namespace vg::parent {

using hv::HvStatus;

enum class Call : u16 {
#define HYPERCALL(code, name, kind, input, output, gate, body) name = code,
#include "hv/hypercalls.def"
#undef HYPERCALL
};

/// Enables the hypercall page and allocates the pages that parameters travel in. Once, early.
void start_hypercalls();

/// What a call answered. `reps` counts from the first element of the list, whatever the start was (H-15).
struct CallResult {
    HvStatus status;
    u32 reps;
};

/// Everything else is made of this. Header and list go into one page, the output comes out of another: each must fit
/// one.
CallResult invoke(Call call, std::span<const u8> header, std::span<const u8> list, u32 count, u32 start,
                  std::span<u8> output);

template <class T>
std::span<const u8> bytes_of(const T& value) {
    return {reinterpret_cast<const u8*>(&value), sizeof value};
}
template <class T>
std::span<u8> writable_bytes_of(T& value) {
    return {reinterpret_cast<u8*>(&value), sizeof value};
}

template <class In>
[[nodiscard]] HvStatus call(Call code, const In& in) {
    return invoke(code, bytes_of(in), {}, 0, 0, {}).status;
}
template <class In, class Out>
[[nodiscard]] HvStatus call(Call code, const In& in, Out& out) {
    return invoke(code, bytes_of(in), {}, 0, 0, writable_bytes_of(out)).status;
}
/// Elements start..elements.size() of a list; at most what fits a page with the header.
template <class Header, class Element>
[[nodiscard]] CallResult call_list(Call code, const Header& header, std::span<const Element> elements, u32 start = 0) {
    return invoke(code, bytes_of(header), {reinterpret_cast<const u8*>(elements.data()), elements.size_bytes()},
                  static_cast<u32>(elements.size()), start, {});
}
/// A list of which only the outputs exist.
template <class Header, class Out>
[[nodiscard]] CallResult call_outputs(Call code, const Header& header, std::span<Out> out) {
    return invoke(code, bytes_of(header), {}, static_cast<u32>(out.size()), 0,
                  {reinterpret_cast<u8*>(out.data()), out.size_bytes()});
}

/// "0x000b"; for messages.
[[nodiscard]] constexpr u32 number(HvStatus status) { return static_cast<u32>(status); }

}  // namespace vg::parent
