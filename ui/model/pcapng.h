// pcapng files (IETF draft-ietf-opsawg-pcapng), as much of them as captures of a machine need: one section, its
// interfaces, packets with time stamps in nanoseconds. Made as bytes; who writes them where is the caller's.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/types.h"

namespace vg::model {

class Pcapng {
  public:
    static constexpr u16 kEthernet = 1, kUser0 = 147;  ///< LINKTYPE_...

    /// The section header. Little-endian.
    [[nodiscard]] static std::string begin(std::string_view application);
    /// An interface; they count from 0. Time stamps are nanoseconds since `offset_seconds` (Unix time).
    [[nodiscard]] static std::string interface(u16 link_type, std::string_view name, std::string_view description,
                                               s64 offset_seconds);
    /// A packet in two parts. @param original  its length before it was cut, at least what is here
    /// @param outbound  from the guest's point of view: it left the guest
    [[nodiscard]] static std::string packet(u32 interface, u64 time_ns, std::span<const u8> head,
                                            std::span<const u8> body, u64 original, bool outbound,
                                            std::string_view comment = {});
};

}  // namespace vg::model
