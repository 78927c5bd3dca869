// A fuzz target's input as a stream of values.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "base/types.h"

namespace vg::test {

/// Hands out the bytes of an input, then zeroes.
class InputBytes {
  public:
    explicit InputBytes(std::span<const u8> bytes) : bytes_(bytes) {}
    [[nodiscard]] bool empty() const { return bytes_.empty(); }
    template <class T>
    T take() {
        T value{};
        const auto part = span(sizeof value);
        if (!part.empty()) std::memcpy(&value, part.data(), part.size());
        return value;
    }
    /// At most `size` bytes.
    std::span<const u8> span(std::size_t size) {
        const auto part = bytes_.first(std::min(size, bytes_.size()));
        bytes_ = bytes_.subspan(part.size());
        return part;
    }

  private:
    std::span<const u8> bytes_;
};

}  // namespace vg::test
