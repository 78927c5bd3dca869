// Output of a child on the parent's console: whole lines with its name in front.
#pragma once

#include <string>

#include "base/types.h"

namespace vg::parent {

/// A child's output is its own business: control characters do not reach the console.
class LineWriter {
  public:
    static constexpr std::size_t kLongestLine = 1024;  ///< then it is broken

    explicit LineWriter(const std::string& name) : prefix_("[" + name + "] ") {}
    void put(u8 byte);
    void flush();

  private:
    std::string prefix_, line_;
};

}  // namespace vg::parent
