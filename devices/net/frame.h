// Ethernet frames on their way between a network card and what it is connected to.
#pragma once

#include <array>
#include <span>

#include "base/types.h"

namespace vg::devices {

using MacAddress = std::array<u8, 6>;

/// Destination, source and type; no frame check sequence.
inline constexpr u64 kEthernetHeaderBytes = 14;
/// The longest frame that any part of the machine passes on.
inline constexpr u64 kMaxFrameBytes = 16 * 1024;

/// Takes frames: kEthernetHeaderBytes..kMaxFrameBytes each, without check sequence. Copies what it keeps.
class FrameSink {
  public:
    virtual ~FrameSink() = default;
    virtual void put(std::span<const u8> frame) = 0;
};

/// The card's side of a cable. Frames come in here, through the machine's door and nowhere else.
class NetworkCard {
  public:
    virtual ~NetworkCard() = default;
    /// A frame arrives now. What the card's filters refuse, or what it has no room for, is lost.
    virtual void receive(std::span<const u8> frame) = 0;
    /// Bytes that the card can take at present.
    [[nodiscard]] virtual u64 receive_room() const = 0;
    /// Where the card's frames go, once, before the machine runs. Without it they are lost.
    virtual void connect(FrameSink& cable) = 0;
};

}  // namespace vg::devices
