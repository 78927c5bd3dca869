// A guest's linear memory as whoever looks at it reads it: nothing that is read changes anything.
#pragma once

#include <cstddef>
#include <vector>

#include "base/types.h"

namespace vg::model {

/// Linear addresses [first, last].
struct LinearRange {
    u64 first = 0, last = 0;
};

/// One address space at one moment. Its content is a guest's: whatever is read may be anything.
class LinearView {
  public:
    virtual ~LinearView() = default;
    /// Bytes [address, address + size) of RAM or ROM. False if one of them is not there; `out` is undefined then.
    [[nodiscard]] virtual bool read(u64 address, void* out, std::size_t size) const = 0;
    /// What is mapped within [first, last], ascending, at most kMaxRanges.
    [[nodiscard]] virtual std::vector<LinearRange> mapped(u64 first, u64 last) const = 0;

    static constexpr std::size_t kMaxRanges = 4096;

    template <class T>
    [[nodiscard]] bool read(u64 address, T& out) const {
        return read(address, &out, sizeof out);
    }
};

}  // namespace vg::model
