// What the consoles of a machine have printed, the last of it.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/types.h"

namespace vg::model {

/// Keeps the last kBytes of each console. Its `put` is what a machine's console option calls.
class ConsoleHistory {
  public:
    static constexpr std::size_t kBytes = 1 << 20;

    /// @param partition  as in machine::MachineOptions::console
    void put(const std::string& partition, u8 byte);

    struct Part {
        u64 from = 0;  ///< position of the first byte of `text` in all that was printed
        std::string_view text;
        u64 next = 0;  ///< position behind it
    };
    /// Bytes from position `after` on, at most `limit`; from the oldest that is kept if that is later. Valid until put.
    [[nodiscard]] Part read(const std::string& partition, u64 after, std::size_t limit) const;

  private:
    struct Text {
        u64 from = 0;
        std::string bytes;  ///< up to twice what is kept, so that dropping is rare
    };
    std::map<std::string, Text> texts_;
};

}  // namespace vg::model
