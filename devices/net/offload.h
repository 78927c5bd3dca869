// What a network card does for its driver on the way out: checksums, and segments of one large TCP packet.
#pragma once

#include <span>

#include "base/types.h"
#include "devices/net/frame.h"

namespace vg::devices {

/// What is left to do for a frame of a driver.
struct SendOffload {
    bool ip_checksum = false, tcp_checksum = false, udp_checksum = false;
    u32 segment_bytes = 0;  ///< payload of each TCP segment, at most; 0: the frame is not cut
};

/// Completes `frame`, an Ethernet frame with or without one VLAN tag, and puts it, or its segments, into `out`. Fields
/// that are completed may hold anything: whole pseudo header sums, parts of them, nothing. Headers are parsed here; a
/// frame that does not have the headers that the work needs is sent as it is if that is all it lacks, and not at all if
/// it is to be cut. Shorter frames than a wire carries are filled up.
/// @param frame  at most 128 KiB; is changed
/// @return frames that went out
u32 send_offloaded(std::span<u8> frame, const SendOffload& offload, FrameSink& out);

}  // namespace vg::devices
