// Frames out of a capture file, with the times at which they were captured.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "devices/net/frame.h"

namespace vg::devices {

struct TimedFrame {
    VTime when = 0;
    std::vector<u8> bytes;
};

/// Reads the Ethernet frames of a pcap or pcapng file, in the order of their times. Their time stamps are those of the
/// guest's wall clock, as PcapFile writes them. Cut frames and those that no card takes are left out.
/// Error (Usage): not a capture of Ethernet, damaged, over 64 MiB, or its first frame is older than the guest's clock.
/// @param start_unix_seconds  the guest's wall clock at virtual time 0
[[nodiscard]] Result<std::vector<TimedFrame>> read_frames(const std::string& path, u64 start_unix_seconds);

}  // namespace vg::devices
