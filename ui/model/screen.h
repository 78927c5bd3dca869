// What a partition's display shows.
#pragma once

#include <vector>

#include "base/result.h"
#include "ui/model/places.h"

namespace vg::model {

/// Pixels as 0x00RRGGBB, line by line.
struct Picture {
    u32 width = 0, height = 0;
    std::vector<u32> pixels;
};

/// Of the display of [devices], or of a child's synthetic video. Reads memory only. Error (Usage): there is none, or it
/// is off.
[[nodiscard]] Result<Picture> picture_of(machine::Machine& machine, const FoundPartition& partition);

}  // namespace vg::model
